"""Words and tables for people: sizes, ages and durations as Docker writes them, and columns as Docker aligns them.

The terminal and the ``text/plain`` of every output use the same ones.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockermagic.imagediff import ImageDiff
    from dockermagic.view import HistoryRow, ImageRow, Usage

__all__ = [
    "age",
    "align",
    "clip",
    "command_line",
    "diff_lines",
    "duration",
    "history_table",
    "human_size",
    "images_table",
    "many",
    "parse_moment",
    "reclaimable",
    "short_id",
    "text_width",
    "usage_table",
]


def human_size(size: int) -> str:
    """Three digits and a decimal unit: ``4.26MB``, ``154B``."""
    value, unit = _scaled(size, 1000, 999.5, ["B", "kB", "MB", "GB", "TB", "PB"])
    return f"{value:.3g}{unit}"


def binary_size(size: int) -> str:
    """Four digits and a unit of 1024, as Docker shows memory: ``452KiB``, ``23.54GiB``."""
    value, unit = _scaled(size, 1024, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
    return f"{value:.4g}{unit}"


def _scaled(size: int, step: int, most: float, units: list[str]) -> tuple[float, str]:
    """The size in the first of the units, each ``step`` of the one before, in which it is less than ``most``."""
    value = float(size)
    while value >= most and len(units) > 1:
        value /= step
        units.pop(0)
    return value, units[0]


def duration(seconds: float) -> str:
    """``4ms``, ``0.3s``, ``1m 12s``, ``2h 05m``."""
    seconds = max(0.0, seconds)
    if seconds < 0.05:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def parse_moment(text: str) -> datetime | None:
    """An RFC 3339 time with any number of digits of a second; None for no time and for Go's zero time."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?", text.strip())
    if not match or match[1].startswith("0001-"):
        return None
    zone = "+00:00" if match[4] in (None, "Z") else match[4]
    return datetime.fromisoformat(f"{match[1]}T{match[2]}{(match[3] or '.0')[:7]}{zone}")


def age(text: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was: ``About a minute ago``, ``2 weeks ago``; ``N/A`` for no time."""
    then = parse_moment(text)
    if then is None:
        return "N/A"
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    minutes, hours = int(seconds // 60), int(seconds / 3600 + 0.5)
    if seconds < 1:
        words = "Less than a second"
    elif seconds < 60:
        words = many(int(seconds), "second")
    elif minutes < 60:
        words = "About a minute" if minutes == 1 else many(minutes, "minute")
    elif hours < 48:
        words = "About an hour" if hours == 1 else many(hours, "hour")
    elif hours < 24 * 7 * 2:
        words = many(hours // 24, "day")
    elif hours < 24 * 30 * 2:
        words = many(hours // 24 // 7, "week")
    elif hours < 24 * 365 * 2:
        words = many(hours // 24 // 30, "month")
    else:
        words = many(int(seconds / 3600) // 24 // 365, "year")
    return f"{words} ago"


def many(count: int, noun: str, plural: str = "") -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def short_id(digest: str) -> str:
    """The twelve digits by which Docker shows an image."""
    return digest.partition(":")[2][:12] or digest[:12]


def command_line(words: Sequence[str]) -> str:
    """The words as a shell would read them, in the quotes that need the fewest signs."""
    shown = []
    for word in words:
        if re.fullmatch(r"[\w@%+=:,./-]+", word):
            shown.append(word)
        elif "'" not in word:
            shown.append(f"'{word}'")
        elif not re.search(r'["$`\\!]', word):
            shown.append(f'"{word}"')
        else:
            shown.append(shlex.quote(word))
    return " ".join(shown)


def text_width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def clip(text: str, length: int) -> str:
    """The text in one line and in at most ``length`` characters, with an ellipsis where it was cut."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: max(0, length - 1)].rstrip() + "…"


def align(lines: Iterable[Sequence[str]], *, gap: int = 3, least: int = 10) -> str:
    """Cells in columns as Docker aligns them: ``gap`` blanks between, none narrower than ``least``, the last as is."""
    rows = [list(cells) for cells in lines]
    widths: dict[int, int] = {}
    for cells in rows:
        for column, cell in enumerate(cells[:-1]):
            widths[column] = max(widths.get(column, least), text_width(cell) + gap)
    out = []
    for cells in rows:
        padded = [cell + " " * (widths[column] - text_width(cell)) for column, cell in enumerate(cells[:-1])]
        out.append("".join((*padded, *cells[-1:])).rstrip() + "\n")
    return "".join(out)


def images_table(rows: Sequence[ImageRow]) -> str:
    """What ``docker images`` prints."""
    lines = [("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")]
    for row in rows:
        names = (row.repository or "<none>", row.tag or "<none>")
        lines.append((*names, short_id(row.id), age(row.created), human_size(row.size)))
    return align(lines)


def history_table(rows: Sequence[HistoryRow]) -> str:
    """What ``docker history`` prints, the newest step first as it is given."""
    lines = [("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT")]
    for row in rows:
        image = short_id(row.image_id) if row.image_id else "<missing>"
        lines.append((image, age(row.created), clip(row.created_by, 45), human_size(row.size), row.comment))
    return align(lines)


def reclaimable(usage: Usage) -> str:
    """The bytes that could go, and their share: ``1.2MB (40%)``."""
    share = f" ({100 * usage.reclaimable // usage.size}%)" if usage.size else ""
    return human_size(usage.reclaimable) + share


def usage_table(rows: Sequence[Usage]) -> str:
    """What ``docker system df`` prints."""
    lines = [("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")]
    for row in rows:
        lines.append((row.kind, str(row.total), str(row.active), human_size(row.size), reclaimable(row)))
    return align(lines)


def diff_lines(diff: ImageDiff) -> list[str]:
    """How two images differ, a line each: fields of the config, layers, paths."""
    if diff.is_empty:
        return ["The images are the same."]
    lines = [f"config {one.field}: {one.before or '(none)'} -> {one.after or '(none)'}" for one in diff.fields]
    lines += [f"layer {short_id(one) or '(none)'} -> {short_id(other) or '(none)'}" for one, other in diff.layers]
    for path in diff.paths:
        lines.append(f"{_MARKS[path.state]} {path.path}" + (f" ({', '.join(path.what)})" if path.what else ""))
    left = diff.path_count - len(diff.paths)
    return [*lines, f"and {many(left, 'more path')}: --all lists them"] if left else lines


_MARKS = {"added": "A", "removed": "D", "changed": "C"}
