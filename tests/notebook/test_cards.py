"""Cards that stay true: a cell that became stale says so in its own output, and stops when it is built again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from dockermagic.errors import SandboxError
from dockermagic.notebook.bundle import CARD
from dockermagic.notebook.sources import image_explorer
from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")

FIRST = "%%dockerfile\nFROM busybox\nENV WHO=world"
SECOND = "%%dockerfile\nRUN echo $WHO > /who"
THIRD = "%%dockerfile\nRUN cat /who"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cards") / "home"
    with Engine(home) as engine:
        try:
            engine.base("busybox")
        except SandboxError as error:
            pytest.skip(error.message)
    return home


@pytest.fixture
def kernel(home: Path, tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(home, tmp_path, name=tmp_path.name) as kernel:
        yield kernel


def test_folders_are_sorted_by_what_is_in_them(home: Path) -> None:
    with Engine(home) as engine:
        found = image_explorer(engine, "busybox").list({"source": "tree", "sort": "size", "at": 0, "against": -1})
    sizes = [row[3] for row in found["rows"]]

    assert found["rows"][0][:2] == ["bin", "directory"] and sizes[0] > 0
    assert sizes == sorted(sizes, reverse=True)


def test_a_stale_cell_says_so_at_once_and_until_it_is_replayed(kernel: Kernel) -> None:
    cells = [kernel.run(text, f"cell-{number}") for number, text in enumerate((FIRST, SECOND, THIRD))]

    changed = kernel.run(FIRST.replace("world", "you"), "cell-0")

    for cell in cells[1:]:
        assert "is stale" in cell.text.split("\n")[0]
        assert "Stale: cell [5] changed" in cell.text
        assert "is stale" in cell.displays[0]["text/html"] and cell.displays[0][CARD] == {"stale": True}
    assert "Cells [3] and [4] are stale" in changed.text

    replayed = kernel.run("%dockerfile replay", "replay")

    assert len(replayed.displays) == 2
    assert [cell.displays[0]["text/plain"].split(":")[0] for cell in cells[1:]] == ["Cell [3] built", "Cell [4] built"]
    assert "stale" not in changed.text and "stale" not in replayed.text


def test_a_history_tells_how_each_cell_was_made(kernel: Kernel) -> None:
    """And not that it is CACHED for who looks."""
    kernel.run(FIRST, "cell-0")
    kernel.run("%%dockerfile\nRUN date +%s%N > /now", "cell-1")

    history = kernel.run("%dockerfile history", "history").displays[0]["text/html"]
    assert "cell [3] · built in" in history and "CACHED" not in history


def test_undo_brings_a_card_back(kernel: Kernel) -> None:
    kernel.run(FIRST, "cell-0")
    second = kernel.run(SECOND, "cell-1")
    before = second.text
    kernel.run(FIRST.replace("world", "you"), "cell-0")
    assert "is stale" in second.text

    kernel.run("%dockerfile undo", "undo")

    assert second.text == before


def test_a_cell_that_fails_makes_the_later_ones_say_so(kernel: Kernel) -> None:
    kernel.run(FIRST, "cell-0")
    second = kernel.run(SECOND, "cell-1")
    failed = kernel.run(FIRST + "\nRUN exit 3", "cell-0")

    assert failed.status == "error"
    assert "cell [4] failed" in second.text
    assert "%dockerfile diff --failed" in failed.text


def test_a_replay_that_fails_says_so_in_both_places_and_goes_on_when_the_cell_is_mended(kernel: Kernel) -> None:
    kernel.run(FIRST, "cell-0")
    second = kernel.run("%%dockerfile\nRUN test $WHO = world", "cell-1")
    third = kernel.run("%%dockerfile\nRUN echo end > /end", "cell-2")
    kernel.run(FIRST.replace("world", "you"), "cell-0")

    replayed = kernel.run("%dockerfile replay", "replay")

    assert replayed.status == "error"
    for card in (replayed, second):
        assert card.text.startswith("Cell [3] failed") and "Cell [4] is stale: run %dockerfile replay." in card.text
    assert "It wrote nothing." in replayed.message
    assert kernel.run("%%dockerfile\nRUN test -n $WHO", "cell-1").status == "ok"
    assert kernel.run("%dockerfile replay", "replay").status == "ok"
    assert third.text.startswith("Cell [4] ") and "stale" not in third.text


def test_a_container_that_outlives_its_cell_has_a_card(kernel: Kernel) -> None:
    kernel.run(FIRST.replace("%%dockerfile", "%%dockerfile -t lasting"), "cell-0")
    started = kernel.run("%docker run -d --name lasting lasting sleep 600", "run")
    try:
        assert (started.status, len(started.displays)) == ("ok", 1), started
        assert "running" in started.text and "sleep 600" in started.text
        listed = kernel.run("%docker ps", "ps").displays[0]
        identity = listed["text/plain"].split("\n")[1].split()[0]
        assert listed["text/plain"].startswith("CONTAINER ID") and f"({identity} lasting)" in started.text
        assert "lasting" in listed["text/html"] and identity in listed["text/html"]
    finally:
        kernel.run("%docker rm -f lasting", "rm")
