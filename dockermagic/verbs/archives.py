"""``save`` and ``load``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from dockermagic.errors import ArchiveError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text
from dockermagic.verbs.outfile import replacing

__all__ = ["LOAD", "SAVE"]


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


def load(console: Console, arguments: Arguments) -> int:
    """Read images from a file or from stdin, and say what they are called."""
    source = arguments.text("input")
    if source:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(Path(source).open("rb"))
            except OSError as error:
                raise ArchiveError(f"cannot read {source}: {os.strerror(error.errno or 0)}") from None
            names = console.engine.load(file)
    else:
        if console.stdin is None or console.stdin_is_terminal:
            raise UsageError("requested load from stdin, but stdin is empty", hint="Use the -i flag or redirect.")
        names = console.engine.load(console.stdin)
    for name in names:
        what = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        console.write(f"{what}: {name}\n")
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
