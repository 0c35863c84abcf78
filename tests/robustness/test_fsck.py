"""fsck finds what was done to a store by hand, says it, and mends what it may."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.fsck import Report
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import MANIFEST, Manifest, encode

REPO = Path(__file__).parents[2]
TEXT = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two && mkdir /d\n"


@pytest.fixture
def engine(id_mode: str, engine_home: Path) -> Iterator[Engine]:
    """An engine with a base and an image of two layers on it."""
    with Engine(engine_home) as made:
        made.base("busybox")
        made.build(BuildRequest(TEXT, tags=("two",)))
        yield made


def said(report: Report) -> list[tuple[str, str, bool]]:
    """Kind, place and whether it was mended, for each finding; a directory moved aside has no name of its own."""
    places = [re.sub(r"/tmp-0-[0-9a-f]{12}$", "/aside", finding.place) for finding in report.findings]
    return [(one.kind, place, bool(one.mended)) for one, place in zip(report.findings, places, strict=True)]


def layer_blob(engine: Engine, name: str = "two") -> Path:
    """The blob of an image's top layer."""
    manifest = engine.store.manifest(engine.store.find(name).descriptor)
    return engine.store.blob(manifest.layers[-1].digest)


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def layer(engine: Engine, number: int) -> Path:
    """The directory of a snapshot: 0 is the base, 1 and 2 the two RUNs."""
    return engine.snapshotter.all()[number].fs


