"""Layers where the host's file system cannot hold them: on macOS, where names differ by more than case and nobody but
root gives a file away, and on Windows, which has no modes, owners or devices and keeps some names for itself.

A layer's directory holds the contents of its files, under numbers; a record beside it has its tree: names, types,
modes, owners, times, links and attributes, as Linux would have them for root. The functions are those of :mod:`os`, as
far as layers need them (:mod:`.disk`). A path or a directory that belongs to no layer is the host's own.

A record is read when the layer is opened and written when it is closed for the last time. Thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat as modes
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dockermagic.oci.record import RECORD, Layer, Node, Spot, status

__all__ = [
    "chmod",
    "chown",
    "close",
    "dup",
    "fchmod",
    "fchown",
    "fstat",
    "getegid",
    "geteuid",
    "getxattr",
    "link",
    "listdir",
    "listxattr",
    "lstat",
    "major",
    "make_root",
    "makedev",
    "merged",
    "minor",
    "mkdir",
    "mkfifo",
    "mknod",
    "open",
    "pwrite",
    "readlink",
    "readv",
    "removexattr",
    "replace",
    "rmdir",
    "scandir",
    "setxattr",
    "stat",
    "symlink",
    "umask",
    "unlink",
    "utime",
]

_FIRST_HANDLE = 1 << 24
"""Directories are numbers from here on, which no file of the system has."""
_BINARY = getattr(os, "O_BINARY", 0)

_lock = threading.RLock()
_handles = itertools.count(_FIRST_HANDLE)
_layers: dict[str, Layer] = {}
"""Those that are open, by their path."""
_directories: dict[int, tuple[Layer, Node] | str] = {}
_files: dict[int, tuple[Layer, Node, tuple[int, int]]] = {}
"""Open contents, with the identity of the system's file: a number may have been closed and given again."""


def _spot(path: Any, dir_fd: int | None = None) -> Spot | str:
    """Where a path is: in an open layer, or on the host."""
    path = os.fspath(path)
    if dir_fd is not None:
        held = _directory(dir_fd)
        return f"{held}/{path}" if isinstance(held, str) else Spot(*held, path)
    above, below = path, []
    while above not in _layers:
        above, slash, name = above.rpartition("/")
        if not slash:
            return str(path)
        below.append(name)
    layer = _layers[above]
    spot = Spot(layer, layer.root, "")
    for part in reversed(below):
        spot = Spot(layer, spot.node(), part)
    return spot


def _directory(fd: int) -> tuple[Layer, Node] | str:
    """What is open there. Raises NotADirectoryError for a file, which Windows lets be opened as a directory."""
    if fd not in _directories:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return _directories[fd]


def _held(fd: int) -> tuple[Layer, Node] | None:
    """The directory or file of a layer that a descriptor stands for; None for one of the host."""
    if fd >= _FIRST_HANDLE:
        held = _directories[fd]
        return None if isinstance(held, str) else held
    if fd in _files:
        layer, node, identity = _files[fd]
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == identity:
            return layer, node
        del _files[fd]
    return None


def _seen(found: os.stat_result) -> Any:
    """A file of the host. On Windows, which has no modes, what is not known to be closed is open, as Docker has it."""
    if sys.platform != "win32":
        return found
    kind = modes.S_IFMT(found.st_mode)
    mode = kind | (0o777 if modes.S_ISLNK(kind) else 0o755)
    size, mtime_ns = found.st_size, found.st_mtime_ns
    return status(mode, found.st_ino, found.st_nlink, 0, 0, size, mtime_ns, disk=found.st_dev)


# -- opening and closing


def make_root(path: str) -> None:
    """Make the empty directory of a layer."""
    os.mkdir(path)
    Layer(path, Node(modes.S_IFDIR | 0o755), 0).save()


def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """A directory becomes a number that this module knows; a file's content is opened by the system."""
    if dir_fd is None and os.path.exists(f"{path}{RECORD}"):
        with _lock:
            layer = _layers.get(path) or Layer.load(path)
            _layers[path] = layer
            return _handle(layer, layer.root)
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        if os.path.isdir(spot) and (dir_fd is None or not os.path.islink(spot)):  # one that leads to a tree
            handle = next(_handles)
            _directories[handle] = spot
            return handle
        if flags & getattr(os, "O_DIRECTORY", 0):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), spot)
        return os.open(spot, flags | _BINARY, mode)
    with _lock:
        if flags & os.O_CREAT:
            spot.put(Node(modes.S_IFREG | mode)).content = f"{spot.layer.path}/{spot.layer.contents}"
            spot.layer.contents += 1
        node = spot.node()
        if modes.S_ISDIR(node.mode):
            return _handle(spot.layer, node)
        if not modes.S_ISREG(node.mode) or flags & getattr(os, "O_DIRECTORY", 0):
            code = errno.ELOOP if modes.S_ISLNK(node.mode) else errno.ENOTDIR
            raise OSError(code, os.strerror(code), path)
    made = flags & (os.O_CREAT | os.O_EXCL)
    fd = os.open(node.content, flags | getattr(os, "O_NOFOLLOW", 0) | _BINARY, 0o600 if made else 0)
    found = os.fstat(fd)
    _files[fd] = (spot.layer, node, (found.st_dev, found.st_ino))
    return fd


