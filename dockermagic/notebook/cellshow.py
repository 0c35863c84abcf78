"""Cells of a session on display: from when it is known what one builds to the card that stays, and stays true.

A card whose cell has left the chain says so itself, and its buttons run the cell again where it stands.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from dockermagic.build.request import FailedStep, StageResult
from dockermagic.buildview import build_view
from dockermagic.engine import Engine
from dockermagic.errors import BuildInterruptedError, DockermagicError
from dockermagic.events import Emit, Progress
from dockermagic.notebook import views
from dockermagic.notebook.buildfoot import Acts
from dockermagic.notebook.display import BuildDisplay, Handlers
from dockermagic.notebook.sources import failed_explorer, run_explorer, snapshots_before
from dockermagic.notebook.terminals import Terminals
from dockermagic.sandbox.base import Cancel
from dockermagic.session import Cell, Run, Script, Session
from dockermagic.values import replace
from dockermagic.view import HistoryRow, HistoryView

__all__ = ["Cards", "CellShow", "show_replay"]

KEPT = 300
"""Cards that are remembered; a notebook has fewer."""

LOOK = (
    "What the failed RUN left is kept until the next build: %dockerfile diff --failed shows it, "
    "%dockerfile shell --failed opens a shell in it."
)


class Cards:
    """The cards of one session's cells that this kernel has shown. Thread-safe.

    ``changed`` is called when a button has done its work.
    """

    def __init__(self, session: Session, engine: Engine, *, changed: Callable[[], None] = lambda: None) -> None:
        self.session = session
        self.engine = engine
        self._changed = changed
        self._shown: dict[str, CellShow] = {}
        self._lock = threading.RLock()
        self._busy = threading.Lock()
        self.config: Mapping[str, Any] = {}
        """The image config of the run before, for a shell where the next one fails."""

    def display(self, cell: Cell) -> BuildDisplay | None:
        """The card of a cell."""
        shown = self._shown.get(cell.id)
        return shown.display if shown is not None else None

    def settled(self, shown: CellShow, because: str) -> None:
        """A card is done: remember it, and tell all others what has become of their cells."""
        with self._lock:
            if shown.cell is not None:
                self._shown.pop(shown.cell.id, None)
                self._shown[shown.cell.id] = shown
                while len(self._shown) > KEPT:
                    del self._shown[next(iter(self._shown))]
        self.refresh(because)

    def refresh(self, because: str) -> None:
        """Let every card say whether its cell still stands on the chain as it was built; ``because`` says why not."""
        chain = self.session.chain
        on = {cell.id: cell.built for cell in chain.on}
        stale = {cell.label for cell in chain.off}
        with self._lock:
            for identity, one in self._shown.items():
                view = one.display.shown if one.display is not None else None
                if view is None or one.display is None:
                    continue
                stands = one.built is None or on.get(identity) == one.built
                why = "" if stands else view.outdated or because
                left = tuple(label for label in view.stale if label in stale)
                one.display.redraw(replace(view, outdated=why, stale=left))

    def as_made(self, history: HistoryView) -> HistoryView:
        """A history with how each cell's steps were made when it ran: who only looks finds all of them cached."""
        made: dict[tuple[str, str], HistoryRow] = {}
        with self._lock:
            for one in self._shown.values():
                view = one.display.shown if one.display is not None else None
                if view is not None and view.history is not None and one.cell is not None:
                    made |= {(row.cell, row.created_by): row for row in view.history.rows if row.cell == one.cell.label}

        def told(row: HistoryRow) -> HistoryRow:
            then = made.get((row.cell, row.created_by))
            if then is None:
                return replace(row, cached=None)
            return replace(row, cached=then.cached, reason=then.reason, seconds=then.seconds)

        return replace(history, rows=tuple(map(told, history.rows)))

    # ---- buttons ----------------------------------------------------------------------------------------------------

    def replay(self, message: dict[str, Any]) -> None:
        """Run what is stale again, each cell in its own place."""
        self._background(self._replay)

    def again(self, cell: Cell) -> Callable[[dict[str, Any]], None]:
        """Runs a cell again in its own place."""
        return lambda message: self._background(lambda: self._again(cell))

    def digests(self, shown: CellShow, stage: StageResult) -> Callable[[dict[str, Any]], None]:
        """Puts the digests of the layers into a card's history: they are made when somebody asks for them."""

        def tell() -> None:
            newest_first = list(reversed(self.engine.diff_ids(stage)))
            display = shown.display
            if display is None or display.shown is None or display.shown.history is None:
                return
            history, rows = display.shown.history, []
            for row in history.rows:
                made = not row.empty and newest_first
                rows.append(replace(row, digest=newest_first.pop(0)) if made else row)
            display.redraw(replace(display.shown, history=replace(history, rows=tuple(rows))))

        return lambda message: self._background(tell)

    def _background(self, work: Callable[[], None]) -> None:
        """In a thread of its own, so that the page can be heard meanwhile; one at a time."""

        def run() -> None:
            if not self._busy.acquire(blocking=False):
                return
            try:
                work()
            except DockermagicError:
                pass  # the cell's card says it
            finally:
                self._busy.release()
                self._changed()
                self._free()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="dockermagic-cards", daemon=True).start()

    def _free(self) -> None:
        with self._lock:
            displays = [one.display for one in self._shown.values() if one.display is not None]
        for display in displays:
            if display.place.widget is not None:
                display.place.widget.free()

    def _replay(self) -> None:
        show_replay(self, in_place=True)
        self.refresh("the cells before it changed")

    def _again(self, cell: Cell) -> None:
        with CellShow(self, in_place=True) as shown:
            shown.done(self.session.run(cell, shown.watch, cancel=shown.cancel))