def test_what_is_no_image_is_listed_and_no_damage(tmp_path: Path) -> None:
    """Registries keep caches, charts and signatures as well, and so does a store that is one."""
    with Engine(tmp_path) as engine:
        store = engine.store
        with store.lease():
            config = store.put(b"{}", "application/vnd.cncf.helm.config.v1+json")
            layer = store.put(b"chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
            manifest = store.put(encode(Manifest(config=config, layers=(layer,))), MANIFEST)
            store.tag(Reference.parse("localhost/chart"), manifest)
        (row,) = engine.images()

        assert (row.repository, row.tag, row.id, row.created) == ("localhost/chart", "latest", config.digest, "")
        assert row.size == manifest.size + config.size + layer.size
        assert engine.fsck().findings == ()
        with pytest.raises(DockermagicError, match="no image's config, but application"):
            engine.history("localhost/chart")


def test_a_blob_that_the_disk_does_not_give_is_damage_and_nothing_else_stops(tmp_path: Path) -> None:
    """A name that leads to itself cannot be looked at, as one on a damaged disk."""
    with Engine(tmp_path) as engine:
        engine.base("busybox")
        engine.tag("busybox", "other")
        with engine.store.lease():
            blob = engine.store.blob(engine.store.put(b"lost", "text/plain").digest)
            blob.unlink()
            blob.symlink_to(blob)
            found = engine.fsck().findings

    assert [(one.kind, one.place) for one in found] == [("damage", f"blob sha256:{blob.name}")]
    assert "cannot be read: " in found[0].message


def test_a_store_in_use_is_clean_and_says_what_was_looked_at(engine: Engine) -> None:
    report = engine.fsck()

    assert report.findings == ()
    assert dict(report.checked) == {"blobs": 7, "images": 2, "snapshots": 3, "cache mounts": 0}


Change = Callable[[Engine], object]

DAMAGED_CONTENT: dict[str, Change] = {
    "a layer's blob with another byte": lambda engine: flip(layer_blob(engine)),
    "a layer's blob cut off": lambda engine: os.truncate(layer_blob(engine), 20),
    "a layer's blob gone": lambda engine: layer_blob(engine).unlink(),
    "a manifest gone": lambda engine: engine.store.blob(engine.store.find("two").descriptor.digest).unlink(),
    "a manifest changed": lambda engine: flip(engine.store.blob(engine.store.find("two").descriptor.digest)),
    "a config gone": lambda engine: engine.store.blob(engine.store.find("two").id).unlink(),
}


@pytest.mark.alike
def test_damaged_content_is_said_with_what_to_do_and_stays(engine: Engine) -> None:
    for damage, change in DAMAGED_CONTENT.items():
        change(engine)
        report = engine.fsck()

        assert report.damaged, damage
        images = [finding for finding in report.findings if finding.place.startswith("image two:latest")]
        assert len(images) == 1, damage
        assert "rmi" in images[0].hint
        again = engine.fsck()
        assert again.findings == tuple(finding for finding in report.findings if finding.kind == "damage"), damage

        engine.remove_image("two:latest")
        engine.build(BuildRequest(TEXT, tags=("two",)))

        assert engine.fsck().findings == (), damage


DAMAGED_LAYERS: dict[str, Change] = {
    "a file's bytes": lambda engine: (layer(engine, 1) / "one").write_text("ONE\n"),
    "a file more": lambda engine: (layer(engine, 1) / "more").write_text(""),
    "a file gone": lambda engine: (layer(engine, 1) / "one").unlink(),
    "a file's mode": lambda engine: (layer(engine, 1) / "one").chmod(0o600),
}


def test_a_damaged_layer_is_forgotten_by_a_repair_and_built_again(engine: Engine) -> None:
    for damage, change in DAMAGED_LAYERS.items():
        place = f"snapshot {engine.snapshotter.all()[1].id}"
        change(engine)

        assert said(engine.fsck()) == [("damage", place, False)], damage
        report = engine.fsck(repair=True)
        assert said(report)[0] == ("damage", place, True), damage
        assert "1 that stood on" in report.findings[0].mended
        assert engine.fsck().findings == (), damage

        result = engine.build(BuildRequest(TEXT, tags=("two",)))
        assert [step.cached for step in result.steps] == [True, False, False]
        assert (layer(engine, 1) / "one").read_text() == "one\n"
        assert engine.fsck().findings == (), damage


def test_a_layer_whose_directory_is_gone_is_forgotten_with_what_stands_on_it(engine: Engine) -> None:
    shutil.rmtree(layer(engine, 1).parent)

    ids = [snapshot.id for snapshot in engine.snapshotter.all()]
    assert said(engine.fsck()) == [
        ("damage", f"snapshot {ids[1]}", True),
        ("damage", f"snapshot {ids[2]}", True),
        ("leftover", "snapshots/aside", True),
    ]
    assert engine.fsck().findings == ()
    engine.build(BuildRequest(TEXT, tags=("two",)))
    assert engine.fsck().findings == ()


def _mkdir(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


LEFTOVERS: dict[str, Change] = {
    "snapshots/tmp-1-0123456789ab": lambda e: (_mkdir(e.home / "snapshots/tmp-1-0123456789ab/fs") / "f").write_text(""),
    "snapshots/1/work": lambda engine: _mkdir(engine.home / "snapshots/1/work/work"),
    "snapshots/99": lambda engine: _mkdir(engine.home / "snapshots/99/fs"),
    "ingest/0123": lambda engine: (engine.home / "ingest/0123").write_text("half"),
    "leases/0123": lambda engine: (engine.home / "leases/0123").write_text(""),
    "cache-mounts/0123.new": lambda engine: _mkdir(engine.home / "cache-mounts/0123.new"),
    "containers/rm-0123": lambda engine: _mkdir(engine.home / "containers/rm-0123/fs"),
    "sessions/.a.json.01234567": lambda engine: (_mkdir(engine.home / "sessions") / ".a.json.01234567").write_text("{"),
    "downloads/.download-x": lambda engine: (_mkdir(engine.home / "downloads") / ".download-x").write_text("half"),
    "git/checkout-0123": lambda engine: (_mkdir(engine.home / "git") / "checkout-0123").write_text(""),
    "git/checkout-4567.d": lambda engine: _mkdir(engine.home / "git/checkout-4567.d"),
    "blobs": lambda engine: engine.store.put(b"nobody's", "text/plain"),
    "store.db": lambda engine: sql(engine, "INSERT INTO snapshot_diff_ids VALUES (99, 'sha256:0')"),
}


def sql(engine: Engine, statement: str) -> None:
    with engine.records.transaction() as tx:
        tx.execute(statement)


def test_leftovers_go_and_are_no_damage(engine: Engine) -> None:
    for leave in LEFTOVERS.values():
        leave(engine)
    report = engine.fsck()

    wanted = sorted(("leftover", place.replace("/99", "/aside"), True) for place in LEFTOVERS)
    assert sorted(said(report)) == wanted
    assert not report.damaged
    assert engine.fsck().findings == ()


def test_what_a_living_process_holds_is_left_alone(engine: Engine) -> None:
    program = (
        "import pathlib, sys\n"
        "from dockermagic.engine import Engine\n"
        "engine = Engine(pathlib.Path(sys.argv[1]))\n"
        "with engine.store.lease(), engine.store.writer() as writer:\n"
        "    writer.write(b'half')\n"
        "    active = engine.snapshotter.prepare(None)\n"
        "    print(active.directory.name, flush=True)\n"
        "    sys.stdin.read()\n"
        "    engine.snapshotter.discard(active)\n"
        "engine.close()\n"
    )
    command = [sys.executable, "-c", program, str(engine.home)]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **streams) as process:
        assert process.stdout
        name = process.stdout.readline().strip()

        assert engine.fsck().findings == ()
        assert (engine.home / "snapshots" / name / "fs").is_dir()
    assert process.returncode == 0


@pytest.mark.alike
def test_an_alias_that_names_another_chain_is_forgotten(engine: Engine) -> None:
    sql(engine, "UPDATE snapshot_aliases SET id = id - 1 WHERE id = (SELECT max(id) FROM snapshots)")

    assert said(engine.fsck()) == [("damage", f"snapshot {engine.snapshotter.all()[1].id}", True)]
    assert engine.fsck().findings == ()


@pytest.mark.alike
def test_a_session_that_cannot_be_read_is_said(engine: Engine) -> None:
    (_mkdir(engine.home / "sessions") / "a-0123.json").write_text('{"chain"')

    report = engine.fsck()
    assert said(report) == [("damage", "sessions/a-0123.json", False)]
    assert "reset" in report.findings[0].hint


@pytest.mark.alike
def test_records_that_sqlite_cannot_read_are_said(engine: Engine) -> None:
    engine.close()
    with sqlite3.connect(engine.home / "store.db") as records:
        records.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    records.close()
    flip(engine.home / "store.db")
    with (engine.home / "store.db").open("r+b") as file:
        file.seek(4096)
        file.write(bytes(8192))

    report = engine.fsck()
    assert report.damaged
    assert {finding.place for finding in report.findings} == {"store.db"}
    assert "load" in report.findings[0].hint


def test_a_store_in_which_nothing_was_built_is_clean(tmp_path: Path) -> None:
    environment = os.environ | {"DOCKERMAGIC_HOME": str(tmp_path), "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "dockermagic", "fsck"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": clean (0 blobs, 0 cache mounts, 0 images, 0 snapshots)\n")


@pytest.mark.alike
def test_the_verb_says_it_and_its_exit_code_tells_damage(engine: Engine) -> None:
    def fsck(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"DOCKERMAGIC_HOME": str(engine.home), "PYTHONPATH": str(REPO)}
        command = [sys.executable, "-m", "dockermagic", "fsck", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    (engine.home / "ingest/0123").write_text("half")
    done = fsck()
    assert (done.returncode, done.stderr) == (0, "")
    assert "leftover: ingest/0123: left by a process that died (removed)\n" in done.stdout
    assert done.stdout.endswith("clean, 1 leftover cleared (7 blobs, 0 cache mounts, 2 images, 3 snapshots)\n")

    flip(layer_blob(engine))
    done = fsck("--quick")
    assert done.returncode == 0
    done = fsck()
    assert (done.returncode, done.stderr) == (1, "")
    assert "damage:   image two:latest" in done.stdout
    assert ": 2 damaged (" in done.stdout
