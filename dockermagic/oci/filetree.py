"""The tree that layers make, with what the upper ones changed: directory by directory, without a mount.

``layers`` are the directories of layers, bottom first; the first ``base`` of them are what the others are compared
with. Symbolic links are entries and never followed. Results are JSON values: these run in the sandbox's worker.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import IO, Any

from dockermagic.errors import UsageError
from dockermagic.oci import disk
from dockermagic.oci.overlay import OVERRIDE, Stack, Status
from dockermagic.oci.rooted import READ, clean, join

__all__ = ["changes", "describe", "list_directory", "open_file", "preview", "state_of", "status_of", "walk", "wasted"]

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def list_directory(
    layers: Sequence[str],
    path: str = "/",
    *,
    base: int = 0,
    offset: int = 0,
    limit: int | None = None,
    whole: int = 0,
    order: str = "name",
    backwards: bool = False,
    sizes: bool = False,
) -> dict[str, Any]:
    """One directory of the tree: ``total`` entries, of which ``entries`` are those asked for.

    The ``order`` is by name, by size, the largest first, or by time, the newest first, or ``backwards``. A directory of
    at most ``whole`` entries is given as a whole, whatever the ``limit``.

    Each has name, kind (file, dir, link, char, block, fifo, socket), state (added, modified, removed, unchanged), size,
    mode, uid, gid, mtime in seconds, link (a symbolic link's target) and layer (its place in ``layers``). A directory
    is modified if anything below it is. ``sizes`` gives directories the bytes of all files below, at the cost of a
    walk. Raises UsageError if there is no such directory.
    """
    place = clean(path, "the path")
    tree, below = Stack(layers), Stack(layers[:base])
    try:
        here, before = _merged(tree, place), _merged(below, place)
        if here is None and before is None:
            raise UsageError(f"{path}: no such directory in this tree")
        here, before = here or {}, before or {}

        def source(name: str) -> tuple[Stack, int]:
            return (tree, here[name]) if name in here else (below, before[name])

        @cache
        def size_below(name: str) -> int:
            return _size(source(name)[0], join(place, name))

        def weight(name: str) -> int:
            stack, layer = source(name)
            found = disk.stat(name, dir_fd=stack.layers[layer].fd(place), follow_symlinks=False)
            if order == "time":
                return found.st_mtime_ns
            if stat.S_ISDIR(found.st_mode):
                return size_below(name) if sizes else 0
            return found.st_size if stat.S_ISREG(found.st_mode) else 0

        names: Iterable[str] = here.keys() | before.keys() if before else here
        ordered = sorted(names, reverse=backwards and order == "name")
        wanted = slice(offset, None if limit is None or len(ordered) <= whole else offset + limit)
        if order != "name":
            ordered.sort(key=weight, reverse=not backwards)
        entries = []
        for name in ordered[wanted]:
            stack, layer = source(name)
            entry = describe(stack, layer, place, name)
            if sizes and entry["kind"] == "dir":
                entry["size"] = size_below(name)
            entries.append(entry | {"state": state_of(name, here, before, base), "layer": layer})
        return {"total": len(ordered), "entries": entries}
    finally:
        tree.close()
        below.close()


def changes(layers: Sequence[str], *, base: int, limit: int | None = None, sizes: bool = False) -> dict[str, Any]:
    """What the layers from ``base`` up do to those below; the cost is in proportion to the change.

    ``paths`` has path, state, kind and size of each, sorted, at most ``limit`` of them; ``added``, ``modified``,
    ``removed`` count all, without directories that changed only because of what is in them. A removed directory counts
    once. ``sizes`` gives the ``bytes`` of the files added and modified, at the cost of a look at each.
    """
    upper, below = Stack(layers[base:]), Stack(layers[:base])
    counts = {"added": 0, "modified": 0, "removed": 0, "bytes": 0}
    paths: list[dict[str, Any]] = []
    is_cut = False
    try:
        for change in walk(upper, below, described=None if sizes else limit):
            counts[change["state"]] += change.pop("counts")
            counts["bytes"] += change["size"] if sizes else 0
            del change["hidden"]
            if limit is None or (change["path"] and len(paths) < limit):
                paths.append(change)
            else:
                is_cut = True
        return {**counts, "paths": paths, "truncated": is_cut}
    finally:
        upper.close()
        below.close()


def wasted(layers: Sequence[str], *, limit: int = 100) -> dict[str, Any]:
    """The bytes of files that an upper layer replaces or removes, so that they are stored and never seen.

    ``bytes`` of ``total``, and the worst ``paths``, each with its bytes and how often it was hidden. ``wasted`` bytes
    and ``efficiency``, between 0 and 1, are those of dive: of the paths that end in a layer (files, and directories
    with nothing in them there) what is stored at those in more than one layer, and the share of the smallest of each
    path. To dive a path's removal is one more time that it is stored: a file's with no size, a directory's with that
    of what was in it.
    """
    total = 0
    hidden: dict[str, list[int]] = {}
    stored: dict[str, list[int]] = {}
    for number in range(len(layers)):
        upper, below = Stack(layers[number : number + 1]), Stack(layers[:number])
        inner: set[str] = set()
        ends: list[tuple[str, int]] = []
        try:
            for change in walk(upper, below):
                path, gone, is_directory = change["path"], change["state"] == "removed", change["kind"] == "dir"
                total += change["size"]
                inner.add(path.rpartition("/")[0])
                ends.append((path, change["hidden"] if gone and is_directory else change["size"]))
                if change["hidden"]:
                    known = hidden.setdefault(path, [0, 0])
                    known[0] += change["hidden"]
                    known[1] += 1
        finally:
            upper.close()
            below.close()
        for path, size in ends:
            if path not in inner:
                stored.setdefault(path, []).append(size)
    lost = sum(size for size, _ in hidden.values())
    worst = sorted(hidden.items(), key=lambda item: (-item[1][0], item[0]))[:limit]
    everything = sum(map(sum, stored.values()))
    return {
        "bytes": lost,
        "total": total,
        "wasted": sum(sum(sizes) for sizes in stored.values() if len(sizes) > 1),
        "efficiency": sum(map(min, stored.values())) / everything if everything else 1.0,
        "paths": [{"path": path, "bytes": size, "count": count} for path, (size, count) in worst],
    }


def preview(layers: Sequence[str], path: str, *, limit: int = 65536) -> dict[str, Any]:
    """The beginning of a file: ``data`` in base64, its whole ``size``. Raises UsageError if there is no such file."""
    place = clean(path, "the path")
    tree = Stack(layers)
    try:
        found = tree.lookup(place)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            raise UsageError(f"{path}: no such file in this tree")
        with open_file(tree, found[0], place) as file:
            data = file.read(limit)
        return {"data": base64.b64encode(data).decode("ascii"), "size": found[1].st_size}
    finally:
        tree.close()


def open_file(tree: Stack, layer: int, path: str) -> IO[bytes]:
    """A regular file of a layer, to read. Raises OSError for a link."""
    above, _, name = path.rpartition("/")
    return os.fdopen(disk.open(name, READ, dir_fd=tree.layers[layer].fd(above)), "rb")


def _merged(tree: Stack, path: str) -> dict[str, int] | None:
    """The names of a directory with their layers; None where the tree has no directory there."""
    found = tree.lookup(path) if tree.layers else None
    if found is None or not stat.S_ISDIR(found[1].st_mode):
        return None
    return tree.names(path)[0]


def state_of(name: str, here: dict[str, int] | None, before: dict[str, int] | None, base: int) -> str:
    """How a name of a directory differs, given the directory's names with their layers now and before."""
    if not here or name not in here:
        return "removed"
    if not before or name not in before:
        return "added"
    return "modified" if here[name] >= base else "unchanged"


def describe(tree: Stack, layer: int, directory: str, name: str) -> dict[str, Any]:
    """What is known of an entry without reading it."""
    here = tree.layers[layer].fd(directory)
    found = disk.stat(name, dir_fd=here, follow_symlinks=False)
    status = status_of(tree, layer, join(directory, name), found)
    kind = _KINDS.get(stat.S_IFMT(status.mode), "file")
    return {
        "name": name,
        "kind": kind,
        "size": found.st_size if kind == "file" else 0,
        "mode": stat.S_IMODE(status.mode),
        "uid": status.uid,
        "gid": status.gid,
        "mtime": found.st_mtime_ns // 1_000_000_000,
        "link": disk.readlink(name, dir_fd=here) if kind == "link" else "",
    }


def status_of(tree: Stack, layer: int, path: str, found: os.stat_result) -> Status:
    """Mode and owner as the image has them, whatever could be set on this file system."""
    record = {}
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        try:
            value = disk.getxattr(os.path.join(tree.roots[layer], path), OVERRIDE, follow_symlinks=False)
            record[OVERRIDE] = value
        except (OSError, AttributeError):
            pass
    return tree.owners(layer).status(path, found, record)


def _size(tree: Stack, path: str) -> int:
    """The bytes of all files below a path of the tree; hard links of one layer count once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        for name, layer in tree.names(directory)[0].items():
            found = disk.stat(name, dir_fd=tree.layers[layer].fd(directory), follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                waiting.append(join(directory, name))
            elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
                if found.st_nlink > 1:
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def walk(upper: Stack, below: Stack, *, described: int | None = None) -> Iterator[dict[str, Any]]:
    """Each change, a directory before what is in it, sorted by name within each.

    It ``counts`` as one; a directory that is listed only because of what is in it as none. When so many are
    ``described``, the rest of a directory that is new, and all below it, is one more that counts as many. ``hidden``
    are the bytes below that are no longer seen.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [("", bool(below.layers))]
    while waiting:
        directory, is_below = waiting.pop()
        names, removed, hides = upper.names(directory)
        # Only an opaque directory makes it necessary to read what is below as a whole.
        before = below.names(directory)[0] if is_below and hides else None
        gone = {name for name in (before if before is not None else removed) if name not in names}
        inside = []
        level = below.level(directory)[0] if is_below else []
        ordered = sorted(names.keys() | gone if gone else names)
        if described is not None:
            if not is_below and len(ordered) > described:
                rest = {name: names[name] for name in ordered[described:]}
                yield {"path": "", "state": "added", "size": 0, "counts": _count(upper, directory, rest), "hidden": 0}
                del ordered[described:]
            described = max(0, described - len(ordered))
        for name in ordered:
            path = join(directory, name)
            old = below.find(level, directory, name) if is_below else None
            if name in gone:
                if old is not None:
                    yield _change(path, "removed", old[1], 0, 1, _hidden(below, path, old[1]))
                continue
            found = disk.stat(name, dir_fd=upper.layers[names[name]].fd(directory), follow_symlinks=False)
            is_directory = stat.S_ISDIR(found.st_mode)
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            if size and found.st_nlink > 1:
                size = 0 if (found.st_dev, found.st_ino) in seen else size
                seen.add((found.st_dev, found.st_ino))
            if old is None:
                yield _change(path, "added", found, size, 1, 0)
            elif is_directory and stat.S_ISDIR(old[1].st_mode):
                new_status = status_of(upper, names[name], path, found)
                counts = int(new_status != status_of(below, old[0], path, old[1]))
                yield _change(path, "modified", found, 0, counts, 0)
            else:
                yield _change(path, "modified", found, size, 1, _hidden(below, path, old[1]))
            if is_directory:
                inside.append((path, old is not None and stat.S_ISDIR(old[1].st_mode)))
        waiting += reversed(inside)


def _count(tree: Stack, directory: str, names: dict[str, int]) -> int:
    """How many entries these names of a directory are, with all that is below them."""
    total = len(names)
    waiting = [join(directory, name) for name in tree.folders(directory, names)]
    while waiting:
        path = waiting.pop()
        inside = tree.names(path)[0]
        total += len(inside)
        waiting += [join(path, name) for name in tree.folders(path, inside)]
    return total


def _change(path: str, state: str, found: os.stat_result, size: int, counts: int, hidden: int) -> dict[str, Any]:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "file")
    return {"path": f"/{path}", "state": state, "kind": kind, "size": size, "counts": counts, "hidden": hidden}


def _hidden(below: Stack, path: str, found: os.stat_result) -> int:
    if stat.S_ISDIR(found.st_mode):
        return _size(below, path)
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
