"""The same views as plain text: what a console, a grader or a diff of a notebook reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dockermagic.notebook import treeview
from dockermagic.notebook.advice import advice
from dockermagic.notebook.ansi import plain_lines
from dockermagic.notebook.buildcard import (
    file_words,
    layer_facts,
    reason_words,
    shown_steps,
    size_words,
    stale_names,
    summary,
)
from dockermagic.notebook.listings import unseen_words, waste_words
from dockermagic.tables import align, clip, command_line, diff_lines, duration, human_size, many, usage_table
from dockermagic.tables import history_table as history_lines
from dockermagic.tables import images_table as image_lines
from dockermagic.view import (
    BuildView,
    ChangesView,
    CheckView,
    ContainersView,
    ContainerView,
    DiffView,
    DockerfileView,
    HistoryView,
    ImagesView,
    InfoView,
    InspectView,
    MessageView,
    SessionView,
    StepView,
    TreeEntry,
    TreeView,
    UsageView,
    View,
    warning_text,
)

__all__ = ["plain"]

LOG_LINES = 20
TREE_ENTRIES = 200
SIGNS = {"": " ", "added": "+", "modified": "~", "removed": "-"}


def plain(view: View) -> str:
    """The view as lines of text, without a line end at the end."""
    found: Callable[[Any], str] = _PRINTERS[type(view)]
    return found(view).rstrip("\n")


def _build(view: BuildView) -> str:
    facts = layer_facts(view)
    facts += [duration(view.seconds)] if view.seconds is not None else []
    name = f"{view.cell} " if view.cell else ""
    word = summary(view)
    title = f"{name}{'is stale' if word == 'stale' else word}" + (f": {', '.join(facts)}" if facts else "")
    title += f" -> {', '.join(view.images)}" if view.images else ""
    lines = [title[:1].upper() + title[1:]]
    lines += [f"Stale: {view.outdated}. %dockerfile replay builds it again."] if view.outdated else []
    lines += [line for step in shown_steps(view) for line in _step(step)]
    for warning in view.warnings:
        message = warning_text(warning)
        place = f"line {warning.line}: " if warning.line else ""
        lines.append(f"warning: {place}{warning.rule}: {message}" if warning.rule else f"warning: {place}{message}")
    if view.stale:
        verb = "is" if len(view.stale) == 1 else "are"
        lines.append(f"{stale_names(view.stale)} {verb} stale: run %dockerfile replay.")
    return "\n".join([*lines, *view.notes])


def _step(step: StepView) -> list[str]:
    word = {
        "cached": "" if step.metadata else "CACHED",
        "done": "" if step.metadata else "done",
        "running": "running",
        "failed": "FAILED",
        "stopped": "stopped",
        "skipped": "not run",
        "waiting": "waiting",
    }[step.state]
    seconds = step.seconds(step.completed or 0.0) if step.completed is not None else None
    taken = duration(seconds) if seconds is not None and step.state in ("done", "failed", "stopped") and word else ""
    first, *more = step.text.strip("\n").split("\n")
    facts = [size_words(step), ", ".join(words for words, _ in file_words(step)), reason_words(step)]
    beside = "; ".join(fact for fact in facts if fact)
    shown = clip(first, 100) + (" …" if more else "")
    number = "" if step.internal else step.number
    lines = [f"{number:>3}  {f'{word} {taken}'.strip():<13} {shown}" + (f"  ({beside})" if beside else "")]
    if step.error and step.state == "failed":
        lines.append(f"     | {step.error}")
    found = plain_lines(step.log)
    if step.log_dropped or len(found) > LOG_LINES:
        lines.append("     | …")
    return lines + [f"     | {line}".rstrip() for line in found[-LOG_LINES:]]


def _history(view: HistoryView) -> str:
    return history_lines(view.rows) + _waste(view)


def _waste(view: HistoryView) -> str:
    waste = view.waste
    if waste is None or not waste.total:
        return ""
    lines = [f"As dive counts: {', '.join(waste_words(waste))}."]
    if waste.bytes:
        lines.append(unseen_words(waste))
    for one in (*waste.paths, *waste.left)[: treeview.MOST_WASTE]:
        lines.append(f"  {human_size(one.bytes):>8}  {one.path}: {advice(one.path)}")
    return "\n" + "\n".join(lines)


def _images(view: ImagesView) -> str:
    return image_lines(view.rows)


def _tree(view: TreeView) -> str:
    counts = [(view.added, "added"), (view.modified, "modified"), (view.removed, "removed")]
    facts = [f"{count:,} {word}" for count, word in counts if count]
    if view.against:
        facts.append(f"compared with {view.against}")
    title = (view.title or "Files") + (f" {view.path}" if view.path != "/" else "")
    lines = [title + (f": {', '.join(facts)}" if facts else "")]
    left = [TREE_ENTRIES]
    lines += _level(view.entries, "", left, view.more)
    return "\n".join(lines)


def _level(entries: Sequence[TreeEntry], indent: str, left: list[int], more: int = 0) -> Iterable[str]:
    ordered = sorted(entries, key=lambda entry: (entry.kind != "directory", entry.name))
    for index, entry in enumerate(ordered):
        last = index == len(ordered) - 1 and not more
        if left[0] <= 0:
            yield f"  {indent}└── … {len(ordered) - index + more:,} more"
            return
        left[0] -= 1
        name = entry.name + ("/" if entry.kind == "directory" else "") + (f" -> {entry.link}" if entry.link else "")
        size = f"  {human_size(entry.size)}" if treeview.has_size(entry) else ""
        yield f"{SIGNS[entry.state]} {indent}{'└── ' if last else '├── '}{name}{size}"
        if entry.children:
            yield from _level(entry.children, indent + ("    " if last else "│   "), left)
    if more:
        yield f"  {indent}└── … {more:,} more"


def _changes(view: ChangesView) -> str:
    lines = [view.title or many(len(view.changes), "change")]
    for path, state, size in view.changes[: treeview.MOST]:
        lines.append(f"{SIGNS[state]} {path}" + (f"  {human_size(size)}" if state != "removed" else ""))
    if rest := len(view.changes) - treeview.MOST:
        lines += [f"… {rest:,} more"] if rest > 0 else []
    return "\n".join(lines)


def _container(view: ContainerView) -> str:
    state = "running" if view.exit_code is None else f"exit code {view.exit_code}"
    if view.stopped:
        state = "stopped" if view.exit_code is None else f"stopped, {state}"
    if view.gone:
        state = "removed" if view.exit_code is None else f"{state}, removed"
    if view.health:
        state += ", health: starting" if view.health == "starting" else f", {view.health}"
    taken = f" after {duration(view.seconds)}" if view.seconds is not None else ""
    title = f"{' '.join([view.image, command_line(view.command)]).strip()}: {state}{taken}"
    known = " ".join(one for one in (view.id, view.name if view.id else "", view.ports) if one)
    title += f" ({known})" if known else ""
    found = plain_lines(view.output)
    return "\n".join([*found, title] if found else [title])


def _containers(view: ContainersView) -> str:
    return view.text


def _session(view: SessionView) -> str:
    if not view.cells:
        return f"Session {view.name}: no cell yet. Run one that begins with %%dockerfile and a FROM."
    rows = []
    for one in view.cells:
        first = next((line for line in one.text.splitlines() if line.strip()), "")
        size = f"{many(one.layers, 'layer')}, {human_size(one.size)}" if one.layers else ""
        rows.append((one.label, one.state, size, clip(first, 60) + (f"  ({one.why})" if one.why else "")))
    lines = [f"Session {view.name}", align(rows, gap=2, least=0).rstrip("\n")]
    if any(one.state == "stale" for one in view.cells):
        lines.append("%dockerfile replay builds what is stale again.")
    return "\n".join(lines)


def _dockerfile(view: DockerfileView) -> str:
    return view.text


def _check(view: CheckView) -> str:
    if not view.warnings:
        return "No warnings."
    lines = [f"{many(len(view.warnings), 'warning')} in {view.title}"]
    for warning in view.warnings:
        place = f"line {warning.line}: " if warning.line else ""
        lines.append(f"{place}{f'{warning.rule}: ' if warning.rule else ''}{warning_text(warning)}")
    return "\n".join(lines)


def _info(view: InfoView) -> str:
    rows = []
    for one in view.rows:
        rows.append((one.name, one.value))
        rows += [("", f"  {one.why}")] if one.why else []
    return align(rows, gap=2, least=0)


def _message(view: MessageView) -> str:
    return "\n".join([view.text, *[f"  {line}" for line in view.lines], *([view.hint] if view.hint else [])])


def _usage(view: UsageView) -> str:
    return usage_table(view.rows)


def _diff(view: DiffView) -> str:
    return "\n".join(diff_lines(view.diff))


_PRINTERS: dict[type, Callable[[Any], str]] = {
    BuildView: _build,
    ChangesView: _changes,
    CheckView: _check,
    ContainersView: _containers,
    ContainerView: _container,
    DiffView: _diff,
    DockerfileView: _dockerfile,
    HistoryView: _history,
    ImagesView: _images,
    InfoView: _info,
    InspectView: lambda view: view.text,
    MessageView: _message,
    SessionView: _session,
    TreeView: _tree,
    UsageView: _usage,
}
