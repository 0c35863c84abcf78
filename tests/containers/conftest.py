from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from tests.cli.conftest import Commands, busybox, commands

__all__ = ["Commands", "busybox", "commands"]


@pytest.fixture
def engine(id_mode: str, engine_home: Path) -> Iterator[Engine]:
    """An engine with a busybox in its store, in every id mode."""
    with Engine(engine_home) as opened:
        opened.base("busybox")
        yield opened
        for container in opened.containers():
            opened.remove_container(container.id, force=True)
