"""The view of a built cell: made from the fold of its events, and from what the engine says when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from dockermagic.events import Progress, Row, Vertex
from dockermagic.values import replace
from dockermagic.view import BuildView, Instruction, StepState, StepView

__all__ = ["Built", "build_view", "with_results"]


class Built(Protocol):
    """What an engine says about an instruction when the build is over."""

    @property
    def index(self) -> int: ...
    @property
    def snapshot(self) -> int | None: ...
    @property
    def cached(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def added(self) -> int: ...
    @property
    def modified(self) -> int: ...
    @property
    def removed(self) -> int: ...


def _state(vertex: Vertex) -> StepState:
    if vertex.error:
        return "stopped" if vertex.error.endswith(("canceled", "interrupted")) else "failed"
    if vertex.completed is not None:
        return "cached" if vertex.cached else "done"
    return "running" if vertex.started is not None else "waiting"


def _bare(name: str) -> str:
    """A vertex's name without the ``[2/5]`` or ``[internal]`` before it."""
    return name.partition("] ")[2] if name.startswith("[") and "] " in name else name


def _step(number: int, row: Row, known: Instruction | None) -> StepView:
    vertex = row.vertex
    return StepView(
        number=number,
        text=known.text if known else _bare(vertex.name),
        state=_state(vertex),
        started=vertex.started,
        completed=vertex.completed,
        size=vertex.layer_size,
        added=vertex.added,
        modified=vertex.modified,
        removed=vertex.removed,
        reason=vertex.reason,
        log=row.log,
        log_dropped=row.log_dropped,
        error=vertex.error,
        transfers=row.statuses,
        line=known.line if known else vertex.line,
        digest=vertex.digest,
        internal=vertex.instruction is None,
    )


def _worst(rows: Iterable[Row]) -> Row:
    """Of several rows for one instruction, the one to show: a failed one, else the one that runs, else the last."""
    order = {"failed": 4, "stopped": 3, "running": 2, "done": 1, "cached": 1, "waiting": 0}
    return max(reversed(list(rows)), key=lambda row: order[_state(row.vertex)])


def build_view(
    progress: Progress,
    instructions: Sequence[Instruction] = (),
    *,
    cell: str = "",
    finished: bool = False,
    failed: bool = False,
) -> BuildView:
    """The fold as rows: one for each of ``instructions``, or for each instruction heard of where none are given.

    The engine's own steps (reading the Dockerfile, the context, exporting) are ``internal``. When the build is
    finished, what never began was skipped where something failed, be it before any of them, and is done otherwise.
    """
    found: dict[int, list[Row]] = {}
    internal = []
    for row in progress.rows.values():
        if row.vertex.instruction is not None:
            found.setdefault(row.vertex.instruction, []).append(row)
        elif row.vertex.name:
            internal.append(row)
    known = {one.index: one for one in instructions}
    order = list(known) if known else sorted(found)
    failed = failed or any(row.vertex.error for row in progress.rows.values())
    steps = []
    for number, index in enumerate(order, 1):
        if index in found:
            steps.append(_step(number, _worst(found[index]), known.get(index)))
        else:
            one = known[index]
            state: StepState = "waiting" if not finished else "skipped" if failed else "done"
            steps.append(StepView(number, one.text, state, line=one.line))
    begun = [row.vertex.started for row in progress.rows.values() if row.vertex.started is not None]
    ended = [row.vertex.completed for row in progress.rows.values() if row.vertex.completed is not None]
    return BuildView(
        steps=tuple(steps),
        cell=cell,
        internal=tuple(_step(number, row, None) for number, row in enumerate(internal, 1)),
        warnings=tuple(dict.fromkeys(progress.warnings)),
        finished=finished,
        started=min(begun, default=None),
        seconds=max(0.0, max(ended) - min(begun)) if finished and begun and ended else None,
    )


def with_results(view: BuildView, results: Iterable[Built], instructions: Sequence[Instruction]) -> BuildView:
    """The view with what the engine knows at the end, for instructions that events said too little about."""
    facts: Mapping[int, Built] = {one.index: one for one in results}
    steps = []
    for step, known in zip(view.steps, instructions, strict=True):
        fact = facts.get(known.index)
        if fact is None or step.state in ("failed", "stopped"):
            steps.append(step)
            continue
        made = fact.snapshot is not None
        step = replace(
            step,
            state="cached" if fact.cached else "done",
            size=fact.size if made else step.size,
            reason=fact.reason or step.reason,
            added=fact.added or step.added,
            modified=fact.modified or step.modified,
            removed=fact.removed or step.removed,
        )
        if step.started is None and fact.seconds:
            step = replace(step, started=0.0, completed=fact.seconds)
        steps.append(step)
    return replace(view, steps=tuple(steps))
