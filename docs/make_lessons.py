"""Execute lessons from top to bottom and save them with their outputs: ``python -m docs.make_lessons [NOTEBOOK...]``

Each runs in an empty folder and on a store of its own that holds its bases alone, so that what it builds is built and
what it says of the cache is so. The bases come from the store of this machine (``dockermagic prepare``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from dockermagic.bundles import clean_desk
from dockermagic.engine import Engine
from dockermagic.lessons import Lesson
from dockermagic.notebookrun import execute, read_notebook

FOLDER = "/home/student/lesson"
"""What stands in outputs for the folder that was made for this run."""
LESSONS = Path(__file__).resolve().parents[1] / "notebooks"


def main(names: list[str]) -> None:
    for path in [Path(name).resolve() for name in names] or sorted(LESSONS.glob("**/*.ipynb")):
        notebook = read_notebook(path)
        with Engine() as engine, clean_desk(engine, Lesson.read(path), print) as (desk, own):
            try:
                execute(notebook, desk, own.home)
            finally:
                saved = nbformat.writes(notebook).replace(str(desk), FOLDER)
                path.write_text(f"{saved}\n", encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
