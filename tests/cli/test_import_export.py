"""A root filesystem goes out as a tar and comes back as an image, byte for byte the same tree."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from tests.cli.conftest import Commands
from tests.differential.tree import merged_tree, rootfs

pytestmark = pytest.mark.engine


def tree(data: bytes) -> dict[str, tuple[object, ...]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isreg() else None
            content = file.read() if file else entry.linkname
            found[entry.name] = (entry.type, entry.mode, entry.uid, entry.gid, int(entry.mtime), content)
    return found


def test_out_and_in_again(busybox: Commands) -> None:
    busybox("run", "--name", "made", "busybox", "sh", "-c", "echo new > /new; rm /etc/group; chown 5:6 /new")
    busybox("export", "-o", "made.tar", "made")
    data = (busybox.directory / "made.tar").read_bytes()
    found = tree(data)
    assert found["new"][2:4] == (5, 6)
    assert found["new"][5] == b"new\n"
    assert "etc/group" not in found
    assert "bin/busybox" in found

    changes = ("-c", 'CMD ["cat", "/new"]', "-c", "ENV A=b", "--change", "LABEL l=1")
    identity = busybox("import", *changes, "-m", "from a tar", "-", "back:1", stdin=data).out.strip()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", identity)
    document = json.loads(busybox("inspect", "back:1").out)[0]
    assert document["Id"] == identity
    assert document["Config"]["Cmd"] == ["cat", "/new"]
    assert "A=b" in document["Config"]["Env"]
    assert document["Comment"] == "from a tar"
    assert len(json.loads(busybox("history", "--format", "json", "back:1").out.splitlines()[0])) > 3
    assert busybox("run", "--rm", "back:1").out == "new\n"
    again = tree(busybox.raw("export", "back:1").stdout)
    assert again == found
    assert len(busybox("images", "-q").out.split()) == 2
    assert "clean" in busybox("fsck").out


def test_every_kind_of_file_comes_back(id_mode: str, engine_home: Path) -> None:
    """Unpacked and packed again in each id mode: owners, devices, attributes, links, holes and names are the same."""
    data, out = rootfs(), engine_home / "out.tar"
    with Engine(engine_home) as engine, out.open("wb") as file:
        engine.import_root(io.BytesIO(data), ["all:1"])
        engine.export("all:1", file)
    assert merged_tree([out.read_bytes()]) == merged_tree([data])


@pytest.mark.alike
def test_what_is_no_root_filesystem_is_refused(busybox: Commands) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    for data, message in (
        (b"x" * 600, "not a tar"),
        (stream.getvalue(), "leave the root"),
        (bytes(1024), "no entries"),
    ):
        assert message in busybox("import", "-", stdin=data, code=1).err
    assert "cannot read" in busybox("import", "nothing.tar", code=1).err
    assert "No such container" in busybox("export", "nothing", code=1).err
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    done = busybox("import", "-c", "RUN true", "-", stdin=stream.getvalue(), code=1)
    assert "RUN is not a valid change command" in done.err
    config = busybox.directory / "config.toml"
    config.write_text('[limits]\nlayer = "1MB"\n')
    bounded = Commands(busybox.home, busybox.directory, {"DOCKERMAGIC_CONFIG": str(config)})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        zeros = tarfile.TarInfo("zeros")
        zeros.size = 2_000_000
        archive.addfile(zeros, io.BytesIO(bytes(zeros.size)))
    assert "more than 1048576 bytes" in bounded("import", "-", stdin=stream.getvalue(), code=1).err


@pytest.mark.alike
def test_archives_go_through_pipes(busybox: Commands) -> None:
    """`save | load` into another store: the same image."""
    fresh = Commands(busybox.home.parent / "fresh", busybox.directory)
    with busybox.start("save", "busybox", stdout=subprocess.PIPE) as saving:
        loading = fresh.start("load", stdin=saving.stdout, stdout=subprocess.PIPE)
        assert loading.communicate()[0] == b"Loaded image: busybox:latest\n"
    assert fresh("images", "-q", "--no-trunc").out == busybox("images", "-q", "--no-trunc").out
