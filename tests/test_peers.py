"""The peers themselves: each starts, does what the other tests need of it, and leaves nothing behind."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.peers.docker import Docker
from tests.peers.images import busybox_archive
from tests.peers.registry import Registry
from tests.peers.tools import Tool

DOCKERFILE = "FROM busybox\nRUN id -u > /id\nCMD cat /id\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return busybox_archive(tmp_path / "busybox.tar")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


@pytest.mark.slow
def test_docker_builds_runs_and_saves(docker: Docker, archive: Path, context: Path, tmp_path: Path) -> None:
    docker.load(archive)
    docker.build(context, tag="peer")
    saved = tmp_path / "saved.tar"
    docker.save("peer", saved)

    assert docker("run", "--rm", "--network=host", "peer").stdout == "0\n"
    assert saved.stat().st_size > 1_000_000


@pytest.mark.slow
def test_docker_leaves_nothing(archive: Path) -> None:
    """Stopped: no process, no mount, no cgroup, no data."""
    docker = Docker()
    docker.load(archive)
    pid, data = docker.chroot.pid, docker.chroot.data
    assert Path(f"/proc/{pid}").exists()

    docker.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert not data.exists()
    assert str(docker.chroot.root) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"*{docker.cgroup}"))


def test_buildah_builds(buildah: Tool, archive: Path, context: Path, tmp_path: Path) -> None:
    buildah("pull", f"docker-archive:{archive}")
    buildah("bud", "--tag", "peer", context)
    buildah("push", "peer", f"oci-archive:{tmp_path}/out.tar")

    assert (tmp_path / "out.tar").stat().st_size > 100_000


def test_podman_loads(podman: Tool, archive: Path) -> None:
    podman("load", "--input", archive)

    assert json.loads(podman("image", "inspect", "busybox").stdout)[0]["Config"]["Cmd"] == ["sh"]


def test_skopeo_and_umoci_copy_and_unpack(skopeo: Tool, umoci: Tool, archive: Path, tmp_path: Path) -> None:
    skopeo("copy", f"docker-archive:{archive}", f"oci:{tmp_path}/layout:busybox")
    umoci("unpack", "--rootless", "--image", f"{tmp_path}/layout:busybox", tmp_path / "bundle")

    assert (tmp_path / "bundle/rootfs/bin/sh").exists()


def test_registry_takes_and_gives(registry: Registry, skopeo: Tool, archive: Path) -> None:
    target = f"docker://{registry.address}/peer/busybox:1"
    skopeo("copy", "--dest-tls-verify=false", f"docker-archive:{archive}", target)

    with urllib.request.urlopen(f"http://{registry.address}/v2/peer/busybox/tags/list") as reply:
        assert json.load(reply) == {"name": "peer/busybox", "tags": ["1"]}
