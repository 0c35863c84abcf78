"""The client's side of a process's terminal: input goes in, and the size of the window follows that of the input."""

from __future__ import annotations

import os
import select

__all__ = ["LetGoError", "Terminal"]

_END_OF_INPUT = b"\x04"


class LetGoError(Exception):
    """Somebody typed the keys that let go of a process."""


class Terminal:
    """The master of a pseudo terminal, fed from ``source``: a descriptor, or None for a process without input.

    Whoever reads the output reads ``fd`` and closes it. ``keys`` are those that let go of the process, b"" for none.
    """

    def __init__(self, fd: int, source: int | None, keys: bytes = b"") -> None:
        self.fd = fd
        self.source = source
        self.keys = keys
        self._held_back = b""
        self.size = (0, 0)
        self.resize()

    def listen(self, poll: select.poll) -> None:
        """Have input watched for."""
        if self.source is None:
            return
        try:
            poll.register(self.source, select.POLLIN)
        except OSError:
            self.source = None

    def stop(self, poll: select.poll) -> None:
        """Watch for input no more."""
        if self.source is not None:
            poll.unregister(self.source)
            self.source = None

    def feed(self, poll: select.poll) -> None:
        """Pass some input on; at its end the process sees end of file."""
        if self.source is None:  # it has ended, which was told together with this
            return
        self.resize()
        data = os.read(self.source, 1 << 12)
        if not data:
            self.stop(poll)
            data = _END_OF_INPUT
        try:
            self.type(data)
        except OSError:
            self.stop(poll)

    def type(self, data: bytes) -> None:
        """Write what was typed; what may be the beginning of the keys waits for more. Raises LetGoError, OSError."""
        data = self._held_back + data
        if self.keys and self.keys in data:
            self._held_back = b""
            self._write(data.partition(self.keys)[0])
            raise LetGoError
        beginning = next(size for size in range(len(self.keys), -1, -1) if data.endswith(self.keys[:size]))
        data, self._held_back = data[: len(data) - beginning], data[len(data) - beginning :]
        self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.fd, data) :]

    def resize(self) -> None:
        """Make the window as large as that of the input, where the input is a terminal."""
        import termios

        if self.source is None:
            return
        try:
            size = termios.tcgetwinsize(self.source)
        except (OSError, termios.error):
            return
        if size != self.size:
            self.size = size
            self.set_size(*size)

    def set_size(self, rows: int, columns: int) -> None:
        """Give the window this size; nothing happens where it is closed."""
        import contextlib
        import termios

        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcsetwinsize(self.fd, (rows, columns))
