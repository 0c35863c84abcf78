"""Layers with everything in them go through this engine, Docker and podman, both ways, and come back the same."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.engine import Engine
from dockermagic.oci import auth
from dockermagic.oci.serve import StoreServer
from tests.differential.tree import merged_tree, read_image, rootfs
from tests.peers.docker import Docker
from tests.peers.tools import Tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the peers are started by root"),
]
TOKEN = "swordfish"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with the image ``all:1``, and Docker's config as podman wants it."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with Engine(tmp_path / "home") as made:
        made.import_root(io.BytesIO(rootfs()), ["all:1"])
        yield made


@pytest.fixture
def served(engine: Engine) -> Iterator[StoreServer]:
    server = engine.serve(token=TOKEN)
    auth.keep(server.address, auth.Credentials("x", TOKEN))
    yield server
    server.close()


def saved(engine: Engine, name: str, path: Path) -> dict[str, dict[str, Any]]:
    """The tree of an image as this engine packs it anew from what it unpacked."""
    with path.open("wb") as file:
        engine.export(name, file)
    with path.open("rb") as file:
        return merged_tree([file.read()])


def test_the_same_tree_after_every_engine(
    engine: Engine, served: StoreServer, docker: Docker, podman: Tool, tmp_path: Path
) -> None:
    """Pulled and saved by Docker and by podman; pushed by them, pulled here, unpacked and packed again."""
    expected = merged_tree([rootfs()])
    assert saved(engine, "all:1", tmp_path / "ours.tar") == expected
    name = f"{served.address}/all:1"
    docker("pull", name)
    docker.save(name, tmp_path / "docker.tar")
    assert merged_tree(read_image(tmp_path / "docker.tar").layers) == expected
    podman("pull", "--tls-verify=false", name)
    podman("save", "-q", "--format", "oci-archive", "-o", tmp_path / "podman.tar", name)
    assert merged_tree(read_image(tmp_path / "podman.tar").layers) == expected

    docker("tag", name, f"{served.address}/from/docker:1")
    docker("login", "-u", "x", "--password-stdin", served.address, input=TOKEN)
    docker("push", f"{served.address}/from/docker:1")
    podman("tag", name, f"{served.address}/from/podman:1")
    podman("push", "--tls-verify=false", f"--creds=x:{TOKEN}", f"{served.address}/from/podman:1")
    with Engine(tmp_path / "other") as other:
        for source in ("docker", "podman"):
            other.pull(f"{served.address}/from/{source}:1")
            again = saved(other, f"{served.address}/from/{source}:1", tmp_path / f"{source}-again.tar")
            assert again == expected, source
            theirs, ours = (each.inspect(found) for each, found in
                            ((other, f"{served.address}/from/{source}:1"), (engine, "all:1")))  # fmt: skip
            assert theirs["RootFS"] == ours["RootFS"]
            assert theirs["Config"] == ours["Config"]
