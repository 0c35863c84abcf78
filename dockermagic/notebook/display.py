"""What a cell shows: a build while it runs and when it is done, a container, and any single view.

A build that is over in a moment is drawn once, when it is done. Events may come from any thread; a thread of its own
draws them in batches.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dockermagic.errors import BuildInterruptedError, DockermagicError
from dockermagic.events import Event, Log, Progress, now
from dockermagic.notebook import buildcard, listings, treeview
from dockermagic.notebook.bundle import bundle, html
from dockermagic.notebook.livelog import LiveLog
from dockermagic.notebook.markup import Html, card, el, head
from dockermagic.notebook.stage import Output, forgets, in_kernel, widgets_possible
from dockermagic.view import BuildView, ContainerView, Instruction, TreeEntry, TreeView, View, build_view

if TYPE_CHECKING:
    from dockermagic.terminal.live import LivePrinter

__all__ = ["BuildDisplay", "ContainerDisplay", "List", "show"]

MOMENT = 0.15
"""Seconds before anything is drawn: what is done by then was never seen running."""

INTERVAL = 0.08
STILL_INTERVAL = 0.5
NEWCOMER = 2.5
"""For how many seconds after a view was made everything is sent each time: what came before it is lost to it."""

NEWCOMER_INTERVAL = 0.25
KEPT_OUTPUT = 256 * 1024
PAGE = 200

List = Callable[[str], Sequence[TreeEntry]]
"""Lists one directory of a root filesystem."""

Stop = Callable[[], None]


def show(view: View, *, entries: List | None = None) -> None:
    """Show a view as one output. A tree for which ``entries`` are given can be opened to the bottom in a widget."""
    place, still = Output(), bundle(view)
    if isinstance(view, TreeView) and entries is not None and widgets_possible():
        place.live(str(lazy_tree(view)), still, {"list": lister(place, entries)}, insists=True)
        place.done(str(lazy_tree(view)), still)
    else:
        place.draw(still)


def lazy_tree(view: TreeView) -> Html:
    """A tree whose directories a widget fills when they are opened."""
    title = head(view.title or "Files", *treeview.change_facts(view))
    return card(title, el("div", lazy_entries(view), style="padding:6px 12px 8px"))


def lazy_entries(view: TreeView) -> Html:
    rows = treeview.entry_rows(view.entries, 0, len(view.entries))
    return el("ul", rows, style="list-style:none;margin:0;padding:0", data_tree=view.path)


def lister(place: Output, entries: List) -> Callable[[dict[str, Any]], None]:
    """Answers a page that asks for a directory."""

    def listed(message: dict[str, Any]) -> None:
        path, start = str(message.get("path", "/")), int(message.get("start", 0))
        try:
            rows = str(treeview.entry_rows(entries(path), start, PAGE))
        except DockermagicError as error:
            rows = str(el("li", error.message, style="list-style:none"))
        if place.widget is not None:
            place.widget.send({"t": "list", "path": path, "start": start, "html": rows})

    return listed


class _Live:
    """A place that is drawn again and again by a thread of its own, from when it takes longer than a moment."""

    def __init__(self, stop: Stop | None) -> None:
        self.place = Output()
        self._stop = stop
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._newcomer_until = 0.0

    def start(self) -> None:
        """Begin to draw."""
        if in_kernel():
            # In the cell's own context: elsewhere the kernel takes what is shown for an answer to its latest message,
            # which may have been one of the widget's.
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._draw,), name="dockermagic-display", daemon=True)
            self._thread.start()
        elif sys.stdout.isatty():
            self._start_terminal()

    def end(self) -> None:
        """Draw no more; returns when the thread is done."""
        self._over.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        self._end_terminal()

    def _draw(self) -> None:
        if self._over.wait(MOMENT):
            return
        try:
            handlers = {"stop": self._stopped, "hello": self._hello}
            if widgets_possible():
                with self._lock:
                    self.place.live(str(self._first()), self._still(), handlers)
                self._hello({})
            while not self._over.is_set():
                widget = self.place.widget
                newcomer = time.monotonic() < self._newcomer_until
                if widget is None:
                    self.place.draw(self._still())
                else:
                    with self._lock:
                        message = self._message(everything=newcomer)
                    if message is not None:
                        widget.send({"t": "patch", "now": now(), **message})
                pause = STILL_INTERVAL if widget is None else NEWCOMER_INTERVAL if newcomer else INTERVAL
                self._over.wait(pause)
                if not newcomer and widget is not None:
                    self._changed.wait()
                self._changed.clear()
        except Exception as error:  # a picture that fails must not fail the build
            self.trouble = error

    trouble: Exception | None = None

    def _stopped(self, message: object) -> None:
        if self.place.widget is not None:
            self.place.widget.send({"t": "stopping"})
        if self._stop is not None:
            self._stop()

    def _hello(self, message: object) -> None:
        self._newcomer_until = time.monotonic() + NEWCOMER
        self._changed.set()

    @property
    def _button(self) -> Html:
        if self._stop is None:
            return Html("")
        return el("button", "stop", type="button", class_="dm-stop", data_send="stop")

    def _start_terminal(self) -> None:
        """Begin to show it in IPython's terminal."""

    def _end_terminal(self) -> None:
        """Leave the terminal to what comes."""

    def _first(self) -> Html:
        raise NotImplementedError

    def _still(self) -> dict[str, Any]:
        raise NotImplementedError

    def _message(self, *, everything: bool) -> dict[str, Any] | None:
        raise NotImplementedError


