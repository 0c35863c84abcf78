"""``demo`` and ``lab``: the first notebook, run in a terminal or opened in JupyterLab."""

from __future__ import annotations

import sys
from pathlib import Path

from dockermagic.errors import UsageError
from dockermagic.lessons import COPY, FIRST, lessons_in
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments

__all__ = ["DEMO", "LAB"]


def demo(console: Console, arguments: Arguments) -> int:
    """Build the first notebook here and show what came of it."""
    from dockermagic.demo import run

    console.engine.begin()  # which says where nothing can be run, before a notebook is
    return run(console)


def lab(console: Console, arguments: Arguments) -> int:
    """Open JupyterLab; the words go to it as they are."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        raise UsageError(
            "JupyterLab is not installed here",
            hint=f"Install it beside dockermagic: {sys.executable} -m pip install 'dockermagic[lab]'",
        )
    import subprocess

    words = [sys.executable, "-m", "jupyterlab", *arguments.words]
    if not any(Path(word).exists() for word in arguments.words):
        words.append(str(lessons_in(Path.cwd()) / FIRST))
    return subprocess.run(words, check=False).returncode


DEMO = Verb("demo", "", "Build the first notebook, run its image and show what was made", demo)
LAB = Verb(
    "lab",
    "[-- JUPYTERLAB OPTIONS] [PATH]",
    "Open JupyterLab on the first lesson",
    lab,
    (),
    (0, None),
    more=f"Without PATH: in a copy of the lessons, ./{COPY}. It is yours to change; what is there stays as it is.",
)
