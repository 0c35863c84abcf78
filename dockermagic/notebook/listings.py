"""Lists as markup: an image's history, the images of the store, a session's cells, a host's facts, single answers."""

from __future__ import annotations

import re

from dockermagic.notebook import dockertext
from dockermagic.notebook.advice import advice
from dockermagic.notebook.markup import (
    TEXT,
    Html,
    card,
    cell,
    chip,
    code,
    details,
    el,
    esc,
    head,
    join,
    muted,
    note,
    pre,
    row,
    table,
)
from dockermagic.tables import age, clip, duration, human_size, many, reclaimable, short_id
from dockermagic.view import (
    DockerfileView,
    HistoryView,
    ImagesView,
    InfoView,
    InspectView,
    MessageView,
    SessionView,
    UsageView,
    Waste,
    WastedPath,
    warning_text,
)

__all__ = [
    "created_by_words",
    "dockerfile_card",
    "history_card",
    "history_table",
    "images_card",
    "info_card",
    "inspect_card",
    "message_card",
    "session_card",
    "unseen_words",
    "usage_card",
    "waste_note",
    "waste_words",
]

NUMBER = "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
MOST_ADVICE = 8


# ---- history --------------------------------------------------------------------------------------------------------


def created_by_words(text: str) -> str:
    """What made a step, as an instruction: without the shell that a RUN went through and BuildKit's remark."""
    text = re.sub(r"\s+# buildkit$", "", text.strip())
    nop = re.match(r"(?:/bin/sh -c )?#\(nop\)\s+(.*)", text, re.DOTALL)
    if nop:
        return nop[1].strip()
    shell = re.match(r"(RUN\s+)?(?:\|\d+ .*?)?/bin/sh -c (.*)", text, re.DOTALL)
    return f"RUN {shell[2].strip()}" if shell else text


def history_card(view: HistoryView) -> Html:
    """The whole card."""
    total = sum(one.size for one in view.rows)
    layers = sum(not one.empty for one in view.rows)
    title = view.title or "History"
    facts = [many(layers, "layer"), human_size(total)]
    if view.waste is not None and view.waste.total:
        facts.append(f"{', '.join(waste_words(view.waste))}, as dive counts")
    return card(head(title, *facts), history_table(view), waste_note(view.waste))


def waste_words(waste: Waste) -> list[str]:
    """What dive would say of an image: its efficiency and the wasted bytes."""
    return [f"{100 * waste.efficiency:.1f} % efficient", f"{human_size(waste.wasted)} wasted"]


def unseen_words(waste: Waste) -> str:
    """How much of an image is in it for nobody."""
    return f"{human_size(waste.bytes)} of {human_size(waste.total)} are stored and never seen."


def waste_note(waste: Waste | None) -> Html:
    """Bytes that nobody sees, with what causes them and what to do; empty where there is nothing to say."""
    if waste is None or not (waste.bytes or waste.left):
        return Html("")
    groups: dict[str, list[WastedPath]] = {}
    for one in (*waste.paths, *waste.left):
        groups.setdefault(advice(one.path), []).append(one)
    items = []
    for words, paths in list(groups.items())[:MOST_ADVICE]:
        size = human_size(sum(one.bytes for one in paths))
        named = join([code(one.path) for one in paths[:3]], " ")
        more = muted(f" and {len(paths) - 3} more") if len(paths) > 3 else ""
        left = " left in the image" if all(one.count == 0 for one in paths) else ""
        style = "margin:3px 0;overflow-wrap:anywhere"
        items.append(
            el("li", join([size, left, " in ", named, more]), el("div", words, style="color:@soft"), style=style)
        )
    first = unseen_words(waste) if waste.bytes else "The image holds what it does not need."
    words = el("strong", first, style="font-weight:600")
    return note(words, el("ul", *items, style="margin:4px 0 0;padding-left:20px"), tone="soft")


def history_table(view: HistoryView) -> Html:
    """A row per step, the newest first, with a bar for its size."""
    largest = max((one.size for one in view.rows), default=0)
    rows = []
    for one in view.rows:
        words = clip(created_by_words(one.created_by), 300)
        how = "CACHED" if one.cached else "built" if one.cached is False else ""
        how += f" in {duration(one.seconds)}" if how == "built" and one.seconds else ""
        beside = [made for made in (one.cell, how, one.reason) if made]
        under = el("div", " · ".join(beside), style="color:@soft;font-size:12px") if beside else ""
        text = el("code", dockertext.instruction(words), style=_CODE)
        digest = el("div", one.digest, style="font:11px/1.5 @code;color:@soft;overflow-wrap:anywhere")
        rows.append(
            row(
                cell(text, under, digest if one.digest else ""),
                cell(_bar(one.size, largest), class_="dm-wide", style="width:18%"),
                cell(_size(one.size, one.empty), style=f"width:1%;{NUMBER}"),
                cell(muted(age(one.created)), style=f"width:1%;{NUMBER}", class_="dm-wide"),
                class_="dm-whole",
            )
        )
    return table(*rows, label="history, the newest step first")


