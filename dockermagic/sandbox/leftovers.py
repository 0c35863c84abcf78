"""What a RUN leaves in its layer that is not its own doing: mount points go, owners come.

Works on the layer's directory itself, when nothing is mounted and no process is left, and follows no link in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from dockermagic.oci.overlay import OVERRIDE, Ownership, Status, is_whiteout, ownership_file
from dockermagic.sandbox.base import Rootfs
from dockermagic.sandbox.trees import walk
from dockermagic.values import dataclass

__all__ = ["Stub", "own_files", "own_new_files", "remove_stubs"]

_COPIED_UP = "user.overlay.origin"


@dataclass(frozen=True, slots=True)
class Stub:
    """A mount point that had to be made: its path in the root, its parent's mtime before, and mtime and ctime after."""

    path: str
    directory: bool
    mtime_before: int = 0
    mtime: int = 0
    ctime: int = 0


def _parent(upper: int, path: str) -> int | None:
    """The directory that holds ``path`` inside ``upper``, reached without any link; None if it is not there."""
    fd = os.dup(upper)
    for part in os.path.dirname(path).strip("/").split("/"):
        if not part:
            continue
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            os.close(fd)
            return None
        os.close(fd)
        fd = inner
    return fd


def remove_stubs(upper: Path, stubs: Sequence[Stub], *, is_layer: bool = True) -> None:
    """Take mount points out of the layer again, and parents that are in it only because of them.

    Where it is no layer but a whole tree, parents stay. A stub that the process replaced by something of its own stays.
    A parent in which the process made and removed no name gets its time back.
    """
    if not stubs:
        return
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parents: dict[str, int | None] = {}
    untouched: set[str] = set()
    times: dict[str, int] = {}
    try:
        for stub in stubs:
            folder = os.path.dirname(stub.path)
            if folder in parents:
                continue
            parents[folder] = fd = _parent(root, stub.path)
            if fd is None:
                continue
            found = os.fstat(fd)
            if found.st_mtime_ns == stub.mtime:
                times[folder] = stub.mtime_before
            if found.st_ctime_ns == stub.ctime:
                untouched.add(folder)
        for stub in reversed(stubs):
            fd = parents[os.path.dirname(stub.path)]
            if fd is not None:
                _remove(fd, os.path.basename(stub.path), stub.directory)
        for folder in sorted(times, reverse=True):
            os.utime(parents[folder] or 0, ns=(times[folder], times[folder]))
            if is_layer and folder in untouched:
                _remove_if_empty(root, folder)
    finally:
        for fd in parents.values():
            if fd is not None:
                os.close(fd)
        os.close(root)


def _remove(folder: int, name: str, directory: bool) -> None:
    try:
        if directory:
            os.rmdir(name, dir_fd=folder)
        else:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_size == 0:
                os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _remove_if_empty(root: int, folder: str) -> None:
    """A parent without anything in it was only copied up for a stub: it goes, and so do its own parents."""
    while folder != "/":
        parent = _parent(root, folder)
        if parent is None:
            return
        before = os.fstat(parent)
        try:
            os.rmdir(os.path.basename(folder), dir_fd=parent)
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        except OSError:
            return
        finally:
            os.close(parent)
        folder = os.path.dirname(folder)


def own_new_files(rootfs: Rootfs, uid: int, gid: int, except_for: set[str]) -> None:
    """Record an owner for everything in the upper directory that was made there and not copied up.

    With a single id, all that a process of another user makes belongs to the own id. ``except_for`` are paths that the
    sandbox made itself.
    """
    upper = rootfs.upper
    assert upper is not None
    owners = Ownership(ownership_file(str(upper)))
    for path, entry in walk(str(upper)):
        found = entry.stat(follow_symlinks=False)
        if is_whiteout(found) or f"/{path}" in except_for:
            continue
        if not _is_older(rootfs, path, entry.path, stat.S_ISDIR(found.st_mode)):
            _own(owners, path, entry.path, Status(found.st_mode, uid, gid))
    owners.save()


def own_files(root: str, paths: Sequence[str], own: tuple[int, int]) -> None:
    """The same in a working tree, for the paths that are new in it."""
    owners = Ownership(ownership_file(root))
    for path in paths:
        place = os.path.join(root, path)
        found = os.lstat(place)
        try:
            if OVERRIDE in os.listxattr(place, follow_symlinks=False):
                continue
        except OSError:
            pass
        _own(owners, path, place, Status(found.st_mode, *own))
    owners.save()


def _is_older(rootfs: Rootfs, path: str, place: str, is_directory: bool) -> bool:
    """Whether the entry stands for one of a layer below, or has its owner already."""
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError:
        names = []
    if OVERRIDE in names or _COPIED_UP in names:
        return True
    if is_directory and "user.overlay.opaque" not in names:
        return any(os.path.isdir(lower / path) and not os.path.islink(lower / path) for lower in rootfs.lowers)
    return False


def _own(owners: Ownership, path: str, place: str, wanted: Status) -> None:
    if not (stat.S_ISREG(wanted.mode) or stat.S_ISDIR(wanted.mode)):
        owners.record(path, wanted, file=None)
        return
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        owners.record(path, wanted, file=fd)
    finally:
        os.close(fd)
