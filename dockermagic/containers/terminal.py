"""A terminal for somebody who is not at one: a widget, a test, a program.

The protocol, in which every call may come from any thread::

    session = TerminalSession(work, output=show, ended=close, rows=24, columns=80)
    session.write(b"ls\\r")           keys, as bytes that a terminal sends
    session.resize(40, 120)          the window has another size now
    session.acknowledge(4096)        so many bytes of output were shown
    session.close()                  hang up: SIGHUP, and after a while SIGKILL
    session.wait()                   the exit code

``output`` is called from the session's own thread with bytes as the process writes them, cut anywhere, also inside of
a character. When more than ``window`` bytes are not acknowledged, it is called no more until some are: the terminal
fills, and the process waits as it would for a slow screen. ``ended`` is called once, last, with the exit code; a start
that failed has written its error to the output before that, and has the error's code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Required, TypedDict, Unpack

from dockermagic.errors import BuildInterruptedError, DockermagicError
from dockermagic.sandbox.base import Cancel

if TYPE_CHECKING:
    from dockermagic.sandbox.base import Output
    from dockermagic.sandbox.running import Running

__all__ = ["WINDOW", "Screen", "TerminalSession", "Work", "size_of"]

WINDOW = 1 << 20
"""How many bytes may be on their way to the screen: on a busy machine they are long on their way."""
_PATIENCE = 2.0

Work = Callable[["Output", Callable[["Running"], None], Cancel], int]
"""Runs a process with a terminal to its end and returns its exit code. It gets where the output goes, whom to tell of
the process as soon as it has its terminal, and what asks it to end at once.
"""


class Screen(TypedDict, total=False):
    """Where a terminal is shown: what takes its output and its end, and its size (24 rows of 80 columns)."""

    output: Required[Callable[[bytes], None]]
    ended: Callable[[int], None]
    rows: int
    columns: int


def size_of(screen: Screen) -> tuple[int, int]:
    """Its rows and columns."""
    return screen.get("rows", 24), screen.get("columns", 80)


class TerminalSession:
    """One process at one terminal, from its start to its exit code; see the module's text for the protocol."""

    def __init__(self, work: Work, *, window: int = WINDOW, **screen: Unpack[Screen]) -> None:
        self.size = size_of(screen)
        self.exit_code: int | None = None
        self._work = work
        self._output = screen["output"]
        self._ended = screen.get("ended")
        self._window = window
        self._on_its_way = 0
        self._typed = bytearray()
        self._running: Running | None = None
        self._cancel = Cancel()
        self._closed = False
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dockermagic-terminal", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Type. What comes before the process is there waits for it; what comes after its end is dropped."""
        with self._changed:
            self._typed += data
            self._changed.notify_all()

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size; the process hears of it with SIGWINCH."""
        with self._changed:
            self.size = (rows, columns)
            if self._running is not None and self._running.terminal is not None:
                self._running.terminal.set_size(rows, columns)

    def acknowledge(self, count: int) -> None:
        """So many bytes of the output were shown: as many more may come."""
        with self._changed:
            self._on_its_way = max(0, self._on_its_way - count)
            self._changed.notify_all()

    def close(self) -> None:
        """Hang up, as the end of a terminal's line does. Idempotent; :meth:`wait` tells when it is over."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            running = self._running
        if running is None or not running.hears(signal.SIGHUP) or not running.signal(signal.SIGHUP):
            self._kill()
            return
        killer = threading.Timer(_PATIENCE, self._kill)
        killer.daemon = True
        killer.start()

    def _kill(self) -> None:
        """Kill the process first: what the cancelled run asks of it then, politely, finds nobody."""
        with self._changed:
            if self._running is not None:
                self._running.signal(signal.SIGKILL)
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, or None if it is not over within ``timeout`` seconds."""
        self._over.wait(timeout)
        return self.exit_code

    # -- the session's threads -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        code = 1
        try:
            code = self._work(self._take, self._begin, self._cancel)
        except BuildInterruptedError:
            code = 128 + signal.SIGKILL
        except DockermagicError as error:
            code = error.exit_code
            if not self._closed:
                self._take(2, f"{error.render()}\n".replace("\n", "\r\n").encode())
        finally:
            with self._changed:
                self.exit_code, self._running, self._closed = code, None, True
                self._changed.notify_all()
            self._over.set()
            if self._ended is not None:
                self._ended(code)

    def _take(self, stream: int, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._on_its_way < self._window or self._closed)
            self._on_its_way += len(data)
            if self._closed:
                return
        self._output(data)

    def _begin(self, running: Running) -> None:
        with self._changed:
            self._running = running
            if running.terminal is not None:
                running.terminal.set_size(*self.size)
            if self._closed:
                running.signal(signal.SIGKILL)
        threading.Thread(target=self._type, args=(running,), name="dockermagic-keys", daemon=True).start()

    def _type(self, running: Running) -> None:
        """Hand the keys on; a process that does not read them holds up this thread alone."""
        assert running.terminal is not None
        with contextlib.suppress(OSError), os.fdopen(os.dup(running.terminal.fd), "wb", buffering=0) as keys:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._typed or self._closed)
                    if self._closed:
                        return
                    typed, self._typed = self._typed, bytearray()
                while typed:
                    del typed[: keys.write(typed)]
