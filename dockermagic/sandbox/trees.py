"""What the resident process does with snapshot directories that hold ids which are not the client's own."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dockermagic.oci import disk
from dockermagic.oci.lock import claim

__all__ = [
    "MOUNT_POINTS",
    "NETWORK_FILES",
    "WorkDirectory",
    "copy_attributes",
    "delete",
    "make_mount_points",
    "measure",
    "open_up",
    "remove_work",
    "walk",
]

NETWORK_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
MOUNT_POINTS = "mount-points"
"""A directory beside the snapshots that lies under every root filesystem and has the files that are always covered, so
that they need not be made in each layer and taken out again."""


def make_mount_points(base: Path) -> None:
    """Make that directory. Idempotent."""
    etc = base / MOUNT_POINTS / "etc"
    etc.mkdir(0o755, parents=True, exist_ok=True)
    for path in NETWORK_FILES:
        (etc / os.path.basename(path)).touch(0o644)


def delete(paths: list[str]) -> None:
    """Remove whole trees. Idempotent. One that cannot be removed does not keep the others; its error is raised last."""
    import shutil

    failed: OSError | None = None
    for path in paths:
        for last in (False, False, True):
            try:
                shutil.rmtree(path, onerror=open_up)
                break
            except OSError as error:
                # Another process that removes it at the same moment makes this fail without being wrong.
                if not os.path.lexists(path):
                    break
                if last:
                    failed = error
    if failed is not None:
        raise failed


def open_up(function: object, path: str, info: object) -> None:
    """For rmtree: a directory that its own mode closes is opened, and tried again once. Another process may be removing
    it, too.
    """
    import shutil

    with contextlib.suppress(FileNotFoundError):
        for place in (os.path.dirname(path), path):
            if not os.path.islink(place):
                os.chmod(place, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def walk(top: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is below a directory, with its path from there; no link is followed."""
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(f"{top}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                yield path, entry


def measure(path: str) -> int:
    """The bytes of all regular files below ``path``; hard links count once."""
    total, seen = 0, set()
    for _, entry in walk(path):
        if entry.is_file(follow_symlinks=False):
            found = entry.stat(follow_symlinks=False)
            if found.st_nlink > 1:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            total += found.st_size
    return total


def copy_attributes(source: str, target: str) -> None:
    """Give the directory ``target`` the owner, mode, time and extended attributes of ``source``."""
    like = disk.open(source, os.O_RDONLY)
    file = disk.open(target, os.O_RDONLY)
    try:
        found = disk.fstat(like)
        disk.fchown(file, found.st_uid, found.st_gid)
        disk.fchmod(file, stat.S_IMODE(found.st_mode))
        for name in disk.listxattr(like):
            if not name.startswith(("user.overlay.", "trusted.")):
                disk.setxattr(file, name, disk.getxattr(like, name))
        disk.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        disk.close(file)
        disk.close(like)


class WorkDirectory:
    """Overlayfs's work directory after its use, renamed out of the way: that is quicker than to remove it.

    Its new name is one that a sweep looks at, and it is locked as long as this process means to remove it.
    """

    def __init__(self, work: str, base: str) -> None:
        self.path = f"{base}/tmp-0-{os.urandom(6).hex()}"
        try:
            self.fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.fd = -1
            return
        claim(self.fd, wait=False)
        os.rename(work, self.path)

    def remove(self) -> None:
        """Remove it now."""
        if self.fd >= 0:
            remove_work(self.path)
            os.close(self.fd)


def remove_work(work: str) -> None:
    """Remove overlayfs's work directory, which the next mount makes anew. Idempotent."""
    inner = f"{work}/work"
    volatile = f"{inner}/incompat/volatile"
    with contextlib.suppress(FileNotFoundError):
        try:
            # What is left of a volatile overlay.
            os.unlink(f"{volatile}/dirty")
            for path in (volatile, os.path.dirname(volatile), inner):
                os.rmdir(path)
        except OSError:
            try:
                os.rmdir(inner)
            except OSError:
                os.chmod(inner, 0o700)
                delete([inner])
        os.rmdir(work)
