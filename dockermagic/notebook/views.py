"""What an engine and a session say, as the values that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from dockermagic import view
from dockermagic.build.request import FailedStep
from dockermagic.buildview import with_results
from dockermagic.catalog import HistoryRow
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.events import Warning
from dockermagic.files import UNCHANGED, Changed, Layers, changed_tree
from dockermagic.handles import Image
from dockermagic.notebook.sources import State, snapshots_before
from dockermagic.session import Run, Script, Session
from dockermagic.tables import age, command_line, human_size, many, short_id
from dockermagic.values import replace
from dockermagic.verification import Verdict

__all__ = [
    "card",
    "changed_view",
    "changes_view",
    "compared_view",
    "config_rows",
    "dockerfile_view",
    "failed_changes",
    "failed_tree",
    "history_view",
    "image_tree",
    "image_view",
    "inspect_view",
    "instructions_of",
    "session_view",
    "tree_view",
    "verdict_view",
]

SHOWN = 600
"""Paths that a page without a widget holds."""

SHOWN_PATHS = 20
"""Paths that a verdict names."""

NO_HISTORY = frozenset({"FROM", "ONBUILD"})


def instructions_of(script: Script) -> tuple[view.Instruction, ...]:
    """The instructions of the script's last cell, their lines counted in the notebook cell."""
    part = script.parts[-1]
    return tuple(
        view.Instruction(index, text, script.line_in_cell(line))
        for index, text, line in zip(part.indices, _as_written(script), part.lines, strict=True)
    )


def _as_written(script: Script) -> list[str]:
    """The last cell's instructions with the lines, comments and here-documents that they have in it."""
    part = script.parts[-1]
    lines = script.text.split("\n")
    last = part.line - 1 + part.cell.text.rstrip("\n").count("\n") + 1
    ends = [line - 1 for line in (*part.lines, last + 1)][1:]
    out = []
    for begin, end in zip(part.lines, ends, strict=True):
        own = lines[begin - 1 : end]
        while len(own) > 1 and (not own[-1].strip() or own[-1].lstrip().startswith("#")):
            own.pop()
        out.append("\n".join(own))
    return out


def card(shown: view.BuildView, run: Run, engine: Engine) -> view.BuildView:
    """A built cell's card: the fold of its events, and what is known at the end."""
    if not run.script.parts[-1].words:
        shown = replace(shown, steps=(), internal=(), warnings=(), notes=("No instruction stands in this cell.",))
    elif run.result is not None:
        # what a base takes up is known to its event alone
        steps = [replace(step, snapshot=None) if view.keyword(step.text) == "FROM" else step for step in run.steps]
        shown = with_results(shown, steps, instructions_of(run.script))
    notes = tuple(f"{cell.label} was built again: what it reads has changed" for cell in run.again)
    shown = replace(
        shown,
        stale=tuple(cell.label for cell in run.left),
        images=run.cell.tags,
        image_id=run.result.image_id if run.result else "",
        notes=(*shown.notes, *notes),
        finished=True,
    )
    if run.stage is None:
        return shown
    return replace(
        shown,
        history=history_view(engine.stage_history(run.stage), run),
        tree=changed_view(engine, run),
        config=config_rows(run.stage.config),
    )


def history_view(rows: Sequence[HistoryRow], run: Run | None = None, title: str = "") -> view.HistoryView:
    """A history, the newest step first; of a run it is known which cell made a step and whether it was cached."""
    shown = [
        view.HistoryRow(row.created, row.created_by, row.size, row.comment, row.image_id, empty=row.empty_layer)
        for row in rows
    ]
    if run is not None and run.result is not None and run.stage is not None:
        made = [step for step in run.result.steps if step.stage == run.stage.index]
        made = [step for step in made if view.keyword(step.text) not in NO_HISTORY]
        for number, step in enumerate(reversed(made)):
            part = run.script.part_of(step.index)
            if number < len(shown) and part is not None:
                cached = step.cached if step.snapshot is not None else None
                row = replace(shown[number], cell=part.cell.label, cached=cached)
                shown[number] = row if cached else replace(row, reason=step.reason, seconds=step.seconds or None)
    return view.HistoryView(tuple(shown), title)


def tree_view(engine: Engine, run: Run, path: str = "/") -> view.TreeView:
    """One directory of the root filesystem that a run gave, and what changed below it since the cell began."""
    label = run.cell.label
    layers = run.stage.snapshots if run.stage else ()
    return _listed(engine, layers, run.base, path, f"Files after {label}", f"the state before {label}")


