"""``build --call=outline`` and ``--call=targets``: what a Dockerfile offers, as BuildKit prints it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import Any

from dockermagic.dockerfile.outline import Argument, Demand, Outline, Target, list_targets, outline
from dockermagic.dockerfile.text import Range
from dockermagic.oci.platform import Platform
from dockermagic.verbs import values
from dockermagic.verbs.base import Console, Shown
from dockermagic.verbs.build import naming, request_for
from dockermagic.verbs.options import Arguments
from dockermagic.verbs.source import Source, read_source

__all__ = ["describe", "outline_text", "targets_text"]


def describe(console: Console, arguments: Arguments, method: str, form: str) -> int:
    """Print the outline of the target, or the list of targets; nothing is built. ``form`` is text or json."""
    asked = request_for(Source("", "", None), arguments)
    with read_source(console, arguments.words[0], arguments.text("file"), asked) as source, naming(source):
        if method == "targets":
            targets = list_targets(source.text)
            document: dict[str, Any] = {"targets": [_target(one) for one in targets]}
            shown = Shown("targets", targets, targets_text(targets))
        else:
            found = outline(
                source.text,
                target=arguments.text("target"),
                build_args=values.with_environment(arguments.many("build-arg"), os.environ),
                platform=arguments.text("platform").split(",")[0] or str(Platform.host()),
            )
            document = _outline(found)
            shown = Shown("outline", found, outline_text(found))
        if form == "json":
            data = source.text.encode("utf-8", "surrogateescape")
            document["sources"] = [base64.b64encode(data).decode("ascii")]
            console.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        else:
            console.show(shown)
    return 0


def _table(*rows: Sequence[str]) -> str:
    """Columns with one blank between them; the last one is as long as its words are."""
    widths = [max(len(row[column]) for row in rows) + 1 for column in range(len(rows[0]) - 1)]
    lines = ("".join([*(word.ljust(width) for word, width in zip(row, widths, strict=False)), row[-1]]) for row in rows)
    return "".join(f"{line}\n" for line in lines)


def targets_text(targets: Sequence[Target]) -> str:
    """The table of targets."""
    rows = []
    for target in targets:
        name = " ".join([*([target.name] if target.name else []), *(["(default)"] if target.is_default else [])])
        rows.append((name, target.description))
    return _table(("TARGET", "DESCRIPTION"), *rows)


def outline_text(found: Outline) -> str:
    """Head and tables of what a target takes; a table that would be empty is left out."""
    parts = []
    if found.name or found.description:
        description = [("DESCRIPTION:", found.description)] if found.description else []
        parts.append(_table(("TARGET:", found.name or "(default)"), *description))
    if found.arguments:
        rows = [(one.name, one.value, one.description) for one in found.arguments]
        parts.append(_table(("BUILD ARG", "VALUE", "DESCRIPTION"), *rows))
    for title, demands in (("SECRET", found.secrets), ("SSH", found.agents)):
        if demands:
            parts.append(_table((title, "REQUIRED"), *((one.name, "true" * one.required) for one in demands)))
    return "".join(f"{part}\n" for part in parts)


# as JSON: an empty value is left out, as Go's omitempty does


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value}


def _location(where: Range) -> dict[str, Any]:
    ends = ((where.start_line, 0), (where.end_line, 0))
    start, end = (_without_empty({"line": line, "character": column}) for line, column in ends)
    return {"ranges": [{"start": start, "end": end}]}


def _target(target: Target) -> dict[str, Any]:
    return _without_empty(
        {
            "name": target.name,
            "default": target.is_default,
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "location": _location(target.range),
        }
    )


def _argument(one: Argument) -> dict[str, Any]:
    return {"name": one.name} | _without_empty(
        {"description": one.description, "value": one.value, "location": _location(one.range)}
    )


def _demand(one: Demand) -> dict[str, Any]:
    return {"name": one.name} | _without_empty({"required": one.required, "location": _location(one.range)})


def _outline(found: Outline) -> dict[str, Any]:
    return _without_empty(
        {
            "name": found.name,
            "description": found.description,
            "args": [_argument(one) for one in found.arguments],
            "secrets": [_demand(one) for one in found.secrets],
            "ssh": [_demand(one) for one in found.agents],
        }
    )
