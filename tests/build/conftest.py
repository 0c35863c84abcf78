from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from tests.build.kit import Bench


@pytest.fixture
def bench(id_mode: str, engine_home: Path, tmp_path: Path) -> Iterator[Bench]:
    """An engine in every id mode, with ``busybox`` in its store."""
    context = tmp_path / "context"
    context.mkdir()
    with Engine(engine_home) as engine:
        engine.base("busybox")
        yield Bench(engine, context)