def changed_view(engine: Engine, run: Run) -> view.TreeView:
    """What a cell changed in the root filesystem, as a tree."""
    changed = UNCHANGED
    if run.stage is not None and any(step.added or step.modified or step.removed for step in run.steps):
        changed = engine.files.changed(run.stage.snapshots, run.base, SHOWN)
    return _counted(view.TreeView(changed_tree(changed.paths), against=f"the state before {run.cell.label}"), changed)


def compared_view(engine: Engine, before: State, after: State) -> view.TreeView:
    """What turns one tree into another, as a tree."""
    changed = engine.files.changed(after.layers, before.layers, SHOWN)
    shown = view.TreeView(changed_tree(changed.paths), title=f"Files: {after.label}", against=before.label)
    return _counted(shown, changed)


def image_tree(engine: Engine, name: str, path: str = "/") -> view.TreeView:
    """One directory of an image."""
    page = engine.files.page(engine.snapshots_of(name), path, limit=SHOWN)
    return view.TreeView(page.entries, path, f"Files of {name}", more=page.total - len(page.entries))


def changes_view(engine: Engine, run: Run) -> view.ChangesView:
    """What a cell changed in the root filesystem."""
    snapshots = run.stage.snapshots if run.stage else ()
    return _changes(engine, snapshots, run.base, f"What {run.cell.label} changed")


def failed_tree(engine: Engine, failed: FailedStep, path: str = "/") -> view.TreeView:
    """One directory of what a failed RUN left behind, against what was there before it."""
    return _listed(engine, failed, snapshots_before(failed), path, "Files after the failed RUN", "the state before it")


def failed_changes(engine: Engine, failed: FailedStep) -> view.ChangesView:
    """What a failed RUN had changed."""
    return _changes(engine, failed, snapshots_before(failed), "What the failed RUN changed")


def _listed(engine: Engine, layers: Layers, base: Layers, path: str, title: str, against: str) -> view.TreeView:
    if not engine.files.directories(layers):
        return view.TreeView((), path, title, against)
    page = engine.files.page(layers, path, base=base, limit=SHOWN)
    changed = engine.files.changed(layers, base, SHOWN)
    below = changed_tree(changed.paths)
    for part in path.strip("/").split("/"):
        below = next((one.children or () for one in below if one.name == part), below if not part else ())
    inside = {one.name: one.children for one in below if one.children}
    entries = tuple(replace(one, children=inside.get(one.name, one.children)) for one in page.entries)
    shown = view.TreeView(entries, path, title, against, more=page.total - len(entries))
    return shown if path.strip("/") else _counted(shown, changed)  # the counts are those of the whole tree


def _counted(shown: view.TreeView, changed: Changed) -> view.TreeView:
    return replace(shown, added=changed.added, modified=changed.modified, removed=changed.removed)


def _changes(engine: Engine, layers: Layers, base: Sequence[int], title: str) -> view.ChangesView:
    rows = ((one.path, one.state, one.size) for one in engine.changes(layers, base))
    return view.ChangesView(tuple(rows), title)