_CODE = TEXT


def _size(size: int, empty: bool) -> Html:
    return muted("0 B, metadata") if empty and not size else esc(human_size(size))


def _bar(size: int, largest: int, ground: str = "@bar") -> Html:
    if not size or not largest:
        return Html("")
    width = max(1.0, 100 * size / largest)
    style = f"width:{width:.1f}%;min-width:2px;height:7px;margin-top:6px;border-radius:4px;background:{ground}"
    return el("div", style=style)


# ---- images ---------------------------------------------------------------------------------------------------------


def images_card(view: ImagesView) -> Html:
    """The whole card."""
    if not view.rows:
        return card(
            head("Images"),
            el("div", "No image has a name yet. ", code("%%dockerfile -t NAME"), " gives one.", style=_NOTE),
        )
    rows = []
    largest = max(one.size for one in view.rows)
    for one in view.rows:
        named = one.repository not in ("", "<none>")
        name = el("strong", one.repository, style="font:600 13px/1.5 @code") if named else muted("no name")
        tag = (
            el("span", f":{one.tag}", style="font:13px/1.5 @code;color:@soft") if one.tag not in ("", "<none>") else ""
        )
        rows.append(
            row(
                cell(join([name, tag])),
                cell(
                    el("code", short_id(one.id), style=f"{_CODE};color:@soft;white-space:nowrap"),
                    style="width:1%",
                    class_="dm-wide",
                ),
                cell(_bar(one.size, largest), class_="dm-wide", style="width:18%"),
                cell(human_size(one.size), style=f"width:1%;{NUMBER}"),
                cell(muted(age(one.created)), style=f"width:1%;{NUMBER}"),
            )
        )
    return card(head("Images", many(len(view.rows), "name")), table(*rows, label="images"))


_NOTE = "padding:8px 12px;color:@soft"


def usage_card(view: UsageView) -> Html:
    """What takes the room: the pale part of a bar is what could go."""
    rows = []
    largest = max((one.size for one in view.rows), default=0)
    for one in view.rows:
        count = f"{one.total:,}, {one.active:,} in use" if one.total else "none"
        could = f"{reclaimable(one)} can go" if one.reclaimable else ""
        parts = ((one.size - one.reclaimable, "@bar"), (one.reclaimable, "@bar;opacity:.35"))
        bars = [_bar(size, largest, ground) for size, ground in parts]
        rows.append(
            row(
                cell(one.kind, style="white-space:nowrap"),
                cell(muted(count), class_="dm-wide"),
                cell(el("div", *bars, style="display:flex"), class_="dm-wide", style="width:24%"),
                cell(human_size(one.size), style=f"width:1%;{NUMBER}"),
                cell(muted(could), style=f"width:1%;{NUMBER}"),
            )
        )
    free = sum(one.reclaimable for one in view.rows)
    facts = [human_size(sum(one.size for one in view.rows)), f"{human_size(free)} can go" if free else ""]
    foot = note(code("%docker prune"), " says what goes, and asks.", tone="soft") if free else ""
    return card(head("Disk usage", *facts), table(*rows, label="disk usage"), foot)


# ---- a session ------------------------------------------------------------------------------------------------------

_STATES = {"built": ("✓", "ok"), "stale": ("●", "warn"), "failed": ("✕", "bad")}


def session_card(view: SessionView) -> Html:
    """The whole card: the cells, how they stand, and what to do if some are stale."""
    stale = [one for one in view.cells if one.state == "stale"]
    failed = [one for one in view.cells if one.state == "failed"]
    facts = [many(len(view.cells), "cell")]
    facts += [f"{len(stale)} stale"] if stale else []
    facts += [f"{len(failed)} failed"] if failed else []
    if not view.cells:
        hint = el("div", "No cell yet. Run one that begins with ", code("%%dockerfile"), " and a FROM.", style=_NOTE)
        return card(head(f"Session {view.name}"), hint)
    rows = []
    for one in view.cells:
        mark, tone = _STATES[one.state]
        first = next((text for text in one.text.splitlines() if text.strip() and not text.lstrip().startswith("#")), "")
        count = sum(bool(text.strip()) for text in one.text.splitlines())
        more = muted(f" … {count - 1} more {'line' if count == 2 else 'lines'}") if count > 1 else ""
        why = el("div", one.why, style=f"color:@{tone};font-size:12px") if one.why else ""
        body = join([el("code", dockertext.instruction(clip(first, 120)), style=_CODE), more, why])
        size = f"{many(one.layers, 'layer')} · {human_size(one.size)}" if one.layers else ""
        state = join([el("span", mark, style=f"color:@{tone}", aria_hidden="true"), " ", one.state])
        rows.append(
            row(
                cell(one.label, style="width:1%;white-space:nowrap"),
                cell(body),
                cell(muted(size), style=f"width:1%;{NUMBER}", class_="dm-wide"),
                cell(state, style="width:1%;white-space:nowrap"),
                class_="dm-whole",
            )
        )
    foot: object = ""
    if stale:
        foot = note(
            code("%dockerfile replay"), " builds what is stale again, in order, from the cache where nothing changed."
        )
    context = muted(join(["context ", view.context])) if view.context else ""
    chips = join([chip(name, tone="key") for name in view.images], " ")
    return card(head(f"Session {view.name}", *facts, context, aside=chips), table(*rows, label="cells"), foot)


