"""``push`` and ``pull`` against a real registry on loopback, and a build whose base comes through a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import ImageNotFoundError
from tests.peers.registry import Registry


def test_push_pull_and_from(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one store pushes another pulls, with the same digest; FROM pulls what is not here."""
    name = f"{registry.address}/library/busybox:latest"
    with Engine(tmp_path / "one") as one:
        one.base("busybox")
        one.tag("busybox", name)
        digest = one.push(name)
        identity = one.inspect(name)["Id"]
    with Engine(tmp_path / "two") as two:
        assert two.pull(name) == digest
        assert two.images()[0].id == identity
    monkeypatch.setenv("DOCKERMAGIC_MIRRORS", f"docker.io=http://{registry.address}")
    with Engine(tmp_path / "three") as three:
        result = three.build(BuildRequest("FROM busybox\nRUN test -x /bin/busybox\n", tags=("made",)))
        assert result.image_id
        assert three.inspect("busybox")["Id"] == identity


def test_unknown_base_says_why_it_could_not_be_pulled(registry: Registry, tmp_path: Path) -> None:
    with Engine(tmp_path / "store") as engine, pytest.raises(ImageNotFoundError) as caught:
        engine.build(BuildRequest(f"FROM {registry.address}/no/such:tag\n"))

    assert "could not be pulled" in caught.value.message
    assert caught.value.line == 1
