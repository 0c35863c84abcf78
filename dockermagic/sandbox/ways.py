"""The ways to run a process in a root filesystem, best first; each is tried by :mod:`.probe` before it is used."""

from __future__ import annotations

from dockermagic.values import dataclass

__all__ = ["WAYS", "Way", "ways"]


@dataclass(frozen=True, slots=True)
class Way:
    """One of them. Snapshots belong to the way they were made in, under its ``name``.

    ``ids`` is ``root`` (those of the host), ``range`` (subordinate ones) or ``single`` (the user's own for all).
    ``overlay``: the kernel stacks the layers; else they are put together in a working directory
    (:mod:`.worktree`). Without ``namespaces`` it is PRoot that makes the directory look like the root, or chroot where
    ``ids`` are those of root.
    """

    name: str
    ids: str
    overlay: bool = True
    namespaces: bool = True


ways = (
    Way("root", "root"),
    Way("range", "range"),
    Way("single", "single"),
    Way("root-plain", "root", overlay=False),
    Way("range-plain", "range", overlay=False),
    Way("single-plain", "single", overlay=False),
    Way("proot", "single", overlay=False, namespaces=False),
    Way("chroot", "root", overlay=False, namespaces=False),
)
WAYS = {way.name: way for way in ways}
