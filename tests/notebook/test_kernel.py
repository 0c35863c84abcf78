"""The Dockerfile kernel, spoken to by the protocol on the real engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import pytest

from dockermagic.celltext import KernelCell, asked_about, is_complete, read_cell
from tests.notebook.kernels import DockerfileKernel, Reply


@pytest.fixture
def kernel(home: Path, tmp_path: Path) -> Iterator[DockerfileKernel]:
    with DockerfileKernel(home, tmp_path, notebook=str(tmp_path / "lesson.ipynb")) as kernel:
        yield kernel


def well(reply: Reply) -> Reply:
    assert (reply.status, reply.stderr, reply.message) == ("ok", "", "")
    return reply


def test_plain_cells_are_dockerfile(id_mode: str, kernel: DockerfileKernel, tmp_path: Path) -> None:
    """The main road, in every id mode: instructions, magics, shell lines and Python in one notebook."""
    well(kernel.run("# what we build on\nFROM busybox", "a"))
    well(kernel.run("%%dockerfile -t app\nRUN echo out > /one\nCMD cat /one", "b"))

    assert well(kernel.run("%docker run --rm app", "c")).text.startswith("out")
    assert well(kernel.run("!echo shell", "d")).stdout.strip() == "shell"
    assert well(kernel.run("%%python\nword = 'py' + 'thon'\nword", "e")).text == "'python'"
    mixed = well(kernel.run("!echo above\n\nRUN echo {x} $HOME > /two", "f"))
    assert mixed.stdout.startswith("above") and "built: 1 layer" in mixed.text
    assert well(kernel.run("%dockerfile show", "g")).text.endswith("CMD cat /one\n\nRUN echo {x} $HOME > /two")


def test_errors_count_lines_as_the_cell_has_them(kernel: DockerfileKernel) -> None:
    well(kernel.run("FROM busybox", "a"))

    assert re.search(r"cell \[2\]:2: RUM a", kernel.run("ENV a=b\nRUM a", "b").message)
    assert re.search(r"cell \[3\]:3: RUM a", kernel.run("!true\n\nRUM a", "c").message)


def test_a_restart_resumes_and_the_stop_button_stops(kernel: DockerfileKernel) -> None:
    well(kernel.run("FROM busybox", "a"))
    well(kernel.run("RUN echo one > /one", "b"))
    kernel.restart()
    assert "built: 1 layer" in well(kernel.run("RUN cat /one > /two", "c")).text
    interrupted: list[bool] = []

    def stop(reply: Reply) -> None:
        if "| started" in reply.text and not interrupted:
            interrupted.append(True)
            kernel.interrupt()

    reply = kernel.run("RUN echo started; sleep 1000", "d", watch=stop)

    assert (reply.status, reply.error, reply.stderr) == ("error", "BuildInterruptedError", "")
    assert "all CACHED" in kernel.run("RUN cat /one > /two", "c").text


def test_a_console_runs_instruction_by_instruction(home: Path, tmp_path: Path) -> None:
    """`jupyter console` on an installed kernelspec, fed by a pipe."""
    install(tmp_path / "prefix")
    environment = {**os.environ, "DOCKERMAGIC_HOME": str(home), "JUPYTER_PATH": str(tmp_path / "prefix/share/jupyter")}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-m", "jupyter_console", "--kernel=dockerfile", "--simple-prompt"]
    typed = "FROM busybox\nRUN echo console > /from\n%dockerfile show\nexit\n"

    done = subprocess.run(words, input=typed, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=90)

    assert "FROM busybox\n\nRUN echo console > /from" in done.stdout, done.stderr
    assert "unknown instruction" not in done.stdout  # exit leaves


@pytest.mark.parametrize(
    ("text", "ipython", "dockerfile"),
    [
        ("FROM a\n%x", "", "FROM a\n%x"),
        ("\n# c\nFROM a", "", "# c\nFROM a"),
        ("%docker images\n\nFROM a", "%docker images\n", "FROM a"),
        ("!ls \\\n  -l\nFROM a", "!ls \\\n  -l", "FROM a"),
        ("%%dockerfile -t x\nFROM a", "%%dockerfile -t x\nFROM a", ""),
        ("%%python\n1 + 1", "\n1 + 1", ""),
        ("%dockerfile?", "%dockerfile?", ""),
        ("exit", "exit", ""),
        (" quit()\n", " quit()", ""),
        ("", "", ""),
    ],
)
def test_a_cell_is_read_as_ipython_above_and_dockerfile_below(text: str, ipython: str, dockerfile: str) -> None:
    cell = read_cell(text)

    assert (cell.ipython.strip("\n"), cell.dockerfile) == (ipython.strip("\n"), dockerfile)
    if ipython.startswith("\n"):
        assert cell == KernelCell(ipython, "")


@pytest.mark.parametrize(
    ("text", "word"),
    [("RUN?", "RUN"), ("?--mount", "--mount"), ("$PATH??", "$PATH"), ("RUN ls a?", ""), ("%x?", ""), ("RUN", "")],
)
def test_a_word_with_a_question_mark_is_a_question(text: str, word: str) -> None:
    assert asked_about(text) == word


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("FROM a", "complete"),
        ("# only words", "complete"),
        ("RUN a \\", "incomplete"),
        ("RUN a \\\n# why", "incomplete"),
        ("RUN <<END\na", "incomplete"),
        ("RUN <<END\na\nEND", "complete"),
        ("RUM a", "invalid"),
    ],
)
def test_an_instruction_may_go_on(text: str, status: str) -> None:
    assert is_complete(text) == status


def install(prefix: Path, *words: str) -> dict[str, Any]:
    """Install a kernelspec below a prefix and give back what it says."""
    command = [sys.executable, "-m", "dockermagic", "kernel", "install", "--prefix", str(prefix), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    place = Path(done.stdout.strip().rpartition(" ")[2])
    assert {path.name for path in place.iterdir()} == {
        *("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
    }
    return dict(json.loads((place / "kernel.json").read_text()))


def test_a_kernelspec_names_this_very_interpreter(tmp_path: Path) -> None:
    spec = install(tmp_path, "--name", "course", "--display-name", "Dockerfile (course)")

    assert spec["argv"][0] == sys.executable
    assert spec["display_name"] == "Dockerfile (course)"
    assert (tmp_path / "share/jupyter/kernels/course/kernel.json").exists()


class TestProtocol(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """Jupyter's own tests of a kernel."""

    kernel_name = "dockerfile"
    language_name = "dockerfile"
    file_extension = ".dockerfile"
    code_hello_world = "!echo hello, world"
    code_stderr = "%%python\nimport sys; print('error', file=sys.stderr)"
    code_page_something = "%dockerfile?"
    code_generate_error = "RUM nothing"
    code_execute_result = [{"code": "%%python\n6 * 7", "result": "42"}]  # noqa: RUF012
    code_display_data = [{"code": "FROM scratch", "mime": "text/html"}]  # noqa: RUF012
    code_history_pattern = "%%python?6*"
    supported_history_operations = ("tail", "range", "search")
    code_clear_output = "%%python\nfrom IPython.display import clear_output; clear_output()"
    code_inspect_sample = "RUN"
    completion_samples = [  # noqa: RUF012
        {"text": "FR", "matches": ["FROM"]},
        {"text": "%docker imag", "matches": ["image", "images"]},
    ]
    complete_code_samples = ["FROM a", "%dockerfile show", "# a comment", "RUN <<E\na\nE"]  # noqa: RUF012
    incomplete_code_samples = ["RUN a \\", "COPY <<E /a\nb"]  # noqa: RUF012
    invalid_code_samples = ["RUM a"]  # noqa: RUF012

    folder: tempfile.TemporaryDirectory[str]
    patch: pytest.MonkeyPatch

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.patch = pytest.MonkeyPatch()
        folder = Path(cls.folder.name)
        install(folder)
        cls.patch.setenv("JUPYTER_PATH", str(folder / "share/jupyter"))
        cls.patch.setenv("DOCKERMAGIC_HOME", str(folder / "home"))
        cls.patch.setenv("DOCKERMAGIC_WIDGETS", "0")  # its messages are not known there
        cls.patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        cls.patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls.patch.undo()
        cls.folder.cleanup()
