"""Images go out to the other engines and come back: Docker, podman, skopeo and umoci take what we save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential.tree import comparable_config, differences, merged_tree, read_image
from tests.peers.docker import Docker
from tests.peers.images import busybox_archive
from tests.peers.tools import Tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the peers are started by root"),
]

DOCKERFILE = """\
FROM busybox
RUN echo made > /made && chown 7:8 /made && ln /made /hard && rm -r /var/www && mkdir /etc/network/x
RUN rm -r /etc/network && mkdir /etc/network && touch /etc/network/new
COPY --chown=nobody . /context
ENV A="one two"
EXPOSE 80
LABEL l=1
WORKDIR /work
USER nobody
CMD cat /made
"""

Run = Callable[..., str]


@pytest.fixture
def dockermagic(engine_home: Path) -> Run:
    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dockermagic", *map(str, words)],
            env=os.environ | {"DOCKERMAGIC_HOME": str(engine_home)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def image(dockermagic: Run, tmp_path: Path) -> str:
    """An image with a bit of everything, built here; its reference."""
    dockermagic("load", "-i", busybox_archive(tmp_path / "busybox.tar"))
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "sub/file").write_text("content\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    dockermagic("build", "--quiet", "-t", "exchange:1", context)
    return "exchange:1"


@pytest.fixture(params=["docker", "oci"])
def saved(request: pytest.FixtureRequest, dockermagic: Run, image: str, tmp_path: Path) -> Path:
    """The image in an archive of each format."""
    archive = tmp_path / f"saved-{request.param}.tar"
    if request.param == "oci":
        dockermagic("build", "--quiet", f"--output=type=oci,dest={archive}", "-t", image, tmp_path / "context")
    else:
        dockermagic("save", "-o", archive, image)
    return archive


def test_docker_loads_and_runs(docker: Docker, dockermagic: Run, image: str, tmp_path: Path) -> None:
    """The same image id on both sides, the command's output, and nothing changed on the way back."""
    archive = tmp_path / "saved.tar"
    dockermagic("save", "-o", archive, image)
    docker.load(archive)
    back = tmp_path / "back.tar"
    docker.save(image, back)

    ours = json.loads(dockermagic("inspect", image))[0]
    theirs = json.loads(docker("image", "inspect", image).stdout)[0]
    assert docker("run", "--rm", "--network=host", image).stdout == "made\n"
    assert ours["Id"] == theirs["Id"]
    assert ours["RootFS"]["Layers"] == theirs["RootFS"]["Layers"]
    before, after = read_image(archive), read_image(back)
    assert before.config == after.config
    assert [merged_tree([layer]) for layer in before.layers] == [merged_tree([layer]) for layer in after.layers]


def test_docker_gives_and_we_load(docker: Docker, dockermagic: Run, image: str, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    dockermagic("save", "-o", archive, image)
    docker.load(archive)
    docker("tag", image, "exchange:2")
    docker.save("exchange:2", tmp_path / "theirs.tar")

    dockermagic("load", "-i", tmp_path / "theirs.tar")

    ids = {json.loads(dockermagic("inspect", name))[0]["Id"] for name in (image, "exchange:2")}
    assert len(ids) == 1


def test_podman_loads(podman: Tool, saved: Path) -> None:
    loaded = podman("load", "--quiet", "--input", saved).stdout.split()[-1]

    config = json.loads(podman("image", "inspect", loaded).stdout)[0]["Config"]
    assert config["User"] == "nobody"
    assert config["Cmd"] == ["/bin/sh", "-c", "cat /made"]
    assert "A=one two" in config["Env"]


def test_skopeo_copies_and_umoci_unpacks(skopeo: Tool, umoci: Tool, saved: Path, tmp_path: Path) -> None:
    """Checked digest by digest on the way; the unpacked tree has the content and no whiteouts."""
    kind = "oci-archive" if "oci" in saved.name else "docker-archive"
    skopeo("copy", f"{kind}:{saved}", f"oci:{tmp_path}/layout:x")
    umoci("unpack", "--image", f"{tmp_path}/layout:x", tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"

    assert (root / "made").read_text() == "made\n"
    assert (root / "made").stat().st_uid == 7
    assert (root / "made").stat().st_ino == (root / "hard").stat().st_ino
    assert [path.name for path in (root / "etc/network").iterdir()] == ["new"]
    assert not (root / "var/www").exists()
    assert not list(root.rglob(".wh.*"))


def test_skopeo_and_podman_read_the_store_as_it_is(skopeo: Tool, image: str, engine_home: Path) -> None:
    """The store is an OCI image layout."""
    names = {
        manifest["annotations"]["org.opencontainers.image.ref.name"]
        for manifest in json.loads((engine_home / "index.json").read_text())["manifests"]
        if "org.opencontainers.image.ref.name" in manifest.get("annotations", {})
    }
    (name,) = [name for name in names if "exchange" in name]

    assert json.loads(skopeo("inspect", "--config", f"oci:{engine_home}:{name}").stdout)["config"]["User"] == "nobody"


def test_buildah_makes_the_same_tree(buildah: Tool, saved: Path, tmp_path: Path) -> None:
    """Through buildah's own store and out again: nothing lost, nothing added."""
    kind = "oci-archive" if "oci" in saved.name else "docker-archive"
    name = buildah("pull", "--quiet", f"{kind}:{saved}").stdout.split()[-1]
    buildah("push", "--quiet", name, f"oci-archive:{tmp_path}/out.tar:x")

    def content(archive: Path) -> dict[str, object]:
        image = read_image(archive)
        return {"tree": merged_tree(image.layers), "config": comparable_config(image.config)}

    assert differences(content(tmp_path / "out.tar"), content(saved)) == []