def config_rows(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What an image config says about running the image."""
    found: dict[str, Any] = dict(config.get("config") or {})
    rows = [
        (name if not number else "", line)
        for name, value in found.items()
        if value not in (None, "", [], {}) and name != "ArgsEscaped"  # says nothing but on Windows
        for number, line in enumerate(_lines(name, value))
    ]
    platform = "/".join(str(config[key]) for key in ("os", "architecture", "variant") if config.get(key))
    return (*rows, ("Platform", platform)) if platform else tuple(rows)


def _lines(name: str, value: Any) -> list[str]:
    """A value of an image config: variables and labels one a line, commands as they stand in a Dockerfile."""
    import json

    if isinstance(value, str):
        return [value]
    if isinstance(value, dict) and all(one in ({}, None) for one in value.values()):
        return [" ".join(value)]
    if name == "Env":
        return list(map(str, value))
    if name == "Labels":
        return [f"{key}={text}" for key, text in value.items()]
    return [json.dumps(value, ensure_ascii=False)]


def dockerfile_view(engine: Engine, session: Session) -> view.DockerfileView:
    """A session's Dockerfile, with the cell that each line came from and what the linter says of it."""
    script = session.script()
    warnings: list[Warning] = []
    if script.parts:
        with suppress(DockermagicError):  # an ignore file that cannot be read is for the build to tell
            found = engine.check(session.request()).diagnostics
            warnings = [Warning("", 1, one.detail, (), one.url, one.line, one.rule) for one in found]
    cells = tuple((part.line, part.cell.label) for part in script.parts)
    name = "this kernel" if session.name.kind == "kernel" else str(session.name)
    return view.DockerfileView(script.text, cells, tuple(warnings), f"Dockerfile of {name}")


def image_view(image: Image) -> view.InfoView:
    """What an image is and how its containers start."""
    return _image_facts(image.document, image.name)


def _image_facts(document: Mapping[str, Any], name: str) -> view.InfoView:
    layers = document["RootFS"]["Layers"]
    platform = {"os": document["Os"], "architecture": document["Architecture"], "variant": document.get("Variant")}
    rows = [
        ("Id", short_id(document["Id"])),
        ("Created", age(str(document["Created"]))),
        ("Size", f"{human_size(int(document['Size']))} in {many(len(layers), 'layer')}"),
        *config_rows({"config": document["Config"], **platform}),
    ]
    title = f"Image {name}" if name else "Image without a name"
    return view.InfoView(tuple(view.InfoRow(name, value) for name, value in rows), title)


def _container_facts(document: Mapping[str, Any]) -> view.InfoView:
    """What a container is and does; of its config what does not stand elsewhere."""
    state, config = document["State"], dict(document["Config"])
    ended = f", exit code {state['ExitCode']}" if state["Status"] == "exited" else ""
    ports = [
        f"{one['HostIp']}:{one['HostPort']} -> {port}"
        for port, bound in document["NetworkSettings"]["Ports"].items()
        for one in bound or ()
    ]
    rows = [
        ("Id", document["Id"][:12]),
        ("Image", config.pop("Image")),
        ("Created", age(document["Created"])),
        ("State", state["Status"] + ended),
        ("Command", command_line([document["Path"], *document["Args"]])),
        *zip_longest(["Ports"][: len(ports)], ports, fillvalue=""),
        *config_rows({"config": {name: value for name, value in config.items() if name not in _TOLD}}),
    ]
    title = f"Container {document['Name'].removeprefix('/')}"
    return view.InfoView(tuple(view.InfoRow(name, value) for name, value in rows), title)


_TOLD = frozenset({"Cmd", "Entrypoint", "ExposedPorts", "Hostname", "OpenStdin", "Tty"})


def inspect_view(documents: Sequence[Mapping[str, Any]], text: str) -> view.InspectView:
    """What ``inspect`` found, images and containers."""
    parts = (
        _container_facts(one) if "State" in one else _image_facts(one, next(iter(one["RepoTags"]), ""))
        for one in documents
    )
    return view.InspectView(tuple(parts), text)


def session_view(session: Session) -> view.SessionView:
    """The cells of a session as they stand."""
    rows = tuple(
        view.CellRow(one.cell.label, one.cell.text.strip("\n"), one.state, why=one.reason) for one in session.status()
    )
    names = tuple(dict.fromkeys(tag for cell in session.chain.on for tag in cell.tags))
    name = "of this kernel" if session.name.kind == "kernel" else str(session.name)
    return view.SessionView(name, rows, str(session.folder or ""), names)


def verdict_view(verdict: Verdict) -> view.MessageView:
    """Whether a replay gave the same, layer by layer, and what differs if not."""
    pairs = zip_longest(verdict.now, verdict.replayed, fillvalue="")
    layers = [
        f"layer {short_id(now)}: the same" if now == then else f"layer {_short(now)}: {_short(then)} when replayed"
        for now, then in pairs
    ]
    if verdict.identical:
        return view.MessageView("Verified: a replay from nothing gives the same layers.", tuple(layers), state="good")
    if verdict.equal:
        hint = "Layers with other times have other digests."
        text = "Verified: a replay from nothing gives the same files and config; only times differ."
        return view.MessageView(text, tuple(layers), hint, state="good")
    fields = [
        f"config {one.field}: {one.before or 'nothing'}, {one.after or 'nothing'} when replayed"
        for one in verdict.fields
    ]
    paths = [f"{one.state} {one.path}" + (f" ({', '.join(one.what)})" if one.what else "") for one in verdict.paths]
    left = len(paths) - SHOWN_PATHS
    more = [f"and {many(left, 'more path')}"] if left > 0 else []
    hint = "The network, the clock and chance give other results each time: pin versions, and base images by digest."
    lines = (*fields, *paths[:SHOWN_PATHS], *more, *layers)
    return view.MessageView("A replay from nothing gives something else.", lines, hint, state="less")


def _short(digest: str) -> str:
    return short_id(digest) if digest else "none"
