"""``tag`` and ``rmi``."""

from __future__ import annotations

from dockermagic.verbs.base import Console, Verb, each
from dockermagic.verbs.options import Arguments, flag

__all__ = ["RMI", "TAG"]


def tag(console: Console, arguments: Arguments) -> int:
    """Give an image one more name."""
    source, target = arguments.words
    console.engine.tag(source, target)
    return 0


def rmi(console: Console, arguments: Arguments) -> int:
    """Remove names, and images that have none left. One that fails does not keep the others."""
    force = arguments.flag("force")
    return each(console, arguments.words, lambda name: "\n".join(console.engine.remove_image(name, force)))


TAG = Verb(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    tag,
    (),
    (2, 2),
)
RMI = Verb(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    rmi,
    (
        flag("force", "f", "Force removal of the image"),
        flag("no-prune", "", hidden=True),
    ),
    (1, None),
)
