"""Blobs on their way to or from a registry, as Docker shows them: a line each, which moves on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from dockermagic.events import Emit, Event, Status
from dockermagic.tables import human_size

__all__ = ["PULLING", "PUSHING", "transfers"]

PULLING = {
    "waiting": "Pulling fs layer",
    "transfer": "Downloading",
    "done": "Download complete",
    "extracting": "Extracting",
    "unpacked": "Pull complete",
    "exists": "Already exists",
}
PUSHING = {
    "waiting": "Preparing",
    "transfer": "Pushing",
    "done": "Pushed",
    "exists": "Layer already exists",
    "mounted": "Mounted",
}
_MOVING = ("transfer", "extracting")
_BAR = 50


@contextmanager
def transfers(stream: TextIO, words: Mapping[str, str], *, live: bool) -> Iterator[Emit]:
    """Gives the ``emit`` for one transfer. ``words`` says what a blob's state is called; others are not shown.

    With ``live`` each blob keeps its line, which is drawn again; else each state is a line of its own, once.
    """
    lines = _Lines(stream, words, live=live)
    yield lines.emit
    lines.close()


class _Lines:
    def __init__(self, stream: TextIO, words: Mapping[str, str], *, live: bool) -> None:
        self._stream, self._words, self._live = stream, words, live
        self._states: dict[str, str] = {}
        self._rows: dict[str, int] = {}
        self._drawn: dict[str, str] = {}
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Take one event, in any thread."""
        if not isinstance(event, Status) or event.name not in self._words:
            return
        with self._lock:
            before = self._states.get(event.id, "")
            # What was here from the start is told once; a late report of progress changes nothing.
            if before in ("exists", "unpacked", "mounted") or (event.name == "transfer" and before == "done"):
                return
            self._states[event.id] = event.name
            if self._live:
                self._draw(event)
            elif event.name != before and event.name not in _MOVING:
                self._stream.write(f"{_short(event.id)}: {self._words[event.name]}\n")
                self._stream.flush()

    def _draw(self, event: Event) -> None:
        assert isinstance(event, Status)
        text = f"{_short(event.id)}: {self._words[event.name]}"
        if event.name in _MOVING and event.total:
            filled = int(_BAR * event.current / event.total)
            bar = ("=" * filled + ">").ljust(_BAR + 1)[: _BAR + 1]
            text += f" [{bar}]  {human_size(event.current)}/{human_size(event.total)}"
        if self._drawn.get(event.id) == text:
            return
        self._drawn[event.id] = text
        if event.id not in self._rows:
            self._rows[event.id] = len(self._rows)
            self._stream.write(f"{text}\n")
        else:
            up = len(self._rows) - self._rows[event.id]
            self._stream.write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")
        self._stream.flush()

    def close(self) -> None:
        """What was fetched and not unpacked on the way is complete all the same."""
        if "unpacked" in self._words:
            for digest, state in list(self._states.items()):
                if state in ("done", "extracting"):
                    self.emit(Status("", digest, "unpacked", 1, 1))


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
