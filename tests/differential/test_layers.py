"""Layers with everything in them go through this engine, Docker and podman, both ways, and come back the same."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.engine import Engine
from dockermagic.oci import auth
from dockermagic.oci.serve import StoreServer
from tests.differential.tree import merged_tree, read_image
from tests.peers.docker import Docker
from tests.peers.tools import Tool

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the peers are started by root"),
]
TOKEN = "swordfish"
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")  # net_bind_service, effective


def rootfs() -> bytes:
    """One of each kind: owners, set-id bits, links, a capability, devices, a pipe, long and strange names, holes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mtime, entry.mode = kind, len(content), 1_000_000_007, 0o644
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(content))

        add("d", tarfile.DIRTYPE, mode=0o1777)
        add("d/owned", content=b"owned\n", uid=1234, gid=56789)
        add("d/setuid", content=b"x", mode=0o6755)
        add("d/link", tarfile.LNKTYPE, linkname="d/setuid", mode=0o6755)
        add("d/soft", tarfile.SYMTYPE, linkname="../nowhere", mode=0o777, uid=7)
        add("d/able", content=b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
        add("d/noted", content=b"x", pax_headers={"SCHILY.xattr.user.note": "hello"})
        add("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("d/disk", tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660, gid=6)
        add("d/pipe", tarfile.FIFOTYPE, mode=0o600)
        add("d/" + "n" * 200, content=b"long name")
        for depth in range(1, 13):
            add("/".join(["deep" * 10] * depth), tarfile.DIRTYPE, mode=0o755)
        add("/".join(["deep" * 10] * 12) + "/file", content=b"long path")
        add("d/\N{LATIN SMALL LETTER U WITH DIAERESIS} and blanks", content=b"x")
        add("d/holes", content=bytes(3 << 20) + b"end")
        add("d/empty")
    return stream.getvalue()


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
