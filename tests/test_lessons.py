"""What a notebook needs, read from its cells."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from dockermagic.conversion import to_notebook
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.lessons import Lesson, copied, shipped_lessons
from dockermagic.notebookrun import execute, read_notebook


def lesson(folder: Path, *cells: str) -> Lesson:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / "lesson.ipynb")
    return Lesson.read(folder / "lesson.ipynb")


def test_its_bases_are_those_of_from_and_of_what_it_prepares(tmp_path: Path) -> None:
    read = lesson(
        tmp_path,
        "%load_ext dockermagic",
        "%docker prepare python:3.9 -q busybox",
        "%docker pull {registry}/shop",
        "%%dockerfile -t mine\nFROM python:3.9 AS build\nRUN make",
        "%%dockerfile\nFROM build\nRUN x\nFROM mine\nFROM scratch\nFROM ${BASE}\nFROM debian:bookworm-slim",
        "%%writefile app/Dockerfile\nFROM alpine\n",
        "%%dockerfile --build-arg SUITE=trixie\nARG SUITE=bookworm KIND=debian\nARG NAME=$KIND:$SUITE\nFROM $NAME",
        "%%dockerfile\nCOPY --from=nginx /a /a\nCOPY --from=Build /b /b\nRUN --mount=from=golang,target=/go true",
        "%%writefile main.py\nFROM nowhere",
        "%%dockerfile\nFROM",
    )

    bases = ("python:3.9", "busybox", "debian:bookworm-slim", "alpine", "debian:trixie", "nginx", "golang")
    assert read.bases() == bases


def test_the_shipped_lessons_stand_on_four_images() -> None:
    """Those that ``prepare`` without words gets."""
    names = {name for path in shipped_lessons().glob("**/*.ipynb") for name in Lesson.read(path).bases()}

    assert names == {"busybox", "debian:bookworm-slim", "python:3.9", "python:alpine"}


def test_a_file_that_is_no_notebook_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "lesson.ipynb").write_text("[1]")

    with pytest.raises(DockermagicError, match="is not a notebook"):
        Lesson.read(tmp_path / "lesson.ipynb")
    with pytest.raises(DockermagicError, match=r"cannot read .*: No such file"):
        Lesson.read(tmp_path / "missing.ipynb")


def test_a_notebook_of_the_dockerfile_kernel_is_read_and_run(engine_home: Path, tmp_path: Path) -> None:
    """As `convert` makes it."""
    (tmp_path / "main.py").write_text("print()")
    notebook = to_notebook("# A base.\nFROM busybox\nCOPY main.py /app/\nRUN ls /app\n")
    (tmp_path / "lesson.ipynb").write_text(json.dumps(notebook))

    read = Lesson.read(tmp_path / "lesson.ipynb")
    assert (read.bases(), read.reads()) == (("busybox",), (Path("main.py"),))
    with Engine(engine_home) as engine:
        engine.base("busybox")
    executed = read_notebook(tmp_path / "lesson.ipynb")
    execute(executed, tmp_path, engine_home)
    assert "| main.py" in executed.cells[-1].outputs[0].data["text/plain"]


def test_who_learns_gets_a_copy_that_stays(tmp_path: Path) -> None:
    copy = copied(shipped_lessons(), tmp_path)
    (copy / "01-first-image.ipynb").write_text("mine")
    (copy / "ru" / "02-python-app.ipynb").unlink()

    assert copied(shipped_lessons(), tmp_path) == copy
    assert (copy / "01-first-image.ipynb").read_text() == "mine"
    names = {path.relative_to(copy) for path in copy.glob("**/*.ipynb")}
    assert names == {path.relative_to(shipped_lessons()) for path in shipped_lessons().glob("**/*.ipynb")}
