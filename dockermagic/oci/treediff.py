"""How two trees differ, down to times, owners and attributes: what keeps two builds from being the same bit by bit.

Runs in the sandbox's worker, which can read what layers hold.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dockermagic.oci import disk
from dockermagic.oci.overlay import Stack, attributes
from dockermagic.oci.pack import kept_attributes
from dockermagic.oci.rooted import READ, join
from dockermagic.values import dataclass

__all__ = ["compare"]

_BLOCK = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "pipe",
}


def compare(before: Sequence[str], after: Sequence[str], *, limit: int | None = None) -> dict[str, Any]:
    """What differs between the trees of two stacks of layers (directories, bottom first), sorted by path.

    ``paths`` are at most ``limit`` objects of ``path``, ``state`` (added, removed, changed), ``kind`` and ``what``: of
    a change the words content, size, mode, owner, time, link, device, attributes, kind. ``count`` is how many differ.
    """
    old, new = Stack(before), Stack(after)
    found: list[dict[str, Any]] = []
    count = 0
    try:
        for change in _walk(old, new):
            count += 1
            if limit is None or len(found) < limit:
                found.append(change)
    finally:
        old.close()
        new.close()
    return {"paths": found, "count": count}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a tree: the layer that has it, what it is, and its attributes as a layer's tar would have them."""

    tree: Stack
    layer: int
    path: str
    found: os.stat_result
    xattrs: Mapping[str, bytes]

    @classmethod
    def of(cls, tree: Stack, layer: int, path: str) -> _Entry:
        above, _, name = path.rpartition("/")
        here = tree.layers[layer].fd(above)
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        xattrs: Mapping[str, bytes] = {}
        if stat.S_ISDIR(found.st_mode):
            xattrs = attributes(tree.layers[layer].fd(path))
        elif stat.S_ISREG(found.st_mode):
            descriptor = disk.open(name, READ, dir_fd=here)
            try:
                xattrs = attributes(descriptor)
            finally:
                disk.close(descriptor)
        return cls(tree, layer, path, found, xattrs)

    @property
    def kind(self) -> str:
        return _KINDS.get(stat.S_IFMT(self._status().mode), "file")

    def _status(self) -> Any:
        return self.tree.owners(self.layer).status(self.path, self.found, dict(self.xattrs))

    def facts(self) -> dict[str, Any]:
        """All that a tar would say of it but its content."""
        status = self._status()
        facts: dict[str, Any] = {
            "kind": stat.S_IFMT(status.mode),
            "mode": stat.S_IMODE(status.mode),
            "owner": (status.uid, status.gid),
            "time": self.found.st_mtime_ns // 1_000_000_000,
            "attributes": kept_attributes(dict(self.xattrs)),
        }
        if stat.S_ISREG(self.found.st_mode):
            facts["size"] = self.found.st_size
        if stat.S_ISLNK(self.found.st_mode):
            facts["link"] = disk.readlink(self._name(), dir_fd=self._directory())
        if stat.S_IFMT(status.mode) in (stat.S_IFCHR, stat.S_IFBLK):
            facts["device"] = status.device
        return facts

    def open(self) -> int:
        return disk.open(self._name(), READ, dir_fd=self._directory())

    def _name(self) -> str:
        return self.path.rpartition("/")[2]

    def _directory(self) -> int:
        return self.tree.layers[self.layer].fd(self.path.rpartition("/")[0])


def _walk(old: Stack, new: Stack) -> Iterator[dict[str, Any]]:
    waiting = [("", bool(old.layers), bool(new.layers))]
    while waiting:
        directory, in_old, in_new = waiting.pop()
        before = old.names(directory)[0] if in_old else {}
        after = new.names(directory)[0] if in_new else {}
        below = []
        for name in sorted(before.keys() | after.keys(), key=os.fsencode):
            path = join(directory, name)
            one = _Entry.of(old, before[name], path) if name in before else None
            other = _Entry.of(new, after[name], path) if name in after else None
            what = _difference(one, other)
            shown = other or one
            assert shown is not None
            if what or one is None or other is None:
                state = "added" if one is None else "removed" if other is None else "changed"
                yield {"path": f"/{path}", "state": state, "kind": shown.kind, "what": what}
            deeper = [each is not None and stat.S_ISDIR(each.found.st_mode) for each in (one, other)]
            if any(deeper):
                below.append((path, deeper[0], deeper[1]))
        waiting += reversed(below)


def _difference(one: _Entry | None, other: _Entry | None) -> list[str]:
    if one is None or other is None:
        return []
    if os.path.samestat(one.found, other.found):  # a layer that both have
        return []
    first, second = one.facts(), other.facts()
    if first["kind"] != second["kind"]:
        return ["kind"]
    words = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    if "size" in first and first["size"] == second["size"] and not _same_content(one, other):
        words.insert(0, "content")
    return words


def _same_content(one: _Entry, other: _Entry) -> bool:
    first = one.open()
    try:
        second = other.open()
        try:
            while True:
                left, right = os.read(first, _BLOCK), os.read(second, _BLOCK)
                if left != right:
                    return False
                if not left:
                    return True
        finally:
            disk.close(second)
    finally:
        disk.close(first)