# ---- a Dockerfile ---------------------------------------------------------------------------------------------------


def dockerfile_card(view: DockerfileView) -> Html:
    """The text with line numbers, the cell that each part came from, and warnings below their lines."""
    origin = dict(view.cells)
    warned: dict[int, list[str]] = {}
    reasons: dict[int, list[str]] = {}
    for warning in view.warnings:
        message = warning_text(warning)
        message = f"{warning.rule}: {message}" if warning.rule else message
        warned.setdefault(warning.line or 0, []).append(message)
        reasons.setdefault(warning.line or 0, []).extend([message, *warning.detail])
    rows: list[Html] = [_warning_row(text) for text in warned.get(0, ())]
    goes_on, ends, before = False, "", ""
    for number, text in enumerate(view.text.rstrip("\n").split("\n"), 1):
        comment = text.lstrip().startswith("#") and not ends
        starts = not goes_on and not ends and not comment
        if number in origin and before.strip():
            rows.append(row(cell("", style=_PLAIN), cell("", style="padding:4px 0;border:0"), cell("", style=_PLAIN)))
        underline = "text-decoration:underline wavy @warn 1px;text-underline-offset:3px" if number in warned else ""
        reason = "\n".join(reasons.get(number, [])) or None
        shown = dockertext.line(text, starts=starts) if text else Html("&#8203;")
        rows.append(
            row(
                cell(str(number), style=f"{_PLAIN};color:@soft;text-align:right;user-select:none;width:1%"),
                cell(el("code", shown, style=f"{_CODE};{underline}", title=reason), style=_PLAIN),
                cell(
                    muted(origin.get(number, "")),
                    style=f"{_PLAIN};text-align:right;white-space:nowrap;font-size:12px;width:1%",
                ),
            )
        )
        rows += [_warning_row(message) for message in warned.get(number, ())]
        if ends:
            ends = "" if text.strip() == ends else ends
        elif starts and (heredoc := re.search(r"<<-?[\"']?(\w+)[\"']?", text)):
            ends = heredoc[1]
        before = text
        if not comment:
            goes_on = not ends and text.rstrip().endswith("\\")
    count = view.text.rstrip("\n").count("\n") + 1 if view.text.strip() else 0
    facts = [many(count, "line"), many(len(view.warnings), "warning") if view.warnings else ""]
    if not count:
        return card(head(view.title), el("div", "It is empty.", style=_NOTE))
    return card(head(view.title, *facts), el("div", table(*rows, label=view.title), style="padding:6px 0"))


_PLAIN = "border:0;padding:0 12px 0 12px"


def _warning_row(message: str) -> Html:
    mark = el("span", "⚠ ", style="color:@warn", role="img", aria_label="warning")
    body = el("div", mark, message, style="color:@warn;font-size:12px;padding:1px 0 3px")
    return row(cell("", style=_PLAIN), cell(body, style=_PLAIN, colspan="2"))


# ---- facts and single answers ---------------------------------------------------------------------------------------

_LEVELS = {"": ("", "soft"), "good": ("✓", "ok"), "less": ("●", "warn"), "none": ("✕", "bad")}


def info_card(view: InfoView) -> Html:
    """A fact per row, with how well it is and why not better."""
    return card(*_facts(view))


def inspect_card(view: InspectView) -> Html:
    """The facts of each, and all that is known folded below."""
    whole = details("JSON", pre(view.text.rstrip("\n"), style="margin:6px 0 4px"), style="padding:7px 12px")
    return card(*(part for one in view.parts for part in _facts(one)), whole)


def _facts(view: InfoView) -> tuple[Html, Html]:
    rows = []
    for one in view.rows:
        mark, tone = _LEVELS[one.state]
        sign = el("span", f"{mark} ", style=f"color:@{tone}", aria_hidden="true") if mark else ""
        why = el("div", one.why, style="color:@soft;font-size:12px") if one.why else ""
        rows.append(
            row(
                cell(muted(one.name), style="width:1%;white-space:nowrap"),
                cell(sign, one.value, why, style="overflow-wrap:anywhere"),
            )
        )
    return head(view.title), table(*rows, label=view.title)


def message_card(view: MessageView) -> Html:
    """A sentence, further lines, and what to do next."""
    mark, tone = _LEVELS[view.state]
    sign = el("span", f"{mark} ", style=f"color:@{tone}", aria_hidden="true") if mark else ""
    lines = (
        el("ul", *[el("li", line) for line in view.lines], style="margin:4px 0 0;padding-left:20px")
        if view.lines
        else ""
    )
    hint = el("div", view.hint, style="color:@soft;margin-top:3px") if view.hint else ""
    return card(el("div", sign, view.text, lines, hint, style="padding:8px 12px"))
