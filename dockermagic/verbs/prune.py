"""``prune`` in its spellings, ``df`` and ``reset``: what takes the room, and taking it back, told before it is done."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dockermagic.errors import UsageError
from dockermagic.prune import Wanted
from dockermagic.settings import parse_size
from dockermagic.tables import human_size, many, reclaimable
from dockermagic.values import replace
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.listing import render
from dockermagic.verbs.options import Arguments, Option, flag, text
from dockermagic.verbs.options import many as several

if TYPE_CHECKING:
    from dockermagic.oci.reference import Reference
    from dockermagic.prune import Plan
    from dockermagic.view import Usage

__all__ = ["BUILDER_PRUNE", "CONTAINER_PRUNE", "DF", "IMAGE_PRUNE", "PRUNE", "RESET"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def until(value: str, now: float | None = None) -> float:
    """``24h``, ``1h30m``, ``7d``, a date or seconds since 1970, as seconds since 1970; raises ValueError."""
    if re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", value):
        parts = re.findall(r"([\d.]+)([smhdw])", value)
        return (time.time() if now is None else now) - sum(float(number) * _UNITS[unit] for number, unit in parts)
    if re.fullmatch(r"\d{9,}(\.\d+)?", value):
        return float(value)
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise ValueError(f"until={value} is neither a duration such as 24h nor a time") from None


def _filtered(wanted: Wanted, filters: Sequence[str]) -> Wanted:
    for item in filters:
        name, equals, value = item.partition("=")
        if name == "until" and equals:
            try:
                wanted = replace(wanted, before=until(value))
            except ValueError as error:
                raise UsageError(str(error)) from None
        elif name in ("label", "label!") and equals:
            key, has_value, content = value.partition("=")
            label = (key, content if has_value else None, name == "label")
            wanted = replace(wanted, labels=(*wanted.labels, label))
        elif name == "dangling" and value in ("true", "false", "1", "0"):
            wanted = replace(wanted, images="dangling" if value in ("true", "1") else "all")
        else:
            raise UsageError(f"invalid filter '{item}'", hint="There are: until=24h, label=KEY[=VALUE], label!=KEY.")
    return wanted


def _told(plan: Plan) -> str:
    """``2 images, 14 layers``: what would go, in words."""
    counts = (
        (len(plan.containers), "container"),
        (len(plan.images), "image"),
        (len(plan.layers), "layer of the build cache"),
        (len(plan.directories), "cache mount, download or clone"),
        (plan.blobs, "blob"),
    )
    plurals = {"layer of the build cache": "layers of the build cache"}
    plurals["cache mount, download or clone"] = "cache mounts, downloads or clones"
    return ", ".join(many(number, noun, plurals.get(noun, "")) for number, noun in counts if number)


def _prune(console: Console, arguments: Arguments, wanted: Wanted, warning: str) -> int:
    if wanted.cache == "dangling":
        from dockermagic.session import SessionStore

        wanted = replace(wanted, spare=SessionStore(console.engine.home).snapshots())
    plan = console.engine.prune_plan(_filtered(wanted, arguments.many("filter")))
    freed = 0
    if not plan.is_empty:
        if not arguments.flag("force"):
            console.note(f"WARNING! This will remove {warning}.\nIt frees {human_size(plan.bytes)}: {_told(plan)}.")
            if console.ask("Are you sure you want to continue? [y/N] ").strip().lower() not in ("y", "yes"):
                return 0
        freed = console.engine.prune(plan)
        console.write(_removed(plan))
    console.write(f"Total reclaimed space: {human_size(freed)}\n")
    return 0


def _removed(plan: Plan) -> str:
    parts = (
        ("Deleted Containers", [one.id for one in plan.containers]),
        ("Deleted Images", [line for image in plan.images for line in _image(image.id, image.names)]),
        ("Deleted build cache objects", [str(one) for one in plan.layers] + [one.name for one in plan.directories]),
    )
    return "".join(f"{title}:\n" + "".join(f"{line}\n" for line in found) + "\n" for title, found in parts if found)


def _image(identity: str, names: Sequence[Reference]) -> list[str]:
    return [*(f"untagged: {name.familiar()}" for name in names), f"deleted: {identity}"]


def prune(console: Console, arguments: Arguments) -> int:
    """Remove what nothing stands on: containers, images, the cache."""
    every = arguments.flag("all")
    images = "all images without a container" if every else "all dangling images"
    cache = "all build cache" if every else "unused build cache"
    wanted = Wanted(True, "all" if every else "dangling", "all" if every else "dangling")
    return _prune(console, arguments, wanted, f"all stopped containers, {images} and {cache}")


def image_prune(console: Console, arguments: Arguments) -> int:
    """Remove images without a name, or with ``-a`` those without a container."""
    if arguments.flag("all"):
        return _prune(console, arguments, Wanted(images="all"), "all images without at least one container")
    return _prune(console, arguments, Wanted(images="dangling"), "all dangling images")


def container_prune(console: Console, arguments: Arguments) -> int:
    """Remove containers that do not run."""
    return _prune(console, arguments, Wanted(containers=True), "all stopped containers")


def builder_prune(console: Console, arguments: Arguments) -> int:
    """Remove the cache, all of it or down to a bound."""
    every, bound = arguments.flag("all"), arguments.text("keep-storage")
    wanted = Wanted(cache="all" if every else "dangling", keep_bytes=parse_size(bound) if bound else None)
    return _prune(console, arguments, wanted, "all build cache" if every else "all dangling build cache")


def _row(usage: Usage) -> dict[str, str]:
    return {
        "Type": usage.kind,
        "TotalCount": str(usage.total),
        "Active": str(usage.active),
        "Size": human_size(usage.size),
        "Reclaimable": reclaimable(usage),
    }


def df(console: Console, arguments: Arguments) -> int:
    """Show what takes the room of the store."""
    found, form = console.engine.usage(), arguments.text("format")
    table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
    listing = render([_row(usage) for usage in found], HEADERS, form, table)
    if form:
        console.write(listing)
    else:
        console.show(Shown("usage", found, listing))
    return 0


def reset(console: Console, arguments: Arguments) -> int:
    """Remove the store with all that is in it."""
    home = console.engine.home
    if not arguments.flag("force"):
        console.note(
            f"WARNING! This removes the store {home}: all images, containers, volumes, sessions and the build cache."
        )
        if console.ask("Are you sure you want to continue? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    console.engine.reset()
    console.write(f"{home} is empty now.\n")
    return 0


def _size(value: str) -> object:
    return parse_size(value)


FORCE = flag("force", "f", "Do not prompt for confirmation")
FILTER = several("filter", "", "What may go: until=24h (older), label=KEY[=VALUE], label!=KEY", value="filter")


def _verb(
    name: str, summary: str, function: Callable[[Console, Arguments], int], every: str, *more: Option, text: str = ""
) -> Verb:
    options = (*([flag("all", "a", every)] if every else []), FILTER, FORCE, *more)
    return Verb(name, "[OPTIONS]", summary, function, options, more=text)


PRUNE = _verb(
    "prune",
    "Remove unused data",
    prune,
    "Remove all unused images, not just dangling ones, and all of the build cache",
    text=(
        "It says what it frees, and asks. Layers that images, containers or notebooks' cells stand on stay; with -a\n"
        "cells lose theirs, too, and are built again when they are wanted. 'image prune' and 'builder prune' do a part."
    ),
)
IMAGE_PRUNE = _verb(
    "image prune", "Remove unused images", image_prune, "Remove all unused images, not just dangling ones"
)
CONTAINER_PRUNE = _verb("container prune", "Remove all stopped containers", container_prune, "")
BUILDER_PRUNE = _verb(
    "builder prune",
    "Remove build cache",
    builder_prune,
    "Remove all unused build cache, also what notebooks' cells stand on, cache mounts, downloads and clones",
    text("keep-storage", "", "Amount of build cache to keep", value="bytes", check=_size),
)
DF = Verb(
    "df",
    "[OPTIONS]",
    "Show disk usage",
    df,
    (
        text("format", "", "Format output: 'table' (default), 'table TEMPLATE', 'json' or a Go template"),
        flag("verbose", "v", hidden=True),
    ),
)
RESET = Verb(
    "reset",
    "[OPTIONS]",
    "Remove the store with all that is in it",
    reset,
    (FORCE,),
    more="Also where its files have ids that `rm` may not remove.",
)
