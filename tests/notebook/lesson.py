"""A kernel with the chain of a lesson: what tests of the magics begin with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from tests.notebook.kernels import Kernel, Reply

FROM = "%%dockerfile\nFROM busybox"


ONE = "%%dockerfile\nRUN echo one > /one"


TWO = "%%dockerfile -t app\nRUN cat /one > /two"


THREE = '%%dockerfile\nCMD ["cat", "/two"]'


@pytest.fixture
def kernel(home: Path, tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(home, tmp_path, notebook=str(tmp_path / "lesson.ipynb")) as kernel:
        yield kernel


def chain(kernel: Kernel) -> str:
    """The cells as ``status`` lists them: their first words and states."""
    text = kernel.run("%dockerfile status", "looking").text
    return " ".join(f"{found[2]}:{found[1]}" for found in re.finditer(r"^cell \S+ +(\w+) +(?:\w+ )?(\S+)", text, re.M))


def run_all(kernel: Kernel, **cells: str) -> list[Reply]:
    replies = [kernel.run(code, cell) for cell, code in cells.items()]
    for reply in replies:
        assert (reply.status, reply.stderr, reply.message) == ("ok", "", "")
    return replies


def plain(traceback: list[str]) -> list[str]:
    """A traceback without its colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in traceback]


def commands() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


def placed(*order: str) -> dict[str, object]:
    """What the lab extension adds to a request."""
    return {"dockermagic": {"cells": list(order)}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with one cell, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    with Engine(folder / "home") as engine:
        engine.base("busybox")
    with Kernel(folder / "home", folder, notebook=str(folder / "x.ipynb")) as kernel:
        run_all(kernel, a=FROM)
        yield kernel
