"""A process's output on its way to a widget: taken in as it comes, given out as markup in batches, never too much."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from typing import IO, Any

from dockermagic.notebook.ansi import AnsiLines
from dockermagic.notebook.markup import Html

__all__ = ["LiveLog", "WholeLog"]

KEPT_LINES = 200
"""Lines in a batch, and lines that somebody sees who comes late."""

KEPT_BYTES = 64 * 1024
"""Bytes of a batch that are looked at, the newest."""


KEPT_WHOLE = 64 << 20
"""Bytes of a step's output that can be saved as a file, from its beginning."""


class WholeLog:
    """All of a process's output, for whoever wants to save it; on the disk where it is long. Safe for threads."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=KEPT_BYTES)  # noqa: SIM115 - open as long as the card
        self._lock = threading.Lock()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take more output in."""
        with self._lock:
            room = KEPT_WHOLE - self._size
            if room > 0:
                self._file.write(data[:room])
                self._size += len(data[:room])
                if self._size == KEPT_WHOLE:
                    self._file.write(b"\n[dockermagic] only the first %d MiB were kept\n" % (KEPT_WHOLE >> 20))

    def copy(self) -> IO[bytes]:
        """A file of its own with what there is."""
        out = tempfile.TemporaryFile()  # noqa: SIM115 - handed out open
        with self._lock:
            self._file.seek(0)
            while block := self._file.read(1 << 20):
                out.write(block)
            self._file.seek(0, 2)
        return out


class LiveLog:
    """One process's output. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._lines = AnsiLines()
        self._bytes = bytearray()
        self._dropped_lines = 0
        self._last: deque[Html] = deque(maxlen=KEPT_LINES)
        self._count = 0

    @property
    def waits(self) -> bool:
        """Whether there is something to give out."""
        return bool(self._bytes)

    def add(self, data: bytes) -> None:
        """Take more output in."""
        self._bytes += data
        if len(self._bytes) > 2 * KEPT_BYTES:
            cut = len(self._bytes) - KEPT_BYTES
            self._dropped_lines += self._bytes.count(b"\n", 0, cut)
            del self._bytes[:cut]

    def take(self, *, everything: bool = False) -> dict[str, Any]:
        """The lines since the last time, or ``everything`` that is kept, as a message for the widget."""
        if self._dropped_lines:
            self._lines = AnsiLines()
        fresh = self._lines.feed(bytes(self._bytes))
        self._bytes.clear()
        skipped, self._dropped_lines = self._dropped_lines, 0
        self._count += skipped + len(fresh)
        skipped += max(0, len(fresh) - KEPT_LINES)
        if skipped:
            self._last.clear()
        self._last.extend(fresh)
        if everything:
            fresh, skipped = list(self._last), self._count - len(self._last)
        lines = [str(line) for line in fresh[-KEPT_LINES:]]
        return {"lines": lines, "rest": str(self._lines.rest()), "skipped": skipped, "reset": everything}
