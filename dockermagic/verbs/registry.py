"""``pull`` and ``push``, and the pull before a container."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from dockermagic.errors import ImageNotFoundError, UsageError
from dockermagic.events import Emit
from dockermagic.oci.reference import DEFAULT_TAG, Reference
from dockermagic.terminal.transfers import PULLING, PUSHING, transfers
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["PULL", "PUSH", "fetch"]


def _shown(stream: TextIO, words: Mapping[str, str], quiet: bool) -> AbstractContextManager[Emit]:
    if quiet:
        return nullcontext(lambda event: None)
    return transfers(stream, words, live=stream.isatty())


def _named(console: Console, name: str, *, all_tags: bool, quiet: bool) -> Reference:
    """The name with its tag, which is told where it was left out; with ``all_tags`` there must be none."""
    reference = Reference.parse(name)
    is_tagged = "@" in name or ":" in name.rpartition("/")[2]
    if all_tags and is_tagged:
        raise UsageError("tag can't be used with --all-tags/-a")
    if not all_tags and not is_tagged and not quiet:
        console.write(f"Using default tag: {DEFAULT_TAG}\n")
    return reference


def pull(console: Console, arguments: Arguments) -> int:
    """Fetch an image from its registry, or with ``-a`` all images of its repository."""
    (name,) = arguments.words
    quiet, every = arguments.flag("quiet"), arguments.flag("all-tags")
    reference = _named(console, name, all_tags=every, quiet=quiet)
    tags = console.engine.remote_tags(name) if every else []
    for one in [reference.with_tag(tag) for tag in tags] if every else [reference]:
        _pull(console, one, sys.stdout, quiet, platform=arguments.text("platform"))
    console.write(f"{reference.name if every else reference}\n")
    return 0


def _pull(console: Console, reference: Reference, stream: TextIO, quiet: bool, *, platform: str = "") -> None:
    shown = reference.repository if reference.registry == "docker.io" else reference.familiar_name
    before = set()
    if not quiet:
        rows = [row for row in console.engine.images() if row.repository == reference.familiar_name]
        before = {row.digest for row in rows if reference.digest or row.tag == reference.tag}
        stream.write(f"{reference.tag or reference.digest}: Pulling from {shown}\n")
        stream.flush()
    with _shown(stream, PULLING, quiet) as emit:
        digest = console.engine.pull(str(reference), emit, platform=platform)
    if not quiet:
        news = "Image is up to date for" if digest in before else "Downloaded newer image for"
        stream.write(f"Digest: {digest}\nStatus: {news} {reference.familiar()}\n")
        stream.flush()


def fetch(console: Console, name: str, *, missing: bool, quiet: bool) -> None:
    """Pull an image for a container, which is told of beside the answer; ``missing``: because it is not here."""
    reference = Reference.parse(name)
    if missing and not quiet:
        console.note(f"Unable to find image '{reference.familiar()}' locally")
    _pull(console, reference, console.beside, quiet)


def push(console: Console, arguments: Arguments) -> int:
    """Send an image to its registry, or with ``-a`` every tag of it that is here."""
    (name,) = arguments.words
    quiet, every = arguments.flag("quiet"), arguments.flag("all-tags")
    reference = _named(console, name, all_tags=every, quiet=quiet)
    wanted = [reference]
    if every:
        tags = sorted(row.tag for row in console.engine.images() if row.repository == reference.familiar_name)
        wanted = [reference.with_tag(tag) for tag in tags if tag != "<none>"]
    if not quiet:
        console.write(f"The push refers to repository [{reference.name}]\n")
    if not wanted:
        raise ImageNotFoundError(f"An image does not exist locally with the tag: {reference.familiar_name}")
    for one in wanted:
        with _shown(sys.stdout, PUSHING, quiet) as emit:
            sent = console.engine.push(str(one), emit)
        if not quiet:
            console.write(f"{one.tag}: digest: {sent.digest} size: {sent.size}\n")
    if quiet:
        console.write(f"{reference.name if every else reference}\n")
    return 0


PULL = Verb(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    pull,
    (
        flag("all-tags", "a", "Download all tagged images in the repository"),
        flag("quiet", "q", "Suppress verbose output"),
        text("platform", "", "Platform of the image, such as linux/arm64"),
        flag("disable-content-trust", hidden=True),
    ),
    (1, 1),
    more=(
        "A registry's mirrors are asked first ($DOCKERMAGIC_MIRRORS, or [registries.mirrors] in the config file).\n"
        "What breaks off goes on where it was; a layer that is here already is not fetched again."
    ),
)
PUSH = Verb(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    push,
    (
        flag("all-tags", "a", "Push all tags of an image to the repository"),
        flag("quiet", "q", "Suppress verbose output"),
        flag("disable-content-trust", hidden=True),
    ),
    (1, 1),
)
