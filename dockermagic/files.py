"""Looking into the root filesystems that layers make: page by page, by search, by difference, and file by file.

Every question is answered by the sandbox's worker, which may read what this process may not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dockermagic.build.request import FailedStep
from dockermagic.errors import UsageError
from dockermagic.values import dataclass
from dockermagic.view import Kind, State, TreeEntry, Waste, WastedPath

__all__ = ["UNCHANGED", "Change", "Changed", "Files", "Found", "Layers", "Page", "changed_tree"]

Layers = Sequence[int] | FailedStep
"""A chain of snapshots, bottom first, or what a failed RUN left."""

_TREE = "dockermagic.oci.filetree"
_FIND = "dockermagic.oci.filefind"

MUCH = 500_000
"""Bytes of a directory that are worth a word."""

LARGEST_COPY = 512 << 20
"""Bytes of a file or folder that are handed out as one."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries of a directory that has ``total`` of them."""

    total: int
    entries: tuple[TreeEntry, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Entries with their paths; ``truncated`` where there are more."""

    entries: tuple[tuple[str, TreeEntry], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs: ``state`` is added, modified or removed; ``size`` in bytes."""

    path: str
    state: State
    kind: Kind
    size: int


@dataclass(frozen=True, slots=True)
class Changed:
    """How two trees differ; the counts count all, the paths may be truncated."""

    paths: tuple[Change, ...]
    added: int
    modified: int
    removed: int
    truncated: bool


UNCHANGED = Changed((), 0, 0, 0, truncated=False)
_KEPT_CHANGES = 64


class Files:
    """The files of one store's layers. ``call`` is the sandbox's."""

    def __init__(self, home: Path, call: Callable[..., Any]) -> None:
        self._home = home
        self._call = call
        self._changed: dict[object, Changed] = {}

    def directories(self, layers: Layers) -> list[str]:
        """Where layers lie, bottom first. Raises :class:`UsageError` for what a failed RUN left if it is gone."""
        if isinstance(layers, FailedStep):
            if not layers.directory.exists():
                raise UsageError(
                    "what the failed RUN left is not kept any more: something was built since", hint="Run it again."
                )
            return [str(path) for path in (*layers.parents, layers.directory)]
        return [str(self._home / "snapshots" / str(identity) / "fs") for identity in layers]

    def _stacks(self, layers: Layers, base: Layers) -> tuple[list[str], int]:
        """The layers' directories, and how many of them are those of the base, from the bottom up."""
        stack, below = self.directories(layers), self.directories(base)
        count = 0
        while count < min(len(stack), len(below)) and stack[count] == below[count]:
            count += 1
        return stack, count

    def page(
        self,
        layers: Layers,
        path: str = "/",
        *,
        base: Layers = (),
        offset: int = 0,
        limit: int | None = None,
        whole: int = 0,
        order: str = "name",
        backwards: bool = False,
        sizes: bool = False,
    ) -> Page:
        """A part of one directory; states are relative to the layers of ``base``.

        The ``order`` is by name, size or time, or ``backwards``; a directory of at most ``whole`` entries comes whole.
        ``sizes`` gives directories the bytes of what is below, at the cost of a walk. Raises :class:`UsageError` if
        there is no such directory.
        """
        stack, count = self._stacks(layers, base)
        options: dict[str, Any] = {"offset": offset, "limit": limit, "whole": whole}
        options |= {"order": order, "backwards": backwards, "sizes": sizes}
        found = self._call(f"{_TREE}:list_directory", layers=stack, path=path, base=count, **options)
        compared = bool(self.directories(base))
        return Page(found["total"], tuple(_entry(entry, compared=compared) for entry in found["entries"]))

    def find(
        self,
        layers: Layers,
        *,
        base: Layers = (),
        states: Sequence[str] = (),
        text: str = "",
        regex: bool = False,
        only: Sequence[str] | None = None,
        limit: int = 2000,
    ) -> Found:
        """Entries by name, or by a regular expression over their paths, and by their state; of ``only`` these paths,
        if they are given, which have no state then.

        Raises :class:`UsageError` for a malformed expression.
        """
        stack, count = self._stacks(layers, base)
        given: dict[str, Any] = {"base": count, "states": list(states), "text": text, "regex": regex, "limit": limit}
        given |= {"only": only} if only is not None else {}
        found = self._call(f"{_FIND}:find", layers=stack, **given)
        entries = ((entry["path"], _entry(entry, compared=True)) for entry in found["entries"])
        return Found(tuple(entries), found["truncated"])

    def changed(self, layers: Layers, base: Layers = (), limit: int | None = None) -> Changed:
        """What turns the tree of ``base`` into that of ``layers``, sorted by path.

        The cost is in proportion to what differs. Where one stands on the other only layers are looked at; else the
        contents of files are compared. Layers never change, so a bounded answer about them is remembered.
        """
        if limit is None or isinstance(layers, FailedStep) or isinstance(base, FailedStep):
            return self._differences(layers, base, limit)
        key = (tuple(layers), tuple(base), limit)
        found = self._changed.pop(key, None) or self._differences(layers, base, limit)
        self._changed[key] = found
        while len(self._changed) > _KEPT_CHANGES:
            self._changed.pop(next(iter(self._changed)), None)
        return found

    def _differences(self, layers: Layers, base: Layers, limit: int | None) -> Changed:
        stack, count = self._stacks(layers, base)
        other = self.directories(base)
        if count == len(other):
            found = self._call(f"{_TREE}:changes", layers=stack, base=count, limit=limit)
        else:
            found = self._call(f"{_FIND}:compare", layers=stack, other=other, limit=limit)
        paths = tuple(Change(one["path"], one["state"], _kind(one), one["size"]) for one in found["paths"])
        return Changed(paths, *(found[name] for name in ("added", "modified", "removed", "truncated")))

    def preview(self, layers: Layers, path: str, limit: int = 65536) -> tuple[bytes, int]:
        """The beginning of a file and its whole size. Raises :class:`UsageError` if there is no such file."""
        found = self._call(f"{_TREE}:preview", layers=self.directories(layers), path=path, limit=limit)
        return base64.b64decode(found["data"]), found["size"]

    def pack(self, layers: Layers, path: str, file: IO[bytes]) -> bool:
        """Write a file as it is, or a folder as a tar, and return whether it is a tar.

        Raises :class:`UsageError` for what is not there and for what is larger than ``LARGEST_COPY``.
        """
        stack, fds = self.directories(layers), {"out": file.fileno()}
        return bool(self._call(f"{_FIND}:pack", fds=fds, layers=stack, path=path, limit=LARGEST_COPY)["tar"])

    def wasted(self, layers: Layers, limit: int = 20, *, suspects: Sequence[str] = ()) -> Waste:
        """What is stored and never seen, because an upper layer replaces or removes it.

        Of the directories ``suspects`` those that hold much are ``left``.
        """
        found = self._call(f"{_TREE}:wasted", layers=self.directories(layers), limit=limit)
        paths = (WastedPath(one["path"], one["bytes"], one["count"]) for one in found["paths"])
        left = []
        for suspect in suspects:
            above, _, name = suspect.rpartition("/")
            try:
                entries = self.page(layers, above or "/", sizes=True).entries
            except UsageError:
                continue
            left += [WastedPath(suspect, one.size, 0) for one in entries if one.name == name and one.size >= MUCH]
        return Waste(found["bytes"], found["total"], found["wasted"], found["efficiency"], tuple(paths), tuple(left))


def changed_tree(changes: Iterable[Change]) -> tuple[TreeEntry, ...]:
    """Changed paths as nested entries; directories on the way that did not change themselves are there as well."""
    below: dict[str, set[str]] = {"": set()}
    known: dict[str, Change] = {}
    for one in changes:
        parts = one.path.strip("/").split("/")
        known["/".join(parts)] = one
        for depth in range(len(parts)):
            below.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def entry(path: str, name: str) -> TreeEntry:
        one = known.get(path) or Change(path, "", "directory", 0)
        if path not in below and one.kind != "directory":
            return TreeEntry(name, one.kind, one.size, None, state=one.state)
        children = tuple(entry(f"{path}/{child}", child) for child in sorted(below.get(path, ())))
        size = sum(child.size for child in children if child.state != "removed")
        return TreeEntry(
            name, "directory", size, None, state=one.state, children=children, changed_below=bool(children)
        )

    return tuple(entry(name, name) for name in sorted(below[""]))


def _entry(entry: Mapping[str, Any], *, compared: bool) -> TreeEntry:
    """A line of the file tree as a value to show. Of a directory it is only known that something below changed."""
    kind = _kind(entry)
    state: State = "" if entry["state"] == "unchanged" or not compared else entry["state"]
    below = kind == "directory" and state == "modified"
    return TreeEntry(
        entry["name"],
        kind,
        entry["size"],
        entry["mode"],
        entry["uid"],
        entry["gid"],
        entry["link"],
        state="" if below else state,
        changed_below=below,
        mtime=entry.get("mtime", 0),
    )


_KINDS: dict[str, Kind] = {"dir": "directory", "char": "device", "block": "device"}


def _kind(entry: Mapping[str, Any]) -> Kind:
    kind: Kind = entry["kind"]
    return _KINDS.get(kind, kind)
