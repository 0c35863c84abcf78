"""Directories below a root, reached one component at a time and never through a symbolic link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable

from dockermagic.errors import ArchiveError
from dockermagic.oci import disk

__all__ = ["DIRECTORY", "READ", "Directories", "clean", "follow", "join", "link_below", "remove_tree"]

_OPEN_AT_ONCE = 64
READ = os.O_RDONLY | disk.O_NOFOLLOW | disk.O_NONBLOCK
"""How a file is opened that may be anything: no link is followed, and a FIFO keeps nobody waiting."""
DIRECTORY = os.O_RDONLY | disk.O_DIRECTORY | disk.O_NOFOLLOW
_LINKS_FOLLOWED = 40
_LONGEST_PATH = 4096
_LONGEST_NAME = 255


def clean(name: str, what: str) -> str:
    """A member's name as a path below the root, '' for the root itself; a leading slash says nothing.

    Raises ArchiveError for ``..``, and for what no file system could hold. ``what`` names the member in the error.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"{what} {name!r:.300} would leave the root", hint="Nothing outside was touched.")
    path = "/".join(parts)
    if len(path) * 4 <= _LONGEST_NAME:  # a character is four bytes at most
        return path
    if len(os.fsencode(path)) >= _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
        raise ArchiveError(f"{what} {name!r:.100} has too long a name")
    return path


def join(directory: str, name: str) -> str:
    """A path below the root."""
    return f"{directory}/{name}" if directory else name


def follow(path: str, link: Callable[[str], str | None]) -> tuple[str, list[str]]:
    """Walk a path below a root, one component at a time: what of it exists, and the components missing below that.

    ``link`` says what is at a path that has no links in it: the target of a symbolic link, None for anything else;
    it raises FileNotFoundError or NotADirectoryError where nothing is. ``..`` stays inside the root, and an absolute
    target starts at it. Nothing is remembered from call to call: a link may have changed. Raises OSError (ELOOP) for
    a circle.
    """
    waiting = path.split("/")[::-1]
    here: list[str] = []
    followed = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = here[:-1]
            continue
        try:
            target = link("/".join((*here, part)))
        except (FileNotFoundError, NotADirectoryError):
            return "/".join(here), [part, *(each for each in reversed(waiting) if each not in ("", "."))]
        if target is None:
            here.append(part)
            continue
        followed += 1
        if followed > _LINKS_FOLLOWED:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            here = []
        waiting += target.split("/")[::-1]
    return "/".join(here), []


def link_below(root: str) -> Callable[[str], str | None]:
    """What :func:`follow` asks, of the files below a directory."""

    def link(path: str) -> str | None:
        place = f"{root}/{path}"
        return disk.readlink(place) if stat.S_ISLNK(disk.lstat(place).st_mode) else None

    return link


class Directories:
    """Open directories of a tree by their path below its root, at most 64 at once.

    A descriptor belongs to this object and is good until the next call.
    """

    def __init__(self, root: str) -> None:
        self._root = disk.open(root, DIRECTORY & ~disk.O_NOFOLLOW)
        self._open: OrderedDict[str, int] = OrderedDict()

    def fd(self, path: str) -> int:
        """The directory at the path. Raises OSError, also where a component is a symbolic link."""
        if not path:
            return self._root
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        at, below = path, []
        while at and at not in self._open:
            at, _, name = at.rpartition("/")
            below.append(name)
        descriptor = self._open[at] if at else self._root
        for name in reversed(below):
            descriptor = disk.open(name, DIRECTORY, dir_fd=descriptor)
            at = join(at, name)
            self._open[at] = descriptor
            while len(self._open) > _OPEN_AT_ONCE:
                _, oldest = self._open.popitem(last=False)
                disk.close(oldest)
        return descriptor

    def forget(self, path: str) -> None:
        """The directory is going away: close it and what is open below."""
        for name in [name for name in self._open if name == path or name.startswith(f"{path}/")]:
            disk.close(self._open.pop(name))

    def close(self) -> None:
        """Close everything. Idempotent."""
        while self._open:
            disk.close(self._open.popitem()[1])
        if self._root >= 0:
            disk.close(self._root)
            self._root = -1


def remove_tree(name: str, directory: int) -> None:
    """Remove an entry of a directory with all that is below it; never through a symbolic link, at any depth."""
    waiting = [(directory, name, False)]
    opened: list[int] = []
    try:
        while waiting:
            parent, entry, is_empty = waiting.pop()
            if is_empty:
                disk.close(opened.pop())
                disk.rmdir(entry, dir_fd=parent)
                continue
            found = disk.stat(entry, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                disk.unlink(entry, dir_fd=parent)
                continue
            if found.st_mode & 0o700 != 0o700:
                with contextlib.suppress(PermissionError):
                    disk.chmod(entry, 0o700, dir_fd=parent)
            descriptor = disk.open(entry, DIRECTORY, dir_fd=parent)
            opened.append(descriptor)
            waiting.append((parent, entry, True))
            waiting += [(descriptor, below, False) for below in disk.listdir(descriptor)]
    finally:
        for descriptor in opened:
            disk.close(descriptor)
