"""A built cell, or one that is being built, as markup: a row per instruction, what it made and what follows."""

from __future__ import annotations

from html import escape

from dockermagic.events import Status, now
from dockermagic.notebook import dockertext, modules
from dockermagic.notebook.ansi import to_html
from dockermagic.notebook.buildfoot import NOTHING, Acts, foot, outdated_note, stale_names
from dockermagic.notebook.markup import (
    TEXT,
    Html,
    button,
    card,
    cell,
    chip,
    details,
    el,
    esc,
    head,
    join,
    muted,
    pre,
    row,
    table,
)
from dockermagic.tables import duration, human_size, many, short_id
from dockermagic.view import BuildView, StepView

__all__ = [
    "Acts",
    "build_card",
    "clock",
    "live_card",
    "live_parts",
    "part_name",
    "shown_steps",
    "stale_names",
    "summary",
]

SHORT_LOG = 8
SHOWN_LOG = 400
FAILED_LOG = 20
LONG_INSTRUCTION = 8
STATE = "display:inline-block;min-width:64px;margin-left:10px"


def build_card(view: BuildView, acts: Acts = NOTHING) -> Html:
    """The whole card; a widget's one has buttons for what it ``acts`` on."""
    rows = [one for step in shown_steps(view) for one in _step_rows(step, acts)]
    steps = table(*rows, label="instructions") if rows else ""
    return card(heading(view), outdated_note(view, acts), steps, foot(view, acts))


def live_parts(view: BuildView, button: Html) -> dict[str, Html]:
    """The parts of a card that is being built, by name: a widget replaces those that have changed.

    Clocks and the output of what runs are left to it; ``button`` stands at the end of the first line.
    """
    parts = {"head": heading(view, button=button)}
    for step in shown_steps(view):
        parts[part_name(step)] = join(_step_rows(step, NOTHING, live=True))
    return parts | {"foot": foot(view)}


def part_name(step: StepView) -> str:
    """What a row is called by the widget."""
    return f"step-{'internal-' if step.internal else ''}{step.number}"


def live_card(parts: dict[str, Html]) -> Html:
    """A card of parts that can be replaced one by one."""
    rows = [
        Html(part.replace("<tr ", f'<tr data-part="{escape(name)}" '))
        for name, part in parts.items()
        if "step-" in name
    ]
    head, foot = (el("div", parts[name], data_part=name) for name in ("head", "foot"))
    return card(head, table(*rows, label="instructions"), foot)


def shown_steps(view: BuildView) -> tuple[StepView, ...]:
    """The rows: the instructions, and before them what else failed, is being fetched or was pulled."""
    if not view.steps:
        return view.internal
    return (*(step for step in view.internal if step.state == "failed" or _fetches(step)), *view.steps)


def _fetches(step: StepView) -> bool:
    return (step.state == "running" or step.text.startswith("pull ")) and any(one.total for one in step.transfers)


# ---- the first line -------------------------------------------------------------------------------------------------


def summary(view: BuildView) -> str:
    """What became of the cell, in a few words."""
    if not view.finished:
        return "building"
    if view.stopped or any(step.state == "stopped" for step in view.steps):
        return "stopped"
    if view.failed:
        return "failed"
    if view.outdated:
        return "stale"
    made = [step for step in view.steps if not step.metadata]
    return "all CACHED" if made and all(step.state == "cached" for step in made) else "built"


def layer_facts(view: BuildView) -> list[str]:
    """How many layers of which size, and how many of them were there already."""
    layers = view.layers
    cached = sum(step.state == "cached" for step in layers)
    facts = []
    if layers:
        facts.append(many(len(layers), "layer"))
        if 0 < cached < len(layers):
            facts[-1] += f" ({cached} CACHED)"
        facts.append(human_size(view.size))
    return facts


def heading(view: BuildView, button: Html | None = None) -> Html:
    """The first line: which cell, what became of it, its layers, the time, the names of the image."""
    word = summary(view)
    tone, mark = {
        "building": ("run", "●"),
        "stopped": ("warn", "■"),
        "failed": ("bad", "✕"),
        "stale": ("warn", "●"),
        "all CACHED": ("ok", "✓"),
        "built": ("ok", "✓"),
    }[word]
    title = join([el("span", mark, style=f"color:@{tone}", aria_hidden="true"), " ", _sentence(view.cell, word)])
    facts: list[object] = []
    if view.finished:
        facts += layer_facts(view)
        facts.append(duration(view.seconds) if view.seconds is not None else "")
    elif view.started is not None:
        facts.append(clock(view.started, live=button is not None))
    names = [chip(name, tone="key") for name in view.images]
    return head(title, *facts, aside=join([*names, *([button] if button else [])], " "))


