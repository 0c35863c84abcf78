"""How two images differ, as a card: the fields of their configs, their layers, and the paths."""

from __future__ import annotations

from dockermagic.imagediff import ImageDiff
from dockermagic.notebook.markup import TEXT, Html, card, cell, el, head, join, muted, note, row, table
from dockermagic.tables import many, short_id
from dockermagic.view import DiffView

__all__ = ["diff_card"]

_SIGNS = {"added": ("+", "ok"), "changed": ("~", "warn"), "removed": ("−", "bad")}
_NARROW = "width:1%;white-space:nowrap"


def diff_card(view: DiffView) -> Html:
    """The whole card: what each image has, side by side, then the paths with what differs of them."""
    diff = view.diff
    title = join([view.first, muted(" and "), view.second])
    if diff.is_empty:
        same = el("span", "✓ ", style="color:@ok", aria_hidden="true")
        return card(head(title), el("div", same, "The images are the same.", style="padding:8px 12px"))
    counts = ((len(diff.fields), "field"), (len(diff.layers), "layer"), (diff.path_count, "path"))
    facts = [f"{many(count, word)} differ{'s' if count == 1 else ''}" for count, word in counts if count]
    left = diff.path_count - len(diff.paths)
    foot = note(f"… {many(left, 'more path')}: --all lists them", tone="soft") if left else ""
    sides = table(*_sides(diff), label="config and layers") if diff.fields or diff.layers else ""
    line = "border-top:1px solid @line" if sides else ""
    paths = el("div", table(*_paths(diff), label="paths"), style=line) if diff.paths else ""
    return card(head(title, *facts), sides, paths, foot)


def _sides(diff: ImageDiff) -> list[Html]:
    rows = [(one.field, one.before, one.after) for one in diff.fields]
    rows += [("layer", short_id(before), short_id(after)) for before, after in diff.layers]
    return [
        row(cell(muted(name), style=_NARROW), cell(_value(before)), cell(_value(after)), class_="dm-whole")
        for name, before, after in rows
    ]


def _value(text: str) -> Html:
    return el("code", text, style=f"{TEXT};overflow-wrap:anywhere") if text else muted("none")


def _paths(diff: ImageDiff) -> list[Html]:
    rows = []
    for one in diff.paths:
        sign, tone = _SIGNS[one.state]
        mark = el("span", sign, style=f"font:600 12px/1.7 @code;color:@{tone}", role="img", aria_label=one.state)
        path = el("span", one.path, style=f"font:12px/1.7 @code;overflow-wrap:anywhere;color:@{tone}")
        rows.append(row(cell(mark, " ", path), cell(muted(", ".join(one.what)), style="text-align:right")))
    return rows
