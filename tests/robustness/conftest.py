"""The store that is treated badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.kit import Store


@pytest.fixture
def store(id_mode: str, engine_home: Path, tmp_path: Path) -> Store:
    """A store with something to lose, in each id mode."""
    directory = tmp_path / "work"
    directory.mkdir()
    made = Store(engine_home, directory)
    made.prepare()
    return made
