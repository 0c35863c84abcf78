"""Answers a page that looks through root filesystems: lists, search, comparison, previews and copies.

A *source* is a row of states, one for each layer and the last the newest; each is looked at against another. All of it
is asked of the engine when the page asks, never before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from dockermagic.errors import UsageError
from dockermagic.files import Files, Layers, changed_tree
from dockermagic.notebook import preview
from dockermagic.values import dataclass, field, replace
from dockermagic.view import TreeEntry

__all__ = ["Explorer", "Source", "State"]

WHOLE = 2000
"""Directories of up to so many entries are fetched at once and sorted in any way."""

PAGE = 400
FOUND = 5000

Row = list[Any]
"""An entry as the page reads it: name, kind, state, size, mode, uid, gid, link, mtime, whether it changed below."""


@dataclass(frozen=True, slots=True)
class State:
    """A root filesystem: ``label`` says after what."""

    label: str
    layers: Layers


@dataclass(frozen=True, slots=True)
class Source:
    """``states`` bottom first; ``base`` is the place of the state that the newest is compared with, -1 for nothing.

    ``before`` is what the state below one is called.
    """

    states: tuple[State, ...]
    base: int = -1
    before: str = "the layer before"


@dataclass(slots=True)
class Explorer:
    """One card's files. ``sources``, and the ``others`` to compare them with, are made when they are asked for."""

    files: Callable[[], Files]
    sources: Mapping[str, Callable[[], Source]]
    others: Callable[[], Mapping[str, Callable[[], Layers]]] = dict
    _known: dict[str, Source] = field(default_factory=dict)
    _sizes: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    _compared: dict[tuple[Any, ...], dict[str, TreeEntry]] = field(default_factory=dict)

    def handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Answers by the kind of message."""
        return {
            "files.open": self.open,
            "files.list": self.list,
            "files.find": self.find,
            "files.sizes": self.sizes,
            "files.view": self.view,
            "files.diff": self.diff,
        }

    # ---- which trees ------------------------------------------------------------------------------------------------

    def open(self, message: dict[str, Any]) -> dict[str, Any]:
        """The states of a source, what they can be compared with, and what is seen first: the top of the newest."""
        source = self._source(message)
        labels = [state.label for state in source.states]
        first = self.list({"source": message.get("source"), "against": source.base})
        return {
            "states": labels,
            "base": source.base,
            "before": source.before,
            "others": list(self.others()),
            "first": first,
        }

    def _source(self, message: dict[str, Any]) -> Source:
        name = str(message.get("source", ""))
        if name not in self._known:
            if name not in self.sources:
                raise UsageError("these files are not at hand any more", hint="Run the cell again.")
            self._known[name] = self.sources[name]()
        return self._known[name]

    def _trees(self, message: dict[str, Any]) -> tuple[Layers, Layers]:
        """The layers that a message asks for, and those to compare them with."""
        source = self._source(message)
        at = max(0, min(int(message.get("at", len(source.states) - 1)), len(source.states) - 1))
        against = message.get("against")
        if isinstance(against, str) and against:
            other = self.others().get(against)
            if other is None:
                raise UsageError(f"{against} is not there any more")
            return source.states[at].layers, other()
        number = at - 1 if against is None else int(against)
        base = source.states[min(number, len(source.states) - 1)].layers if number >= 0 else ()
        return source.states[at].layers, base

    def _differences(self, layers: Layers, base: Layers) -> dict[str, TreeEntry] | None:
        """The paths that differ, where one tree does not stand on the other; None where it does."""
        files = self.files()
        stack, below = files.directories(layers), files.directories(base)
        if stack[: len(below)] == below:
            return None
        key = (*stack, "", *below)
        if key not in self._compared:
            found: dict[str, TreeEntry] = {}
            _flatten(changed_tree(files.changed(layers, base).paths), "", found)
            self._compared = {key: found}
        return self._compared[key]

    # ---- lists ------------------------------------------------------------------------------------------------------

    def list(self, message: dict[str, Any]) -> dict[str, Any]:
        """A part of one directory: ``total`` entries, and the ``rows`` from ``offset`` on in the order asked for."""
        layers, base = self._trees(message)
        path, offset = str(message.get("path", "/")), int(message.get("offset", 0))
        order, backwards = str(message.get("sort") or "name"), bool(message.get("backwards"))
        compared = self._differences(layers, base)
        given: dict[str, Any] = {"offset": offset, "limit": PAGE, "whole": WHOLE, "sizes": order == "size"}
        given |= {"order": order, "backwards": backwards}
        if compared is None:
            page = self.files().page(layers, path, base=base, **given)
            entries, total = page.entries, page.total
        elif _is_gone(path, compared):
            page = self.files().page(base, path, **given)
            entries, total = tuple(replace(one, state="removed") for one in page.entries), page.total
        else:
            page = self.files().page(layers, path, **given)
            entries, gone = _marked(page.entries, path, compared)
            total = page.total + len(gone)
            if offset + len(entries) >= page.total:
                entries += gone[max(0, offset - page.total) :]
        if len(entries) == total:
            entries = tuple(sorted(entries, key=_orders(order), reverse=backwards))
            entries = tuple(sorted(entries, key=lambda one: order == "name" and one.kind != "directory"))
        return {"total": total, "offset": offset, "rows": [row_of(one) for one in entries]}

    def sizes(self, message: dict[str, Any]) -> Callable[[], dict[str, int]]:
        """What lies below each directory of a directory, in bytes: a walk, which nobody is to wait for, but once."""
        layers, _ = self._trees(message)
        files, path = self.files(), str(message.get("path", "/"))
        key = (*files.directories(layers), path)

        def walk() -> dict[str, int]:
            if key not in self._sizes:
                page = files.page(layers, path, limit=WHOLE, sizes=True)
                self._sizes[key] = {one.name: one.size for one in page.entries if one.kind == "directory"}
            return self._sizes[key]

        return walk

    def find(self, message: dict[str, Any]) -> dict[str, Any]:
        """Paths by name and state, at most so many; a row's name is its whole path."""
        layers, base = self._trees(message)
        states = [str(one) for one in message.get("states", ())]
        asked: dict[str, Any] = {"text": str(message.get("text", "")), "regex": bool(message.get("regex"))}
        compared = self._differences(layers, base)
        if compared is None:
            found = self.files().find(layers, base=base, states=states, limit=FOUND, **asked)
            return {"rows": [row_of(one, path) for path, one in found.entries], "truncated": found.truncated}
        changed = {path: one.state for path, one in compared.items() if one.state in states}
        removed = [path for path, state in changed.items() if state == "removed"]
        # What changed may be few among many: only where all is wanted all is walked through.
        only = None if "unchanged" in states else [path for path, state in changed.items() if state != "removed"]
        here = self.files().find(layers, only=only, limit=FOUND, **asked)
        gone = self.files().find(base, only=removed, limit=FOUND, **asked)
        rows = [row_of(replace(one, state="removed"), path) for path, one in gone.entries]
        for path, one in here.entries:
            state = compared[path].state if path in compared else ""
            if (state or "unchanged") in states:
                rows.append(row_of(replace(one, state=state), path))
        return {"rows": sorted(rows), "truncated": here.truncated or gone.truncated}

    # ---- one file ---------------------------------------------------------------------------------------------------

    def view(self, message: dict[str, Any]) -> Any:
        """What a file holds; of one that was removed, what it held."""
        layers, base = self._trees(message)
        path = str(message.get("path", ""))
        tree = base if message.get("removed") else layers
        data, size = self.files().preview(tree, path, preview.SHOWN)
        if path.rpartition(".")[2].lower() in preview.IMAGES and preview.SHOWN < size <= 16 * preview.SHOWN:
            data, size = self.files().preview(tree, path, size)
        shown = preview.preview(path.rpartition("/")[2], data, size)
        answer = {"kind": shown.kind, "html": str(shown.html), "note": shown.note, "mime": shown.mime, "size": size}
        return (answer, [data]) if shown.kind == "image" else answer

    def diff(self, message: dict[str, Any]) -> dict[str, Any]:
        """How a file differs from what it was."""
        layers, base = self._trees(message)
        path = str(message.get("path", ""))
        (new, _), (old, _) = (self.files().preview(tree, path, 4 * preview.SHOWN) for tree in (layers, base))
        shown = preview.difference(old, new)
        return {"kind": shown.kind, "html": str(shown.html), "note": shown.note}

    def copy(self, message: dict[str, Any]) -> tuple[IO[bytes], str]:
        """A file, or a folder as a tar, and what to call it."""
        layers, base = self._trees(message)
        path = str(message.get("path", "/"))
        file = tempfile.TemporaryFile()  # noqa: SIM115 - handed out open
        try:
            tar = self.files().pack(base if message.get("removed") else layers, path, file)
        except BaseException:
            file.close()
            raise
        name = path.rstrip("/").rpartition("/")[2] or "rootfs"
        return file, f"{name}.tar" if tar else name


