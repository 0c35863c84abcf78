"""Paths copied as they are from one tree to another: from layers into a working tree, and from there into a layer.

Neither tree is trusted, and nothing runs in them meanwhile: every name is reached from its root, one directory at a
time and never through a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from dockermagic.oci.overlay import OPAQUE, Ownership, Stack, attributes, make_whiteout
from dockermagic.oci.rooted import Directories, join, remove_tree

__all__ = ["Transplant", "same"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_REFUSED = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP)
_NO_WAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


class Transplant:
    """Copies of paths of ``source`` below the directory ``target``; :meth:`finish` ends it.

    With ``below``, the target is a layer on top of those: what is gone leaves a whiteout there, and directories come
    alone. Without it, the target is the whole tree, and a directory that it lacks comes with all that is in it.
    ``check`` is called for every path.
    """

    def __init__(
        self, source: Stack, target: str, owners: str, check: Callable[[], object], below: Stack | None = None
    ) -> None:
        self.source = source
        self.below = below
        self.check = check
        self._target = Directories(target)
        self._owners = Ownership(owners)
        self._folders: set[str] = set()
        self._linked: dict[tuple[int, int, int], str] = {}
        self._me = (os.geteuid(), os.getegid())
        self._opened: dict[str, int] = {}

    def put(self, path: str) -> None:
        """Make a path what it is in the source. A trailing slash: with all below it, whatever is there."""
        self.check()
        name = path.rstrip("/")
        found = self.source.lookup(name)
        try:
            if found is None:
                self._remove(name)
            elif stat.S_ISDIR(found[1].st_mode):
                self._directory(name, anew=path != name)
            else:
                self._other(name, *found)
        except OSError as error:  # what is above it went, or is a file or a link by now
            if found is not None or error.errno not in _NO_WAY:
                raise

    def finish(self) -> None:
        """Give the directories their modes and times, write the owners down, close everything."""
        try:
            for path in sorted(self._folders, reverse=True):
                found = self.source.lookup(path)
                if found is not None and stat.S_ISDIR(found[1].st_mode):
                    self._describe(path, *found)
            self._owners.save()
        finally:
            self._target.close()

    # --- one path

    def _parent(self, path: str) -> tuple[int, str]:
        """The target's directory that holds a path, made if this is a layer that lacks it; and the last name."""
        above, _, name = path.rpartition("/")
        if self.below is not None:
            self._ensure(above)
        self._folders.add(above)
        return self._open(above), name

    def _open(self, path: str) -> int:
        """A directory of the target, whatever its mode says to an owner without privileges."""
        try:
            fd = self._target.fd(path)
        except PermissionError:
            above, _, name = path.rpartition("/")
            os.chmod(name, 0o700, dir_fd=self._open(above))
            self._folders.add(path)
            fd = self._target.fd(path)
        if self._me[0] and path not in self._opened:
            mode = self._opened[path] = stat.S_IMODE(os.fstat(fd).st_mode)
            if mode & 0o700 != 0o700:
                os.fchmod(fd, mode | 0o700)
                self._folders.add(path)
        return fd

    def _ensure(self, path: str) -> None:
        if not path or path in self._folders:
            return
        above, _, name = path.rpartition("/")
        self._ensure(above)
        here = self._open(above)
        if not self._is_directory(here, name):
            self._make_directory(here, name, path)
        self._folders.add(path)

    @staticmethod
    def _is_directory(here: int, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _make_directory(self, here: int, name: str, path: str, *, hides: bool = False) -> None:
        """In place of whatever is there; one that takes the place of what hid a directory below goes on hiding it."""
        hides |= self._clear(here, name, path)
        os.mkdir(name, 0o700, dir_fd=here)
        if hides and self.below is not None:
            lower = self.below.lookup(path)
            if lower is not None and stat.S_ISDIR(lower[1].st_mode):
                os.setxattr(self._open(path), OPAQUE, b"y")

    def _clear(self, here: int, name: str, path: str) -> bool:
        """Take away what the target has; whether that was no directory."""
        try:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return False
        self._owners.forget(path)
        if stat.S_ISDIR(found.st_mode):
            self._target.forget(path)
            for known in [each for each in self._opened if each == path or each.startswith(f"{path}/")]:
                del self._opened[known]
            remove_tree(name, here)
            return False
        os.unlink(name, dir_fd=here)
        return True

    def _remove(self, path: str) -> None:
        if self.below is None:
            above, _, name = path.rpartition("/")
            here = self._open(above)
            if self._clear_if_there(here, name, path):
                self._folders.add(above)
            return
        above = path.rpartition("/")[0]
        parent = self.source.lookup(above)
        if parent is None or not stat.S_ISDIR(parent[1].st_mode):
            return  # what is above it went as a whole
        here, name = self._parent(path)
        self._clear(here, name, path)
        if self.below.lookup(path) is not None:
            make_whiteout(name, here)

    def _clear_if_there(self, here: int, name: str, path: str) -> bool:
        try:
            os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return False
        self._clear(here, name, path)
        return True

    def _directory(self, path: str, *, anew: bool = False) -> None:
        if path:
            here, name = self._parent(path)
            is_there = self._is_directory(here, name)
            if not is_there or anew:
                self._make_directory(here, name, path, hides=anew)
        else:
            is_there = self.below is not None or (not anew and bool(os.listdir(self._target.fd(""))))
        self._folders.add(path)
        if self.below is None and (anew or not is_there):
            self._fill(path)

    def _fill(self, path: str) -> None:
        """Everything below a directory that was just made."""
        for name in sorted(self.source.names(path)[0]):
            self.put(join(path, name))

    def _other(self, path: str, layer: int, found: os.stat_result) -> None:
        if self.below is not None and stat.S_ISSOCK(found.st_mode):
            return self._remove(path)
        here, name = self._parent(path)
        self._clear(here, name, path)
        source = self.source.layers[layer]
        above = path.rpartition("/")[0]
        kind = stat.S_IFMT(found.st_mode)
        if found.st_nlink > 1:
            key = (layer, found.st_dev, found.st_ino)
            first = self._linked.setdefault(key, path)
            if first != path:
                folder, _, base = first.rpartition("/")
                there = os.dup(self._open(folder))  # asking for the other directory may close this one
                try:
                    here = self._open(above)
                    os.link(base, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
                    self._owners.take(path, self.source.owners(layer))
                    return None
                finally:
                    os.close(there)
        if kind == stat.S_IFREG:
            self._file(source.fd(above), name, here, found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source.fd(above)), name, dir_fd=here)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=here)
        if kind != stat.S_IFREG:
            self._chown(name, found, here)
            if kind != stat.S_IFLNK:
                os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=here)
            os.utime(name, ns=(found.st_mtime_ns,) * 2, dir_fd=here, follow_symlinks=False)
        self._owners.take(path, self.source.owners(layer))
        return None

    def _file(self, there: int, name: str, here: int, found: os.stat_result) -> None:
        source = open_closed(there, name, found)
        try:
            target = os.open(name, _NEW, 0o600, dir_fd=here)
            try:
                _copy(source, target, found.st_size)
                self._chown(target, found)
                for key, value in attributes(source).items():
                    _set(target, key, value)
                os.fchmod(target, stat.S_IMODE(found.st_mode))
                os.utime(target, ns=(found.st_mtime_ns,) * 2)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _chown(self, file: int | str, found: os.stat_result, here: int | None = None) -> None:
        if (found.st_uid, found.st_gid) == self._me:
            return
        try:
            if isinstance(file, int):
                os.fchown(file, found.st_uid, found.st_gid)
            else:
                os.chown(file, found.st_uid, found.st_gid, dir_fd=here, follow_symlinks=False)
        except PermissionError:
            pass  # another group of a user without privileges

    def _describe(self, path: str, layer: int, found: os.stat_result) -> None:
        try:
            fd = self._target.fd(path)
        except FileNotFoundError:
            return
        self._chown(fd, found)
        wanted = {key: value for key, value in attributes(self.source.layers[layer].fd(path)).items() if _kept(key)}
        for key in attributes(fd):
            if _kept(key) and key not in wanted:
                with contextlib.suppress(OSError):
                    os.removexattr(fd, key)
        for key, value in wanted.items():
            _set(fd, key, value)
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        os.utime(fd, ns=(found.st_mtime_ns,) * 2)


