"""The demo: the first notebook in a terminal, on an empty store and once more."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from dockermagic import demo
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError


class Paper:
    """A console that keeps what is written."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def output(self, stream: int, data: bytes) -> None:
        self.text += data.decode()


def test_the_demo_builds_and_a_second_run_is_all_cached(id_mode: str, engine_home: Path, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    with Engine(engine_home) as engine:
        engine.base("busybox")
        first, second = Paper(engine), Paper(engine)
        assert (demo.run(first, pages), demo.run(second, pages)) == (0, 0)

    assert re.search(r"The cells made \d layers: \d built, 0 CACHED\.", first.text)
    assert "All CACHED" in second.text
    for paper in (first, second):
        assert "The base busybox was made on this machine." in paper.text
        assert "A container of it says:\n    Hello from a changed container!\n" in paper.text
        assert re.search(r"^    lesson/$", paper.text, re.M)
        assert "RUN /bin/sh -c mkdir /lesson" in paper.text
    assert sorted(page.name for page in pages.iterdir()) == ["first-image.html", "first-image.ipynb"]
    html = (pages / "first-image.html").read_text()
    assert "Hello from a changed container!" in html and "<script" not in html
    assert "<title>Your first image, cell by cell</title>" in html
    notebook = nbformat.read(pages / "first-image.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert all("text/html" in output.data for output in outputs if output.output_type == "display_data")


def test_a_cell_that_fails_fails_the_demo_and_is_written(engine_home: Path, tmp_path: Path) -> None:
    broken = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code) for code in ("%load_ext dockermagic", "%%dockerfile\nRUN a")]
    )
    nbformat.write(broken, tmp_path / "broken.ipynb")

    with Engine(engine_home) as engine, pytest.raises(DockermagicError) as caught:
        demo.run(Paper(engine), tmp_path / "pages", tmp_path / "broken.ipynb")

    assert "a cell of the notebook failed: DockerfileSyntaxError: RUN before any FROM" in caught.value.message
    assert "RUN before any FROM" in (tmp_path / "pages" / "first-image.html").read_text()
