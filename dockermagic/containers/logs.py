"""What a container wrote, on disk: its two streams apart, each piece with its time, in a bounded file.

A piece is a line ``SECONDS STREAM LENGTH`` and that many bytes. When ``log`` has grown to its limit it becomes
``log.1``, and what that held before is gone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from dockermagic.values import dataclass

__all__ = ["LIMIT", "Log", "Piece", "Reader", "lines", "read"]

LIMIT = 32 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a stream (1 or 2), and when they were written, in seconds since the epoch."""

    time: float
    stream: int
    data: bytes


class Log:
    """Appends to a container's log. Safe for several threads."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._path = folder / "log"
        self._limit = limit
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: int, data: bytes) -> None:
        """Append a piece."""
        head = b"%.6f %d %d\n" % (time.time(), stream, len(data))
        with self._lock:
            if self._size + len(data) > self._limit and self._size:
                with contextlib.suppress(FileNotFoundError):  # moved before, when no other could be begun
                    os.replace(self._path, f"{self._path}.1")
                full = self._fd
                self._open()  # where it fails, the descriptor must not be a closed one
                os.close(full)
            written = os.writev(self._fd, (head, data))
            if written < len(head) + len(data):
                os.ftruncate(self._fd, self._size)  # a full disk: half a piece would make nonsense of what follows
            else:
                self._size += written

    def here(self) -> int:
        """A descriptor that reads what comes after what was written until now, for the caller to close."""
        with self._lock:
            fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(fd, self._size, os.SEEK_SET)
            return fd

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            os.close(self._fd)


class Reader:
    """Reads a container's log: what is :meth:`there`, and then what is :meth:`coming`. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self._kept = bytearray()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def there(self) -> Iterator[Piece]:
        """What is written now, the oldest first."""
        for name in ("log.1", "log"):
            if self._open(name):
                yield from self._read()

    def start_at(self, fd: int) -> None:
        """Read from a descriptor of the log, which is closed."""
        self._close()
        self._file = fd

    def skip(self) -> None:
        """Pass over what is written now; nobody may be writing."""
        Log(self._folder).close()  # it is there from now on, whatever becomes of its directory
        if self._open("log"):
            os.lseek(self._file, 0, os.SEEK_END)

    def coming(self, more: Callable[[], bool]) -> Iterator[Piece]:
        """What is written from then on. ``more`` waits until there may be some, and is false when all is written."""
        going = True
        while True:
            yield from self._read()
            while name := self._next():
                yield from self._read()  # what came before it was moved
                if not self._open(name):
                    break
                yield from self._read()
            if not going:
                return
            going = more()

    def _next(self) -> str:
        """The file that was begun after the one that is being read; '' if none was."""
        mine = os.fstat(self._file).st_ino if self._file >= 0 else -1
        files = {name: self._inode(name) for name in ("log.1", "log")}
        if not files["log"] or files["log"] == mine:  # it is being moved, or this is it
            return ""
        return "log" if files["log.1"] in (0, mine) else "log.1"

    def _inode(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_ino
        except FileNotFoundError:
            return 0

    def _open(self, name: str) -> bool:
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self.start_at(fd)
        return True

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._kept = -1, bytearray()

    def _read(self) -> Iterator[Piece]:
        """The whole pieces from here on; the beginning of one that is being written is kept."""
        kept = self._kept
        while self._file >= 0 and (data := os.read(self._file, 1 << 18)):
            kept += data
            while (end := kept.find(b"\n")) >= 0:
                moment, stream, length = kept[:end].split()
                if len(kept) < end + 1 + int(length):
                    break
                yield Piece(float(moment), int(stream), bytes(kept[end + 1 : end + 1 + int(length)]))
                del kept[: end + 1 + int(length)]


def read(
    folder: Path, *, tail: int = -1, by_line: bool = False, more: Callable[[], bool] | None = None
) -> Iterator[Piece]:
    """The last ``tail`` lines of what is there (-1: all of it), and with ``more`` what comes (see :class:`Reader`).

    ``by_line`` cuts all of it into lines.
    """
    with Reader(folder) as reader:
        yield from (
            deque(lines(reader.there()), tail) if tail >= 0 else lines(reader.there()) if by_line else reader.there()
        )
        if more is not None:
            yield from lines(reader.coming(more)) if by_line else reader.coming(more)


def lines(source: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces cut into lines, each with its end; a line has the time of its beginning."""
    begun: dict[int, Piece] = {}
    for piece in source:
        before = begun.pop(piece.stream, None)
        data = before.data + piece.data if before else piece.data
        moment = before.time if before else piece.time
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield Piece(moment, piece.stream, line + b"\n")
            moment = piece.time
        if rest:
            begun[piece.stream] = Piece(moment, piece.stream, rest)
    yield from begun.values()
