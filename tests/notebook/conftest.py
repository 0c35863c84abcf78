"""What the tests of a kernel begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockermagic.engine import Engine


@pytest.fixture
def home(engine_home: Path) -> Path:
    """A store that has busybox."""
    with Engine(engine_home) as engine:
        engine.base("busybox")
    return engine_home
