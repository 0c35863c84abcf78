"""Who runs a cell, as each front end tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockermagic.notebook.identity import Sender, kernel_name, lines_above, notebook_path, sender

LAB = {"cellId": "0f1c2d3e", "deletedCells": ["a1", "b2"], "recordTiming": True, "trusted": True}
LONG = "d6dda5f4-4a0b-4a4d-8b5c-0c7f5ae0a0c0"
CODE = "vscode-notebook-cell:/home/me/a.ipynb#W2sZmlsZQ%3D%3D"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (LAB, Sender("0f1c2d3e", True, frozenset({"a1", "b2"}))),
        ({"cellId": LONG, "deletedCells": []}, Sender(LONG, True)),
        ({"cellId": CODE}, Sender(CODE, False)),
        ({}, Sender()),
        ({"cellId": None, "deletedCells": None}, Sender()),
        ({"cellId": 3, "deletedCells": [1, "x"]}, Sender("", False, frozenset({"x"}))),
        (
            {"deletedCells": ["x"], "dockermagic": {"cells": ["a", 1], "deleted": ["y"]}},
            Sender("", False, frozenset({"x", "y"}), ("a",)),
        ),
        ({"dockermagic": {"cells": None, "deleted": {}}}, Sender()),
    ],
)
def test_a_request_names_its_cell(metadata: dict[str, Any], expected: Sender) -> None:
    assert sender(metadata) == expected


@pytest.mark.parametrize(
    ("environment", "namespace", "expected"),
    [
        ({}, {}, None),
        ({"JPY_SESSION_NAME": ""}, {}, None),
        ({"JPY_SESSION_NAME": "/home/me/a.ipynb"}, {}, Path("/home/me/a.ipynb")),
        ({"JPY_SESSION_NAME": "a.ipynb"}, {}, Path.cwd() / "a.ipynb"),
        ({"JPY_SESSION_NAME": "/tmp/other"}, {"__vsc_ipynb_file__": "/home/me/b.ipynb"}, Path("/home/me/b.ipynb")),
    ],
)
def test_the_server_or_vs_code_names_the_notebook(
    environment: dict[str, str], namespace: dict[str, Any], expected: Path | None
) -> None:
    assert notebook_path(environment, namespace) == expected


def test_a_kernel_is_named_by_its_connection_file() -> None:
    assert kernel_name("/run/jupyter/kernel-1b2c.json") == "1b2c"
    assert kernel_name("") != kernel_name("")


@pytest.mark.parametrize(
    ("raw", "text", "expected"),
    [
        ("%%dockerfile\nFROM a", "FROM a\n", 1),
        ("\n\n%%dockerfile -t x\nFROM a\n", "FROM a\n", 3),
        ("FROM a", "FROM a", 0),
        ("%docker images\n\nFROM a", "\nFROM a", 1),
        ("  %%dockerfile\n  FROM a", "FROM a\n", 1),
        ("run_the_magic()", "FROM a", 1),
    ],
)
def test_lines_are_counted_from_the_top_of_the_notebook_cell(raw: str, text: str, expected: int) -> None:
    assert lines_above(raw, text) == expected
