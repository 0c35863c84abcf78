"""How each operation is keyed and carried out: ``inputs_of`` for its cache key, ``execute`` for its layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dockermagic.build.graph import (
    Bind,
    Copy,
    Exec,
    ImageSource,
    LocalSource,
    MakeDirectory,
    PathFiles,
    Vertex,
    definition,
    digest_of,
)
from dockermagic.build.workshop import Solved, Workshop
from dockermagic.sandbox.snapshot import Active
from dockermagic.values import dataclass

__all__ = ["Inputs", "execute", "inputs_of"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A cache key and what it is made of; ``files`` gives each file's digest, which only explains it."""

    key: str
    parts: Mapping[str, Any]
    files: Callable[[], Mapping[str, str]] = dict

    @property
    def record(self) -> dict[str, Any]:
        """All that says why this key is not another one."""
        return {**self.parts, "files": self.files()}


def inputs_of(vertex: Vertex, parent: Solved, shop: Workshop) -> Inputs:
    """The key of a vertex on its solved parent. Reads the context and, for ``--from``, the source's files."""
    op = vertex.op
    if isinstance(op, ImageSource):
        return Inputs(f"chain:{op.chain_ids[-1]}", {})
    value: dict[str, Any] = {"op": definition(op), "parent": parent.key}
    files: Callable[[], Mapping[str, str]] = dict
    match op:
        case Copy():
            from dockermagic.build.copystep import copy_sources

            value["sources"], files = copy_sources(op, shop)
        case Exec():
            value["sources"] = [_bind_source(mount, shop) for mount in op.mounts if isinstance(mount, Bind)]
    return Inputs(digest_of(value), value | {"base": parent.base, "base_name": parent.base_name}, files)


def _bind_source(mount: Bind, shop: Workshop) -> str:
    path = mount.path or "."
    if isinstance(mount.source, LocalSource):
        return shop.select(Copy(mount.source, (PathFiles(path),), "/")).digest
    if isinstance(mount.source, Vertex):
        return str(shop.content(mount.source, (path,), (), False)[0])
    return "scratch"


def execute(vertex: Vertex, parent: Solved, active: Active, shop: Workshop, log: Callable[[int, bytes], None]) -> None:
    """Carry the operation out in the prepared snapshot. Raises :class:`BuildError`s; nothing is recorded."""
    match vertex.op:
        case Exec() as op:
            from dockermagic.build.runstep import execute_run

            execute_run(vertex, op, active, shop, log)
        case Copy() as op:
            from dockermagic.build.copystep import execute_copy

            execute_copy(op, active, shop)
        case MakeDirectory(path=path, user=user):
            shop.sandbox.call(
                "dockermagic.build.copying:make_directory",
                cancel=shop.cancel,
                upper=str(active.rootfs.upper),
                lowers=[str(lower) for lower in active.rootfs.lowers],
                path=path,
                user=user,
            )
