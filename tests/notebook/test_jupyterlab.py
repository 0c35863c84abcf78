"""What a person sees and does in a real JupyterLab, in a real browser: live rows, stop, unfold, save, come back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.labserver import CHROMIUM, TOKEN, Notebook, browser, server, write_notebook

playwright = pytest.importorskip("playwright", reason="the browser is driven by playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")]

LOAD = "from tests.notebook.fakebuild import build, container"
LIVE = ".dm-root"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("lab")
    with server(folder) as address:
        yield address, folder


@pytest.fixture
def page() -> Iterator[Any]:
    with browser() as page:
        yield page


def see(where: Any, text: str) -> None:
    """Wait until somebody can read it."""
    where.get_by_text(text).locator("visible=true").first.wait_for()


def shut_down_kernels(address: str) -> None:
    with urllib.request.urlopen(f"{address}/api/sessions?token={TOKEN}") as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(f"{address}/api/sessions/{session['id']}?token={TOKEN}", method="DELETE")
        urllib.request.urlopen(request).close()


def test_a_build_is_seen_while_it_runs_and_can_be_stopped(lab: tuple[str, Path], page: Any) -> None:
    address, folder = lab
    write_notebook(folder / "live.ipynb", LOAD, "build(lines=2000, pause=0.02)")
    notebook = Notebook(page, address, "live.ipynb")
    notebook.run(0)
    notebook.start(1)
    card = notebook.cell(1).locator(LIVE)

    card.get_by_text("line 30", exact=True).wait_for()
    assert card.locator("tr[data-part]").count() == 4
    assert card.locator("[aria-label=running]").count() == 1
    assert card.get_by_text("not CACHED: the command changed").is_visible()
    clock = card.locator("tr .dm-clock").first
    before = clock.inner_text()
    page.wait_for_function("([one, before]) => one.textContent !== before", arg=[clock.element_handle(), before])

    card.get_by_role("button", name="stop").click()
    notebook.wait(1)
    cell = notebook.cell(1)
    see(cell, "Cell [2] stopped")
    assert cell.locator(".jp-OutputArea-output").last.inner_text().startswith("BuildInterruptedError: interrupted")


def test_a_flood_of_output_stays_smooth_and_bounded(lab: tuple[str, Path], page: Any) -> None:
    address, folder = lab
    write_notebook(
        folder / "flood.ipynb", LOAD, "build(lines=150_000)\nbuild(lines=300, pause=0.01, label='cell after');"
    )
    notebook = Notebook(page, address, "flood.ipynb")
    notebook.run(0)
    notebook.run(1)
    see(notebook.cell(1), "Cell after built")

    assert page.evaluate("document.querySelectorAll('.dm-root pre > div').length") <= 1001
    assert page.evaluate("document.querySelectorAll('.jp-OutputArea-output').length") < 6


def test_nothing_is_lost_when_the_kernel_is(lab: tuple[str, Path], page: Any) -> None:
    """Saved, closed, opened again with another kernel: the cards are there, and no error stands in their place."""
    address, folder = lab
    path = folder / "again.ipynb"
    write_notebook(path, LOAD, "build();", "container();")
    notebook = Notebook(page, address, "again.ipynb")
    for number in range(3):
        notebook.run(number)
    notebook.cell(1).locator(LIVE).wait_for()
    notebook.save(path)
    outputs = [output["data"] for cell in json.loads(path.read_text())["cells"] for output in cell["outputs"]]
    assert all({"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(data) for data in outputs)

    page.reload()
    notebook.cell(1).locator(LIVE).wait_for()
    shut_down_kernels(address)
    page.goto("about:blank")
    again = Notebook(page, address, "again.ipynb")
    see(again.cell(1), "Cell [2] built")
    see(again.cell(2), "exit code 3")
    assert "Error displaying widget" not in page.inner_text("body")


def test_a_container_is_seen_while_it_runs_and_can_be_stopped(lab: tuple[str, Path], page: Any) -> None:
    address, folder = lab
    write_notebook(folder / "container.ipynb", LOAD, "container(lines=2000, pause=0.02);")
    notebook = Notebook(page, address, "container.ipynb")
    notebook.run(0)
    notebook.start(1)
    card = notebook.cell(1).locator(LIVE)
    card.get_by_text("out 30", exact=True).wait_for()
    card.get_by_role("button", name="stop").click()
    notebook.wait(1)

    see(card, "stopped, exit code 137")


def test_without_the_extension_builds_end_as_still_cards(tmp_path: Path, page: Any) -> None:
    """A front end that cannot go back to the card gets nothing that it could lose."""
    with server(tmp_path, extension=False) as address:
        path = tmp_path / "still.ipynb"
        write_notebook(path, LOAD, "build(lines=60, pause=0.02);", "build(lines=60, pause=0.02);")
        notebook = Notebook(page, address, "still.ipynb")
        for number in range(3):
            notebook.run(number)
        see(notebook.cell(2), "Cell [2] built")
        page.wait_for_function("() => !document.querySelector('.dm-root')")
        notebook.save(path)
        cells = json.loads(path.read_text())["cells"][1:]

        assert [set(output["data"]) for cell in cells for output in cell["outputs"]] == [
            {"text/html", "text/plain"}
        ] * 2
