"""``image diff``: what differs between two images, for builds that should be the same bit by bit."""

from __future__ import annotations

from dockermagic.tables import diff_lines
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.options import Arguments, flag

__all__ = ["IMAGE_DIFF"]

_MOST = 200


def image_diff(console: Console, arguments: Arguments) -> int:
    """Say what differs; 0 where nothing does, else 1."""
    first, second = arguments.words
    found = console.engine.image_diff(first, second, limit=None if arguments.flag("all") else _MOST)
    text = "".join(f"{line}\n" for line in diff_lines(found))
    console.show(Shown("image diff", (first, second, found), text))
    return 0 if found.is_empty else 1


IMAGE_DIFF = Verb(
    "image diff",
    "[OPTIONS] IMAGE IMAGE",
    "Show how two images differ",
    image_diff,
    (flag("all", "a", "List every path"),),
    (2, 2),
    more=(
        "Fields of the config, layers, and paths: A is added, D is gone, C differs in what is named: content, size,\n"
        "mode, owner, time, link, attributes. The exit code is 1 where anything differs."
    ),
)