def _sentence(name: str, word: str) -> str:
    if name and word == "all CACHED":
        return f"{name[0].upper()}{name[1:]}: all CACHED"
    if not name:
        return {"all CACHED": "Built, all CACHED", "building": "Building"}.get(word, word.capitalize())
    return f"{name[0].upper()}{name[1:]} {f'is {word}' if word in ('building', 'stale') else word}"


# ---- a row ----------------------------------------------------------------------------------------------------------


def _step_rows(step: StepView, acts: Acts, *, live: bool = False) -> list[Html]:
    """One instruction, and below it, to the card's right edge, what it printed and what can be done about it.

    While it is ``live`` its clock and its output are left to the widget where there is one.
    """
    output = [] if live and step.state == "running" else _output(step, acts)
    if not output:
        return [_step_row(step, live), *_workplace(step, acts)]
    below = row(cell(style=f"padding:0;{_tint(step)}"), cell(*output, style=_BELOW + _tint(step), colspan="2"))
    return [_step_row(step, live, style="border-bottom:0;padding-bottom:0"), below, *_workplace(step, acts)]


_BELOW = "padding:0 12px 8px;"


def _tint(step: StepView) -> str:
    return "background:@badtint" if step.state == "failed" else ""


def _step_row(step: StepView, live: bool, style: str = "") -> Html:
    style = f"{_tint(step)};{style}"
    number = cell(
        muted("" if step.internal else str(step.number)),
        style=f"width:1%;padding-right:0;text-align:right;font-variant-numeric:tabular-nums;{style}",
    )
    body = cell(_instruction(step), *_about(step, live), style=style)
    figures = el("div", _size(step), _state(step, live), class_="dm-figures")
    right = cell(figures, style=f"width:1%;white-space:nowrap;text-align:right;padding-left:0;{style}")
    return row(number, body, right, class_="dm-whole")


def _instruction(step: StepView) -> Html:
    style = f"{TEXT};font-size:13px"
    if step.internal:
        return el("code", step.text, style=style)
    lines = step.text.rstrip("\n").split("\n")
    if len(lines) <= LONG_INSTRUCTION:
        return el("pre" if len(lines) > 1 else "code", dockertext.instruction(step.text), style=style)
    whole = dockertext.instruction(step.text).split("\n")
    kept = LONG_INSTRUCTION - 3
    first = el("pre", Html("\n".join(whole[:kept])), style=style)
    rest = el("pre", Html("\n".join(whole[kept:])), style=f"{style};display:block")
    return join([first, details(f"… {len(whole) - kept} more lines", rest)])


def _state(step: StepView, live: bool) -> Html:
    seconds = step.seconds(step.completed or step.started or 0.0)
    taken = duration(seconds) if seconds is not None and step.completed is not None else ""
    match step.state:
        case "cached":
            if step.metadata:
                return Html("")
            return el("span", "CACHED", style=f"font:600 11px/1.8 @font;letter-spacing:.04em;color:@soft;{STATE}")
        case "done":
            return Html("") if step.metadata and not (seconds and seconds >= 0.05) else _mark("ok", "✓", "done", taken)
        case "failed":
            return _mark("bad", "✕", "failed", taken)
        case "stopped":
            return _mark("warn", "■", "stopped", taken)
        case "running":
            return _mark("run", "●", "running", clock(step.started or now(), live=live))
        case "skipped":
            return muted("not run")
    return muted("waiting")


def _mark(tone: str, mark: str, word: str, after: object) -> Html:
    sign = el("span", mark, style=f"color:@{tone}", role="img", aria_label=word, title=word)
    figures = el("span", after, style="font-variant-numeric:tabular-nums")
    words = join([sign, " ", figures if after else el("span", word, style=f"color:@{tone}")])
    return el("span", words, style=STATE)


def clock(since: float, *, live: bool = False) -> Html:
    """How long ago that was; where it is ``live`` a widget fills it in."""
    words = "" if live else duration(now() - since)
    return el("span", words, class_="dm-clock", data_since=f"{since:.3f}")


def size_words(step: StepView) -> str:
    """How much the instruction added to the image, in words."""
    if step.metadata:
        return "0 B, metadata" if step.state in ("done", "cached") else ""
    if step.internal and step.state == "done":
        return human_size(sum(one.total for one in step.transfers))
    return human_size(step.size) if step.size is not None and step.state in ("done", "cached") else ""


def _size(step: StepView) -> Html:
    words = size_words(step)
    style = "color:@soft;font-variant-numeric:tabular-nums"
    return el("span", words, " ", style=style) if words else Html("")