class CellShow:
    """Shows one run of a session's cell. A context manager: leaving it by an error shows what failed.

    Hand :attr:`watch` and :attr:`cancel` to the session and the outcome to :meth:`done`. ``in_place``: in the cell's
    own output and not in that of the cell that runs; ``mirrored``: in the end in both.
    """

    def __init__(
        self, cards: Cards, *, in_place: bool = False, mirrored: bool = False, cancel: Cancel | None = None
    ) -> None:
        self.cards = cards
        self.session = cards.session
        self.engine = cards.engine
        self.in_place = in_place
        self.mirrored = mirrored
        self.cancel = cancel or Cancel()
        self.cell: Cell | None = None
        self.built: tuple[str, ...] | None = None
        self.display: BuildDisplay | None = None

    def watch(self, script: Script) -> Emit:
        """Begin to show the script's last cell."""
        self.cell = script.parts[-1].cell
        self._begin(self.cell, script)
        if self.display is None:
            return lambda event: None
        self.display.start()
        return self.display.emit

    def _begin(self, cell: Cell, script: Script) -> None:
        own = self.cards.display(cell) if self.in_place else None
        if self.in_place and own is None:
            return
        instructions, place = views.instructions_of(script), own.place if own is not None else None
        self.display = BuildDisplay(instructions, cell=cell.label, stop=self.cancel.set, place=place)

    def done(self, run: Run) -> None:
        """Show the card that stays."""
        self.cell = run.cell
        known = self.session.chain.get(run.cell)
        self.built = known.built if known is not None else None
        if run.stage is not None:
            self.cards.config = run.stage.config.get("config") or {}
        begun = self.display is not None
        if self.display is None:
            self._begin(run.cell, run.script)
        if self.display is not None:
            fresh = build_view(Progress(), views.instructions_of(run.script), cell=run.cell.label, finished=True)
            view = views.card(self.display.view() if begun else fresh, run, self.engine)
            explorer = run_explorer(self.engine, self.session, run) if run.stage else None
            acts = Acts(files=explorer is not None, chain=True, digests=run.stage is not None)
            heard: dict[str, Callable[[dict[str, Any]], Any]] = {"replay": self.cards.replay}
            if run.stage is not None:
                heard["digests"] = self.cards.digests(self, run.stage)
            self.display.finish(view, acts=acts, handlers=heard, explorer=explorer)
            own = self.cards.display(run.cell) if self.mirrored else None
            if own is not None:
                own.take_over(self.display)
                own.finish(view, acts=acts, handlers=heard, explorer=explorer)
                self.display = own
        self.cards.settled(self, f"{run.cell.label} changed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if self.display is not None and self.cell is not None:
            failed, stopped = self.session.failed, isinstance(error, KeyboardInterrupt | BuildInterruptedError)
            kept = failed is not None and not stopped
            self.display.failed(
                notes=(LOOK,) if kept else (),
                stale=[cell.label for cell in self.session.chain.behind(self.cell.id) if cell.built is not None],
                acts=Acts(chain=True, kept=kept, shell=kept, cell=self.cell.id),
                handlers=self._failed_handlers(self.cell, failed if kept else None, self.display),
                explorer=failed_explorer(self.engine, failed) if kept and failed is not None else None,
            )
            self.display.__exit__(kind, error, trace)
            own = self.cards.display(self.cell) if self.mirrored else None
            if own is not None:
                own.fail_as(self.display, self._failed_handlers(self.cell, failed if kept else None, own))
                self.display = own
        self.cards.settled(self, f"{self.cell.label} failed" if self.cell else "a cell before it failed")

    def _failed_handlers(self, cell: Cell, failed: FailedStep | None, display: BuildDisplay) -> Handlers:
        handlers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "replay": self.cards.replay,
            "again": self.cards.again(cell),
        }
        if failed is not None:
            place, shell = display.place, self.engine.shell
            kinds = {
                "failed": partial(shell, failed, self.cards.config),
                "before": partial(shell, snapshots_before(failed), self.cards.config),
            }
            handlers |= Terminals(lambda: place.widget, kinds).handlers()
        return handlers


def show_replay(cards: Cards, *, in_place: bool = False, mirrored: bool = False) -> int:
    """Run what is stale again and show each cell's run; how many there were."""
    cancel, count = Cancel(), 0
    shown = CellShow(cards, in_place=in_place, mirrored=mirrored, cancel=cancel)
    runs = cards.session.replay(lambda script: shown.watch(script), cancel=cancel)
    while True:
        with shown:
            run = next(runs, None)
            if run is None:
                return count
            shown.done(run)
        count += 1
        shown = CellShow(cards, in_place=in_place, mirrored=mirrored, cancel=cancel)
