"""``base``, ``info`` and ``version``: what this machine gives and can do."""

from __future__ import annotations

from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["BASE", "INFO", "VERSION"]


def base(console: Console, arguments: Arguments) -> int:
    """Make a base image here and say what it was made of."""
    name = arguments.words[0]
    with console.progress("quiet" if arguments.flag("quiet") else "auto", name) as emit:
        notes = console.engine.base(name, emit)
    for note in notes:
        console.write(f"{note}\n")
    return 0


def info(console: Console, arguments: Arguments) -> int:
    """Show what this machine can do."""
    found = console.engine.info()
    lines = []
    for row in found.rows:
        lines.append(f"{row.name + ':':<18}{row.value}\n")
        lines += [f"{'':<20}{row.why}\n"] if row.why else []
    console.show(Shown("info", found, "".join(lines)))
    return 0


def version(console: Console, arguments: Arguments) -> int:
    """Show the version of this package and of what it runs on."""
    import platform

    from dockermagic import __version__

    document = {
        "Version": __version__,
        "Python": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": platform.machine(),
    }
    if arguments.text("format"):
        from dockermagic.verbs.template import Template

        console.write(Template(arguments.text("format")).render(document) + "\n")
    else:
        console.write(f"dockermagic {__version__}, Python {document['Python']}, {document['Os']}/{document['Arch']}\n")
    return 0


BASE = Verb(
    "base",
    "[OPTIONS] NAME",
    "Make a base image on this machine, without a registry",
    base,
    (flag("quiet", "q", "Show no progress"),),
    (1, 1),
    more=(
        "NAME is busybox, or debian:SUITE such as debian:bookworm, which is made with mmdebstrap from this machine's\n"
        "own apt sources; or python:TAG, ubuntu:TAG, alpine:TAG, for which a stand-in is made of those."
    ),
)
INFO = Verb("info", "", "Show what this machine can do, and why not more", info)
VERSION = Verb(
    "version", "[OPTIONS]", "Show the version", version, (text("format", "f", "Format output with a Go template"),)
)
