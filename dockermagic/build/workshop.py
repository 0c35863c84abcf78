"""What operations work with: the sandbox, the snapshots, what the build copies from and fetches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dockermagic.build.context import Context, Recalled, Selection
from dockermagic.build.graph import Copy, LocalSource, Source, Vertex
from dockermagic.build.request import BuildRequest
from dockermagic.sandbox.base import Cancel, Rootfs, Sandbox
from dockermagic.sandbox.snapshot import Snapshot, Snapshotter
from dockermagic.values import dataclass, field

if TYPE_CHECKING:
    from dockermagic.build.remote import Downloads
    from dockermagic.build.repositories import Repositories

__all__ = ["NOTHING", "Solved", "Workshop"]


@dataclass(frozen=True, slots=True)
class Solved:
    """A vertex that has its layer. ``key`` is the key under which the layer was first made."""

    key: str
    snapshot: Snapshot | None
    cached: bool = False
    base: str = ""
    base_name: str = ""


NOTHING = Solved("scratch", None)


class Solve(Protocol):
    """How an operation gets what it reads: solved vertices by themselves, contexts by name."""

    def __call__(self, vertex: Vertex) -> Solved: ...


@dataclass
class Workshop:
    """What operations work with."""

    request: BuildRequest
    sandbox: Sandbox
    snapshotter: Snapshotter
    solve: Solve
    context: Callable[[str], Context]
    home: Path
    cancel: Cancel | None = None
    selections: dict[tuple[Any, ...], Selection | Recalled] = field(default_factory=dict)
    contents: dict[tuple[Any, ...], tuple[str, dict[str, str], int]] = field(default_factory=dict)

    @cached_property
    def downloads(self) -> Downloads:
        """The files that this build fetches."""
        from dockermagic.build.remote import Downloads

        return Downloads(self.home / "downloads", self.request, self.cancel)

    @cached_property
    def repositories(self) -> Repositories:
        """The git repositories that this build fetches."""
        from dockermagic.build.repositories import Repositories

        return Repositories(self.home / "git", self.request, self.cancel)

    def rootfs(self, source: Source) -> Rootfs:
        """The read-only root filesystem of a source that is a stage or image; empty for scratch."""
        if not isinstance(source, Vertex):
            return Rootfs()
        snapshot = self.solve(source).snapshot
        return Rootfs(self.snapshotter.chain(snapshot) if snapshot is not None else ())

    def select(self, op: Copy) -> Selection | Recalled:
        """What a COPY takes of a context, looked at once a build."""
        assert isinstance(op.source, LocalSource)
        patterns = op.patterns
        key = (op.source.name, patterns, op.excludes, op.parents)
        if key not in self.selections:
            context = self.context(op.source.name)
            self.selections[key] = context.select(patterns, excludes=op.excludes, parents=op.parents)
        return self.selections[key]

    def content(self, source: Vertex, patterns: tuple[str, ...], excludes: tuple[str, ...], parents: bool) -> Any:
        """The digest of paths in a stage or image."""
        solved = self.solve(source)
        key = (solved.key, patterns, excludes, parents)
        if key not in self.contents:
            self.contents[key] = self.sandbox.call(
                "dockermagic.build.copying:digest",
                mounts={"source": self.rootfs(source)},
                cancel=self.cancel,
                patterns=list(patterns),
                excludes=list(excludes),
                parents=parents,
            )
        return self.contents[key]
