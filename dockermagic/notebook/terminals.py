"""Terminals in a card: sessions of the engine, opened when a page asks, their output sent a frame's worth at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from dockermagic.errors import UsageError
from dockermagic.notebook import modules
from dockermagic.notebook.bundle import bundle
from dockermagic.notebook.markup import card, el, head
from dockermagic.notebook.stage import Output, widgets_possible
from dockermagic.view import MessageView

if TYPE_CHECKING:
    from dockermagic.notebook.widgets import CardWidget

__all__ = ["Begin", "Line", "Terminals", "show_terminal"]

FRAME = 0.016
"""Seconds for which output is gathered: less than anybody sees."""

FLOOD, FLOOD_FRAME = 8 << 10, 0.05
"""Where so many bytes came in a frame nobody can read along: fewer frames are less work for the page."""

PIECE = 256 << 10
KEPT = 128 << 10
"""How much of a session's output a page sees that is loaded again."""

LOST = 1 << 30
"""More bytes than can be on their way to a page that is not there any more."""

MOST_ROWS, MOST_COLUMNS = 500, 1000


Send = Callable[[dict[str, Any], list[bytes]], None]


class TerminalSession(Protocol):
    """The part of a session that a page needs; see :mod:`dockermagic.containers.terminal`."""

    def write(self, data: bytes) -> None: ...
    def resize(self, rows: int, columns: int) -> None: ...
    def acknowledge(self, count: int) -> None: ...
    def close(self) -> None: ...


class Begin(Protocol):
    """Starts a session."""

    def __call__(
        self, *, output: Callable[[bytes], None], ended: Callable[[int], None], rows: int, columns: int
    ) -> TerminalSession: ...


class Line:
    """A session's output on its way to the page: gathered for a frame and sent as one message, the exit code last."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting = bytearray()
        self._kept = bytearray()
        self._code: int | None = None
        self._over = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="dockermagic-line", daemon=True).start()

    def output(self, data: bytes) -> None:
        """Take output in."""
        with self._changed:
            self._waiting += data
            self._changed.notify_all()

    def ended(self, code: int) -> None:
        """Nothing more will come."""
        with self._changed:
            self._code = code
            self._changed.notify_all()

    def lead(self, send: Send) -> None:
        """Send to another page from now on, first what is kept of what the one before it was sent."""
        with self._changed:
            self._send = send
            ending = {"code": self._code} if self._over else {}
            send({"again": True, **ending}, [bytes(self._kept)])

    def _run(self) -> None:
        piece = b""
        while not self._over:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._code is not None)
                if self._code is None:
                    frame = FRAME if len(piece) < FLOOD else FLOOD_FRAME
                    self._changed.wait_for(lambda: len(self._waiting) >= PIECE or self._code is not None, frame)
                piece = bytes(self._waiting[:PIECE])
                del self._waiting[:PIECE]
                self._kept += piece
                del self._kept[:-KEPT]
                self._over = self._code is not None and not self._waiting
                self._send({"code": self._code} if self._over else {}, [piece] if piece else [])


class Terminals:
    """The terminals of one card. ``kinds`` begin sessions by name.

    Opening one again ends the session before it and begins another; where it ``stays``, it goes on with that session or
    shows how it ended: a page that is loaded again runs nothing twice.
    """

    def __init__(
        self, widget: Callable[[], CardWidget | None], kinds: Mapping[str, Begin], *, stays: bool = False
    ) -> None:
        self._widget = widget
        self._kinds = kinds
        self._stays = stays
        self._open: dict[str, tuple[TerminalSession, Line]] = {}
        self._latest: dict[str, str] = {}

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Answers by the kind of message."""
        return {
            "terminal.open": self._opened,
            "terminal.keys": lambda message: self._session(message, lambda one: one.write(_keys(message))),
            "terminal.size": lambda message: self._session(message, lambda one: one.resize(*_size(message))),
            "terminal.shown": lambda message: self._session(
                message, lambda one: one.acknowledge(max(0, int(message.get("count", 0))))
            ),
            "terminal.end": lambda message: self._session(message, lambda one: one.close()),
        }

    def _opened(self, message: dict[str, Any]) -> bool:
        """Open a terminal; whether its session begins."""
        kind, name = str(message.get("of", "")), str(message.get("terminal", ""))
        begin = self._kinds.get(kind)
        if begin is None:
            raise UsageError("there is nothing to open a terminal in any more", hint="Run the cell again.")

        def send(to: str, content: dict[str, Any], pieces: list[bytes]) -> None:
            widget = self._widget()
            if widget is not None:
                widget.send({"t": f"terminal.{to}", **content}, pieces)

        rows, columns = _size(message)
        elsewhere, self._latest[kind] = self._latest.get(kind, ""), name
        before = self._open.pop(elsewhere, None)
        if before is not None and self._stays:
            send(elsewhere, {"moved": True}, [])
            session, line = self._open[name] = before
            line.lead(partial(send, name))
            session.acknowledge(LOST)
            session.resize(rows, columns)
            return False
        if before is not None:
            before[0].close()
        line = Line(partial(send, name))
        self._open[name] = begin(output=line.output, ended=line.ended, rows=rows, columns=columns), line
        return True

    def _session(self, message: dict[str, Any], act: Callable[[TerminalSession], None]) -> None:
        known = self._open.get(str(message.get("of", "")))
        if known is not None:
            act(known[0])


def _keys(message: dict[str, Any]) -> bytes:
    text = str(message.get("text", ""))
    return text.encode("latin-1", "replace") if message.get("binary") else text.encode("utf-8", "replace")


def _size(message: dict[str, Any]) -> tuple[int, int]:
    rows, columns = int(message.get("rows", 24)), int(message.get("columns", 80))
    return max(1, min(rows, MOST_ROWS)), max(1, min(columns, MOST_COLUMNS))


def show_terminal(title: str, begin: Begin, *, instead: str) -> None:
    """Show a terminal that begins when somebody looks. ``instead`` is the command that does the same in a terminal.

    Raises UsageError where nothing can show one.
    """
    if not widgets_possible():
        raise UsageError("a terminal needs a notebook that shows widgets", hint=f"In a terminal of yours: {instead}")
    place = Output()
    terminals = Terminals(lambda: place.widget, {"run": begin}, stays=True)
    inside = modules.place("terminal", "terminal", of="run")
    page = str(card(head(title), el("div", inside, style="padding:0 12px 12px")))
    hint = f"Run the cell again, or in a terminal of yours: {instead}"
    still = bundle(MessageView(f"{title}: a terminal stood here.", hint=hint))
    place.live(page, still, terminals.handlers(), insists=True)
    place.done(page, still)
