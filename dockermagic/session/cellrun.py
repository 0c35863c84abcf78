"""What a cell asks of an engine and what the answer means for it: pure functions between script and build values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dockermagic.build.request import BuildRequest, BuildResult, StageResult, Step
from dockermagic.errors import SessionError
from dockermagic.session.chain import Cell
from dockermagic.session.script import Part, Script
from dockermagic.values import dataclass, replace
from dockermagic.view import CellState

__all__ = ["Inputs", "Run", "Standing", "inputs_of", "keys_of", "request_for", "run_of", "standing_of"]

FILENAME = "Dockerfile"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a chain is built with besides its text; ``left_out`` are patterns of what is no part of the context."""

    context: Path | None
    build_args: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What running a cell gave.

    ``steps`` are the cell's own, their lines counted in the notebook cell. ``stage`` is the one that the cell ends in,
    None where there is none yet; ``base`` are the snapshots of that stage as they were before the cell. ``left`` are
    the cells that left the chain, ``again`` the earlier ones that were built again because something of theirs changed.
    """

    cell: Cell
    script: Script
    steps: tuple[Step, ...] = ()
    result: BuildResult | None = None
    stage: StageResult | None = None
    base: tuple[int, ...] = ()
    left: tuple[Cell, ...] = ()
    again: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a cell stands now: ``state`` is built, stale or failed, and ``reason`` says why it is not built."""

    cell: Cell
    state: CellState
    reason: str = ""


def inputs_of(cells: Sequence[Cell], folder: Path | None, notebook: str = "") -> Inputs:
    """The context and the build args of a chain, which has one of each for all its cells.

    Where no cell names a context, it is ``folder`` without the ``notebook`` in it and what Jupyter keeps of it: else a
    ``COPY . .`` would be another one after every save.

    Raises SessionError where two cells want different ones.
    """
    context: tuple[Cell, str] | None = None
    args: dict[str, tuple[Cell, str]] = {}
    for cell in cells:
        if cell.context:
            if context and context[1] != cell.context:
                raise SessionError(
                    f"the context is {cell.context} here and {context[1]} in {context[0].label}",
                    hint="A chain has one context, as a Dockerfile has. Another needs a session of its own: -s NAME.",
                )
            context = (cell, cell.context)
        for name, value in cell.build_args:
            if name in args and args[name][1] != value:
                raise SessionError(
                    f"the build arg {name} is {value!r} here and {args[name][1]!r} in {args[name][0].label}",
                    hint="A chain has one value for each build arg, as `docker build` has: change it there.",
                )
            args[name] = (cell, value)
    given = tuple((name, value) for name, (_, value) in args.items())
    if context:
        return Inputs(Path(context[1]), given)
    own = (re.sub(r"([\\*?\[\]!#])", r"\\\1", notebook), "**/.ipynb_checkpoints") if notebook else ()
    return Inputs(folder, given, own)


def request_for(script: Script, inputs: Inputs, *, trail: str = "", no_cache: bool = False) -> BuildRequest:
    """The build of a script for the sake of its last cell. ``trail`` names the session, whose builds explain a miss."""
    part = script.parts[-1]
    return BuildRequest(
        script.text,
        inputs.context,
        FILENAME,
        left_out=inputs.left_out,
        tags=part.cell.tags,
        build_args=dict(inputs.build_args),
        target=part.cell.target,
        stages=part.stages,
        first=part.first,
        no_cache=no_cache,
        trail=trail,
    )


def run_of(script: Script, result: BuildResult) -> Run:
    """The part of a build that belongs to the script's last cell."""
    part = script.parts[-1]
    steps = tuple(
        replace(step, line=script.line_in_cell(step.line)) for step in result.steps if step.index in part.indices
    )
    stage = result.stages.get(part.after if part.words else result.target)
    made = {step.snapshot for step in steps if part.words[step.index - part.first] != "from"}
    base = tuple(snapshot for snapshot in stage.snapshots if snapshot not in made) if stage else ()
    return Run(part.cell, script, steps, result, stage, base)


def keys_of(part: Part, steps: Iterable[Step]) -> tuple[str, ...] | None:
    """What the cell was built to: its instructions' cache keys with their snapshots.

    A base image's key names its content, so its snapshot does not matter. An instruction that no step stands for, such
    as ARG before the first FROM, is held by its text. None where the cell has instructions of a stage and no step at
    all: then that stage was not looked at.
    """
    found: dict[int, list[str]] = {}
    for step in steps:
        if step.index in part.indices:
            layer = f" {step.snapshot}" if step.snapshot is not None and not step.key.startswith("chain:") else ""
            found.setdefault(step.index, []).append(f"{step.key}{layer}")
    if part.stages and not found:
        return None
    return tuple(
        "\n".join(found[index]) if index in found else f"={original}"
        for index, original in zip(part.indices, part.originals, strict=True)
    )


def standing_of(cell: Cell, part: Part | None, now: Sequence[str]) -> Standing:
    """How a cell stands, given the key of each instruction now; without a part it is not on the chain."""
    if part is None:
        return (
            Standing(cell, "failed", "") if cell.built is None else Standing(cell, "stale", "an earlier cell changed")
        )
    for index, built in zip(part.indices, cell.built or (), strict=False):
        if built.startswith("=") or index >= len(now):
            continue
        if not now[index]:
            return Standing(cell, "stale", "what it stands on has to be built again")
        if now[index] != built.split("\n")[0].split(" ")[0]:
            return Standing(cell, "stale", "what it reads has changed")
    return Standing(cell, "built")
