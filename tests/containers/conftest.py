from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine


@pytest.fixture
def engine(id_mode: str, engine_home: Path) -> Iterator[Engine]:
    """An engine with a busybox in its store, in every id mode."""
    with Engine(engine_home) as opened:
        opened.base("busybox")
        yield opened