def _handle(layer: Layer, node: Node) -> int:
    handle = next(_handles)
    layer.users += 1
    _directories[handle] = (layer, node)
    return handle


def close(fd: int) -> None:
    if fd < _FIRST_HANDLE:
        _files.pop(fd, None)
        os.close(fd)
        return
    with _lock:
        held = _directories.pop(fd)
        if isinstance(held, str):
            return
        layer = held[0]
        layer.users -= 1
        if not layer.users:
            if layer.is_changed:
                layer.save()
            _layers.pop(layer.path, None)


def dup(fd: int) -> int:
    with _lock:
        held = _directories[fd]
        if not isinstance(held, str):
            return _handle(*held)
        handle = next(_handles)
        _directories[handle] = held
        return handle


@contextlib.contextmanager
def merged(layers: Sequence[str]) -> Iterator[str]:
    """A path, for this process and the time of the block, at which layers (bottom first) are seen as one tree."""
    held = [open(path, os.O_RDONLY) for path in layers]
    root = Node(modes.S_IFDIR | 0o755)
    for fd in held:
        found = _held(fd)
        assert found is not None
        root = _over(root, found[1])
    path = f"/layers-{root.number}"
    seen = Layer(path, root, 0)
    seen.users = 1
    _layers[path] = seen
    try:
        yield path
    finally:
        del _layers[path]
        for fd in held:
            close(fd)


def _over(below: Node, above: Node) -> Node:
    """A directory on top of another."""
    node = Node(above.mode)
    node.owner, node.mtime_ns, node.xattrs = above.owner, above.mtime_ns, above.xattrs
    node.names = {} if above.xattrs.get("user.overlay.opaque") == b"y" else dict(below.names)
    for name, upper in above.names.items():
        lower = node.names.get(name)
        if modes.S_ISCHR(upper.mode) and not upper.device:
            node.names.pop(name, None)
        elif modes.S_ISDIR(upper.mode):
            node.names[name] = _over(lower if lower and modes.S_ISDIR(lower.mode) else Node(modes.S_IFDIR), upper)
        else:
            node.names[name] = upper
    return node


# -- looking


