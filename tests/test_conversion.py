"""From a Dockerfile to a notebook and back: nothing that matters changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from dockermagic.conversion import pieces, to_dockerfile, to_notebook
from dockermagic.dockerfile.parser import dump, parse
from dockermagic.errors import DockerfileSyntaxError, UsageError

TEXT = """# syntax=docker/dockerfile:1
# escape=`

# The base.
#
# Its second paragraph.
ARG VERSION=1
FROM busybox:$VERSION AS base
RUN a `
  # inside
  b

# check=skip=JSONArgsRecommended
CMD c
# A file.
COPY <<ONE <<-TWO /x/
# not a comment
ONE
	two
	TWO
ENV a=b
# The end.
"""


def shape(notebook: dict[str, list[dict[str, object]]]) -> str:
    return " ".join(str(cell["source"]).split("\n")[0].split()[0] for cell in notebook["cells"])


def test_every_instruction_is_a_cell_and_comments_are_text() -> None:
    notebook = to_notebook(TEXT)

    nbformat.validate(nbformat.from_dict(notebook))
    kinds = [str(cell["cell_type"]) for cell in notebook["cells"]]
    assert kinds == ["markdown", "code", "code", "code", "code", "markdown", "code", "code", "markdown"]
    first = notebook["cells"][1]["source"]
    assert first == "# syntax=docker/dockerfile:1\n# escape=`\nARG VERSION=1"
    assert notebook["cells"][0]["source"] == "The base.\n\nIts second paragraph."
    assert notebook["cells"][4]["source"] == "# check=skip=JSONArgsRecommended\nCMD c"
    assert notebook["cells"][6]["source"] == "COPY <<ONE <<-TWO /x/\n# not a comment\nONE\n\ttwo\n\tTWO"
    assert notebook["metadata"]["kernelspec"]["name"] == "dockerfile"


PLAIN = """

# An app.
FROM busybox


  #The second
#   comment.

RUN a \\
  && b
#check=skip=all
# not only for a machine
CMD c
# an end,

# and another
"""


@pytest.mark.parametrize("kernel", ["dockerfile", "python"])
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        *(TEXT, PLAIN, "FROM a\nRUN b\n", "FROM a\n\n# x=y\nRUN b\n"),
        *("FROM a", "FROM a  \n\t\n", "FROM a\n# end", "FROM a \n\n\nRUN b \\\n\n"),
        *("\ufeff# escape=`\n\n# c\nFROM a\n", PLAIN.replace("\n", "\r\n"), "FROM a\r\nRUN b\n"),
        *("# a=b\nFROM a\n", "\n# escape=`\nFROM a\n", "# syntax=x\n# a=b\nFROM a\n"),
    ],
)
def test_a_round_trip_changes_no_byte(kernel: str, blocks: bool, text: str) -> None:
    notebook = to_notebook(text, kernel=kernel, blocks=blocks)

    nbformat.validate(nbformat.from_dict(notebook))
    assert to_dockerfile(notebook) == text


@pytest.mark.parametrize("above", ["", "\nRUN evil\n", "RUN evil\n", "\n# other\n", 3, ["\n"]])
def test_what_metadata_say_is_checked(above: object) -> None:
    """A notebook may come from anywhere, and nobody sees its metadata."""
    notebook = to_notebook("FROM a\nRUN b\n")
    notebook["cells"][1]["metadata"] = {"dockermagic": {"above": above}}
    notebook["metadata"]["dockermagic"] = {"below": "\nRUN evil", "newline": "\nRUN evil\n", "bom": "x"}

    assert to_dockerfile(notebook) == "FROM a\n\nRUN b\n"


def test_a_text_that_was_changed_is_written_anew() -> None:
    notebook = to_notebook("FROM a\n#old\nRUN b\n")
    notebook["cells"][1]["source"] = "new"

    assert to_dockerfile(notebook) == "FROM a\n\n# new\nRUN b\n"


@pytest.mark.parametrize("kernel", ["dockerfile", "python"])
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("markdown", [False, True])
def test_a_round_trip_changes_nothing_that_matters(kernel: str, blocks: bool, markdown: bool) -> None:
    back = to_dockerfile(to_notebook(TEXT, kernel=kernel, blocks=blocks), markdown=markdown)

    assert dump(parse(back)) == dump(parse(TEXT))
    assert ("# The base." in back and "# The end." in back) == markdown
    again = to_dockerfile(to_notebook(back, kernel=kernel, blocks=blocks), markdown=markdown)
    assert again == back or (blocks and not markdown)


def test_blocks_are_one_cell() -> None:
    assert shape(to_notebook("# One.\nFROM a\nRUN b\n# Two.\nRUN c\n", blocks=True)) == "One. FROM Two. RUN"
    assert shape(to_notebook("FROM a\nRUN b\n", kernel="python")) == "%load_ext %%dockerfile %%dockerfile"


def test_only_the_notebooks_own_dockerfile_is_taken() -> None:
    sources = ["import os", "%%dockerfile -t x\nFROM a", "%%dockerfile -s other\nFROM b", "%docker images", "FROM c"]
    cells = [{"cell_type": "code", "source": source} for source in sources]

    assert to_dockerfile({"cells": cells}) == "FROM a\n"
    plain = {"cells": cells, "metadata": {"kernelspec": {"language": "dockerfile"}}}
    assert "FROM c" in to_dockerfile(plain)
    with pytest.raises(UsageError, match="has no Dockerfile"):
        to_dockerfile({"cells": cells[:1]})


def test_a_text_never_becomes_a_directive() -> None:
    cells = [
        {"cell_type": "markdown", "source": "escape=`"},
        {"cell_type": "code", "source": "%%dockerfile\nFROM a \\\n"},
    ]

    assert parse(to_dockerfile({"cells": cells})).directives == ()
    for above in ("# escape=`\n", " # escape=`\n"):
        cells[1]["metadata"] = {"dockermagic": {"above": above}}
        assert parse(to_dockerfile({"cells": cells})).directives == ()


def test_what_is_no_dockerfile_is_refused() -> None:
    with pytest.raises(DockerfileSyntaxError):
        pieces("")


def test_the_verb_converts_both_ways(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(TEXT.replace("\n", "\r\n").encode())

    def convert(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dockermagic", "convert", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert convert(".", "lesson.ipynb").returncode == 0
    assert json.loads((tmp_path / "lesson.ipynb").read_text())["nbformat"] == 4
    assert convert("lesson.ipynb", "again").returncode == 0
    assert (tmp_path / "again").read_bytes() == (tmp_path / "Dockerfile").read_bytes()
    for words, message in [
        (("lesson.ipynb", "again"), "is there already"),
        (("again", "Dockerfile"), "one of the two files is a notebook"),
        (("missing", "b.ipynb"), "cannot read missing"),
    ]:
        done = convert(*words)
        assert done.returncode != 0 and message in done.stderr


def test_nbconvert_exports_a_dockerfile(tmp_path: Path) -> None:
    from nbconvert.exporters import get_exporter

    from dockermagic.notebook.exporter import DockerfileExporter

    notebook = nbformat.from_dict(to_notebook(TEXT))
    text, resources = DockerfileExporter().from_notebook_node(notebook)
    assert text == TEXT and resources["output_extension"] == ".dockerfile"
    assert get_exporter("dockermagic.notebook.exporter.DockerfileExporter") is DockerfileExporter


def test_nbconvert_finds_the_exporter() -> None:
    """As an entry point of the wheel."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["nbconvert.exporters"]["dockerfile"].partition(":")
    assert hasattr(__import__(module, fromlist=[name]), name)
