"""``prepare``: all that a lesson needs before it can run."""

from __future__ import annotations

from pathlib import Path

from dockermagic.lessons import Lesson, shipped_lessons
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag

__all__ = ["PREPARE"]


def prepare(console: Console, arguments: Arguments) -> int:
    """Bring every base image that the words name here, in one way or another."""
    words = arguments.words or tuple(str(path) for path in sorted(shipped_lessons().glob("*.ipynb")))
    names: list[str] = []
    for word in words:
        names += Lesson.read(Path(word)).bases() if word.endswith(".ipynb") else [word]
    for name in dict.fromkeys(names):
        with console.progress("quiet" if arguments.flag("quiet") else "auto", name) as emit:
            first, *more = console.engine.prepare(name, emit)
        console.write(f"{first}\n" + "".join(f"  {note}\n" for note in more))
    return 0


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
