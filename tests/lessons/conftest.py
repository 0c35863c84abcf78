"""What the tests of lessons share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dockermagic.engine import Engine
from tests.peers.registry import Registry

BASES = ("busybox", "debian:bookworm-slim", "python:3.9", "python:alpine")


@pytest.fixture(scope="session")
def shelf(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that holds the bases of all lessons."""
    with Engine(tmp_path_factory.mktemp("shelf")) as engine:
        for name in BASES:
            engine.base(name)
            engine.tag(name, f"{registry.address}/library/{name}")
            engine.push(f"{registry.address}/library/{name}")
    yield registry
