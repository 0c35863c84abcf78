"""``check``: what is odd or wrong in a Dockerfile, without building it, as text or as BuildKit's JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dockermagic.errors import BuildError, DockermagicError
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.build import SOURCE_OPTIONS, request_for
from dockermagic.verbs.options import Arguments, text
from dockermagic.verbs.source import Source, read_source

if TYPE_CHECKING:
    from dockermagic.dockerfile.linter import Diagnostic

__all__ = ["CHECK", "as_json", "as_text", "check", "excerpt"]

LINE = "-" * 20


def excerpt(source: str, first: int, last: int) -> str:
    """The lines of a Dockerfile around a place, the lines of the place itself marked, as BuildKit shows them."""
    lines = source.split("\n")
    if not 1 <= first <= len(lines):
        return ""
    start, end = first, min(max(first, last), len(lines))
    marked = range(first, end + 1)
    wanted, shown = (4 if start == end else 2), 0
    while shown < wanted:
        if start > 1:
            start, shown = start - 1, shown + 1
        if end != len(lines):
            end, shown = end + 1, shown + 1
        shown += 1
    rows = [
        f" {number:3d} | {'>>>' if number in marked else '   '} {lines[number - 1]}" for number in range(start, end + 1)
    ]
    return "\n".join((LINE, *rows, LINE))


def as_text(source: Source, warnings: Sequence[Diagnostic], error: DockermagicError | None) -> str:
    """What ``docker build --check`` prints."""
    count = len(warnings)
    if not count and error is None:
        return "Check complete, no warnings found.\n"
    parts = []
    if count:
        verb = "warning has" if count == 1 else "warnings have"
        parts.append(f"Check complete, {count} {verb} been found!\n")
    for warning in warnings:
        url = f" - {warning.url}" if warning.url else ""
        parts.append(
            f"\nWARNING: {warning.rule}{url}\n{warning.detail}\n{_place(source, warning.line, warning.extent.end_line)}"
        )
    if error is not None:
        parts.append(("\n" if count else "") + f"ERROR: {error.message}\n{_place(source, error.line, error.line)}")
        if error.hint:
            parts.append(f"{error.hint}\n")
    return "".join(parts)


def _place(source: Source, first: int | None, last: int | None) -> str:
    if not first:
        return ""
    shown = excerpt(source.text, first, last or first)
    return f"{source.filename}:{first}\n{shown}\n" if shown else f"{source.filename}:{first}\n"


def _location(ranges: Sequence[tuple[int, int, int, int]]) -> dict[str, Any]:
    return {
        "sourceIndex": 0,
        "ranges": [
            {"start": {"line": first, "character": start}, "end": {"line": last, "character": end}}
            for first, start, last, end in ranges
        ],
    }


def as_json(source: Source, warnings: Sequence[Diagnostic], error: DockermagicError | None) -> str:
    """BuildKit's result of a lint request; lines count from 1."""
    import base64

    document: dict[str, Any] = {"warnings": []}
    for warning in warnings:
        found = {
            "ruleName": warning.rule,
            "description": warning.description,
            "url": warning.url,
            "detail": warning.detail,
            "location": _location([(warning.line, 0, warning.extent.end_line, 0)] if warning.line else []),
        }
        document["warnings"].append({key: value for key, value in found.items() if value or key != "url"})
    data = source.text.encode("utf-8", "surrogateescape")
    document["sources"] = [
        {"filename": source.filename, "language": "Dockerfile", "data": base64.b64encode(data).decode("ascii")}
    ]
    if error is not None:
        ranges = [(error.line, 0, error.line, 0)] if error.line else []
        document["buildError"] = {"message": error.message, "location": _location(ranges)}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def check(console: Console, arguments: Arguments, form: str = "") -> int:
    """Check a Dockerfile: 0 where there is nothing to say, 1 where there are warnings or an error.

    ``form`` is text or json; by default what ``--format`` says.
    """
    context = arguments.words[0] if arguments.words else "."
    warnings: Sequence[Diagnostic] = ()
    error: DockermagicError | None = None
    asked = request_for(Source("", "", None), arguments)
    with read_source(console, context, arguments.text("file"), asked) as source:
        try:
            report = console.engine.check(request_for(source, arguments))
            warnings, error = report.diagnostics, report.error
        except BuildError as found:
            error = found
    if (form or ("format" in arguments.options and arguments.text("format"))) == "json":
        console.write(as_json(source, warnings, error))
    else:
        console.show(Shown("check", (source, warnings, error), as_text(source, warnings, error)))
    return 1 if warnings or error else 0


def _form(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError("text or json")
    return value


CHECK = Verb(
    "check",
    "[OPTIONS] [PATH | -]",
    "Check a Dockerfile without building it",
    check,
    (*SOURCE_OPTIONS, text("format", "", "Format of the result: text or json", default="text", check=_form)),
    (0, 1),
    more="The exit code is 0 where there is nothing to say, and 1 where there are warnings or an error.",
)
