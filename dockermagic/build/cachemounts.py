"""The directories behind ``RUN --mount=type=cache``; made in the sandbox's worker, with the ids of the image."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from dockermagic.build.copying import Copier, Look
from dockermagic.build.ownership import Owners, get_owner
from dockermagic.build.selection import Tree, clean, select

__all__ = ["create"]


def create(
    directory: str, mode: int = 0o755, uid: int = 0, gid: int = 0, path: str = "", source: str | None = None
) -> None:
    """Make the directory, filled from ``path`` of a mounted source if there is one. It appears whole or not at all.

    The caller sees to it that nobody else makes the same one meanwhile.
    """
    os.umask(0)
    aside = f"{directory}.new"
    if os.path.lexists(aside):  # left by a process that was killed
        shutil.rmtree(aside)
    Path(aside).mkdir(mode=0o755)
    if source is not None:
        copier = Copier(aside, Look(), f"{directory}.owners")
        for group in select(Tree(source, owner=get_owner), clean(path)):
            copier.group(group, source, "/", from_context=False)
        copier.finish()
    Owners(aside, f"{directory}.owners").set(aside, uid, gid, stat.S_IFDIR | mode)
    os.chmod(aside, mode)
    os.rename(aside, directory)
