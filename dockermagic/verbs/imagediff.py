"""``image diff``: what differs between two images, for builds that should be the same bit by bit."""

from __future__ import annotations

from dockermagic.tables import many, short_id
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag

__all__ = ["IMAGE_DIFF"]

_MARKS = {"added": "A", "removed": "D", "changed": "C"}
_MOST = 200


def image_diff(console: Console, arguments: Arguments) -> int:
    """Say what differs; 0 where nothing does, else 1."""
    first, second = arguments.words
    found = console.engine.image_diff(first, second, limit=None if arguments.flag("all") else _MOST)
    if found.is_empty:
        console.write("The images are the same.\n")
        return 0
    lines = [f"config {one.field}: {one.before or '(none)'} -> {one.after or '(none)'}" for one in found.fields]
    lines += [f"layer {short_id(one) or '(none)'} -> {short_id(other) or '(none)'}" for one, other in found.layers]
    for path in found.paths:
        lines.append(f"{_MARKS[path.state]} {path.path}" + (f" ({', '.join(path.what)})" if path.what else ""))
    left = found.path_count - len(found.paths)
    if left:
        lines.append(f"and {many(left, 'more path')}: --all lists them")
    console.write("".join(f"{line}\n" for line in lines))
    return 1


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