def file_words(step: StepView) -> list[tuple[str, str]]:
    """Counts of changed paths, directories among them, with the tone that each has."""
    counts = ((step.added, "added", "ok"), (step.modified, "modified", "warn"), (step.removed, "removed", "bad"))
    found = [(count, word, tone) for count, word, tone in counts if count]
    out = []
    for index, (count, word, tone) in enumerate(found):
        noun = ("path " if count == 1 else "paths ") if index == 0 else ""
        out.append((f"{count:,} {noun}{word}", tone))
    return out


def reason_words(step: StepView) -> str:
    """Why there was no layer in the cache."""
    if not step.reason or step.state in ("cached", "waiting", "skipped"):
        return ""
    return f"not CACHED: {step.reason}"


def _about(step: StepView, live: bool) -> list[Html]:
    """What changed, why it is not cached, what is on its way, what went wrong."""
    out = []
    files: list[object] = []
    if step.state in ("done", "cached"):
        files += [el("span", words, style=f"color:@{tone}") for words, tone in file_words(step)]
    if reason := reason_words(step):
        files.append(esc(reason))
    if files:
        out.append(el("div", join(files, " · "), style="color:@soft;font-size:12px"))
    moving = [status for status in step.transfers if status.total and (live or status.completed is None)]
    if moving and step.state == "running":
        out.append(_transfers(moving))
    if step.error and step.state == "failed":
        out.append(el("div", step.error, style="color:@bad;overflow-wrap:anywhere"))
    return out


def _output(step: StepView, acts: Acts) -> list[Html]:
    return [*([log_block(step)] if step.log.strip() else []), *_buttons(step, acts)]


def _buttons(step: StepView, acts: Acts) -> list[Html]:
    """What can be done about a step that failed, and with a long output."""
    failed, number, found = step.state == "failed", step.number, []
    if failed and acts.kept:
        if acts.shell:
            found.append(modules.opener("shell in the failed state", "failed", "terminal", of="failed"))
            found.append(modules.opener("shell before it", "failed", "terminal", of="before"))
        found.append(modules.opener("what it changed", "failed", "files", source="failed", changed=True))
    if failed and acts.chain:
        late = "when the kernel is free…"
        found.append(button("run again", data_send="again", data_cell=acts.cell, data_busy="running…", data_late=late))
    if acts.logs and (step.log_dropped or step.log.count(b"\n") > SHORT_LOG):
        found.append(button("save the whole log", data_save=f"step-{number}.log", data_of=f"log:{step.digest}"))
    return [el("div", *found, class_="dm-buttons")] if found else []


def _workplace(step: StepView, acts: Acts) -> list[Html]:
    """A row as wide as the card, in which a failed step's buttons open a terminal or the files."""
    if step.state != "failed" or not acts.kept:
        return []
    return [row(cell(modules.place("failed"), style="padding:0 12px;background:@badtint", colspan="3"))]


def log_block(step: StepView) -> Html:
    """What the process printed: at once where it is short, folded where it is long; of a failure its end stays open."""
    text, count = to_html(step.log.rstrip(b"\r\n"), last=SHOWN_LOG)
    lines = text.split("\n")
    open_lines = 0 if count > SHORT_LOG or step.log_dropped else len(lines)
    if step.state in ("failed", "stopped", "running"):
        open_lines = min(len(lines), FAILED_LOG)
    parts = []
    if folded := lines[: len(lines) - open_lines]:
        more = "more than " if step.log_dropped else ""
        left = many(count - open_lines, "line")
        words = f"… {more}{left} before" if open_lines else f"output · {more}{left}"
        cut = "… the lines before these were not kept\n" if step.log_dropped or count > SHOWN_LOG else ""
        parts.append(details(words, _log([muted(cut) if cut else "", Html("\n".join(folded))])))
    if open_lines:
        parts.append(_log([Html("\n".join(lines[-open_lines:]))]))
    return el("div", *parts, style="margin-top:4px")


def _log(parts: list[Html | str]) -> Html:
    style = "max-height:23rem;overflow:auto;margin:2px 0"
    return pre(*parts, style=style, class_="dm-scroll", tabindex="0", aria_label="output")


def _transfers(statuses: list[Status]) -> Html:
    items = []
    for status in statuses[-6:]:
        share = min(100.0, 100 * status.current / status.total)
        bar = el("div", el("div", style=f"width:{share:.1f}%;height:4px;border-radius:2px;background:@run"))
        track = el("div", bar, style="height:4px;border-radius:2px;background:@line;max-width:26rem;margin:2px 0 4px")
        name = short_id(status.id) if status.id.startswith("sha256:") else status.name or status.id
        words = f"{name}  {human_size(status.current)} of {human_size(status.total)}"
        items.append(el("div", muted(words), track, style="font-size:12px"))
    return el("div", *items, style="margin-top:3px")
