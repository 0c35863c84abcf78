"""Who owns a file, where the file system cannot say so: set the owner if it can be set, else record it.

The records are those of :mod:`dockermagic.oci.overlay`: an attribute of files and directories, and ``ownership.json``
beside the layer's directory for what carries no attribute. Used inside the resident process's children, on paths below
the root filesystems that were mounted for the call.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import cache

from dockermagic.oci.overlay import OVERRIDE, Ownership, Status, ownership_file
from dockermagic.sandbox.base import Rootfs

__all__ = ["get_owner", "mounted", "save", "set_owner"]

_REFUSED = (errno.EINVAL, errno.EPERM)
_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES)

_roots: dict[str, tuple[Rootfs, list[Ownership]]] = {}


def mounted(place: str, rootfs: Rootfs) -> None:
    """Files below ``place`` are those of ``rootfs``. Told by the resident process before the function is called."""
    _roots[place] = (rootfs, [])


def save() -> None:
    """Write the records that no attribute holds. Done by the resident process after the function has returned."""
    for rootfs, owners in _roots.values():
        if owners and rootfs.upper is not None:
            owners[-1].save()


def _owners(path: str) -> tuple[str, Rootfs, list[Ownership]] | None:
    """The path inside its root, with the records of each layer, bottom first, the upper one last."""
    for place, (rootfs, owners) in _roots.items():
        if path.startswith(place + "/"):
            layers = [*rootfs.lowers, *([rootfs.upper] if rootfs.upper else [])]
            if not owners:
                owners += [Ownership(ownership_file(str(layer))) for layer in layers]
            return path[len(place) + 1 :], rootfs, owners
    return None


def get_owner(path: str, status: os.stat_result) -> tuple[int, int, int]:
    """The uid, gid and mode (with its type) that a file of a mounted root is meant to have."""
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        try:
            record = os.getxattr(path, OVERRIDE, follow_symlinks=False)
        except OSError:
            return _as_it_is(status)
        found = _nowhere().status("", status, {OVERRIDE: record})
    elif (known := _owners(path)) is not None:
        inside, rootfs, owners = known
        layers = [*rootfs.lowers, *([rootfs.upper] if rootfs.upper else [])]
        for layer, records in zip(reversed(layers), reversed(owners), strict=True):
            if os.path.lexists(layer / inside):
                found = records.status(inside, status, {})
                break
        else:
            return _as_it_is(status)
    else:
        return _as_it_is(status)
    return found.uid, found.gid, found.mode


@cache
def _nowhere() -> Ownership:
    """No record of any layer; made when it is used, as the ids of this process then are."""
    return Ownership("/dev/null/none")


def _as_it_is(status: os.stat_result) -> tuple[int, int, int]:
    found = _nowhere().status("", status, {})
    return found.uid, found.gid, found.mode


def set_owner(path: str, uid: int, gid: int, mode: int) -> None:
    """Give a file its owner: in the file system where this id mode has the ids, else as a record.

    ``mode`` is the whole mode, with its type. As with chown(2), the set-id bits of a file may be cleared. The link
    itself is meant, never what it points to.
    """
    can_carry = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    try:
        os.chown(path, *_nowhere().real(uid, gid), follow_symlinks=False)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        _record(path, uid, gid, mode, can_carry)
        return
    if can_carry:
        try:
            os.removexattr(path, OVERRIDE, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    elif (known := _owners(path)) is not None:
        known[2][-1].forget(known[0])


def _record(path: str, uid: int, gid: int, mode: int, can_carry: bool) -> None:
    wanted = Status(mode, uid, gid)
    known = _owners(path)
    inside, owners = (known[0], known[2][-1]) if known else ("", _nowhere())
    if not can_carry:
        owners.record(inside, wanted, file=None)
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        owners.record(inside, wanted, file=fd)
    finally:
        os.close(fd)