def row_of(entry: TreeEntry, name: str = "") -> Row:
    """The entry as the page reads it."""
    from dockermagic.notebook.treeview import mode_text

    return [
        name or entry.name,
        entry.kind,
        entry.state,
        entry.size,
        mode_text(entry),
        entry.uid,
        entry.gid,
        entry.link,
        entry.mtime,
        entry.changed_below,
    ]


def _orders(order: str) -> Callable[[TreeEntry], Any]:
    if order == "name":
        return lambda one: one.name
    return (lambda one: (-one.size, one.name)) if order == "size" else (lambda one: (-one.mtime, one.name))


def _flatten(entries: Sequence[TreeEntry], above: str, found: dict[str, TreeEntry]) -> None:
    for one in entries:
        found[f"{above}/{one.name}"] = one
        _flatten(one.children or (), f"{above}/{one.name}", found)


def _is_gone(path: str, compared: Mapping[str, TreeEntry]) -> bool:
    """Whether a directory, or one above it, was removed."""
    while path.strip("/"):
        known = compared.get(path)
        if known is not None and known.state:
            return known.state == "removed"
        path = path.rpartition("/")[0]
    return False


def _marked(
    entries: Sequence[TreeEntry], path: str, compared: Mapping[str, TreeEntry]
) -> tuple[tuple[TreeEntry, ...], tuple[TreeEntry, ...]]:
    """A directory's entries with their states from a comparison, and those that were removed from it."""
    above = path.rstrip("/")
    out = []
    for one in entries:
        known = compared.get(f"{above}/{one.name}")
        out.append(replace(one, state=known.state, changed_below=known.changed_below) if known else one)
    removed = (
        replace(known, children=())
        for place, known in compared.items()
        if known.state == "removed" and place.rpartition("/")[0] == above
    )
    return tuple(out), tuple(removed)
