"""Files on their way to a browser, a piece at a time: the page asks for the next one when it has the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO, Any

from dockermagic.errors import UsageError

__all__ = ["Downloads"]

PIECE = 1 << 20
AT_ONCE = 4


class Downloads:
    """``kinds`` open a file for a message, by its field ``of``, and name it."""

    def __init__(self, kinds: Mapping[str, Callable[[dict[str, Any]], tuple[IO[bytes], str]]]) -> None:
        self._kinds = kinds
        self._open: dict[int, tuple[IO[bytes], str]] = {}
        self._count = 0

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """The first piece of a file or the next one."""
        number = message.get("next")
        if number is None:
            kind = str(message.get("of", "")).partition(":")[0]
            if kind not in self._kinds:
                raise UsageError("this file is not at hand any more", hint="Run the cell again.")
            file, name = self._kinds[kind](message)
            file.seek(0)
            self._count += 1
            number = self._count
            self._open[number] = file, name
            while len(self._open) > AT_ONCE:
                self._open.pop(next(iter(self._open)))[0].close()
        if number not in self._open:
            raise UsageError("this download was broken off")
        file, name = self._open[number]
        piece = file.read(PIECE)
        end = len(piece) < PIECE
        if end:
            self._open.pop(number)[0].close()
        return {"name": name, "next": number, "end": end}, [piece]
