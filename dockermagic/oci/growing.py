"""A layer's directory while it is filled, on top of the layers below it.

Paths of the image are followed here, inside the root that the layers make together, one component at a time: a
symbolic link is read and walked by this code and never by the system.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence

from dockermagic.errors import ArchiveError
from dockermagic.oci import disk
from dockermagic.oci.overlay import (
    CAPABILITY,
    KEPT_CAPABILITY,
    OPAQUE,
    OVERRIDE,
    Ownership,
    Stack,
    Status,
    attributes,
    is_own_attribute,
    is_whiteout,
    make_whiteout,
)
from dockermagic.oci.rooted import READ, Directories, follow, join, remove_tree

__all__ = ["NEW_FILE", "Displaced", "GrowingLayer", "set_attributes", "write_all"]

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_LONGEST_PATH = 4096
_REFUSED = (errno.EPERM, errno.EINVAL, errno.EACCES, errno.EOVERFLOW)
_NO_ATTRIBUTE = (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.EACCES)


class Displaced(Exception):
    """A path of the layer leads through something below that is no directory, which was not known when it was made."""


class GrowingLayer:
    """The directory, its owners, and the directories made in it so far.

    A directory keeps mode 0700 until :meth:`finish`, which sets modes and times, the deepest first. ``lowers`` as a
    function waits for layers that are still being made. It is called as late as can be: see :meth:`arrive`.
    """

    def __init__(self, directory: str, lowers: Sequence[str] | Callable[[], Sequence[str]], ownership: str) -> None:
        self.tree = Directories(directory)
        self.owners = Ownership(ownership)
        self._await = lowers if callable(lowers) else None
        self._lowers = Stack(()) if callable(lowers) else Stack(lowers)
        self._implied: dict[str, bool] = {}  # made before the layers below were here; True: nothing else describes it
        self._made: dict[str, tuple[int, int, Mapping[str, bytes]]] = {}
        self._resolved: dict[tuple[str, str], str] = {}
        self._alone: set[str] = set()  # directories below which nothing of the lower layers is seen
        self._copied: set[str] = set()  # files of lower layers that are here to be linked to
        root = self.tree.fd("")
        found = disk.fstat(root)
        self.describe("", stat.S_IMODE(found.st_mode) & ~stat.S_ISGID, found.st_mtime_ns)
        disk.fchmod(root, 0o700)  # without setgid, which what is made inside would inherit
        if below := self._lowers.lookup(""):
            self._like_lower("", *below)
        self._implied[""] = True

    def arrive(self) -> bool:
        """Wait for the layers below, if they are not here yet; False if they were.

        What was made in directories that no entry had spoken of is right if below there is a directory, too, or
        nothing. Else Displaced is raised, and the layer must be made anew.
        """
        if self._await is None:
            return False
        self._lowers, self._await = Stack(self._await()), None
        self._resolved.clear()
        for path, is_open in self._implied.items():
            if path and self.is_alone(path):
                continue
            found = self._lowers.lookup(path)
            if found is not None and not stat.S_ISDIR(found[1].st_mode):
                raise Displaced(path)
            if path and path not in self._made:  # something else has taken its place meanwhile
                continue
            if found is None:
                self._alone.add(path)
            elif is_open:
                self._like_lower(path, *found)
        return True

    def finish(self) -> None:
        """Set the modes and times of directories, now that nothing is added to them."""
        self.arrive()
        for path in sorted(self._made, reverse=True):
            mode, mtime_ns, xattrs = self._made[path]
            descriptor = self.tree.fd(path)
            set_attributes(descriptor, xattrs)  # not before: a default ACL would be inherited
            disk.fchmod(descriptor, mode)
            disk.utime(descriptor, ns=(mtime_ns, mtime_ns))
        self.owners.save()

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self.tree.close()
        self._lowers.close()

    # -- directories

    def directory(self, path: str, top: str = "") -> str:
        """Where a directory of the image really is, made in this layer if it is not there yet.

        One that a lower layer has gets the attributes it has there; one that no layer has is root's, with mode 0755.
        The path, and every link on its way, is read below ``top``.
        """
        found = self._resolved.get((path, top))
        if found is None:
            found = join(top, path) if join(top, path) in self._made else self._make(path, top)
            self._resolved[path, top] = found
        return found

    def existing(self, path: str, top: str = "") -> str | None:
        """Where a directory of the image really is, without making anything; None if there is none."""
        if join(top, path) in self._made:
            return join(top, path)
        found, missing = self.locate(path, top)
        return None if missing else found

    def locate(self, path: str, top: str = "") -> tuple[str, list[str]]:
        """Follow the links of a path below ``top``: what of it exists in the image, and what is missing below that."""

        def link(below: str) -> str | None:
            parent, _, name = join(top, below).rpartition("/")
            found = self.find(parent, name)
            if found is None:
                raise FileNotFoundError(below)
            if not stat.S_ISLNK(found[1].st_mode):
                return None
            return disk.readlink(name, dir_fd=self._layer(found[0]).fd(parent))

        try:
            existing, missing = follow(path, link)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ArchiveError(f"too many symbolic links on the way to {path!r:.300}") from None
        if len(existing) + len(top) >= _LONGEST_PATH:
            raise ArchiveError(f"too long a path behind {path!r:.100}")
        return (join(top, existing) if existing else top), missing

    def make_directory(self, parent: str, name: str) -> str:
        """Make sure of a directory below a resolved one, in place of anything else the layer has; returns its path."""
        path = join(parent, name)
        if path in self._made:
            return path
        here = self.tree.fd(parent)
        try:
            disk.mkdir(name, 0o700, dir_fd=here)
        except FileExistsError:
            # What was there, a whiteout too, had taken away what is below: that stays away.
            self.remove(here, name, path)
            disk.mkdir(name, 0o700, dir_fd=here)
            self.hide(path)
        self.describe(path, 0o755, 0)
        return path

    def describe(self, path: str, mode: int, mtime_ns: int, xattrs: Mapping[str, bytes] | None = None) -> None:
        """What a directory gets at the end; without ``xattrs`` it keeps those it was to get."""
        if xattrs is None:
            xattrs = self._made[path][2] if path in self._made else {}
        self._made[path] = (mode, mtime_ns, xattrs)
        if path in self._implied:
            self._implied[path] = False

    def hide(self, path: str) -> None:
        """Make a directory of this layer hide what the layers below have there."""
        below = f"{path}/"
        if any(f"{each}/".startswith(below) for each in self._implied):
            self.arrive()  # what is below decides where these directories are, and what they are like
        for copied in [each for each in self._copied if each.startswith(below)]:
            parent, _, name = copied.rpartition("/")
            self.remove(self.tree.fd(parent), name, copied)
        disk.setxattr(self.tree.fd(path), OPAQUE, b"y")
        self._alone.add(path)

    def find(self, parent: str, name: str) -> tuple[int, os.stat_result] | None:
        """What the image has below a resolved directory: the layer, -1 for this one, and what it is there."""
        if parent in self._made:
            try:
                found = disk.stat(name, dir_fd=self.tree.fd(parent), follow_symlinks=False)
                return None if is_whiteout(found) else (-1, found)
            except FileNotFoundError:
                pass
        if self.is_alone(parent):
            return None
        return self._lowers.lookup(join(parent, name))

    def read(self, path: str, *, most: int) -> bytes:
        """The start of a regular file of the image, links followed inside it; b"" where there is none."""
        place, missing = self.locate(path)
        parent, _, name = place.rpartition("/")
        found = None if missing else self.find(parent, name)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            return b""
        with open(disk.open(name, READ, dir_fd=self._layer(found[0]).fd(parent)), "rb") as file:
            return file.read(most)

    def _make(self, wanted: str, top: str) -> str:
        """Make this layer's directories for what of the path exists below, and what is missing."""
        existing, missing = self.locate(wanted, top)
        at = ""
        for part in existing.split("/") if existing else ():
            path = join(at, part)
            if path not in self._made:
                found = self.find(at, part)
                if found is None or not stat.S_ISDIR(found[1].st_mode):
                    raise ArchiveError(f"the layer has entries below {path!r:.300}, which is no directory")
                self.make_directory(at, part)
                self._like_lower(path, *found)
            at = path
        for number, part in enumerate(missing):
            if part == "..":
                above = at.rpartition("/")[0][len(top) :].lstrip("/")
                return self.directory(join(above, "/".join(missing[number + 1 :])), top)
            at = self.make_directory(at, part)
            if self._await is None:
                self._alone.add(at)
            else:
                self._implied[at] = True
        return at

    def is_alone(self, path: str) -> bool:
        """Whether nothing of the layers below is seen in a directory of this layer."""
        while path:
            if path in self._alone:
                return True
            path = path.rpartition("/")[0]
        return self._await is None and not self._lowers.layers

    def _layer(self, layer: int) -> Directories:
        return self.tree if layer < 0 else self._lowers.layers[layer]

    def _like_lower(self, path: str, layer: int, found: os.stat_result) -> None:
        below = attributes(self._lowers.layers[layer].fd(path))
        status = self._lowers.owners(layer).status(path, found, below)
        descriptor = self.tree.fd(path)
        self.own(descriptor, path, status)
        self.describe(path, stat.S_IMODE(status.mode), found.st_mtime_ns, below)

    # -- everything else

    def fresh(self, here: int, name: str, path: str, make: Callable[[], None]) -> None:
        """Call ``make``, which fails if the name exists; then once more after taking away what the layer had."""
        try:
            make()
        except FileExistsError:
            self.remove(here, name, path)
            make()

    def whiteout(self, parent: str, name: str) -> None:
        """Remove what the layers below have there. What this layer itself has stays."""
        here, path = self.tree.fd(parent), join(parent, name)
        try:
            found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            make_whiteout(name, here)
            return
        if path in self._copied:
            self.remove(here, name, path)
            make_whiteout(name, here)
        elif stat.S_ISDIR(found.st_mode):
            self.hide(path)

    def remove(self, here: int, name: str, path: str) -> None:
        """Take away what this layer has under the name."""
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        self.owners.forget(path)
        self._copied.discard(path)
        if stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode):
            disk.unlink(name, dir_fd=here)
            return
        # Ways that led through a directory or a symbolic link are no longer known.
        self._resolved.clear()
        self.tree.forget(path)
        remove_tree(name, here)
        below = f"{path}/"
        for gone in [each for each in self._made if each == path or each.startswith(below)]:
            del self._made[gone]
            self._alone.discard(gone)
        self._copied = {each for each in self._copied if not each.startswith(below)}

    def own(self, file: int, path: str, status: Status, *, is_new: bool = False) -> None:
        """Give an open file or directory its owner, or record the owner that it cannot have."""
        uid, gid = self.owners.real(status.uid, status.gid)
        if is_new and self.owners.is_me(uid, gid):
            return
        try:
            disk.fchown(file, uid, gid)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self.owners.record(path, status, file=file)
            return
        if not is_new:
            try:
                disk.removexattr(file, OVERRIDE)
            except OSError as error:
                if error.errno not in (errno.ENODATA, *_NO_ATTRIBUTE):
                    raise

    def own_name(self, here: int, name: str, path: str, status: Status) -> None:
        """The same for what cannot be opened: symbolic links, pipes, devices."""
        uid, gid = self.owners.real(status.uid, status.gid)
        try:
            disk.chown(name, uid, gid, dir_fd=here, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self.owners.record(path, status, file=None)

    def special(self, parent: str, name: str, status: Status, mtime_ns: int, target: str = "") -> None:
        """Make a symbolic link to ``target``, a pipe, a socket or a device, in place of what the layer had there."""
        here, path = self.tree.fd(parent), join(parent, name)
        mode = stat.S_IMODE(status.mode)
        if stat.S_ISLNK(status.mode):
            self.fresh(here, name, path, lambda: disk.symlink(target, name, dir_fd=here))
        elif stat.S_ISFIFO(status.mode):
            self.fresh(here, name, path, lambda: disk.mkfifo(name, mode, dir_fd=here))
        else:
            device = disk.makedev(*status.device)
            try:
                self.fresh(here, name, path, lambda: disk.mknod(name, status.mode, device, dir_fd=here))
            except PermissionError:
                self._placeholder(here, name, path, status, mtime_ns)
                return
        self.own_name(here, name, path, status)
        if not stat.S_ISLNK(status.mode):  # a change of owner clears what says setuid, and so does making a pipe
            disk.chmod(name, mode, dir_fd=here)
        disk.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=here, follow_symlinks=False)

    def _placeholder(self, here: int, name: str, path: str, status: Status, mtime_ns: int) -> None:
        """An empty file in place of a device that may not be made here; the record says what it is."""
        descriptor = disk.open(name, NEW_FILE, 0o600, dir_fd=here)
        try:
            self.owners.record(path, status, file=descriptor)
            disk.utime(descriptor, ns=(mtime_ns, mtime_ns))
        finally:
            disk.close(descriptor)

    def copy_up(self, parent: str, name: str) -> None:
        """Copy a file of a lower layer into this one, to be linked to."""
        found = self._lowers.lookup(join(parent, name))
        if found is None or not (stat.S_ISREG(found[1].st_mode) or stat.S_ISLNK(found[1].st_mode)):
            raise ArchiveError(f"the layer has a hard link to {join(parent, name)!r:.300}, which cannot be copied")
        layer, status = found
        self.directory(parent)
        path = join(parent, name)
        self._copied.add(path)
        below, here = self._lowers.layers[layer].fd(parent), self.tree.fd(parent)
        wanted = self._lowers.owners(layer).status(path, status, {})
        if stat.S_ISLNK(status.st_mode):
            disk.symlink(disk.readlink(name, dir_fd=below), name, dir_fd=here)
            self.own_name(here, name, path, wanted)
            disk.utime(name, ns=(status.st_mtime_ns,) * 2, dir_fd=here, follow_symlinks=False)
            return
        source = disk.open(name, READ, dir_fd=below)
        target = -1
        try:
            target = disk.open(name, NEW_FILE, 0o600, dir_fd=here)
            while data := os.read(source, 1 << 20):
                write_all(target, data)
            found_attributes = attributes(source)
            self.own(target, path, self._lowers.owners(layer).status(path, status, found_attributes), is_new=True)
            set_attributes(target, found_attributes)
            disk.fchmod(target, stat.S_IMODE(status.st_mode))
            disk.utime(target, ns=(status.st_mtime_ns,) * 2)
        finally:
            disk.close(source)
            if target >= 0:
                disk.close(target)


def set_attributes(file: int, xattrs: Mapping[str, bytes]) -> None:
    """Set extended attributes where that is permitted; those that say how layers are kept here are left out.

    A file capability that may not be set is kept aside, so that the layer still has it when it is packed.
    """
    for name, value in xattrs.items():
        if is_own_attribute(name) and name != KEPT_CAPABILITY:
            continue
        try:
            disk.setxattr(file, name, value)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise
            if name == CAPABILITY:
                try:
                    disk.setxattr(file, KEPT_CAPABILITY, value)
                except OSError as second:
                    if second.errno not in _NO_ATTRIBUTE:
                        raise


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write all of it."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
