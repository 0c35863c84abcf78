"""Images on their way to and from a registry: a full disk, a bomb, kill -9 at random moments."""

from __future__ import annotations

import gzip
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import ArchiveError, StoreFullError
from dockermagic.oci import auth
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.serve import StoreServer
from dockermagic.oci.spec import HistoryEntry, digest, layer_media_type
from dockermagic.oci.store import LayerBlob
from tests.oci.trees import tar
from tests.robustness.kit import Store

pytestmark = pytest.mark.alike

TOKEN = "swordfish"
SEED = 20261
TIMES = int(os.environ.get("DOCKERMAGIC_KILLS", "4"))


@pytest.fixture
def served(id_mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    """A registry with a base and an image of 4 MB on it, and the password for a push."""
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with Engine(tmp_path / "served") as engine:
        engine.base("busybox")
        engine.build(BuildRequest("FROM busybox\nRUN head -c 4000000 /dev/urandom > /four\n", tags=("big",)))
        server = engine.serve(token=TOKEN)
        auth.keep(server.address, auth.Credentials("anybody", TOKEN))
        yield server
        server.close()


@pytest.mark.engine
def test_a_pull_that_fills_the_disk(served: StoreServer, small_disk: Path) -> None:
    """It is said, nothing of it is recorded, and it goes on once there is room; a push needs none."""
    name = f"{served.address}/big:latest"
    refused = 0
    for room in (0, 1 << 16, 1 << 20, 3 << 20, 6 << 20, 9 << 20, 20 << 20):
        with Engine(small_disk / "home") as engine:
            engine.images()
        (small_disk / "home/reserve").unlink(missing_ok=True)
        with (small_disk / "filler").open("wb") as file:
            status = os.statvfs(small_disk)
            os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - room))
        try:
            with Engine(small_disk / "home") as engine:
                engine.pull(name)
                break
        except StoreFullError as error:
            refused += 1
            assert "is full" in error.message
        (small_disk / "filler").unlink()
        with Engine(small_disk / "home") as engine:
            assert engine.images() == []
            assert not [one for one in engine.fsck().findings if one.kind == "damage"]
    assert refused > 2
    with Engine(small_disk / "home") as engine:
        assert [row.repository for row in engine.images()] == [f"{served.address}/big"]
        engine.tag(name, f"{served.address}/again:1")
        engine.push(f"{served.address}/again:1")
        assert not engine.fsck().damaged


@pytest.mark.engine
def test_a_bomb_is_stopped_at_its_bound(served: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MB of zeros in 300 kB: the bound of the config file holds while it comes, and nothing stays of it."""
    plain = tar(("file", "zeros", bytes(300_000_000)))
    packed = gzip.compress(plain, 9)
    with served.store.lease():
        blob = served.store.put(packed, layer_media_type("gzip"))
        layer = LayerBlob(blob, digest(plain), len(plain))
        bomb = Image.empty().append_layer(layer, HistoryEntry(created_by="COPY zeros /")).write(served.store)
        served.store.tag(Reference.parse("bomb:1"), bomb)
    config = tmp_path / "config.toml"
    config.write_text('[limits]\nlayer = "20MB"\n')
    monkeypatch.setenv("DOCKERMAGIC_CONFIG", str(config))
    with Engine(tmp_path / "home") as engine:
        with pytest.raises(ArchiveError, match="unpacks to more than 20971520 bytes"):
            engine.pull(f"{served.address}/bomb:1")
        assert engine.images() == []
        assert not [path for path in (tmp_path / "home/snapshots").iterdir() if path.name.isdigit()]


@pytest.mark.engine
def test_layers_side_by_side_are_as_one_after_the_other(served: StoreServer, tmp_path: Path) -> None:
    """Also one whose paths lead through a link of a layer below; each stands on the one below it."""
    layers = [
        [("dir", "usr"), ("dir", "usr/lib"), ("symlink", "lib", "usr/lib"), ("file", "big", os.urandom(1 << 20))],
        [("file", "lib/one", b"1"), ("file", "usr/two", b"2")],
        [("link", "three", "lib/one"), ("file", "usr/.wh.two", b"")],
        *([("file", f"usr/lib/more{number}", b"%d" % number)] for number in range(4)),
    ]
    made = Image.empty()
    with served.store.lease():
        for number, entries in enumerate(layers):
            plain = tar(*entries)
            blob = served.store.put(gzip.compress(plain), layer_media_type("gzip"))
            made = made.append_layer(LayerBlob(blob, digest(plain), len(plain)), HistoryEntry(created_by=f"{number}"))
        served.store.tag(Reference.parse("many:1"), made.write(served.store))
    with Engine(tmp_path / "home") as engine:
        engine.pull(f"{served.address}/many:1")
        ids = engine.snapshots_of(f"{served.address}/many:1")
        assert len(ids) == len(layers)
        assert [entry.name for entry in engine.tree(ids, "/usr")] == ["lib"]
        assert [entry.name for entry in engine.tree(ids, "/usr/lib")] == [
            *(f"more{number}" for number in range(4)),
            "one",
        ]
        assert engine.read_file(ids, "/three") == b"1"
        assert engine.fsck().findings == ()


def loop(address: str, salt: str) -> list[list[str]]:
    """What moves images, and takes them away."""
    return [
        ["pull", "-q", f"{address}/big"],
        ["build", "-q", "--build-arg", f"SALT={salt}", "-t", f"{address}/made:{salt}", "salted"],
        ["tag", f"{address}/made:{salt}", "work"],
        ["push", "-q", f"{address}/made:{salt}"],
        ["rmi", f"{address}/made:{salt}", "work", f"{address}/big"],
        ["image", "prune", "-f"],
        ["builder", "prune", "-f"],
    ]


def killed(served: StoreServer, home: Path, directory: Path, seed: int, times: int) -> None:
    directory.mkdir()
    store = Store(home, directory)
    (directory / "salted").mkdir()
    (directory / "salted/Dockerfile").write_text("FROM busybox\nARG SALT\nRUN echo $SALT > /salt\n")
    store.run("base", "-q", "busybox")
    store.run("tag", "busybox", "kept")
    before = store.images()
    whole = store.start(loop(served.address, "timed"))
    assert whole.code == 0, whole.err
    store.start(loop(served.address, "counted"), count="count")
    calls = int((directory / "count").read_text())
    dice = random.Random(seed)
    stopped = 0
    for number in range(times):
        commands = loop(served.address, f"salt{number}")
        if number % 2:
            done = store.start(commands, after=dice.uniform(0, whole.seconds))
            stopped += done.stopped
        else:
            done = store.start(commands, die_at=dice.randrange(1, calls))
            stopped += done.code == -signal.SIGKILL
        assert "Traceback" not in done.err, done.err
        first = store.run("fsck")
        assert "damage" not in first.out, first.out
        assert store.run("fsck").out.count("\n") == 1
        assert before.items() <= store.images().items()
    assert stopped >= times / 2
    assert store.start(loop(served.address, "last")).code == 0


@pytest.mark.engine
@pytest.mark.slow
def test_killed_while_images_move(served: StoreServer, engine_home: Path, tmp_path: Path) -> None:
    """Each time fsck finds nothing damaged, and what was whole is whole; the last loop runs to its end."""
    killed(served, engine_home, tmp_path / "work", SEED, TIMES)
