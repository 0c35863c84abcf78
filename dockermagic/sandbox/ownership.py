"""Who owns a file of a mounted root filesystem, where the file system cannot say so.

The records are those of :mod:`dockermagic.oci.overlay`: an attribute of files and directories, and ``ownership.json``
beside the layer's directory for what carries no attribute. Used inside the resident process's children, on paths below
the root filesystems that were mounted for the call.
"""

from __future__ import annotations

import os
import stat
from functools import cache

from dockermagic.oci import disk
from dockermagic.oci.overlay import OVERRIDE, Ownership, Status, ownership_file
from dockermagic.sandbox.base import Rootfs

__all__ = ["meant", "mounted"]

_roots: dict[str, tuple[Rootfs, list[Ownership]]] = {}


def mounted(place: str, rootfs: Rootfs) -> None:
    """Files below ``place`` are those of ``rootfs``. Told by the resident process before the function is called."""
    _roots[place] = (rootfs, [])


def meant(path: str, found: os.stat_result) -> Status:
    """The owner, mode and type that a file of a mounted root is meant to have; ``found`` is what the system says."""
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        try:
            record = {OVERRIDE: disk.getxattr(path, OVERRIDE, follow_symlinks=False)}
        except OSError:
            record = {}
        return _nowhere().status("", found, record)
    for place, (rootfs, owners) in _roots.items():
        if path.startswith(place + "/"):
            inside = path[len(place) + 1 :]
            layers = [*rootfs.lowers, *([rootfs.upper] if rootfs.upper else [])]
            if not owners:
                owners += [Ownership(ownership_file(str(layer))) for layer in layers]
            for layer, records in zip(reversed(layers), reversed(owners), strict=True):
                if os.path.lexists(layer / inside):
                    return records.status(inside, found, {})
    return _nowhere().status("", found, {})


@cache
def _nowhere() -> Ownership:
    """No record of any layer; made when it is used, as the ids of this process then are."""
    return Ownership("/dev/null/none")
