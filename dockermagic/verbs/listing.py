"""Lists as ``--format`` asks for them: aligned tables under Docker's headings, JSON, or a template for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dockermagic.tables import align, parse_moment, short_id
from dockermagic.verbs.template import Template

__all__ = ["full_id", "moment", "render", "timestamp"]


def moment(text: str) -> str:
    """An RFC 3339 time as ``images --format {{.CreatedAt}}`` prints it."""
    then = parse_moment(text)
    return "N/A" if then is None else then.astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")


def timestamp(text: str) -> str:
    """An RFC 3339 time as ``history --human=false`` prints it."""
    then = parse_moment(text)
    return "N/A" if then is None else then.astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")


def full_id(digest: str, full: bool = True) -> str:
    """An image's id: all of it with its algorithm, or its twelve digits."""
    return digest if full else short_id(digest)


def render(rows: Sequence[Mapping[str, object]], headers: Mapping[str, str], form: str, table: str) -> str:
    """The rows in the form that ``--format`` asks for.

    ``form`` is '' or ``table`` (then ``table`` is the template), ``table TEMPLATE``, ``json`` or a template for a row.
    Raises UsageError for a template that is none or names a field that is not there.
    """
    if form == "json":
        return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    is_table = not form or form.split(None, 1)[0] == "table"
    source = form.strip().removeprefix("table").strip() if is_table else form
    source = (source or table).replace("\\t", "\t").replace("\\n", "\n")
    template = Template(source)
    if not is_table:
        return "".join(template.render(row) + "\n" for row in rows)
    lines = [template.render(headers), *(template.render(row) for row in rows)]
    return align([line.split("\t") for line in lines])