class BuildDisplay(_Live):
    """A cell that is being built. A context manager: leaving it by an error shows what failed.

    ``instructions`` are the cell's, ``stop`` is called when somebody presses the button. Hand :attr:`emit` to the build
    and the card to :meth:`finish`.
    """

    def __init__(self, instructions: Sequence[Instruction] = (), *, cell: str = "", stop: Stop | None = None) -> None:
        super().__init__(stop)
        self.instructions = tuple(instructions)
        self.cell = cell
        self.progress = Progress()
        self._logs: dict[str, LiveLog] = {}
        self._sent: dict[str, Html] = {}
        self._finished = False
        self._notes: tuple[str, ...] = ()
        self._stale: tuple[str, ...] = ()
        self._terminal: LivePrinter | None = None

    def emit(self, event: Event) -> None:
        """Take an event of the build in."""
        with self._lock:
            self.progress.add(event)
            if isinstance(event, Log):
                self._logs.setdefault(event.vertex, LiveLog()).add(event.data)
        if self._terminal is not None:
            self._terminal.emit(event)
        self._changed.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if not self._finished and error is not None:
            self._failed(error)
        elif not self._finished:
            self.finish(self.view(finished=True))

    def _start_terminal(self) -> None:
        from dockermagic.terminal.live import LivePrinter

        self._terminal = LivePrinter(sys.stdout, transient=True).__enter__()

    def _end_terminal(self) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(None, None, None)
            self._terminal = None

    def view(self, *, finished: bool = True) -> BuildView:
        """The fold of the events so far."""
        with self._lock:
            return build_view(self.progress, self.instructions, cell=self.cell, finished=finished)

    def failed(self, *, notes: Sequence[str] = (), stale: Sequence[str] = ()) -> None:
        """What to say below a failed card."""
        self._notes, self._stale = tuple(notes), tuple(stale)

    def finish(self, view: BuildView, *, entries: List | None = None) -> None:
        """Show the card that stays; ``entries`` lists directories of the tree in it."""
        self.end()
        self._finished = True
        still, handlers = bundle(view), {}
        page = str(html(view))
        if view.tree is not None and entries is not None:
            handlers["list"] = lister(self.place, entries)
            page = str(buildcard.build_card(view, lazy=True))
        if self.place.widget is None and widgets_possible() and not forgets():
            self.place.live(page, still, handlers)
        self.place.done(page, still, handlers)

    def _failed(self, error: BaseException) -> None:
        stopped = isinstance(error, BuildInterruptedError | KeyboardInterrupt)
        view = replace(self.view(), stopped=stopped, notes=self._notes, stale=self._stale)
        if not stopped:
            message = error.message if isinstance(error, DockermagicError) else str(error)
            view = replace(view, error=message)
        if self.place.widget is not None or any(step.state not in ("waiting", "skipped") for step in view.steps):
            self.finish(view)

    def _first(self) -> Html:
        return buildcard.live_card(self._parts())

    def _parts(self) -> dict[str, Html]:
        return buildcard.live_parts(self.view(finished=False), self._button)

    def _still(self) -> dict[str, Any]:
        return bundle(self.view(finished=False))

    def _message(self, *, everything: bool) -> dict[str, Any] | None:
        view = self.view(finished=False)
        parts = buildcard.live_parts(view, self._button)
        changed = {name: part for name, part in parts.items() if everything or self._sent.get(name) != part}
        self._sent = parts
        logs = {}
        for step in buildcard.shown_steps(view):
            log = self._logs.get(step.digest)
            if step.state == "running" and log is not None and (everything or log.waits):
                logs[buildcard.part_name(step)] = log.take(everything=everything)
        if not changed and not logs:
            return None
        return {"parts": {name: str(part) for name, part in changed.items()}, "order": list(parts), "logs": logs}


class ContainerDisplay(_Live):
    """A container that runs. A context manager; hand :meth:`output` to the run and its end to :meth:`finish`."""

    def __init__(self, image: str, command: Sequence[str] = (), *, name: str = "", stop: Stop | None = None) -> None:
        super().__init__(stop)
        self._view = ContainerView(image, tuple(command), started=now(), name=name)
        self._output = bytearray()
        self._dropped = 0
        self._log = LiveLog()
        self._finished = False

    def output(self, stream: int, data: bytes) -> None:
        """Take output in; both streams are shown as they come."""
        with self._lock:
            self._output += data
            if len(self._output) > 2 * KEPT_OUTPUT:
                cut = len(self._output) - KEPT_OUTPUT
                self._dropped += cut
                del self._output[:cut]
            self._log.add(data)
        self._changed.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        stopped = isinstance(error, KeyboardInterrupt | BuildInterruptedError)
        if not self._finished and (stopped or self._output or self.place.widget is not None):
            self.finish(None, stopped=stopped)

    def view(self) -> ContainerView:
        """The container as it stands."""
        with self._lock:
            return replace(self._view, output=bytes(self._output), output_dropped=self._dropped)

    def finish(self, exit_code: int | None, *, seconds: float | None = None, stopped: bool = False) -> None:
        """Show how it ended."""
        self.end()
        self._finished = True
        taken = now() - (self._view.started or now()) if seconds is None else seconds
        view = replace(self.view(), exit_code=exit_code, seconds=taken, stopped=stopped)
        if self.place.widget is None and widgets_possible() and not forgets():
            self.place.live(str(html(view)), bundle(view), {})
        self.place.done(str(html(view)), bundle(view))

    def _first(self) -> Html:
        return listings.live_container(self._view, self._button)

    def _still(self) -> dict[str, Any]:
        return bundle(self.view())

    def _message(self, *, everything: bool) -> dict[str, Any] | None:
        if not everything and not self._log.waits:
            return None
        return {"logs": {"output": self._log.take(everything=everything)}}
