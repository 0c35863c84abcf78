"""A session: the chain of a notebook's cells, built by an engine and kept on disk.

Every operation reads the session, does its work and writes it back while it holds the session's lock, so that two
kernels on one session take turns. What a run does to the chain is decided in :mod:`dockermagic.session.chain`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dockermagic.build.request import BuildRequest, BuildResult, FailedStep
from dockermagic.errors import BuildInterruptedError, DockermagicError, RunFailedError, SessionError
from dockermagic.events import Emit, Event, Warning
from dockermagic.session.cellrun import (
    FILENAME,
    Inputs,
    Run,
    Standing,
    inputs_of,
    keys_of,
    request_for,
    run_of,
    standing_of,
)
from dockermagic.session.chain import Cell, Chain, Outcome, Plan
from dockermagic.session.script import Script
from dockermagic.session.store import SessionName, SessionStore, State
from dockermagic.values import replace

if TYPE_CHECKING:
    from dockermagic.sandbox.base import Cancel

__all__ = ["Builder", "Run", "Session", "Standing", "Watch", "labels"]


class Builder(Protocol):
    """The part of an engine that a session stands on."""

    @property
    def home(self) -> Path: ...
    def build(self, request: BuildRequest, emit: Emit = ..., *, cancel: Cancel | None = None) -> BuildResult: ...
    def keys(self, request: BuildRequest) -> tuple[str, ...]: ...


Watch = Callable[[Script], Emit]
"""Called when it is known what will be built, for the sake of the script's last cell; gives the sink for the events."""


def unwatched(script: Script) -> Emit:
    """Nobody looks."""
    return lambda event: None


