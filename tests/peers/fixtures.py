"""The peers as pytest fixtures; conftest.py takes them over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers import PeerUnavailable, tools
from tests.peers.docker import Docker
from tests.peers.registry import Registry


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A running Docker with BuildKit. Its first start on a machine makes the chroot."""
    try:
        engine = Docker()
    except PeerUnavailable as problem:
        pytest.skip(f"docker: {problem}")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry on the loopback, empty at the session's start."""
    try:
        server = Registry(tmp_path_factory.mktemp("registry"))
    except PeerUnavailable as problem:
        pytest.skip(f"registry: {problem}")
    yield server
    server.stop()


@pytest.fixture
def buildah(tmp_path: Path) -> tools.Tool:
    return _tool(lambda: tools.buildah(tmp_path / "buildah"))


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[tools.Tool]:
    yield _tool(lambda: tools.podman(tmp_path / "podman"))
    # What it mounted over its own store, so that the directory can be removed.
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([place for place in places if place.startswith(f"{tmp_path}/podman/")]):
        subprocess.run(["umount", place], check=False, capture_output=True)


@pytest.fixture
def skopeo(tmp_path: Path) -> tools.Tool:
    return _tool(lambda: tools.skopeo(tmp_path / "skopeo"))


@pytest.fixture
def umoci() -> tools.Tool:
    return _tool(tools.umoci)


def _tool(make: Callable[[], tools.Tool]) -> tools.Tool:
    try:
        return make()
    except PeerUnavailable as problem:
        pytest.skip(str(problem))
