"""``save`` and ``load`` images, ``import`` and ``export`` root filesystems."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from dockermagic.errors import ArchiveError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, many, text
from dockermagic.verbs.outfile import replacing

__all__ = ["EXPORT", "IMPORT", "LOAD", "SAVE"]


def _form(value: str) -> Literal["docker", "oci"]:
    names: dict[str, Literal["docker", "oci"]] = {
        "docker": "docker",
        "docker-archive": "docker",
        "oci": "oci",
        "oci-archive": "oci",
    }
    if value not in names:
        raise ValueError("docker or oci")
    return names[value]


def save(console: Console, arguments: Arguments) -> int:
    """Write images to a file or to stdout. A file appears whole or not at all."""
    form, target = _form(arguments.text("format")), arguments.text("output")
    if not target and console.stdout_is_terminal:
        raise UsageError("cowardly refusing to save to a terminal", hint="Use the -o flag or redirect.")
    if not target:
        console.engine.save(arguments.words, console.stdout(), form)
        console.stdout().flush()
        return 0
    with replacing(Path(target)) as file:
        console.engine.save(arguments.words, file, form)
    return 0


@contextmanager
def _opened(console: Console, source: str, hint: str) -> Iterator[BinaryIO]:
    """A file, or standard input for '' and '-'."""
    if source in ("", "-"):
        if console.stdin is None or console.stdin_is_terminal:
            raise UsageError("requested load from stdin, but stdin is empty", hint=hint)
        yield console.stdin
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise ArchiveError(f"cannot read {source}: {os.strerror(error.errno or 0)}") from None
        yield file


def load(console: Console, arguments: Arguments) -> int:
    """Read images from a file or from stdin, and say what they are called."""
    with _opened(console, arguments.text("input"), "Use the -i flag or redirect.") as file:
        names = console.engine.load(file)
    for name in names:
        what = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        console.write(f"{what}: {name}\n")
    return 0


def import_(console: Console, arguments: Arguments) -> int:
    """Make an image of a tar's files, and print its id."""
    source, *names = arguments.words
    options = {"message": arguments.text("message"), "platform": arguments.text("platform")}
    changes = arguments.many("change")
    if source.startswith(("http://", "https://")):
        identity = console.engine.import_root(source, names, changes=changes, **options)
    else:
        with _opened(console, source, "Redirect a tar to it, or name a file.") as file:
            identity = console.engine.import_root(file, names, changes=changes, **options)
    console.write(f"{identity}\n")
    return 0


def export(console: Console, arguments: Arguments) -> int:
    """Write the files of a container, or of an image, as a tar."""
    (name,), target = arguments.words, arguments.text("output")
    if not target:
        if console.stdout_is_terminal:
            raise UsageError("cowardly refusing to export to a terminal", hint="Use the -o flag or redirect.")
        console.engine.export(name, console.stdout())
        return 0
    with replacing(Path(target)) as file:
        console.engine.export(name, file)
    return 0


SAVE = Verb(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    save,
    (
        text("output", "o", "Write to a file, instead of STDOUT"),
        text("format", "", "Format of the archive: docker or oci", default="docker", check=_form),
    ),
    (1, None),
)
LOAD = Verb(
    "load",
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    load,
    (
        text("input", "i", "Read from tar archive file, instead of STDIN"),
        flag("quiet", "q", "Suppress the progress of the load; the names are printed all the same"),
    ),
)
IMPORT = Verb(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    import_,
    (
        many("change", "c", "Apply Dockerfile instruction to the created image"),
        text("message", "m", "Set commit message for imported image"),
        text("platform", "", "Set platform of the image, such as linux/arm64"),
    ),
    (1, 2),
)
EXPORT = Verb(
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    export,
    (text("output", "o", "Write to a file, instead of STDOUT"),),
    (1, 1),
    more="An image's name does as well.",
)
