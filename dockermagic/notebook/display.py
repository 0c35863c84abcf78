"""What a cell shows: a build while it runs and when it is done, and any single view."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from dockermagic.buildview import build_view
from dockermagic.errors import BuildInterruptedError, DockermagicError, RunFailedError, UsageError
from dockermagic.events import Event, Log, Progress
from dockermagic.notebook import buildcard, treeview
from dockermagic.notebook.bundle import bundle
from dockermagic.notebook.containershow import ContainerDisplay
from dockermagic.notebook.downloads import Downloads
from dockermagic.notebook.live import Handlers, Live, Stop
from dockermagic.notebook.livelog import LiveLog, WholeLog
from dockermagic.notebook.markup import Html
from dockermagic.notebook.stage import Output, widgets_possible
from dockermagic.values import replace
from dockermagic.view import BuildView, Instruction, TreeView, View

if TYPE_CHECKING:
    from dockermagic.notebook.explorer import Explorer
    from dockermagic.terminal.live import LivePrinter

__all__ = ["BuildDisplay", "ContainerDisplay", "Handlers", "show"]


def show(view: View, *, explorer: Explorer | None = None, changed: bool = False) -> None:
    """Show a view as one output. A tree with an ``explorer`` can be looked through in a widget, source ``tree``; at
    first only what ``changed``."""
    place, still = Output(), bundle(view)
    if isinstance(view, TreeView) and explorer is not None and widgets_possible():
        handlers = {**explorer.handlers(), "download": Downloads({"files": explorer.copy}).answer}
        page = str(treeview.explored_card(view, changed=changed))
        place.live(page, still, handlers, insists=True)
        place.done(page, still)
    else:
        place.draw(still)


class BuildDisplay(Live):
    """A cell that is being built. A context manager: leaving it by an error shows what failed.

    ``instructions`` are the cell's, ``stop`` is called when somebody presses the button, ``place`` is where it was
    shown before. Hand :attr:`emit` to the build and the card to :meth:`finish`; :meth:`redraw` shows another state.
    """

    def __init__(
        self,
        instructions: Sequence[Instruction] = (),
        *,
        cell: str = "",
        stop: Stop | None = None,
        place: Output | None = None,
    ) -> None:
        super().__init__(stop, place)
        self.instructions = tuple(instructions)
        self.cell = cell
        self.progress = Progress()
        self.shown: BuildView | None = None
        self._logs: dict[str, LiveLog] = {}
        self._whole: dict[str, WholeLog] = {}
        self._acts = buildcard.Acts()
        self._sent: dict[str, Html] = {}
        self._notes: tuple[str, ...] = ()
        self._stale: tuple[str, ...] = ()
        self._terminal: LivePrinter | None = None

    def emit(self, event: Event) -> None:
        """Take an event of the build in."""
        with self._lock:
            self.progress.add(event)
            if isinstance(event, Log):
                self._logs.setdefault(event.vertex, LiveLog()).add(event.data)
                self._whole.setdefault(event.vertex, WholeLog()).add(event.data)
        if self._terminal is not None:
            self._terminal.emit(event)
        self._changed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if not self._finished and error is not None:
            self._failed(error)
            if self._finished and isinstance(error, RunFailedError):
                error.log_tail = ()  # the card has more of it
        elif not self._finished:
            self.finish(self.view(finished=True))

    def _start_terminal(self) -> None:
        from dockermagic.terminal.live import LivePrinter

        self._terminal = LivePrinter(sys.stdout, transient=True).__enter__()

    def _end_terminal(self) -> None:
        if self._terminal is not None:
            self._terminal.__exit__(None, None, None)
            self._terminal = None

    def view(self, *, finished: bool = True, failed: bool = False) -> BuildView:
        """The fold of the events so far."""
        with self._lock:
            return build_view(self.progress, self.instructions, cell=self.cell, finished=finished, failed=failed)

    def failed(
        self,
        *,
        notes: Sequence[str] = (),
        stale: Sequence[str] = (),
        acts: buildcard.Acts | None = None,
        handlers: Handlers | None = None,
        explorer: Explorer | None = None,
    ) -> None:
        """What to say on a failed card, and what its buttons do."""
        self._notes, self._stale = tuple(notes), tuple(stale)
        self._failed_acts, self._failed_handlers, self._failed_explorer = acts, handlers, explorer

    _failed_acts: buildcard.Acts | None = None
    _failed_handlers: Handlers | None = None
    _failed_explorer: Explorer | None = None

    def finish(
        self,
        view: BuildView,
        *,
        acts: buildcard.Acts | None = None,
        handlers: Handlers | None = None,
        explorer: Explorer | None = None,
    ) -> None:
        """Show the card that stays, with buttons for what it ``acts`` on; ``handlers`` hear them."""
        self._acts = replace(acts or buildcard.Acts(), logs=True)
        copies = {"log": self._saved, **({"files": explorer.copy} if explorer else {})}
        heard: dict[str, Callable[[dict[str, Any]], Any]] = {"download": Downloads(copies).answer, **(handlers or {})}
        heard |= explorer.handlers() if explorer else {}
        self.shown = view
        self.stay(lambda: buildcard.build_card(view, self._acts), bundle(view), heard)

    def redraw(self, view: BuildView) -> None:
        """Show another state of the card that stays. Does nothing where it is the same."""
        if view != self.shown:
            self.shown = view
            page = str(buildcard.build_card(view, self._acts)) if self.place.widget is not None else ""
            self.place.done(page, bundle(view))

    def take_over(self, other: BuildDisplay) -> None:
        """Have the output that another display of the same cell has heard."""
        self._whole = other._whole

    def fail_as(self, other: BuildDisplay, handlers: Handlers) -> None:
        """Show the failure that another display of the same cell shows; ``handlers`` are this one's."""
        self.take_over(other)
        if other.shown is not None:
            self.finish(other.shown, acts=other._failed_acts, handlers=handlers, explorer=other._failed_explorer)

    def _saved(self, message: dict[str, Any]) -> tuple[IO[bytes], str]:
        """The whole output of a step, as far as it was kept."""
        log = self._whole.get(str(message.get("of", "")).partition(":")[2])
        if log is None:
            raise UsageError("this output is not at hand any more")
        return log.copy(), ""

    def _failed(self, error: BaseException) -> None:
        stopped = isinstance(error, BuildInterruptedError | KeyboardInterrupt)
        view = replace(self.view(failed=True), stopped=stopped, notes=self._notes, stale=self._stale)
        if not stopped:
            message = error.message if isinstance(error, DockermagicError) else str(error)
            view = replace(view, error=message)
        if self.place.shown or any(step.state not in ("waiting", "skipped") for step in view.steps):
            self.finish(view, acts=self._failed_acts, handlers=self._failed_handlers, explorer=self._failed_explorer)

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
