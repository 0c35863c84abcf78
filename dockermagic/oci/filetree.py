"""The tree that layers make, with what the upper ones changed: directory by directory, without a mount.

``layers`` are the directories of layers, bottom first; the first ``base`` of them are what the others are compared
with. Symbolic links are entries and never followed. Results are JSON values: these run in the sandbox's worker.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator, Sequence
from typing import IO, Any

from dockermagic.errors import UsageError
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
    changed_only: bool = False,
    sizes: bool = False,
) -> dict[str, Any]:
    """One directory of the tree, sorted by name: ``total`` entries, of which ``entries`` are those asked for.

    Each has name, kind (file, dir, link, char, block, fifo, socket), state (added, modified, removed, unchanged), size,
    mode, uid, gid, mtime in seconds, link (a symbolic link's target) and layer (its place in ``layers``). A directory
    is modified if anything below it is. ``sizes`` gives directories the bytes of all files below, at the cost of a
    walk. Raises UsageError if there is no such directory.
    """
    place = clean(path, "the path")
    tree, below = Stack(layers), Stack(layers[:base])
    try:
        here = _merged(tree, place)
        before = _merged(below, place)
        if here is None and before is None:
            raise UsageError(f"{path}: no such directory in this tree")
        names = (here or {}).keys() | (before or {}).keys()
        if changed_only:
            names = {name for name in names if state_of(name, here, before, base) != "unchanged"}
        ordered = sorted(names, key=os.fsencode)
        wanted = ordered[offset : None if limit is None else offset + limit]
        entries = []
        for name in wanted:
            state = state_of(name, here, before, base)
            source, layer = (below, (before or {})[name]) if state == "removed" else (tree, (here or {})[name])
            entry = describe(source, layer, place, name)
            if sizes and entry["kind"] == "dir":
                entry["size"] = _size(source, join(place, name))
            entries.append(entry | {"state": state, "layer": layer})
        return {"total": len(ordered), "entries": entries}
    finally:
        tree.close()
        below.close()


def changes(layers: Sequence[str], *, base: int, limit: int | None = None) -> dict[str, Any]:
    """What the layers from ``base`` up do to those below; the cost is in proportion to the change.

    ``paths`` has path, state, kind and size of each, sorted, at most ``limit`` of them; ``added``, ``modified``,
    ``removed`` count all, without directories that changed only because of what is in them; ``bytes`` are those of the
    files added and modified. A removed directory counts once.
    """
    upper, below = Stack(layers[base:]), Stack(layers[:base])
    counts = {"added": 0, "modified": 0, "removed": 0, "bytes": 0}
    paths: list[dict[str, Any]] = []
    is_cut = False
    try:
        for change in walk(upper, below):
            if change.pop("counts"):
                counts[change["state"]] += 1
            if change["state"] != "removed" and change["kind"] == "file":
                counts["bytes"] += change["size"]
            del change["hidden"]
            if limit is None or len(paths) < limit:
                paths.append(change)
            else:
                is_cut = True
        return {**counts, "paths": paths, "truncated": is_cut}
    finally:
        upper.close()
        below.close()


def wasted(layers: Sequence[str], *, limit: int = 100) -> dict[str, Any]:
    """The bytes of files that an upper layer replaces or removes, so that they are stored and never seen.

    ``bytes`` of ``total``, ``efficiency`` between 0 and 1, and the worst ``paths``, each with its bytes and how often
    it was hidden.
    """
    total = 0
    hidden: dict[str, list[int]] = {}
    for number in range(len(layers)):
        upper, below = Stack(layers[number : number + 1]), Stack(layers[:number])
        try:
            for change in walk(upper, below):
                if change["state"] != "removed" and change["kind"] == "file":
                    total += change["size"]
                if change["hidden"]:
                    known = hidden.setdefault(change["path"], [0, 0])
                    known[0] += change["hidden"]
                    known[1] += 1
        finally:
            upper.close()
            below.close()
    lost = sum(size for size, _ in hidden.values())
    worst = sorted(hidden.items(), key=lambda item: (-item[1][0], item[0]))[:limit]
    return {
        "bytes": lost,
        "total": total,
        "efficiency": 1.0 - lost / total if total else 1.0,
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
    return os.fdopen(os.open(name, READ, dir_fd=tree.layers[layer].fd(above)), "rb")


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
    found = os.stat(name, dir_fd=here, follow_symlinks=False)
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
        "link": os.readlink(name, dir_fd=here) if kind == "link" else "",
    }


def status_of(tree: Stack, layer: int, path: str, found: os.stat_result) -> Status:
    """Mode and owner as the image has them, whatever could be set on this file system."""
    record = {}
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        try:
            value = os.getxattr(os.path.join(tree.roots[layer], path), OVERRIDE, follow_symlinks=False)
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
            found = os.stat(name, dir_fd=tree.layers[layer].fd(directory), follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                waiting.append(join(directory, name))
            elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
                if found.st_nlink > 1:
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def walk(upper: Stack, below: Stack) -> Iterator[dict[str, Any]]:
    """Each change, a directory before what is in it, sorted by name within each.

    ``counts`` is False for a directory that is listed only because of what is in it; ``hidden`` are the bytes below
    that are no longer seen.
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
        for name in sorted(names.keys() | gone, key=os.fsencode):
            path = join(directory, name)
            old = below.find(level, directory, name) if is_below else None
            if name in gone:
                if old is not None:
                    yield _change(path, "removed", old[1], 0, True, _hidden(below, path, old[1]))
                continue
            found = os.stat(name, dir_fd=upper.layers[names[name]].fd(directory), follow_symlinks=False)
            is_directory = stat.S_ISDIR(found.st_mode)
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            if size and found.st_nlink > 1:
                size = 0 if (found.st_dev, found.st_ino) in seen else size
                seen.add((found.st_dev, found.st_ino))
            if old is None:
                yield _change(path, "added", found, size, True, 0)
            elif is_directory and stat.S_ISDIR(old[1].st_mode):
                new_status = status_of(upper, names[name], path, found)
                counts = new_status != status_of(below, old[0], path, old[1])
                yield _change(path, "modified", found, 0, counts, 0)
            else:
                yield _change(path, "modified", found, size, True, _hidden(below, path, old[1]))
            if is_directory:
                inside.append((path, old is not None and stat.S_ISDIR(old[1].st_mode)))
        waiting += reversed(inside)


def _change(path: str, state: str, found: os.stat_result, size: int, counts: bool, hidden: int) -> dict[str, Any]:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "file")
    return {"path": f"/{path}", "state": state, "kind": kind, "size": size, "counts": counts, "hidden": hidden}


def _hidden(below: Stack, path: str, found: os.stat_result) -> int:
    if stat.S_ISDIR(found.st_mode):
        return _size(below, path)
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
