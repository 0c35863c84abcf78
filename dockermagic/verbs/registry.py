"""``pull`` and ``push``."""

from __future__ import annotations

from dockermagic.events import Event, Status
from dockermagic.oci.reference import Reference
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["PULL", "PUSH"]

PULLED = {"exists": "Already exists", "done": "Pull complete"}
PUSHED = {"exists": "Layer already exists", "done": "Pushed", "mounted": "Mounted"}


class _Lines:
    """Docker's line for each blob, once for each state that it comes to."""

    def __init__(self, console: Console, words: dict[str, str]) -> None:
        self.console, self.words = console, words
        self.seen: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Status) and event.name in self.words and (event.id, event.name) not in self.seen:
            self.seen.add((event.id, event.name))
            self.console.write(f"{event.id.partition(':')[2][:12]}: {self.words[event.name]}\n")


def pull(console: Console, arguments: Arguments) -> int:
    """Fetch an image from its registry."""
    reference = Reference.parse(arguments.words[0])
    quiet = arguments.flag("quiet")
    before = {row.digest for row in console.engine.images()}
    if not quiet:
        console.write(f"{reference.tag or reference.digest}: Pulling from {reference.familiar_name}\n")
    lines = _Lines(console, {} if quiet else PULLED)
    digest = console.engine.pull(arguments.words[0], lines, platform=arguments.text("platform"))
    if not quiet:
        news = "Image is up to date for" if digest in before else "Downloaded newer image for"
        console.write(f"Digest: {digest}\nStatus: {news} {reference.familiar()}\n")
    console.write(f"{reference}\n")
    return 0


def push(console: Console, arguments: Arguments) -> int:
    """Send an image to its registry."""
    reference = Reference.parse(arguments.words[0])
    quiet = arguments.flag("quiet")
    if not quiet:
        console.write(f"The push refers to repository [{reference.name}]\n")
    digest = console.engine.push(arguments.words[0], _Lines(console, {} if quiet else PUSHED))
    console.write(f"{reference}\n" if quiet else f"{reference.tag}: digest: {digest}\n")
    return 0


PULL = Verb(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    pull,
    (flag("quiet", "q", "Suppress verbose output"), text("platform", "", "Platform of the image, such as linux/arm64")),
    (1, 1),
)
PUSH = Verb(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    push,
    (flag("quiet", "q", "Suppress verbose output"),),
    (1, 1),
)
