"""The cache keys of a Dockerfile as it stands: nothing is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dockermagic.build.context import Context
from dockermagic.build.frontend import Plan
from dockermagic.build.graph import ImageSource, Vertex, digest_of, walk
from dockermagic.build.ops import inputs_of
from dockermagic.build.request import BuildRequest
from dockermagic.build.workshop import NOTHING, Solved, Workshop
from dockermagic.dockerfile.stages import Dockerfile
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.snapshot import Snapshotter

__all__ = ["plan_keys"]


class _UnknownError(Exception):
    """A key that cannot be told because something below it was never built."""


def plan_keys(
    dockerfile: Dockerfile,
    plan: Plan,
    request: BuildRequest,
    sandbox: Sandbox,
    snapshotter: Snapshotter,
    context: Callable[[str], Context],
    home: Path,
) -> tuple[str, ...]:
    """See :meth:`dockermagic.engine.Engine.keys`."""
    solved: dict[int, Solved | None] = {}

    def solve(vertex: Vertex) -> Solved:
        found = solved[id(vertex)]
        if found is None:
            raise _UnknownError
        return found

    shop = Workshop(request, sandbox, snapshotter, solve, context, home)
    keys = {
        (vertex.stage, vertex.instruction): _key(vertex, solved, shop)
        for vertex in walk(*(stage.top for stage in plan.stages.values()))
    }
    total = len(dockerfile.global_args) + sum(1 + len(stage.instructions) for stage in dockerfile.stages)
    out = [""] * total
    for number, argument in enumerate(dockerfile.global_args):
        out[number] = digest_of({"text": argument.original})
    for index, stage in plan.stages.items():
        first = plan.numbers[index]
        below = stage.base
        key = "scratch" if below is None else keys[below.stage, below.instruction]
        for offset in range(1 + len(dockerfile.stages[index].instructions)):
            number = first + offset
            if (index, number) in keys:
                key = keys[index, number]
            elif offset and key:
                key = digest_of({"below": key, "text": plan.texts.get(number, "")})
            out[number] = key
    return tuple(out)


def _key(vertex: Vertex, solved: dict[int, Solved | None], shop: Workshop) -> str:
    parent = NOTHING if vertex.parent is None else solved[id(vertex.parent)]
    solved[id(vertex)] = None
    if parent is None:
        return ""
    try:
        key = inputs_of(vertex, parent, shop).key
    except _UnknownError:
        return ""
    snapshot = shop.snapshotter.find(key)
    if snapshot is not None:
        op = vertex.op
        base = (op.manifest, op.name) if isinstance(op, ImageSource) else (parent.base, parent.base_name)
        solved[id(vertex)] = Solved(key, snapshot, True, *base)
    return key
