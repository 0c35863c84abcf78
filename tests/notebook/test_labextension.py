"""The lab extension in JupyterLab and in Notebook 7: colours, the order of the cells, marks on stale ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.engine import Engine
from tests.notebook.labserver import CHROMIUM, Notebook, browser, server, write_notebook

playwright = pytest.importorskip("playwright", reason="the browser is driven by playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")]

LIKE_A_KEYWORD = """([word, like]) => {
  const span = text => [...document.querySelectorAll('.cm-line span')].find(one => one.textContent === text);
  return span(word) && span(like) && getComputedStyle(span(word)).color === getComputedStyle(span(like)).color;
}"""


@pytest.fixture(scope="module", params=["lab", "notebook"])
def jupyter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    folder = tmp_path_factory.mktemp(request.param)
    home = tmp_path_factory.mktemp("home")
    with Engine(home) as engine:
        engine.base("busybox")
    with server(folder, app=request.param, DOCKERMAGIC_HOME=str(home)) as address:
        yield request.param, address, folder


@pytest.fixture
def page() -> Iterator[Any]:
    with browser() as page:
        yield page


def test_dockerfile_cells_are_coloured_and_follow_their_first_line(jupyter: tuple[str, str, Path], page: Any) -> None:
    app, address, folder = jupyter
    write_notebook(folder / "colours.ipynb", "import os", "%%dockerfile\nFROM busybox\nWORKDIR /a", "\nVOLUME /b")
    notebook = Notebook(page, address, "colours.ipynb", app=app)

    page.wait_for_function(LIKE_A_KEYWORD, arg=["FROM", "import"])
    assert page.evaluate(LIKE_A_KEYWORD, ["WORKDIR", "import"])
    assert not page.evaluate(LIKE_A_KEYWORD, ["VOLUME", "import"])
    notebook.cell(2).locator(".cm-content").click()
    page.keyboard.press("Control+Home")
    page.keyboard.type("%%dockerfile ")
    page.wait_for_function(LIKE_A_KEYWORD, arg=["VOLUME", "import"])


def test_cells_take_the_place_where_they_stand_and_stale_ones_are_marked(
    jupyter: tuple[str, str, Path], page: Any
) -> None:
    app, address, folder = jupyter
    cells = ["%load_ext dockermagic", "%%dockerfile\nFROM busybox", "%%dockerfile\nENV first=1"]
    write_notebook(
        folder / "order.ipynb", *cells, "%%dockerfile\nENV second=1", "%dockerfile replay", "%dockerfile show"
    )
    notebook = Notebook(page, address, "order.ipynb", app=app)
    for number in (0, 1, 3):
        notebook.run(number)
    assert page.locator(".dm-stale").count() == 0

    notebook.run(2)
    page.wait_for_selector(".jp-Cell.dm-stale")
    assert "dm-stale" in notebook.cell(3).get_attribute("class")
    assert page.locator(".dm-stale").count() == 1
    notebook.save(folder / "order.ipynb")
    notebook = Notebook(page, address, "order.ipynb", app=app)  # opened again it says so before anything runs
    page.wait_for_selector(".jp-Cell.dm-stale")
    assert "dm-stale" in notebook.cell(3).get_attribute("class")
    notebook.run(4)
    page.wait_for_function("() => !document.querySelector('.dm-stale')")
    notebook.run(5)
    shown = notebook.cell(5).locator(".jp-OutputArea").inner_text()
    assert shown.index("ENV first=1") < shown.index("ENV second=1")

    notebook.cell(2).locator(".jp-InputPrompt").click()
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+M")  # of which the kernel hears nothing from JupyterLab itself
    page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-Cell').length === 5")
    notebook.run(4)
    assert "ENV" not in notebook.cell(4).locator(".jp-OutputArea").inner_text()


def test_run_again_runs_the_cell_as_it_stands_and_its_error_goes(jupyter: tuple[str, str, Path], page: Any) -> None:
    app, address, folder = jupyter
    write_notebook(folder / "again.ipynb", "%load_ext dockermagic", "%%dockerfile\nFROM busybox\nRUN test -e /here")
    notebook = Notebook(page, address, "again.ipynb", app=app)
    notebook.run(0)
    notebook.run(1)
    output = notebook.cell(1).locator(".jp-OutputArea")
    output.get_by_text("RunFailedError").wait_for()

    notebook.cell(1).locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" || true")
    output.get_by_role("button", name="run again").click()

    output.get_by_text("RunFailedError").wait_for(state="detached")
    output.get_by_text("Cell [3] built").locator("visible=true").first.wait_for()


def test_the_kernel_in_the_page(jupyter: tuple[str, str, Path], page: Any) -> None:
    """Colours by MIME type, a run, completion with Tab and help with Shift-Tab."""
    app, address, folder = jupyter
    write_notebook(folder / "kernel.ipynb", "FROM busybox\nWORKDIR /srv", "STOPS", kernel_name="dockerfile")
    notebook = Notebook(page, address, "kernel.ipynb", app=app)
    page.wait_for_function(LIKE_A_KEYWORD, arg=["FROM", "WORKDIR"])
    notebook.run(0)
    notebook.cell(0).get_by_text("Cell [1] built").locator("visible=true").first.wait_for()

    notebook.cell(1).locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.press("Tab")
    page.locator(".jp-Completer").get_by_text("STOPSIGNAL").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.jp-Cell')[1].innerText.includes('STOPSIGNAL')")
    page.keyboard.press("Control+Home")
    page.keyboard.type("WORKDIR /\n")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+Tab")
    tooltip = page.locator(".jp-Tooltip")
    tooltip.get_by_text("The folder in which the commands below").wait_for()
    assert "/srv" in tooltip.inner_text()
