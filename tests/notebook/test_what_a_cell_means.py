"""What a cell means, statement by statement: rewind, stale, replay, failure, interrupt, identity, why it missed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebook.kernels import Kernel, Reply, ThisPython

A = "%%dockerfile\nFROM busybox"
B = "%%dockerfile\nRUN echo one > /one"
C = "%%dockerfile\nCOPY main.py /app/\nRUN cat /one > /two"
D = "%%dockerfile -t app\nARG WHO=you\nRUN echo $WHO > /who"
CELLS = {"a": A, "b": B, "c": C, "d": D}


@pytest.fixture
def kernel(home: Path, tmp_path: Path) -> Iterator[Kernel]:
    (tmp_path / "main.py").write_text("1")
    with Kernel(home, tmp_path, notebook=str(tmp_path / "lesson.ipynb")) as kernel:
        yield kernel


def ok(kernel: Kernel, code: str, cell: str = "looking", **how: Any) -> str:
    """What a cell says that must not fail."""
    reply = kernel.run(code, cell, **how)
    assert (reply.status, reply.message, reply.stderr) == ("ok", "", "")
    return reply.text


def states(kernel: Kernel) -> list[str]:
    return re.findall(r"^cell \S+ +(built|stale|failed) ", ok(kernel, "%dockerfile status"), re.M)


def run_all(kernel: Kernel) -> list[str]:
    return [ok(kernel, code, cell) for cell, code in CELLS.items()]


def test_the_chain(id_mode: str, kernel: Kernel, tmp_path: Path) -> None:
    """Rewind, stale and replay; a miss names its reason."""
    run_all(kernel)
    for text in run_all(kernel):  # unchanged: all of it CACHED, and the later cells stay
        assert "all CACHED" in text and "stale" not in text
    assert states(kernel) == ["built"] * 4

    changed = ok(kernel, B.replace("echo one", "echo other"), "b")
    assert "not CACHED: the instruction changed" in changed and "are stale: run %dockerfile replay" in changed
    assert states(kernel) == ["built", "built", "stale", "stale"]
    back = ok(kernel, D, "d")  # a stale cell stands after the nearest earlier cell that is on the chain
    assert "not CACHED: a step before it changed" in back and "stale" not in back
    assert states(kernel) == ["built", "built", "stale", "built"]
    assert "is stale" in ok(kernel, C, "c")  # and cells on the chain behind that place become stale
    replayed = ok(kernel, "%dockerfile replay")
    assert replayed.count("built: 1 layer") == 1 and states(kernel) == ["built"] * 4

    (tmp_path / "main.py").write_text("2")
    assert states(kernel) == ["built", "built", "stale", "stale"]
    assert "not CACHED: main.py changed" in ok(kernel, "%dockerfile replay")
    given = D.replace("-t app", "-t app --build-arg WHO=me")
    assert "not CACHED: the value of WHO changed" in ok(kernel, given, "d")
    assert ok(kernel, C.replace("%%dockerfile", "%%dockerfile --no-cache"), "c").count("not CACHED: --no-cache") == 2
    ok(kernel, "%dockerfile replay")

    second = "%%dockerfile -t small\nFROM busybox\nCOPY --from=0 /one /one"
    assert re.search(r"1 +CACHED +FROM busybox", ok(kernel, second, "e"))  # a new stage, on the same base
    assert ok(kernel, "%docker run --rm small sh -c 'cat /one; ls /app'").startswith("other\nls: /app")
    assert "all CACHED" in ok(kernel, second, "e")

    assert "Undone" in ok(kernel, "%dockerfile undo")
    assert states(kernel)[:4] == ["built"] * 4
    ok(kernel, "1", "python", deleted=("b",))  # a deleted cell leaves the chain
    assert states(kernel)[:3] == ["built", "stale", "stale"]
    ok(kernel, "%dockerfile undo")
    assert ok(kernel, "%dockerfile show").startswith("FROM busybox\n\nRUN echo other > /one\n\nCOPY main.py")
    ok(kernel, "%dockerfile export Dockerfile")
    assert (tmp_path / "Dockerfile").read_text().startswith("FROM busybox\n\nRUN echo other")
    assert "The chain is empty" in ok(kernel, "%dockerfile reset") and states(kernel) == []


@pytest.mark.alike
def test_failure_and_interrupt(id_mode: str, kernel: Kernel) -> None:
    run_all(kernel)

    failed = kernel.run("%%dockerfile\nRUN touch /kept\nRUN touch /half; exit 4", "b")
    assert (failed.status, failed.error) == ("error", "RunFailedError") and "cell [6]:3" in failed.message
    assert states(kernel) == ["built", "failed", "stale", "stale"]
    assert "+ /half" in ok(kernel, "%dockerfile diff --failed")
    ok(kernel, "%dockerfile history")  # who looks builds nothing: the half-made layer stays
    assert "half" in ok(kernel, "%dockerfile tree --failed")
    assert "On the chain again: cell [3], cell [4], cell [5]." in ok(kernel, "%dockerfile undo")
    assert states(kernel) == ["built"] * 4
    assert "all CACHED" in ok(kernel, D, "d")
    mended = ok(kernel, "%%dockerfile\nRUN touch /kept\nRUN touch /half", "b")
    assert re.search(r"1 +CACHED +RUN touch /kept", mended) and re.search(r"2 +done.* RUN touch /half", mended)
    ok(kernel, "%dockerfile undo")

    pressed = []

    def press(reply: Reply) -> None:
        if "| begun" in reply.text and not pressed:
            pressed.append(True)
            kernel.interrupt()

    stopped = kernel.run("%%dockerfile\nRUN touch /left; echo begun; sleep 600", "c", watch=press)
    assert (stopped.status, stopped.error) == ("error", "BuildInterruptedError")
    assert states(kernel) == ["built", "built", "failed", "stale"]
    assert kernel.run("%dockerfile tree --failed", "looking").error == "SessionError"  # its layer is discarded
    assert kernel.run("%%dockerfile -s other\nFROM busybox\nRUN touch /half; false", "o").status == "error"
    ok(kernel, "%%dockerfile -s another\nFROM busybox\nRUN date > /now", "p")
    gone = kernel.run("%dockerfile tree --failed -s other", "looking")
    assert (gone.error, "is not kept any more" in gone.message) == ("UsageError", True)

    kernel.restart()  # with ids, the fifth cell builds on the fourth as it was left
    ok(kernel, "%dockerfile undo")
    fifth = ok(kernel, "%%dockerfile --name last\nRUN cat /who", "e")
    assert "| you" in fifth and states(kernel) == ["built"] * 5
    assert "all CACHED" in ok(kernel, "%%dockerfile --name last\nRUN cat /who", "another")  # a name beats an id


def test_without_ids_a_notebook_is_right_from_top_to_bottom(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nbclient, papermill and consoles run it: a second run is all CACHED."""
    monkeypatch.setenv("DOCKERMAGIC_HOME", str(home))
    (tmp_path / "main.py").write_text("1")
    said = []
    for _ in range(2):
        cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext dockermagic", *CELLS.values())]
        notebook = nbformat.v4.new_notebook(cells=cells)
        client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3")
        client.create_kernel_manager().kernel_spec_manager = ThisPython()
        client.execute()
        said.append([out["data"]["text/plain"] for cell in cells[1:] for out in cell["outputs"]])

    assert [("all CACHED" in text) for text in said[0]] == [True, False, False, False]
    assert [("all CACHED" in text) for text in said[1]] == [True] * 4
