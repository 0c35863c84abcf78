"""What has to be done to a container's files with the ids of its processes: called inside the sandbox's namespaces."""

from __future__ import annotations

import os
import shutil
import stat

from dockermagic.oci.rooted import follow, link_below
from dockermagic.sandbox import trees

__all__ = ["fill", "remove"]


def remove(*, path: str) -> None:
    """Remove a directory and all in it, whoever else may be removing it, too. Nothing happens where there is none."""
    trees.delete([path])


def fill(*, root: str, path: str, target: str) -> None:
    """Give an empty volume what the image has at that path, with owners, modes and times; one in use stays as it is."""
    if os.listdir(target):
        return
    try:
        found, missing = follow(path, link_below(root))
    except OSError:  # links in a circle
        return
    source = os.path.join(root, found)
    if missing or not os.path.isdir(source):
        return
    _attributes(os.lstat(source), target)
    _copy(source, target, {})
    _times(os.lstat(source), target)


def _attributes(status: os.stat_result, path: str) -> None:
    try:
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    except OSError:
        pass  # an id that this mode does not have
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))


def _times(status: os.stat_result, path: str) -> None:
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            status, path = entry.stat(follow_symlinks=False), os.path.join(target, entry.name)
            mode = status.st_mode
            known = links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 and stat.S_ISREG(mode) else None
            if known:
                os.link(known, path)
                continue
            if stat.S_ISDIR(mode):
                os.mkdir(path)
                _copy(entry.path, path, links)
            elif stat.S_ISLNK(mode):
                os.symlink(os.readlink(entry.path), path)
            elif stat.S_ISREG(mode):
                shutil.copyfile(entry.path, path)
                links[status.st_dev, status.st_ino] = path
            elif stat.S_ISFIFO(mode):
                os.mkfifo(path)
            else:
                continue
            _attributes(status, path)
            _times(status, path)
