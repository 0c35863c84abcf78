"""A build's progress in a terminal: plain lines as BuildKit prints them, live lines on a tty, or JSON lines.

:func:`printer` gives the sink for the events of one build. Events may come from several threads.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import TextIO

from dockermagic.errors import RunFailedError, UsageError
from dockermagic.events import Emit, Event, solve_status

__all__ = ["MODES", "printer"]

MODES = ("auto", "plain", "tty", "quiet", "rawjson")


def printer(mode: str, stream: TextIO) -> contextlib.AbstractContextManager[Emit]:
    """A context manager that gives the ``emit`` of one build; leaving it prints what is left to say.

    ``auto`` shows live lines where ``stream`` is a terminal and plain ones elsewhere. Raises UsageError for a mode that
    there is not.
    """
    if mode not in MODES:
        raise UsageError(f"invalid progress type {mode!r}", hint=f"There is: {', '.join(MODES)}.")
    if mode == "auto":
        import os

        mode = "tty" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    return {"plain": _plain, "tty": _live, "quiet": _quiet, "rawjson": _rawjson}[mode](stream)


@contextlib.contextmanager
def _quiet(stream: TextIO) -> Iterator[Emit]:
    yield lambda event: None


@contextlib.contextmanager
def _rawjson(stream: TextIO) -> Iterator[Emit]:
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = json.dumps(solve_status(event), separators=(",", ":"))
        with lock:
            stream.write(line + "\n")
            stream.flush()

    yield emit


@contextlib.contextmanager
def _plain(stream: TextIO) -> Iterator[Emit]:
    from dockermagic.terminal.plain import PlainPrinter

    lines = PlainPrinter(stream)
    try:
        with _said_once():
            yield lines.emit
    finally:
        lines.close()


@contextlib.contextmanager
def _live(stream: TextIO) -> Iterator[Emit]:
    from dockermagic.terminal.live import LivePrinter

    with LivePrinter(stream) as live, _said_once():
        yield live.emit


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """The end of a failed RUN's output is printed with its step, and not with the error again."""
    try:
        yield
    except RunFailedError as error:
        error.log_tail = ()
        raise
