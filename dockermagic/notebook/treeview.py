"""A directory of a root filesystem as markup: nested folded lists, cut at a number of entries that a page can bear."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from dockermagic.notebook import modules
from dockermagic.notebook.markup import Html, card, code, el, esc, head, join, muted
from dockermagic.tables import human_size, many
from dockermagic.values import dataclass
from dockermagic.view import ChangesView, State, TreeEntry, TreeView

__all__ = ["MOST", "READING", "change_facts", "changes_card", "explored_card", "mode_text", "tree_body", "tree_card"]

MOST = 600
"""Entries in one page."""

READING = muted("reading the files…")

MOST_WASTE = 20
"""Paths that are named in a text about wasted bytes."""

MOST_IN_ONE = 120
"""Entries of one directory in a page."""

SIGNS: dict[State, tuple[str, str]] = {"added": ("+", "ok"), "modified": ("~", "warn"), "removed": ("−", "bad")}
LETTERS = {"directory": "d", "link": "l", "device": "c", "fifo": "p", "socket": "s"}


def mode_text(entry: TreeEntry) -> str:
    """``drwxr-xr-x``; empty where it is not known."""
    if entry.mode is None:
        return ""
    return LETTERS.get(entry.kind, "-") + stat.filemode(entry.mode)[1:]


def tree_card(view: TreeView) -> Html:
    """The whole card."""
    title = view.title or "Files"
    where = code(view.path) if view.path != "/" else ""
    return card(head(title, where, *change_facts(view)), el("div", tree_body(view), style="padding:6px 12px 8px"))


def change_facts(view: TreeView) -> list[Html]:
    """Counts of what differs, each in its colour, and from what."""
    counts = ((view.added, "added", "ok"), (view.modified, "modified", "warn"), (view.removed, "removed", "bad"))
    facts = [el("span", f"{count:,} {word}", style=f"color:@{tone}") for count, word, tone in counts if count]
    if view.against:
        facts.append(muted(f"compared with {view.against}"))
    return facts


@dataclass(slots=True)
class _Budget:
    """How many more entries the page may have."""

    left: int = MOST


def tree_body(view: TreeView) -> Html:
    """The entries, without a frame."""
    return _level(view.entries, _Budget(), 0, view.more)


def _level(entries: Sequence[TreeEntry], budget: _Budget, depth: int, more: int = 0) -> Html:
    ordered = sorted(entries, key=_order)
    room = max(0, min(MOST_IN_ONE, budget.left))
    shown = ordered[:room]
    budget.left -= len(shown)
    items = [el("li", _entry(entry, budget, depth), style="list-style:none;margin:0;padding:0") for entry in shown]
    if rest := len(ordered) - len(shown) + more:
        items.append(el("li", muted(f"… {rest:,} more"), style="list-style:none;margin:0;padding:0 0 0 16px"))
    indent = 18 if depth else 0
    return el("ul", *items, style=f"list-style:none;margin:0;padding:0 0 0 {indent}px")


def _order(entry: TreeEntry) -> tuple[bool, str]:
    return entry.kind != "directory", entry.name


def _entry(entry: TreeEntry, budget: _Budget, depth: int) -> Html:
    if entry.kind != "directory":
        return el("div", entry_line(entry), style="padding-left:13px", class_="dm-hover")
    children = entry.children
    if not children:
        return el("div", entry_line(entry), style="padding-left:13px", class_="dm-hover")
    summary = el("summary", entry_line(entry), style="cursor:pointer", class_="dm-hover")
    opened = depth == 0 and entry.changed_below and len(children) <= 12
    return el("details", summary, _level(children, budget, depth + 1), open=opened)


def entry_line(entry: TreeEntry) -> Html:
    """Name, how it differs, and on the right mode, owner and size."""
    sign, tone = SIGNS.get(entry.state, ("", ""))
    name_style = f"color:@{tone}" if tone else ""
    if entry.state == "removed":
        name_style += ";text-decoration:line-through"
    name: object = entry.name + ("/" if entry.kind == "directory" else "")
    slot = f"display:inline-block;width:12px;font:600 12px/1.7 @code;color:@{tone or 'soft'}"
    mark = el("span", sign, style=slot, role="img" if sign else None, aria_label=entry.state or None)
    parts = [join([mark, el("span", name, style=f"font:12px/1.7 @code;overflow-wrap:anywhere;{name_style}")])]
    if entry.changed_below:
        parts.append(el("span", "•", style="color:@warn", title="something below changed"))
    if entry.link:
        parts.append(muted(("→ " if entry.kind == "link" else "same file as ") + entry.link))
    owner = "" if entry.mode is None else "root" if entry.uid == entry.gid == 0 else f"{entry.uid}:{entry.gid}"
    size = human_size(entry.size) if has_size(entry) else ""
    figures = "display:inline-block;min-width:5.2em;text-align:right;font-variant-numeric:tabular-nums"
    right = el(
        "span",
        el("span", f"{mode_text(entry)} {owner}", style="font:11px/1.7 @code", class_="dm-wide"),
        " ",
        el("span", size, style=figures),
        style="float:right;color:@soft;font-size:12px;margin-left:10px",
    )
    return join([right, join(parts, " ")])


def has_size(entry: TreeEntry) -> bool:
    """Whether its size is worth a word; of a directory it may not be known."""
    if entry.state == "removed":
        return False
    return entry.kind in ("file", "hardlink") or (entry.kind == "directory" and entry.size > 0)


def explored_card(view: TreeView, *, changed: bool = False) -> Html:
    """The card of a widget that looks through the files, at first only what ``changed``."""
    inside = modules.place("files", "files", READING, source="tree", path=view.path, changed=changed)
    return card(head(view.title or "Files", *change_facts(view)), el("div", inside, style="padding:2px 12px 8px"))


def changes_card(view: ChangesView) -> Html:
    """Every path that differs, in one list."""
    total = len(view.changes)
    counts = {word: sum(state == word for _, state, _ in view.changes) for word in SIGNS}
    facts = [el("span", f"{counts[word]:,} {word}", style=f"color:@{SIGNS[word][1]}") for word in SIGNS if counts[word]]
    rows = []
    for path, state, size in view.changes[:MOST]:
        sign, tone = SIGNS.get(state, (" ", "soft"))
        right = human_size(size) if state != "removed" else ""
        style = f"color:@{tone}" + (";text-decoration:line-through" if state == "removed" else "")
        rows.append(
            el(
                "li",
                el("span", right, style="float:right;color:@soft;font-size:12px;margin-left:10px"),
                el(
                    "span", sign, style=f"font:600 12px/1.7 @code;color:@{tone}", role="img", aria_label=state or "same"
                ),
                " ",
                el("span", path, style=f"font:12px/1.7 @code;overflow-wrap:anywhere;{style}"),
                style="list-style:none;margin:0;padding:0",
                class_="dm-hover",
            )
        )
    if total > MOST:
        rows.append(el("li", muted(f"… {total - MOST:,} more"), style="list-style:none;margin:0"))
    body = (
        el("ul", *rows, style="list-style:none;margin:0;padding:6px 12px 8px") if rows else _nothing("Nothing changed.")
    )
    return card(head(view.title or many(total, "change"), *facts), body)


def _nothing(text: str) -> Html:
    return el("div", esc(text), style="padding:7px 12px;color:@soft")