class Session:
    """One chain, its engine and its place on disk.

    ``folder`` is the build context where no cell names another, without the file ``notebook`` in it. ``failed`` is what
    the last failed RUN left behind, ``left`` are the cells that the last failure took off the chain. ``order`` are the
    ids of the notebook's cells as they stood when :meth:`arrange` was called last.
    """

    def __init__(
        self,
        name: SessionName,
        engine: Builder,
        *,
        folder: Path | None = None,
        notebook: str = "",
        store: SessionStore | None = None,
    ) -> None:
        self.name = name
        self.engine = engine
        self.folder = folder
        self.notebook = notebook
        self.file = (store or SessionStore(engine.home)).open(name)
        self.failed: FailedStep | None = None
        self.left: tuple[Cell, ...] = ()
        self.order: tuple[str, ...] = ()
        self._moved: dict[str, Cell] = {}
        self._forgotten: dict[str, Cell] = {}

    @property
    def chain(self) -> Chain:
        """The chain as it stands on disk."""
        return self.file.read().chain

    def script(self) -> Script:
        """The chain as a Dockerfile."""
        return Script.of(self.chain.on)

    def request(self) -> BuildRequest:
        """The build of the chain as it stands, as ``docker build`` would do it: the last stage of the Dockerfile."""
        cells = self.chain.on
        request = request_for(Script.of(cells), inputs_of(cells, self.folder, self.notebook))
        return replace(request, target="", stages=(), first=0)

    # ---- what changes the chain -------------------------------------------------------------------------------------

    def run(
        self,
        cell: Cell,
        watch: Watch = unwatched,
        *,
        after: str = "",
        no_cache: bool = False,
        remember: bool = True,
        cancel: Cancel | None = None,
    ) -> Run:
        """Build a cell where it belongs.

        Raises what the build raises, with the place in the cell; then the cell is not on the chain. ``remember`` is
        False for a cell that will never be known again, so that its failure leaves no trace.
        """
        with self.file.locked():
            state = self.file.read()
            plan = state.chain.plan(cell, after, self.order)
            cell = plan.cell
            inputs = inputs_of((*plan.below, cell), self.folder, self.notebook)
            self.failed, self.left = None, ()
            try:
                script = Script.of((*plan.below, cell))
                run = self._build(script, inputs, watch, no_cache, cancel)
            except (DockermagicError, KeyboardInterrupt) as error:
                failure = error if isinstance(error, DockermagicError) else BuildInterruptedError("interrupted")
                self._failed(state, plan, inputs, failure, remember)
                if failure is error:
                    raise
                raise failure from None
            steps = run.result.steps if run.result else ()
            known = {part.cell.id: keys_of(part, steps) for part in script.parts}
            keys = {one.id: found for one in plan.below if (found := known[one.id]) is not None}
            outcome = plan.built(known[cell.id] or (), keys)
            self.file.write(state.then(outcome.chain))
            again = tuple(one for one in plan.below if one.built != keys.get(one.id, one.built))
            moved = (*self._moved.values(), *outcome.left)
            self._moved = {}
            return replace(run, left=tuple(one for one in moved if one not in outcome.chain), again=again)

    def replay(self, watch: Watch = unwatched, *, cancel: Cancel | None = None) -> Iterator[Run]:
        """Run the first cell that is not built as it stands and all behind it, in order; one undo takes it all back.

        Ends with the first failure, which it raises.
        """
        before = self.file.read()
        cells = list(before.chain.cells)
        for standing in self.status():
            if standing.state != "built":
                break
            cells.remove(standing.cell)
        try:
            for cell in cells:
                yield replace(self.run(cell, watch, cancel=cancel), left=())  # those that left are run next
        finally:
            with self.file.locked():
                self.file.write(before.then(self.file.read().chain))

    def forget(self, ids: Collection[str]) -> Outcome:
        """Take deleted cells off the chain. Ids that the session does not know mean nothing."""
        if not any(cell.id in ids for cell in self.chain.cells):
            return Outcome(self.chain)
        with self.file.locked():
            state = self.file.read()
            outcome = state.chain.without(ids)
            self.file.write(state.then(outcome.chain))
            self._moved |= {cell.id: cell for cell in outcome.left}
            self._forgotten |= {cell.id: cell for cell in state.chain.cells if cell.id in ids}
            return outcome

    def arrange(self, order: Sequence[str]) -> Outcome:
        """Put the known cells in the order in which they stand in the notebook, and new ones from now on, too.

        A cell that was deleted and stands there again, since somebody undid that, is stale.
        """
        self.order = tuple(order) or self.order
        back = [self._forgotten.pop(one) for one in order if one in self._forgotten]
        if not back and self.chain.arranged(self.order).chain == self.chain:
            return Outcome(self.chain)
        with self.file.locked():
            state = self.file.read()
            outcome = state.chain.joined(back).arranged(self.order)
            self.file.write(state.then(outcome.chain))
            self._moved |= {cell.id: cell for cell in outcome.left}
            return outcome

    def claim(self, cell: Cell, seen: Collection[str]) -> None:
        """For a front end that deals ids anew: give ``cell``'s id to a cell of its text whose id is not ``seen``."""
        with self.file.locked():
            state = self.file.read()
            others = [one for one in state.chain.cells if one.id not in seen]
            taken = next((one for one in others if one.id == cell.id), None)
            same = [one for one in others if one.text == cell.text]
            if cell.id in seen or taken in same:
                return
            ids = {taken.id: uuid.uuid4().hex} if taken else {}
            ids |= {one.id: cell.id for one in same[:1]}
            self.file.write(replace(state, chain=state.chain.relabelled(ids)))

    def undo(self) -> Chain:
        """The chain as it was before the last change; raises SessionError if there was none."""
        with self.file.locked():
            state = self.file.read().undone()
            self.file.write(state)
            return state.chain

    def reset(self) -> Chain:
        """Empty the session and return the chain that it had; undo brings it back, unless the file was damaged."""
        with self.file.locked():
            try:
                state = self.file.read()
            except SessionError:
                state = State()
            self.file.write(state.then(Chain()))
            self._forgotten = {}
            return state.chain

    # ---- what only looks --------------------------------------------------------------------------------------------

    def build(self, word: str = "", watch: Watch = unwatched) -> Run:
        """The chain as it stands, down to the cell that ``word`` names or else to its head.

        Nothing of the session changes. What is in the cache is not built again.
        """
        chain = self.chain
        cell = chain.find(word) if word else chain.head
        if cell is None:
            raise SessionError("nothing is built yet", hint="Run a cell that begins with FROM: FROM busybox")
        if cell not in chain:
            raise SessionError(f"{cell.label} is not on the chain", hint="Run it again, or replay the session.")
        cells = (*chain.on[: chain.on.index(cell)], replace(cell, tags=(), target=""))
        return self._build(Script.of(cells), inputs_of(cells, self.folder, self.notebook), watch)

    def status(self) -> tuple[Standing, ...]:
        """How each known cell stands, in order: stale is whose key now is not the key that it was built to."""
        chain = self.chain
        script = Script.of(chain.on)
        parts = {part.cell.id: part for part in script.parts}
        if not chain.ids or script.parts[-1].after < 0:
            return tuple(standing_of(cell, parts.get(cell.id), ()) for cell in chain.cells)
        request = request_for(script, inputs_of(chain.on, self.folder, self.notebook))
        request = replace(request, tags=(), target="", stages=tuple(range(script.parts[-1].after + 1)), first=0)
        try:
            now = self.engine.keys(request)
        except DockermagicError as error:
            return self._troubled(chain, script, error)
        return tuple(standing_of(cell, parts.get(cell.id), now) for cell in chain.cells)

    # ---- how --------------------------------------------------------------------------------------------------------

    def _build(
        self, script: Script, inputs: Inputs, watch: Watch, no_cache: bool = False, cancel: Cancel | None = None
    ) -> Run:
        """Build the script for its last cell; where it has no FROM yet there is nothing to build."""
        part = script.parts[-1]
        if part.after < 0 or not (part.words or part.cell.tags or part.cell.target):
            return Run(part.cell, script)
        request = request_for(script, inputs, trail=str(self.file.path), no_cache=no_cache)
        try:
            result = self.engine.build(request, _within(script, watch(script)), cancel=cancel)
        except DockermagicError as error:
            script.replaced(error, FILENAME)
            raise
        return run_of(script, result)

    def _failed(self, state: State, plan: Plan, inputs: Inputs, error: DockermagicError, remember: bool) -> None:
        """Take the failed cell off the chain, unless what was built before it failed still holds."""
        if isinstance(error, RunFailedError):
            self.failed = error.failed if isinstance(error.failed, FailedStep) else None
        if plan.stays and self._holds(plan, inputs):
            return
        outcome = plan.failed(remember=remember)
        self.file.write(state.then(outcome.chain))
        self.left = outcome.left
        if outcome.left:
            names = ", ".join(cell.label for cell in outcome.left)
            error.hint = f"{error.hint}\nStale now: {names}. %dockerfile undo brings the chain back as it was.".strip()

    def _holds(self, plan: Plan, inputs: Inputs) -> bool:
        """Whether the cell is on the chain with the same text, and its keys are still those that it was built to."""
        if plan.old is None or plan.old.text != plan.cell.text:
            return False
        try:
            script = Script.of((*plan.below, plan.old))
            part = script.parts[-1]
            now = self.engine.keys(request_for(script, inputs)) if part.after >= 0 else ()
        except DockermagicError:
            return False
        return standing_of(plan.old, part, now).state == "built"

    def _troubled(self, chain: Chain, script: Script, error: DockermagicError) -> tuple[Standing, ...]:
        """How the cells stand when one of them cannot even be asked for its key."""
        line = error.line or 1
        ids = [part.cell.id for part in script.parts]
        bad = set(ids[ids.index(script.part_of_line(line).cell.id) :])
        script.replaced(error, FILENAME)
        standings = {cell.id: Standing(cell, "stale" if cell.id in bad else "built") for cell in chain.on}
        reason = error.message
        return tuple(
            replace(standings[cell.id], reason=reason if cell.id in bad else "")
            if cell.id in standings
            else standing_of(cell, None, ())
            for cell in chain.cells
        )


def _within(script: Script, emit: Emit) -> Emit:
    """Hand events on with their lines counted in the cell, and only those warnings that are the last cell's own."""
    last = script.parts[-1].line

    def hand_on(event: Event) -> None:
        if isinstance(event, Warning) and event.line is not None and event.line < last:
            return
        emit(script.event(event))

    return hand_on


def labels(cells: Sequence[Cell]) -> str:
    """The cells' labels in a row, for messages."""
    return ", ".join(cell.label for cell in cells)
