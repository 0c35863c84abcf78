"""Questions about the tree that layers make whose answer takes a walk: search, comparison of two trees, a copy to keep.

Like :mod:`dockermagic.oci.filetree`, of which these are the slower half: they run in the sandbox's worker, follow no
link, and answer with JSON values.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from dockermagic.errors import UsageError
from dockermagic.oci import disk
from dockermagic.oci.filetree import changes, describe, open_file, state_of, status_of, walk
from dockermagic.oci.overlay import Stack
from dockermagic.oci.rooted import clean, join

__all__ = ["compare", "find", "pack"]

_BLOCK = 1 << 18
_SAME_BYTES = 64 << 20
"""Files of one size are compared byte by byte up to this size; larger ones count as modified."""


def find(
    layers: Sequence[str],
    *,
    base: int,
    states: Sequence[str] = (),
    text: str = "",
    regex: bool = False,
    only: Sequence[str] | None = None,
    limit: int,
) -> dict[str, Any]:
    """Every entry whose name holds ``text`` (or whose path a regular expression finds) and whose state is asked for.

    ``entries`` are described as :func:`list_directory` does and have a ``path``; ``truncated`` where there are more
    than ``limit``. No ``states`` means all. Where only changes are asked for, the cost is in proportion to those. Where
    paths are given, ``only`` they are looked at, whatever their state is. Raises UsageError for a malformed expression.
    """
    matches = _matcher(text, regex)
    wanted = set(states) or {"added", "modified", "removed", "unchanged"}
    tree, below = Stack(layers), Stack(layers[:base])
    upper = Stack(layers[base:])
    changed = ((one["path"][1:], one["state"]) for one in walk(upper, below) if one["counts"])
    paths = _everything(tree, below, base) if "unchanged" in wanted else changed
    if only is not None:
        paths = ((one.strip("/"), "unchanged") for one in only)
    entries: list[dict[str, Any]] = []
    try:
        for path, state in paths:
            if state not in wanted or not matches(path):
                continue
            if len(entries) >= limit:
                return {"entries": entries, "truncated": True}
            source = below if state == "removed" else tree
            if (found := source.lookup(path)) is not None:
                directory, _, name = path.rpartition("/")
                entries.append(
                    {"path": f"/{path}", **describe(source, found[0], directory, name), "state": state}
                    | {"layer": found[0]}
                )
        return {"entries": entries, "truncated": False}
    finally:
        upper.close()
        tree.close()
        below.close()


def _matcher(text: str, regex: bool) -> Callable[[str], bool]:
    if not text:
        return lambda path: True
    if not regex:
        word = text.lower()
        return lambda path: word in (path if "/" in word else path.rpartition("/")[2]).lower()
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"not a regular expression: {error}", hint="A dot stands for any character: \\.py$") from None
    return lambda path: pattern.search(f"/{path}") is not None


def _everything(tree: Stack, below: Stack, base: int) -> Iterator[tuple[str, str]]:
    """Every path of the tree, and what was removed from it, a directory before what is in it."""
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        here = tree.names(directory)[0]
        folders = tree.folders(directory, here)
        found = below.lookup(directory) if below.layers else None
        before = below.names(directory)[0] if found and stat.S_ISDIR(found[1].st_mode) else {}
        inside = []
        for name in sorted(here.keys() | before.keys(), key=os.fsencode):
            path = join(directory, name)
            yield path, state_of(name, here, before, base)
            if name in folders:
                inside.append(path)
        waiting += reversed(inside)


def compare(layers: Sequence[str], other: Sequence[str], *, limit: int | None = None) -> dict[str, Any]:
    """What turns the tree of ``other`` into that of ``layers``, in the form of :func:`changes`.

    Files are the same if their content, mode and owner are; times do not count. The cost is in proportion to what both
    have above the layers that they share.
    """
    shared = 0
    while shared < min(len(layers), len(other)) and layers[shared] == other[shared]:
        shared += 1
    paths = {one["path"] for stack in (layers, other) for one in changes(stack, base=shared)["paths"]}
    counts = {"added": 0, "modified": 0, "removed": 0}
    found: list[dict[str, Any]] = []
    tree, before = Stack(layers), Stack(other)
    gone = ""
    try:
        for path in sorted(paths, key=os.fsencode):
            new, old = tree.lookup(path[1:]), before.lookup(path[1:])
            if new is None and (old is None or (gone and path.startswith(gone))):
                continue
            if new is None:
                state, one = "removed", old
                gone = f"{path}/"
            elif old is None:
                state, one = "added", new
            elif _same(tree, before, path[1:], new, old):
                continue
            else:
                state, one = "modified", new
            assert one is not None
            source = before if state == "removed" else tree
            directory, _, name = path[1:].rpartition("/")
            entry = describe(source, one[0], directory, name)
            counts[state] += 1
            if limit is None or len(found) < limit:
                found.append({"path": path, "state": state, "kind": entry["kind"], "size": entry["size"]})
        return {**counts, "paths": found, "truncated": sum(counts.values()) > len(found)}
    finally:
        tree.close()
        before.close()


def _same(
    tree: Stack, before: Stack, path: str, new: tuple[int, os.stat_result], old: tuple[int, os.stat_result]
) -> bool:
    if tree.roots[new[0]] == before.roots[old[0]] and not stat.S_ISDIR(new[1].st_mode):
        return True
    if status_of(tree, new[0], path, new[1]) != status_of(before, old[0], path, old[1]):
        return False
    directory, _, name = path.rpartition("/")
    if stat.S_ISLNK(new[1].st_mode):
        here, there = (
            disk.readlink(name, dir_fd=stack.layers[layer].fd(directory))
            for stack, layer in ((tree, new[0]), (before, old[0]))
        )
        return here == there
    if not stat.S_ISREG(new[1].st_mode):
        return True
    if new[1].st_size != old[1].st_size or new[1].st_size > _SAME_BYTES:
        return False
    with open_file(tree, new[0], path) as one, open_file(before, old[0], path) as two:
        while block := one.read(_BLOCK):
            if block != two.read(_BLOCK):
                return False
    return True


def pack(layers: Sequence[str], path: str, *, out: int, limit: int) -> dict[str, Any]:
    """Write a file as it is, or anything else with all below it as a tar, to the descriptor ``out``.

    ``tar`` says which, ``size`` how much was written. Raises UsageError where there is no such path, and for more than
    ``limit`` bytes.
    """
    place = clean(path, "the path")
    tree = Stack(layers)
    try:
        with os.fdopen(os.dup(out), "wb") as file:
            found = tree.lookup(place)
            if found is None:
                raise UsageError(f"{path}: no such file in this tree")
            if stat.S_ISREG(found[1].st_mode):
                _room(found[1].st_size, limit)
                with open_file(tree, found[0], place) as source:
                    while block := source.read(_BLOCK):
                        file.write(block)
                return {"tar": False, "size": file.tell()}
            _tar(tree, place, file, limit)
            return {"tar": True, "size": file.tell()}
    finally:
        tree.close()


def _room(size: int, limit: int) -> None:
    if size > limit:
        raise UsageError(
            f"more than {limit >> 20} MiB: too much for a browser",
            hint="Save the image, or a part of it: %docker save -o FILE NAME",
        )


def _tar(tree: Stack, place: str, file: IO[bytes], limit: int) -> None:
    """Write what is at a path and below as a tar whose names begin with the path's last part."""
    strip = len(place.rpartition("/")[0])
    waiting = [place]
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        while waiting:
            path = waiting.pop()
            found = tree.lookup(path)
            if found is None or (not path and place):
                continue
            layer, about = found
            if path:
                status = status_of(tree, layer, path, about)
                member = tarfile.TarInfo(path[strip:].lstrip("/"))
                member.mode, member.uid, member.gid = stat.S_IMODE(status.mode), status.uid, status.gid
                member.mtime = int(about.st_mtime)
                directory, _, name = path.rpartition("/")
                if stat.S_ISREG(about.st_mode) and stat.S_ISREG(status.mode):
                    member.size = about.st_size
                    _room(file.tell() + member.size, limit)
                    with open_file(tree, layer, path) as source:
                        archive.addfile(member, source)
                elif stat.S_ISLNK(about.st_mode):
                    member.type = tarfile.SYMTYPE
                    member.linkname = disk.readlink(name, dir_fd=tree.layers[layer].fd(directory))
                    archive.addfile(member)
                elif stat.S_ISDIR(about.st_mode):
                    member.type = tarfile.DIRTYPE
                    archive.addfile(member)
            if stat.S_ISDIR(about.st_mode):
                waiting += [join(path, name) for name in sorted(tree.names(path)[0], key=os.fsencode, reverse=True)]
