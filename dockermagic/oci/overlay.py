"""How a layer stands on disk: the form of overlayfs's upper directory, and the records of what could not be set there.

A removed name is a character device 0:0, or a socket without any permission where such a device cannot be made (on an
overlay) and no overlay is mounted. A directory that hides the one below has ``user.overlay.opaque`` = y. Where
the owner or the type of a file cannot be set (one id only, ids outside the range), it is recorded: in the attribute
``user.containers.override_stat`` of files and directories, as ``uid:gid:mode``; for what carries no such attribute,
in a JSON file beside the directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from dockermagic.oci import disk
from dockermagic.oci.rooted import Directories
from dockermagic.values import dataclass

__all__ = [
    "CAPABILITY",
    "OPAQUE",
    "OPAQUE_MARK",
    "OVERRIDE",
    "WHITEOUT",
    "Ownership",
    "Stack",
    "Status",
    "attributes",
    "capability_v2",
    "is_opaque",
    "is_own_attribute",
    "is_whiteout",
    "make_whiteout",
    "ownership_file",
]

WHITEOUT = ".wh."
OPAQUE_MARK = ".wh..wh..opq"
OPAQUE = "user.overlay.opaque"
OVERRIDE = "user.containers.override_stat"
CAPABILITY = "security.capability"
KEPT_CAPABILITY = "user.dockermagic.capability"
"""Where a file capability is kept that may not be set here."""

_NOBODY = 0xFFFFFFFE
_OWN = ("user.overlay.", "trusted.overlay.", "user.containers.", "user.dockermagic.", "user.fuseoverlayfs.")
_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES)
_TYPES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "block": stat.S_IFBLK,
    "char": stat.S_IFCHR,
}


def is_whiteout(found: os.stat_result) -> bool:
    """Whether this is the mark for a name that was removed."""
    return (stat.S_ISCHR(found.st_mode) and found.st_rdev == 0) or found.st_mode == stat.S_IFSOCK


def make_whiteout(name: str, directory: int) -> None:
    """Mark a name of an open directory as removed. Raises FileExistsError where something has it."""
    try:
        disk.mknod(name, stat.S_IFCHR, disk.makedev(0, 0), dir_fd=directory)
    except PermissionError:
        disk.mknod(name, stat.S_IFSOCK, dir_fd=directory)


def is_own_attribute(name: str) -> bool:
    """Whether an attribute is part of how layers are kept here, so that it neither comes from a layer nor goes in."""
    return name.startswith(_OWN)


def attributes(file: int | str) -> dict[str, bytes]:
    """The extended attributes of an open file or a path (not followed); none where there cannot be any."""
    if not hasattr(os, "listxattr"):
        return {}
    follow = isinstance(file, int)
    try:
        names = disk.listxattr(file, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    found = {}
    for name in names:
        try:
            found[name] = disk.getxattr(file, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    return found


def is_opaque(directory: int | str) -> bool:
    """Whether a directory hides the one of the same name below it."""
    try:
        return disk.getxattr(directory, OPAQUE) == b"y"
    except (OSError, AttributeError):
        return False


def capability_v2(value: bytes) -> bytes:
    """A file capability as layers hold it: version 3, which names the user of a namespace, becomes version 2."""
    if len(value) == 24 and value[3] == 3:
        (head,) = struct.unpack("<I", value[:4])
        return struct.pack("<I", (head & 0x00FFFFFF) | 0x02000000) + value[4:20]
    return value


@dataclass(frozen=True, slots=True)
class Status:
    """What a file of a layer is meant to be: ``mode`` with its type; ``device`` is (major, minor)."""

    mode: int
    uid: int
    gid: int
    device: tuple[int, int] = (0, 0)


def ownership_file(directory: str) -> str:
    """Where the owners are recorded that no attribute can hold, unless the caller says another place."""
    return str(Path(directory).parent / "ownership.json")


class Ownership:
    """Who owns the files of one layer: what the file system says, unless there is a record of something else.

    Without root's privileges a file of the user's own stands for one of root's.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._records: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._records = json.loads(Path(file).read_bytes())
        self._me = (disk.geteuid(), disk.getegid()) if hasattr(os, "geteuid") else (0, 0)

    def real(self, uid: int, gid: int) -> tuple[int, int]:
        """The ids to set in the file system for these in an image.

        Where the user's own ids stand for root's, the same ids in an image are nobody's: they have to be recorded.
        """
        return self._real(uid, self._me[0]), self._real(gid, self._me[1])

    @staticmethod
    def _real(wanted: int, own: int) -> int:
        return own if wanted == 0 else _NOBODY if wanted == own else wanted

    def is_me(self, uid: int, gid: int) -> bool:
        """Whether what this process makes has these ids in the file system without further ado."""
        return (uid, gid) == self._me

    def status(self, path: str, found: os.stat_result, xattrs: Mapping[str, bytes]) -> Status:
        """What the file is meant to be."""
        mode, device = found.st_mode, (disk.major(found.st_rdev), disk.minor(found.st_rdev))
        uid = 0 if found.st_uid == self._me[0] else found.st_uid
        gid = 0 if found.st_gid == self._me[1] else found.st_gid
        record = xattrs.get(OVERRIDE, b"").decode("ascii", "replace") or self._records.get(path, "")
        fields = record.split(":")
        if len(fields) < 3:
            return Status(mode, uid, gid, device)
        try:
            uid, gid, recorded = int(fields[0]), int(fields[1]), int(fields[2], 8)
        except ValueError:
            return Status(mode, uid, gid, device)
        kind = stat.S_IFMT(recorded)
        if len(fields) > 3:
            name, *numbers = fields[3].split("-")
            kind = _TYPES.get(name, kind)
            if len(numbers) == 2 and all(number.isdigit() for number in numbers):
                device = (int(numbers[0]), int(numbers[1]))
        if kind and kind != stat.S_IFMT(mode):  # a placeholder: its own mode says nothing
            return Status(kind | stat.S_IMODE(recorded), uid, gid, device)
        return Status(mode, uid, gid, device)

    def record(self, path: str, status: Status, *, file: int | None) -> None:
        """Record what could not be set; ``file`` is the open file or directory if it can carry an attribute."""
        text = f"{status.uid}:{status.gid}:0{stat.S_IMODE(status.mode):o}"
        for name, kind in _TYPES.items():
            if stat.S_IFMT(status.mode) == kind and name not in ("file", "dir", "symlink"):
                numbers = f"-{status.device[0]}-{status.device[1]}" if name in ("block", "char") else ""
                text += f":{name}{numbers}"
        if file is not None:
            try:
                disk.setxattr(file, OVERRIDE, text.encode())
                return
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        self._records[path] = text

    def recorded(self, path: str) -> str:
        """What is recorded of a path beside the layer, '' for nothing."""
        return self._records.get(path, "")

    def take(self, path: str, other: Ownership) -> None:
        """Say of a path what another layer says of it, where that says anything."""
        if record := other.recorded(path):
            self._records[path] = record

    def forget(self, path: str) -> None:
        """Something else takes the place of the file."""
        if self._records:
            for name in [name for name in self._records if name == path or name.startswith(f"{path}/")]:
                del self._records[name]

    def save(self) -> None:
        """Write what no attribute could hold; makes no file where there is nothing to say."""
        if self._records:
            Path(self._file).write_bytes(json.dumps(self._records, sort_keys=True).encode())