def stat(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
    spot = _spot(path, dir_fd)
    return _seen(os.stat(spot, follow_symlinks=follow_symlinks)) if isinstance(spot, str) else spot.node().status()


def lstat(path: Any) -> Any:
    return stat(path, follow_symlinks=False)


def fstat(fd: int) -> Any:
    held = _held(fd)
    if held is not None:
        return held[1].status()
    return _seen(os.stat(str(_directories[fd])) if fd >= _FIRST_HANDLE else os.fstat(fd))


def readlink(path: Any, *, dir_fd: int | None = None) -> str:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        return os.readlink(spot).replace(os.sep, "/")
    return spot.node().target


class _Item:
    """What :func:`scandir` gives."""

    def __init__(self, name: str, look: Callable[[], Any]) -> None:
        self.name, self._look = name, look

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return self._look()

    def is_symlink(self) -> bool:
        return modes.S_ISLNK(self._look().st_mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISDIR(self._look().st_mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISREG(self._look().st_mode)


@contextlib.contextmanager
def scandir(path: Any) -> Iterator[Iterator[_Item]]:
    """What is in a directory, each entry as it is itself: no link is followed."""
    place: Spot | str
    if isinstance(path, int):
        held = _directory(path)
        place = held if isinstance(held, str) else Spot(*held, "")
    else:
        place = _spot(path)
    if isinstance(place, str):
        yield (_Item(name, lambda name=name: lstat(f"{place}/{name}")) for name in os.listdir(place))  # type: ignore[misc]
    else:
        yield (_Item(name, node.status) for name, node in list(place.node().names.items()))


def listdir(path: Any) -> list[str]:
    with scandir(path) as items:
        return [item.name for item in items]


# -- making and taking away


def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        os.mkdir(spot, mode)
    else:
        spot.put(Node(modes.S_IFDIR | mode))


def symlink(target: str, path: str, *, dir_fd: int | None = None) -> None:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        try:
            os.symlink(target, spot)
        except OSError as error:
            if sys.platform != "win32":
                raise
            why = "Windows makes symbolic links for administrators and in its Developer Mode only"
            raise PermissionError(errno.EPERM, why, spot) from error
    else:
        spot.put(Node(modes.S_IFLNK | 0o777)).target = target


def mkfifo(path: str, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
    mknod(path, modes.S_IFIFO | mode, dir_fd=dir_fd)


def mknod(path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), spot)
    spot.put(Node(mode)).device = device


def link(path: str, name: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
    source, spot = _spot(path, src_dir_fd), _spot(name, dst_dir_fd)
    if isinstance(source, str) or isinstance(spot, str):
        os.link(str(source), str(spot))
    else:
        spot.put(source.node()).links += 1


def replace(path: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """For the host's own files: what is in a layer has its name from the beginning."""
    source, spot = _spot(path, src_dir_fd), _spot(name, dst_dir_fd)
    assert isinstance(source, str) and isinstance(spot, str)
    os.replace(source, spot)


def unlink(path: str, *, dir_fd: int | None = None) -> None:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        os.unlink(spot)
        return
    with _lock:
        node = spot.change()
        del spot.parent.names[spot.name]
        node.links -= 1
    if node.content and not node.links:
        with contextlib.suppress(OSError):  # Windows: it is open
            os.unlink(node.content)


def rmdir(path: str, *, dir_fd: int | None = None) -> None:
    spot = _spot(path, dir_fd)
    if isinstance(spot, str):
        os.rmdir(spot)
        return
    with _lock:
        if spot.change().names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        del spot.parent.names[spot.name]


# -- what a file is like


def _changed(fd: int) -> Node:
    held = _held(fd)
    assert held is not None  # only layers are written
    held[0].is_changed = True
    return held[1]


def fchmod(fd: int, mode: int) -> None:
    node = _changed(fd)
    node.mode = modes.S_IFMT(node.mode) | mode


def fchown(fd: int, uid: int, gid: int) -> None:
    _changed(fd).owner = (uid, gid)


def chmod(path: int | str, mode: int, *, dir_fd: int | None = None) -> None:
    if isinstance(path, int) and not isinstance(held := _directories.get(path), str):
        fchmod(path, mode)
        return
    spot = _spot(path, dir_fd) if isinstance(path, str) else str(held)
    if isinstance(spot, str):
        os.chmod(spot, mode)
        return
    node = spot.change()
    node.mode = modes.S_IFMT(node.mode) | mode


def chown(path: str, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    spot = _spot(path, dir_fd)
    assert isinstance(spot, Spot)  # only layers are written
    spot.change().owner = (uid, gid)


def utime(path: int | str, *, ns: tuple[int, int], dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    if isinstance(path, int):
        if isinstance(held := _directories.get(path), str):
            os.utime(held, ns=ns)
        else:
            _changed(path).mtime_ns = ns[1]
        return
    spot = _spot(path, dir_fd)
    if not isinstance(spot, str):
        spot.change().mtime_ns = ns[1]
    elif not os.path.islink(spot):  # the time of a link is nobody's concern
        os.utime(spot, ns=ns)


def _attributes(file: int | str) -> dict[str, bytes]:
    """Those of a file of a layer; the host's have none that a layer could hold."""
    if isinstance(file, int):
        held = _held(file)
        return held[1].xattrs if held is not None else {}
    spot = _spot(file)
    return spot.node().xattrs if isinstance(spot, Spot) else {}


def listxattr(file: int | str, *, follow_symlinks: bool = True) -> list[str]:
    return list(_attributes(file))


def getxattr(file: int | str, name: str, *, follow_symlinks: bool = True) -> bytes:
    try:
        return _attributes(file)[name]
    except KeyError:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None


def setxattr(file: int, name: str, value: bytes) -> None:
    _changed(file).xattrs[name] = value


def removexattr(file: int, name: str) -> None:
    if _changed(file).xattrs.pop(name, None) is None:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))


# -- what some hosts have not


def geteuid() -> int:
    """What is made is root's."""
    return 0


def getegid() -> int:
    return 0


def umask(mask: int) -> int:
    """Modes are recorded as they are given."""
    return 0


def makedev(major: int, minor: int) -> int:
    return major << 32 | minor


def major(device: int) -> int:
    return device >> 32


def minor(device: int) -> int:
    return device & 0xFFFFFFFF


def readv(fd: int, buffers: Sequence[memoryview]) -> int:
    data = os.read(fd, len(buffers[0]))
    buffers[0][: len(data)] = data
    return len(data)


def pwrite(fd: int, data: bytes, offset: int) -> int:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)