def _kept(name: str) -> bool:
    """Whether an attribute goes along; overlayfs's notes say how layers lie on one another."""
    return not name.startswith(("user.overlay.", "trusted."))


def _set(file: int, name: str, value: bytes) -> None:
    if not _kept(name):
        return
    try:
        os.setxattr(file, name, value)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def open_closed(directory: int, name: str, found: os.stat_result) -> int:
    """A file open for reading, also where its own mode forbids that to an owner without privileges."""
    try:
        return os.open(name, _READ, dir_fd=directory)
    except PermissionError:
        os.chmod(name, stat.S_IMODE(found.st_mode) | 0o400, dir_fd=directory)
        try:
            return os.open(name, _READ, dir_fd=directory)
        finally:
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=directory)


def _copy(source: int, target: int, size: int) -> None:
    left = size
    try:
        while left and (done := os.copy_file_range(source, target, left)):
            left -= done
    except OSError as error:
        if error.errno not in _NO_COPY:
            raise
    while data := os.read(source, _PIECE):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]


def same(stack: Stack, path: str, tree: Stack, compared: dict[tuple[int, int], bool]) -> bool:
    """Whether a path of ``tree`` is what ``stack`` has there, times apart: attributes, owner, content.

    ``compared`` remembers the contents that were compared, by their inodes.
    """
    one, other = stack.lookup(path), tree.lookup(path)
    if one is None or other is None or stat.S_IFMT(one[1].st_mode) != stat.S_IFMT(other[1].st_mode):
        return False
    kind = stat.S_IFMT(one[1].st_mode)
    above, _, name = path.rpartition("/")
    there, here = stack.layers[one[0]].fd(above), tree.layers[0].fd(above)
    if stack.owners(one[0]).recorded(path) != tree.owners(0).recorded(path):
        return False
    if kind == stat.S_IFLNK:
        return os.readlink(name, dir_fd=there) == os.readlink(name, dir_fd=here)
    if kind == stat.S_IFDIR:
        return _notes(stack.layers[one[0]].fd(path)) == _notes(tree.layers[0].fd(path))
    if kind != stat.S_IFREG:
        return one[1].st_rdev == other[1].st_rdev
    if one[1].st_size != other[1].st_size:
        return False
    key = (one[1].st_ino, other[1].st_ino)
    if key not in compared:
        compared[key] = _same_content(there, here, name, one[1], other[1])
    return compared[key]


def _notes(file: int) -> dict[str, bytes]:
    return {key: value for key, value in attributes(file).items() if _kept(key)}


def _same_content(there: int, here: int, name: str, one: os.stat_result, other: os.stat_result) -> bool:
    first = open_closed(there, name, one)
    try:
        second = open_closed(here, name, other)
        try:
            if _notes(first) != _notes(second):
                return False
            while True:
                data = os.read(first, _PIECE)
                if data != os.read(second, len(data) or 1):
                    return False
                if not data:
                    return True
        finally:
            os.close(second)
    finally:
        os.close(first)
