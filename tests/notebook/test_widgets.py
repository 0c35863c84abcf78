"""What a person does with the cards of real cells, in JupyterLab and in Notebook 7, and whether everybody can."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from dockermagic.engine import Engine
from tests.notebook import gallery
from tests.notebook.labserver import CHROMIUM, Notebook, browser, server, write_notebook

playwright = pytest.importorskip("playwright", reason="the browser is driven by playwright")
pytest.importorskip("axe_playwright_python", reason="axe-core comes with it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on this machine")]

CELLS = (
    "%load_ext dockermagic",
    "%%dockerfile -t hello\nFROM busybox\nENV WHO=world",
    "%%dockerfile\nCOPY main.py dot.png evil.svg /srv/\nRUN echo root >> /etc/passwd && rm -r /var/www",
    "%%dockerfile\nRUN mkdir /many && cd /many && seq -w 1 120000 | xargs touch",
    "%%dockerfile\nRUN touch /half-made && no-such-program",
    "ran = %docker run --rm -it hello sh",
    "ran, _exit_code",
    "%docker run -d -p 8080 --name web hello sh -c 'echo starting; exec httpd -f -p 8080 -h /etc'",
)
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
EVIL = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>top.evil = 1</script></svg>"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["lab", "notebook"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder, home = tmp_path_factory.mktemp("widgets"), tmp_path_factory.mktemp("home")
    with Engine(home) as engine:
        engine.base("busybox")
    (folder / "dot.png").write_bytes(base64.b64decode(DOT))
    (folder / "evil.svg").write_text(EVIL)
    (folder / "main.py").write_text("def main() -> None:\n    print('hello')\n")
    write_notebook(folder / "lesson.ipynb", *CELLS)
    with server(folder, app=request.param, DOCKERMAGIC_HOME=str(home)) as address:
        yield request.param, address


@pytest.fixture(scope="module")
def opened(place: tuple[str, str]) -> Iterator[tuple[Any, Notebook]]:
    """The notebook, its cells run: each test goes on where the one before it ended."""
    app, address = place
    with browser() as page:
        notebook = Notebook(page, address, "lesson.ipynb", app=app)
        for number in range(5):
            notebook.run(number)
        yield page, notebook


def serious(page: Any, selector: str) -> list[str]:
    """What axe-core finds wrong, and how often."""
    page.evaluate(AXE)
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)
    bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {json.dumps([node['target'] for node in one['nodes']][:3])}" for one in bad]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_can_be_read_by_everybody(theme: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(gallery.page(theme), encoding="utf-8")
    with browser(color_scheme=theme) as page:
        page.goto(path.as_uri())
        assert serious(page, ".dockermagic") == []


def test_a_person_looks_through_the_files(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    card = notebook.cell(2).locator(".dm-root")
    card.get_by_text("History", exact=True).click()
    card.get_by_role("button", name="digests of the layers").click()
    card.get_by_text("sha256:").first.wait_for()
    assert card.get_by_text("sha256:").count() == 3
    card.get_by_text("Files · 4 added").click()
    rows = card.get_by_role("treeitem")
    rows.filter(has_text="main.py").wait_for()
    assert rows.filter(has_text="passwd").locator(".dm-sign").inner_text() == "~"

    card.get_by_role("tree").focus()
    page.keyboard.type("main")
    page.keyboard.press("Enter")
    card.locator(".dm-look pre").get_by_text("print").wait_for()
    rows.filter(has_text="passwd").click()
    card.get_by_role("button", name="what changed").click()
    card.locator(".dm-look pre").get_by_text("+root").wait_for()
    with page.expect_download() as download:
        card.get_by_role("button", name="download").click()
    assert Path(download.value.path()).read_text().endswith("root\n")
    rows.filter(has_text="srv/").click()
    with page.expect_download() as download:
        card.get_by_role("button", name="folder as .tar").click()
    with tarfile.open(download.value.path()) as tar:
        assert [one for one in tar.getnames() if one.endswith("main.py")]
    assert serious(page, ".dm-root .dm-files") == []

    rows.filter(has_text="srv/").click()
    for name, width in (("dot.png", 1), ("evil.svg", 9)):
        rows.filter(has_text=name).click()
        card.locator(f".dm-look img[alt='{name}']").wait_for()
        page.wait_for_function("width => document.querySelector('.dm-look img')?.naturalWidth === width", arg=width)
    assert page.evaluate("window.evil") is None

    search = card.get_by_role("searchbox")
    card.get_by_role("button", name="as a regular expression").click()
    search.fill("[")
    card.get_by_text("not a regular expression").wait_for()
    search.fill(r"/(etc|srv)/.*(wd|py)$")
    card.get_by_text("2 paths").wait_for()
    card.get_by_role("button", name="modified").click()
    card.get_by_text("1 path", exact=True).wait_for()
    search.fill("")
    for name in ("modified", "unchanged"):
        card.get_by_role("button", name=name).click()
    rows.filter(has_text="bin/").first.wait_for()


def in_order(card: Any) -> list[str]:
    """The names that are seen, from top to bottom."""
    script = "(a, b) => parseInt(a.style.top) - parseInt(b.style.top)"
    names = f"card => [...card.querySelectorAll('.dm-item')].sort({script}).map(one => one.children[2].textContent)"
    found: list[str] = card.evaluate(names)
    return found


def test_a_person_sorts_walks_by_keys_travels_and_compares(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    card = notebook.cell(2).locator(".dm-root")
    rows, tree = card.get_by_role("treeitem"), card.get_by_role("tree")
    order = card.get_by_role("combobox", name="sort by")
    order.select_option("size")
    rows.first.filter(has_text="bin/").wait_for()
    card.get_by_role("button", name="in the other direction").click()
    rows.last.filter(has_text="bin/").wait_for()
    assert in_order(card)[0] == "var/"
    card.get_by_role("button", name="in the other direction").click()
    order.select_option("name")
    rows.nth(1).filter(has_text="dev/").wait_for()

    tree.focus()
    for key in ("End", "Home", "s", "r", "ArrowRight"):
        page.keyboard.press(key)
    rows.filter(has_text="main.py").wait_for()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    card.locator(".dm-look pre").get_by_text("print").wait_for()
    chosen = tree.locator("[aria-selected=true]")
    assert chosen.get_attribute("aria-label").startswith("main.py")
    assert [chosen.get_attribute(f"aria-{name}") for name in ("level", "posinset", "setsize")] == ["2", "3", "3"]
    assert rows.filter(has_text="srv/").get_attribute("aria-expanded") == "true"

    slider = card.get_by_role("slider")
    slider.fill("0")
    rows.filter(has_text="srv/").wait_for(state="detached")
    assert "busybox" in card.locator("output").inner_text()
    slider.fill(slider.get_attribute("max"))
    rows.filter(has_text="main.py").wait_for()  # what was open is so again

    card.get_by_role("combobox", name="compare with").select_option("image hello:latest")
    card.get_by_role("button", name="unchanged").click()
    rows.filter(has_text="www").wait_for()
    assert in_order(card) == ["etc/", "passwd", "srv/", "dot.png", "evil.svg", "main.py", "var/", "www/"]
    card.get_by_role("combobox", name="compare with").select_option("nothing")
    rows.filter(has_text="bin/").first.wait_for()


def test_a_hundred_and_twenty_thousand_files_are_a_few_rows(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    card = notebook.cell(3).locator(".dm-root")
    card.get_by_text("Files · 120,001 added").click()
    card.get_by_role("treeitem").filter(has_text="many/").click()
    card.get_by_role("treeitem").filter(has_text="000001").wait_for()
    card.get_by_role("tree").focus()
    page.keyboard.press("End")
    card.get_by_role("treeitem").filter(has_text="120000").or_(
        card.get_by_role("treeitem").filter(has_text="var/")
    ).first.wait_for()

    assert card.get_by_role("treeitem").count() < 80
    card.get_by_role("searchbox").fill("11999")
    card.get_by_text("12 paths").wait_for()


def test_a_failed_cell_can_be_looked_into(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    card = notebook.cell(4).locator(".dm-root")
    card.get_by_role("button", name="what it changed").click()
    card.get_by_role("treeitem").filter(has_text="half-made").wait_for()
    card.get_by_role("button", name="shell in the failed state").click()
    screen = card.locator(".xterm-rows")
    screen.get_by_text("# ").first.wait_for()
    page.keyboard.type("echo $((6 * 7)); ls /half-made; exit 5\n")
    screen.get_by_text("42", exact=True).wait_for()
    card.get_by_text("ended with exit code 5").wait_for()


def test_a_container_has_a_terminal(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    notebook.run(5)
    notebook.run(6)
    notebook.cell(6).get_by_text("(<run hello sh: not ended>, None)").wait_for()
    card = notebook.cell(5).locator(".dm-root")
    card.locator(".xterm-rows").get_by_text("# ").first.wait_for()
    card.locator(".xterm-screen").click()
    page.keyboard.type("echo $WHO; seq 1 200000; exit\n")
    card.get_by_text("ended with exit code 0").wait_for()
    card.locator(".xterm-rows").get_by_text("200000", exact=True).wait_for()
    notebook.run(6)
    notebook.cell(6).get_by_text("(<run hello sh: exit code 0>, None)").wait_for()


def test_a_container_that_lasts_is_stopped_started_and_removed(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    notebook.run(7)
    card = notebook.cell(7).locator(".dm-root")
    card.get_by_text("CPU ").wait_for()
    assert serious(page, ".dm-root") == []
    with page.context.expect_page() as opening:
        card.get_by_role("link", name="→ 8080").evaluate("link => { link.href += 'passwd'; link.click() }")
    assert "root" in opening.value.locator("body").inner_text()
    opening.value.close()

    lines = card.locator("pre > div").get_by_text("starting", exact=True)
    card.get_by_role("button", name="restart").click()
    lines.nth(1).wait_for()
    card.get_by_role("button", name="stop").click()
    card.get_by_text("stopped, exit code").wait_for()
    with page.expect_download() as download:
        card.get_by_role("button", name="save the whole log").click()
    assert Path(download.value.path()).read_text() == "starting\n" * 2
    card.get_by_role("button", name="start", exact=True).click()
    lines.nth(2).wait_for()
    card.get_by_role("button", name="stop").click()
    card.get_by_role("button", name="remove").click()
    notebook.cell(7).get_by_text(", removed").wait_for()


def test_stale_cells_say_so_and_are_replayed_in_their_place(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    notebook.cell(1).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nENV NEW=1")
    notebook.run(1)
    card = notebook.cell(2).locator(".dm-root")
    card.get_by_text("is stale").first.wait_for()
    assert serious(page, ".dm-root") == []

    card.get_by_role("button", name="replay").click()
    card.get_by_text("not CACHED: the variable NEW is new").wait_for()
    notebook.cell(3).locator(".dm-root").get_by_text("is stale").first.wait_for(state="detached")


def test_a_kernel_that_is_restarted_leaves_cards_without_buttons(opened: tuple[Any, Notebook]) -> None:
    page, notebook = opened
    notebook.cell(5).locator(".jp-InputArea-editor").click()
    for key in ("Escape", "0", "0"):
        page.keyboard.press(key)
    with page.expect_response("**/restart*"):
        page.locator(".jp-Dialog .jp-mod-accept").click()
    notebook.cell(5).get_by_text("a terminal stood here").wait_for()
    assert notebook.cell(2).locator(".dm-root").count() == 0
