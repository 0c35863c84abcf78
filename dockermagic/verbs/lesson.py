"""``prepare``, ``bundle`` and ``unbundle``: all that a lesson needs before it can run."""

from __future__ import annotations

from pathlib import Path

from dockermagic.errors import UsageError
from dockermagic.lessons import Lesson, shipped_lessons
from dockermagic.tables import human_size
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, many, text

__all__ = ["BUNDLE", "PREPARE", "UNBUNDLE"]


def prepare(console: Console, arguments: Arguments) -> int:
    """Bring every base image that the words name here, in one way or another."""
    words = arguments.words or tuple(str(path) for path in sorted(shipped_lessons().glob("*.ipynb")))
    names: list[str] = []
    for word in words:
        names += Lesson.read(Path(word)).bases() if word.endswith(".ipynb") else [word]
    for name in dict.fromkeys(names):
        here = console.engine.base_here(name)
        if here:
            console.write(f"{here}\n")
            continue
        with console.progress("quiet" if arguments.flag("quiet") else "auto", name) as emit:
            first, *more = console.engine.prepare(name, emit)
        console.write(f"{first}\n" + "".join(f"  {note}\n" for note in more))
    return 0


def bundle(console: Console, arguments: Arguments) -> int:
    """Run a lesson from nothing and write all that it needs as one file."""
    from dockermagic.bundles import bundle as make
    from dockermagic.wholefile import whole_file

    notebook = Path(arguments.words[0])
    out = Path(arguments.text("output") or notebook.with_suffix(".bundle").name)
    beside = [Path(name) for name in arguments.many("with")]
    with whole_file(out) as file:
        make(console.engine, notebook, file, beside=beside, tell=console.note)
    console.write(f"{out}: {human_size(out.stat().st_size)}\n")
    return 0


def unbundle(console: Console, arguments: Arguments) -> int:
    """Unpack a lesson and put its images and layers into the store."""
    from dockermagic.bundles import unbundle as unpack

    source = Path(arguments.words[0])
    directory = Path(arguments.words[1] if len(arguments.words) > 1 else source.stem)
    try:
        with source.open("rb") as file:
            notebook = unpack(console.engine, file, directory, tell=console.note)
    except FileNotFoundError:
        raise UsageError(f"there is no {source}") from None
    console.write(f"{notebook}\n")
    return 0


BUNDLE = Verb(
    "bundle",
    "[OPTIONS] NOTEBOOK.ipynb",
    "Pack a lesson with its images and layers, for a classroom without network",
    bundle,
    (
        text("output", "o", "Write to this file; by default NOTEBOOK.bundle", value="FILE"),
        many("with", "", "Pack this file or folder beside the notebook, too", value="PATH"),
    ),
    (1, 1),
    more=(
        "The notebook is run from nothing, with an empty store, in a copy of what its cells read. So the bundle holds\n"
        "what the lesson needs, and nothing else of this machine."
    ),
)
UNBUNDLE = Verb(
    "unbundle",
    "FILE [DIRECTORY]",
    "Unpack a lesson that was bundled: it runs without network, all CACHED",
    unbundle,
    (),
    (1, 2),
    more="As with an image: unpack only what you trust.",
)
PREPARE = Verb(
    "prepare",
    "[OPTIONS] [NOTEBOOK.ipynb | IMAGE]...",
    "Get the base images of a lesson: pulled, or made on this machine",
    prepare,
    (flag("quiet", "q", "Show no progress"),),
    (0, None),
    more=(
        "What is here stays as it is. What is not is pulled; where no registry can be reached, a stand-in is made\n"
        "from this machine's own packages, and the output says so. Without words: the bases of all lessons of this\n"
        "package."
    ),
)
