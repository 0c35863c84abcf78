"""``images``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dockermagic.errors import DockermagicError, UsageError
from dockermagic.tables import age, human_size
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.listing import full_id, moment, render
from dockermagic.verbs.options import Arguments, flag, many, text

if TYPE_CHECKING:
    from dockermagic.catalog import ImageSummary
    from dockermagic.engine import Engine

__all__ = ["FORMAT_HELP", "IMAGES", "image_rows", "select"]

FORMAT_HELP = "Format output: 'table' (default), 'table TEMPLATE', 'json' or a Go template such as '{{.ID}}: {{.Size}}'"
NONE = "<none>"
HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}


def image_rows(images: Sequence[ImageSummary], *, full: bool = False) -> list[dict[str, str]]:
    """The images as Docker's template fields."""
    return [
        {
            "Repository": image.repository or NONE,
            "Tag": image.tag or NONE,
            "Digest": image.digest or NONE,
            "ID": full_id(image.id, full),
            "CreatedSince": age(image.created),
            "CreatedAt": moment(image.created),
            "Size": human_size(image.size),
        }
        for image in images
    ]


def _filters(values: Sequence[str]) -> list[tuple[str, str]]:
    known = ("before", "dangling", "label", "reference", "since")
    found = []
    for value in values:
        key, equals, wanted = value.partition("=")
        if not equals:
            raise UsageError(f'invalid argument "{value}" for "-f, --filter" flag: not of the form \'name=value\'')
        if key not in known:
            raise UsageError(f"invalid filter '{key}'", hint=f"There is: {', '.join(known)}.")
        if key == "dangling" and wanted.lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"invalid value '{wanted}' for the filter 'dangling': true or false")
        found.append((key, wanted))
    return found


def _is_dangling(image: ImageSummary) -> bool:
    return image.repository in ("", NONE)


def _is_named(image: ImageSummary, pattern: str) -> bool:
    """Whether a name matches ``repository[:tag]``, in which each part between slashes may hold wildcards."""
    wanted = pattern.split("/")
    for name in (image.repository, f"{image.repository}:{image.tag}"):
        parts = name.split("/")
        if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)) and not _is_dangling(image):
            return True
    return False


def select(engine: Engine, images: Sequence[ImageSummary], filters: Sequence[tuple[str, str]]) -> list[ImageSummary]:
    """The images that pass: different filters all, several ``reference`` filters at least one."""
    found = list(images)
    for key, wanted in filters:
        if key == "dangling":
            found = [image for image in found if _is_dangling(image) == (wanted.lower() in ("true", "1"))]
        elif key == "label":
            name, equals, value = wanted.partition("=")
            kept = []
            for image in found:
                try:
                    labels = engine.inspect(image.id).get("Config", {}).get("Labels") or {}
                except DockermagicError:  # what is no image has none
                    continue
                if name in labels and (not equals or labels[name] == value):
                    kept.append(image)
            found = kept
        elif key in ("before", "since"):
            pivot = str(engine.inspect(wanted)["Created"])
            found = [
                image for image in found if ("" < image.created < pivot if key == "before" else image.created > pivot)
            ]
    patterns = [wanted for key, wanted in filters if key == "reference"]
    if patterns:
        found = [image for image in found if any(_is_named(image, pattern) for pattern in patterns)]
    return found


def images(console: Console, arguments: Arguments) -> int:
    """List images, the newest first."""
    filters = _filters(arguments.many("filter"))
    filters += [("reference", word) for word in arguments.words]
    found = select(console.engine, console.engine.images(), filters)
    full = arguments.flag("no-trunc")
    if arguments.flag("quiet") and not arguments.text("format"):
        ids = dict.fromkeys(full_id(image.id, full) for image in found)
        console.write("".join(f"{one}\n" for one in ids))
        return 0
    digest = "{{.Digest}}\t" if arguments.flag("digests") else ""
    table = f"{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
    listing = render(image_rows(found, full=full), HEADERS, arguments.text("format"), table)
    if arguments.text("format") or digest:  # the view has no column for digests
        console.write(listing)
    else:
        console.show(Shown("images", found, listing))
    return 0


IMAGES = Verb(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    images,
    (
        flag("all", "a", "Show all images (there are no hidden ones here)"),
        flag("digests", "", "Show digests"),
        many("filter", "f", "Filter output: dangling=, reference=, label=, before=, since=", value="filter"),
        text("format", "", FORMAT_HELP),
        flag("no-trunc", "", "Don't truncate output"),
        flag("quiet", "q", "Only show image IDs"),
    ),
    (0, 1),
)
