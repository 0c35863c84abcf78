"""The directories behind ``RUN --mount=type=cache``; made in the sandbox's worker, with the ids of the image."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from dockermagic.build.copier import Copier, Look
from dockermagic.build.copying import opened_layer
from dockermagic.build.selection import Tree, clean, select
from dockermagic.oci.overlay import Status
from dockermagic.sandbox.ownership import meant

__all__ = ["create"]


def create(
    directory: str, mode: int = 0o755, uid: int = 0, gid: int = 0, path: str = "", source: str | None = None
) -> None:
    """Make the directory, filled from ``path`` of a mounted source if there is one. It appears whole or not at all.

    The caller sees to it that nobody else makes the same one meanwhile.
    """
    aside = f"{directory}.new"
    if os.path.lexists(aside):  # left by a process that was killed
        shutil.rmtree(aside)
    Path(aside).mkdir(mode=0o755)
    with opened_layer(aside, [], f"{directory}.owners") as layer:
        if source is not None:
            copier = Copier(layer, Look())
            for group in select(Tree(source, meant=meant), clean(path)):
                copier.group(group, source, "/", from_context=False)
        layer.own(layer.tree.fd(""), "", Status(stat.S_IFDIR | mode, uid, gid))
        layer.describe("", mode, time.time_ns())
    os.rename(aside, directory)
