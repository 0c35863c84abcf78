"""Which cell it is that runs: ids, deleted and moved cells, notebooks that move, kernels that come and go."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.notebook.kernels import Kernel
from tests.notebook.lesson import FROM, ONE, TWO, chain, placed, run_all
from tests.notebook.lesson import kernel as kernel


def test_a_restarted_kernel_goes_on_where_it_was(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE)

    kernel.restart()
    (third,) = run_all(kernel, c=TWO)

    assert third.text.startswith("Cell [2] built: 1 layer")
    assert chain(kernel) == "busybox:built echo:built cat:built"


def test_a_deleted_cell_leaves_the_chain(kernel: Kernel) -> None:
    """JupyterLab names deleted cells with the next cell that runs, whatever that is."""
    run_all(kernel, a=FROM, b=ONE, c="%%dockerfile\nRUN echo three > /three")

    assert kernel.run("1 + 1", "python", deleted=("b",)).status == "ok"

    assert chain(kernel) == "busybox:built echo:stale"
    run_all(kernel, d="%dockerfile replay")
    assert kernel.run("%dockerfile show", "looking").text == "FROM busybox\n\nRUN echo three > /three"


def test_a_name_and_after_put_a_cell_where_it_belongs(kernel: Kernel) -> None:
    run_all(kernel, a="%%dockerfile --name base\nFROM busybox", b=ONE)

    placed = kernel.run("%%dockerfile --after base\nENV between=1", "c")

    assert "[3] is stale" in placed.text
    run_all(kernel, d="%dockerfile replay")
    text = kernel.run("%dockerfile show", "looking").text
    assert text == "FROM busybox\n\nENV between=1\n\nRUN echo one > /one"


def test_another_session_has_a_chain_of_its_own(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c="%%dockerfile -s other\nFROM scratch\nLABEL a=b")

    assert kernel.run("%dockerfile show -s other", "x").text == "FROM scratch\nLABEL a=b"
    assert chain(kernel) == "busybox:built echo:built"


def test_without_ids_a_fresh_kernel_begins_a_fresh_chain(home: Path, tmp_path: Path) -> None:
    """As nbclient does it; the environment may be that of another notebook's kernel."""
    notebook = str(tmp_path / "lesson.ipynb")
    with Kernel(home, tmp_path, notebook=notebook) as lab:
        run_all(lab, a=FROM, b="%%dockerfile\nRUN echo mine > /mine")
        for number in range(2):
            with Kernel(home, tmp_path, notebook=notebook, name="same") as kernel:
                replies = [kernel.run(code) for code in (FROM, ONE, "%%dockerfile -t app\nRUN cat /one > /two")]
                assert [("all CACHED" in reply.text) for reply in replies] == [True, bool(number), bool(number)]
                assert kernel.run("%dockerfile show").text.count("FROM") == 1
        assert chain(lab) == "busybox:built echo:built"


def test_a_failed_cell_without_an_id_can_be_mended(home: Path, tmp_path: Path) -> None:
    with Kernel(home, tmp_path) as kernel:
        kernel.run(FROM)
        assert kernel.run("%%dockerfile\nRUN false").status == "error"
        assert kernel.run(ONE).status == "ok"
        assert kernel.run("%dockerfile show").text == "FROM busybox\n\nRUN echo one > /one"
        assert "Nothing is stale" in kernel.run("%dockerfile replay").text


def test_vs_code_finds_its_cells_again_by_their_text(home: Path, tmp_path: Path) -> None:
    """The fragments of its URIs are dealt anew when a notebook is opened again."""
    uri = f"vscode-notebook-cell:{tmp_path}/lesson.ipynb#W"
    for order in ("123", "231"):
        with Kernel(home, tmp_path) as kernel:
            kernel.run(f"__vsc_ipynb_file__ = {str(tmp_path / 'lesson.ipynb')!r}")
            for handle, code in zip(order, (FROM, ONE, TWO), strict=True):
                assert kernel.run(code, f"{uri}{handle}sZmlsZQ==").status == "ok"
            changed = kernel.run(ONE.replace("echo one", f"echo {order}"), f"{uri}{order[1]}sZmlsZQ==")
            assert "[5] is stale" in changed.text
            assert kernel.run(ONE, f"{uri}{order[1]}sZmlsZQ==").status == "ok"
            assert kernel.run(TWO, f"{uri}{order[2]}sZmlsZQ==").status == "ok"
            assert chain(kernel) == "busybox:built echo:built cat:built"


