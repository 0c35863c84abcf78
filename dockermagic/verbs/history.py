"""``history``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dockermagic.tables import age, clip, human_size
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.images import FORMAT_HELP
from dockermagic.verbs.listing import full_id, render, timestamp
from dockermagic.verbs.options import Arguments, flag, text

if TYPE_CHECKING:
    from dockermagic.catalog import HistoryRow

__all__ = ["HISTORY", "history_rows"]

HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def history_rows(history: Sequence[HistoryRow], *, full: bool = False, human: bool = True) -> list[dict[str, str]]:
    """The history, newest first, as Docker's template fields."""
    return [
        {
            "ID": full_id(row.image_id, full) if row.image_id else "<missing>",
            "CreatedSince": age(row.created) if human else timestamp(row.created),
            "CreatedAt": timestamp(row.created),
            "CreatedBy": row.created_by.replace("\t", " ") if full else clip(row.created_by, 45),
            "Size": human_size(row.size) if human else str(row.size),
            "Comment": row.comment,
        }
        for row in history
    ]


def history(console: Console, arguments: Arguments) -> int:
    """Show what an image is made of, the newest step first."""
    found = console.engine.history(arguments.words[0])
    full, form = arguments.flag("no-trunc"), arguments.text("format")
    rows = history_rows(found, full=full, human=arguments.flag("human"))
    if arguments.flag("quiet") and not form:
        console.write("".join(f"{row['ID']}\n" for row in rows))
        return 0
    table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    listing = render(rows, HEADERS, form, table)
    if form:
        console.write(listing)
    else:
        console.show(Shown("history", found, listing))
    return 0


HISTORY = Verb(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    history,
    (
        text("format", "", FORMAT_HELP),
        flag("human", "H", "Print sizes and dates in human readable format", default=True),
        flag("no-trunc", "", "Don't truncate output"),
        flag("quiet", "q", "Only show image IDs"),
    ),
    (1, 1),
)
