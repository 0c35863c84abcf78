"""What the page of files asks, of trees that do not stand on each other; the page itself is pressed elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from dockermagic.files import Files
from dockermagic.notebook import explorer
from dockermagic.notebook.explorer import Explorer, Source, State


def call(target: str, **given: Any) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(**given)


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explorer:
    """Twenty files against nine, three of them the same, where pages and answers are small."""
    monkeypatch.setattr(explorer, "WHOLE", 8)
    monkeypatch.setattr(explorer, "PAGE", 4)
    monkeypatch.setattr(explorer, "FOUND", 7)
    for number, names in enumerate(
        ([f"a{one:02}" for one in range(3)] + [f"z{one}" for one in range(6)], [f"a{one:02}" for one in range(20)])
    ):
        (folder := tmp_path / "snapshots" / str(number) / "fs").mkdir(parents=True)
        for name in names:
            (folder / name).write_text(name)
    source = Source((State("one", (0,)), State("other", (1,))), 0)
    return Explorer(lambda: Files(tmp_path, call), {"tree": lambda: source})


def test_what_was_removed_stands_behind_the_last_page(apart: Explorer) -> None:
    asked = {"source": "tree", "against": 0, "path": "/"}
    pages = {offset: apart.list({**asked, "offset": offset}) for offset in (0, 16, 20, 24)}

    assert {page["total"] for page in pages.values()} == {26}
    assert [len(page["rows"]) for page in pages.values()] == [4, 10, 6, 2]
    assert [row[0] for row in pages[24]["rows"]] == ["z4", "z5"]


def test_few_changes_are_found_among_many_paths(apart: Explorer) -> None:
    def found(*states: str, **asked: object) -> tuple[list[str], bool]:
        answer = apart.find({"source": "tree", "against": 0, "states": states, **asked})
        return [f"{row[2]} {row[0]}" for row in answer["rows"]], answer["truncated"]

    assert found("removed") == ([f"removed /z{one}" for one in range(6)], False)
    assert found("added", text="19") == (["added /a19"], False)
    assert found("added", "removed")[1]
    assert found("unchanged", text="a00") == ([" /a00"], False)