class Stack:
    """Layers on one another, read as the one tree that they make; ``layers`` are directories, bottom first.

    Nothing is followed: symbolic links are entries like any other.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.roots = list(layers)
        self.layers = [Directories(layer) for layer in layers]
        self._ownership = [ownership_file(layer) for layer in layers]
        self._owners: dict[int, Ownership] = {}

    def owners(self, layer: int) -> Ownership:
        """Who owns what in one of the layers."""
        if layer not in self._owners:
            self._owners[layer] = Ownership(self._ownership[layer])
        return self._owners[layer]

    def lookup(self, path: str) -> tuple[int, os.stat_result] | None:
        """The topmost layer that has the path, and what it is there; None where it is absent or was removed."""
        parts = path.split("/") if path else []
        for layer in reversed(range(len(self.layers))):
            found, hides = self._in_layer(layer, parts)
            if found is not None:
                return layer, found
            if hides:
                return None
        return None

    def level(self, path: str) -> tuple[list[int], bool]:
        """The layers whose directories merge at a path, topmost first, and whether all below them is hidden there."""
        parts = path.split("/") if path else []
        layers: list[int] = []
        for layer in reversed(range(len(self.layers))):
            found, hides = self._in_layer(layer, parts)
            if found is not None:
                if not stat.S_ISDIR(found.st_mode):
                    return layers, True
                layers.append(layer)
                hides = hides or bool(path and is_opaque(self.layers[layer].fd(path)))
            if hides:
                return layers, True
        return layers, False

    def find(self, level: Sequence[int], directory: str, name: str) -> tuple[int, os.stat_result] | None:
        """Like :meth:`lookup`, for a name in a directory whose :meth:`level` is known."""
        for layer in level:
            try:
                found = disk.stat(name, dir_fd=self.layers[layer].fd(directory), follow_symlinks=False)
            except FileNotFoundError:
                continue
            return None if is_whiteout(found) else (layer, found)
        return None

    def names(self, path: str) -> tuple[dict[str, int], set[str], bool]:
        """What is in the directory at a path, the names that are removed there from below, and whether all is hidden.

        Each name comes with the topmost layer that has it.
        """
        found: dict[str, int] = {}
        removed: set[str] = set()
        layers, hides = self.level(path)
        for layer in layers:
            gone = []
            with disk.scandir(self.layers[layer].fd(path)) as items:
                for item in items:
                    if item.name in found or item.name in removed:
                        continue
                    plain = item.is_file(follow_symlinks=False) or item.is_dir(follow_symlinks=False)
                    if not plain and not item.is_symlink() and is_whiteout(item.stat(follow_symlinks=False)):
                        gone.append(item.name)
                    else:
                        found[item.name] = layer
            removed.update(gone)
        return found, removed, hides

    def folders(self, path: str, names: Mapping[str, int]) -> set[str]:
        """Those of the ``names`` of a directory, with their layers, that are directories: no look at each of them."""
        found: set[str] = set()
        for layer in set(names.values()):
            with disk.scandir(self.layers[layer].fd(path)) as items:
                found.update(
                    item.name for item in items if item.is_dir(follow_symlinks=False) and names.get(item.name) == layer
                )
        return found

    def _in_layer(self, layer: int, parts: list[str]) -> tuple[os.stat_result | None, bool]:
        """What the layer has at the path, and whether what it has above hides the layers below there."""
        tree = self.layers[layer]
        opaque = False
        at = ""
        for number, part in enumerate(parts):
            directory = tree.fd(at)
            opaque = opaque or bool(at and is_opaque(directory))
            try:
                found = disk.stat(part, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return None, opaque
            if is_whiteout(found):
                return None, True
            if number == len(parts) - 1:
                return found, opaque or not stat.S_ISDIR(found.st_mode)
            if not stat.S_ISDIR(found.st_mode):
                return None, True
            at = f"{at}/{part}" if at else part
        return disk.fstat(tree.fd("")), False

    def close(self) -> None:
        """Close every directory. Idempotent."""
        for tree in self.layers:
            tree.close()
