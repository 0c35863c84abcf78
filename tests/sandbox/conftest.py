from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.kit import Room


@pytest.fixture
def room(id_mode: str, engine_home: Path) -> Iterator[Room]:
    """A sandbox in every id mode over a fresh store that holds a busybox."""
    with Room(engine_home, id_mode) as opened:
        yield opened
