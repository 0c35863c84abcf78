"""What stands below the rows of a built cell: warnings, stale cells, notes, and what can be unfolded."""

from __future__ import annotations

from dockermagic.events import Warning
from dockermagic.notebook import modules
from dockermagic.notebook.listings import history_table
from dockermagic.notebook.markup import Html, button, cell, code, details, el, esc, join, muted, note, row, table
from dockermagic.notebook.treeview import READING, tree_body
from dockermagic.values import dataclass
from dockermagic.view import BuildView, warning_text

__all__ = ["Acts", "foot", "outdated_note", "stale_names"]


@dataclass(frozen=True, slots=True)
class Acts:
    """What the buttons of a widget's card can do; a card without a widget has none.

    ``files``: look through the files. ``chain``: replay the session and run the cell again. ``logs``: save the whole
    output of steps. ``digests``: tell those of the layers. ``kept``: look into what a failed RUN left; ``shell``: work
    in it. ``cell`` is the id of the cell.
    """

    files: bool = False
    chain: bool = False
    logs: bool = False
    digests: bool = False
    kept: bool = False
    shell: bool = False
    cell: str = ""


NOTHING = Acts()

_BELOW = "margin-left:18px"
FEW = 2000
"""So many changed paths are shown by themselves when somebody unfolds the files; else the whole tree is."""


def foot(view: BuildView, acts: Acts = NOTHING) -> Html:
    """Warnings, stale cells, further notes, and what can be unfolded: layers, files, the image's config."""
    parts = []
    if view.warnings:
        parts.append(note(*[warning_line(warning) for warning in view.warnings], tone="soft"))
    if view.stale:
        parts.append(note(_replay(acts), stale_sentence(view.stale)))
    parts += [note(text, tone="soft") for text in view.notes]
    if view.finished and not view.failed:
        parts += _sections(view, acts)
    return join(parts)


def warning_line(warning: Warning) -> Html:
    """A lint warning with its line, underlined as far as it is meant, and why it matters; the rule leads to more."""
    place = f"line {warning.line}" if warning.line else ""
    rule: object = el("span", warning.rule, style="color:@soft") if warning.rule else ""
    if warning.rule and warning.url:
        rule = el("a", warning.rule, href=warning.url, target="_blank", rel="noopener", style="color:@key")
    mark = el("span", "⚠", style="color:@warn", role="img", aria_label="warning")
    shown = [
        part
        for part in (place and el("strong", place, style="font-weight:600"), esc(warning_text(warning)), rule)
        if part
    ]
    more = []
    if warning.place is not None and warning.place.text:
        before, meant, after = warning.place.parts()
        wavy = "text-decoration:underline wavy @warn 1px;text-underline-offset:3px"
        more.append(el("div", code(before, el("span", meant, style=wavy), after), style=_BELOW))
    more += [el("div", text, style=f"{_BELOW};color:@soft") for text in warning.detail]
    return el("div", mark, " ", join(shown, " · "), *more, style="overflow-wrap:anywhere;padding:2px 0")


def stale_sentence(stale: tuple[str, ...]) -> Html:
    """Which cells are not part of the image any more, and what to do."""
    names = stale_names(stale)
    verb = "is" if len(stale) == 1 else "are"
    again = "it" if len(stale) == 1 else "them"
    return join(
        [
            el("strong", names, style="font-weight:600"),
            f" {verb} stale: built on what this cell was before. ",
            code("%dockerfile replay"),
            f" builds {again} again, from the cache where nothing changed.",
        ]
    )


def outdated_note(view: BuildView, acts: Acts = NOTHING) -> Html:
    """That the cell itself is stale by now, and what to do."""
    if not view.outdated:
        return Html("")
    words = join([f"Stale: {view.outdated}. ", code("%dockerfile replay"), " builds it again."])
    return el("div", _replay(acts), words, style="padding:7px 12px;border-bottom:1px solid @line;background:@warntint")


def _replay(acts: Acts) -> Html:
    if not acts.chain:
        return Html("")
    again = button("replay", data_send="replay", data_busy="replaying…", data_late="when the kernel is free…")
    return el("span", again, style="float:right;margin-left:10px")


def stale_names(stale: tuple[str, ...]) -> str:
    """``Cell [4]``, ``Cells [4] and [5]``, ``Cell [4] and cell app``."""
    numbers = [name.removeprefix("cell ") for name in stale]
    if len(stale) > 1 and all(name.startswith("cell [") for name in stale):
        return f"Cells {', '.join(numbers[:-1])} and {numbers[-1]}"
    listed = stale[0] if len(stale) == 1 else f"{', '.join(stale[:-1])} and {stale[-1]}"
    return listed[:1].upper() + listed[1:]


def _sections(view: BuildView, acts: Acts) -> list[Html]:
    out = []
    style = "padding:5px 12px;border-top:1px solid @line"
    if view.tree is not None:
        tree = view.tree
        counts = [f"{tree.added:,} added" * bool(tree.added), f"{tree.modified:,} modified" * bool(tree.modified)]
        counts += [f"{tree.removed:,} removed" * bool(tree.removed)]
        words = " · ".join(["Files", *[count for count in counts if count]])
        if acts.files:
            changed = 0 < tree.added + tree.modified + tree.removed <= FEW
            body = modules.place("files", "files", READING, source="cell", changed=changed)
        else:
            body = tree_body(tree)
        out.append(details(words, body, style=style))
    if view.history is not None and view.history.rows:
        asks = acts.digests and not any(one.digest for one in view.history.rows)
        asked = button("digests of the layers", data_send="digests", data_busy="packing…") if asks else ""
        out.append(details("History", history_table(view.history), asked, style=style))
    if view.config:
        rows = [
            row(
                cell(muted(name), style="width:1%;white-space:nowrap;padding:3px 12px 3px 0"),
                cell(code(value), style="padding:3px 0"),
            )
            for name, value in view.config
        ]
        out.append(details("Image config", table(*rows, label="image config"), style=style))
    return out