def test_a_renamed_notebook_keeps_its_chain(home: Path, tmp_path: Path) -> None:
    """Even if the first cell to run is one that was never seen: the file holds the ids of the others."""
    old, new = tmp_path / "old.ipynb", tmp_path / "new.ipynb"
    cells = [{"cell_type": "code", "id": one, "source": text} for one, text in {"a": FROM, "b": ONE}.items()]
    old.write_text(json.dumps({"cells": cells}))
    with Kernel(home, tmp_path, notebook=str(old)) as kernel:
        run_all(kernel, a=FROM, b=ONE)
    old.rename(new)
    with Kernel(home, tmp_path, notebook=str(new)) as kernel:
        run_all(kernel, c=TWO)
        assert chain(kernel) == "busybox:built echo:built cat:built"


def test_cells_stand_in_the_chain_as_they_stand_in_the_notebook(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)

    inserted = kernel.run("%%dockerfile\nENV between=1", "d", metadata=placed("a", "d", "b", "c"))
    assert "Cells [3] and [4] are stale" in inserted.text
    assert kernel.run("%dockerfile show", "x").text == "FROM busybox\n\nENV between=1"
    kernel.run("%dockerfile replay", "x")
    moved = kernel.run("%dockerfile status", "x", metadata=placed("a", "b", "d", "c"))
    assert [line.split()[2] for line in moved.text.split("\n") if line.startswith("cell [")] == [
        *("built", "stale", "stale", "stale")
    ]
    again = kernel.run(ONE, "b", metadata=placed("a", "b", "d", "c"))
    assert "are stale" in again.text
    kernel.run("%dockerfile replay", "x")
    assert kernel.run("%dockerfile show", "x").text.split("\n\n")[1:3] == ["RUN echo one > /one", "ENV between=1"]


def test_a_cell_further_down_that_bears_a_name_changes_the_cell_of_that_name_where_it_stands(kernel: Kernel) -> None:
    """As the first lesson does it; a later look at the chain must not move it down."""
    order = placed("a", "b", "c", "d")
    greeting = "%%dockerfile --name greeting\nENV GREETING="
    cells = {"a": FROM, "b": f"{greeting}one", "c": "%%dockerfile\nENV later=1", "d": f"{greeting}another"}
    for cell, code in cells.items():
        assert kernel.run(code, cell, metadata=dict(order)).status == "ok"

    for _ in range(2):
        status = kernel.run("%dockerfile status", "x", metadata=dict(order)).text
        assert re.findall(r"^cell (\S+) +(\w+)", status, re.MULTILINE) == [
            ("[2]", "built"),
            ("greeting", "built"),
            ("[4]", "stale"),
        ]
    assert "are stale" not in kernel.run("%dockerfile replay", "x", metadata=dict(order)).text
    shown = kernel.run("%dockerfile show", "x", metadata=dict(order)).text
    assert shown.split("\n\n")[1] == "ENV GREETING=another"


def test_a_front_end_that_tells_the_order_hears_which_cells_are_stale(kernel: Kernel) -> None:
    order = placed("a", "b", "c")
    for cell, code in {"a": FROM, "b": ONE, "c": TWO}.items():
        assert kernel.run(code, cell, metadata=dict(order)).marks == []

    changed = kernel.run(ONE.replace("echo one", "echo two"), "b", metadata=dict(order))

    assert changed.marks == ["c"]
    assert kernel.run("1 + 1", "x", metadata=dict(order)).marks is None
    assert kernel.run("%dockerfile replay", "x", metadata=dict(order)).marks == []
    assert kernel.run(ONE, "b").marks is None


def test_two_kernels_on_one_session(home: Path, tmp_path: Path) -> None:
    notebook = str(tmp_path / "lesson.ipynb")
    with Kernel(home, tmp_path, notebook=notebook) as one, Kernel(home, tmp_path, notebook=notebook) as other:
        run_all(one, a=FROM)
        run_all(other, b=ONE)
        run_all(one, c=TWO)
        assert chain(other) == "busybox:built echo:built cat:built"
