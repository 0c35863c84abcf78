"""Execute lessons from top to bottom and save them with their outputs: ``python -m docs.make_lessons [NOTEBOOK...]``

Each runs in an empty folder; the store is ``$DOCKERMAGIC_HOME``, where the bases lie (``dockermagic prepare``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat

from dockermagic.engine import default_home
from dockermagic.notebookrun import execute, read_notebook

LESSONS = Path(__file__).resolve().parents[1] / "notebooks"


def main(names: list[str]) -> None:
    for path in [Path(name).resolve() for name in names] or sorted(LESSONS.glob("**/*.ipynb")):
        notebook = read_notebook(path)
        with tempfile.TemporaryDirectory(prefix="lesson-") as folder:
            try:
                execute(notebook, Path(folder), default_home())
            finally:
                nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
