"""A store is whole whatever happened to the process that wrote it, and right however many write at once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.tree import merged_tree, read_image
from tests.peers.images import busybox_archive

pytestmark = pytest.mark.slow

STEPS = 12
KILLS = 20


class Store:
    """The command line on one store."""

    def __init__(self, home: Path, context: Path) -> None:
        self.home, self.context = home, context

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dockermagic", *map(str, words)],
            env=os.environ | {"DOCKERMAGIC_HOME": str(self.home)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str | Path) -> str:
        process = self.start(*words)
        out, error = process.communicate()
        assert process.returncode == 0, out + error
        return out

    def build_words(self, salt: str, out: Path) -> list[str | Path]:
        return [
            "build",
            "--build-arg",
            f"SALT={salt}",
            f"--output=type=oci,dest={out}",
            "-t",
            f"s:{salt}",
            self.context,
        ]

    def processes(self) -> list[int]:
        """The processes, of whatever kind, that still work on this store: its path is in their environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.home).encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def broken(self) -> list[str]:
        """What is not as it should be: blobs that are not what their name says, snapshots and records that disagree."""
        problems = []
        for blob in (self.home / "blobs/sha256").iterdir():
            if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
                problems.append(f"blob {blob.name} has other content")
        for manifest in json.loads((self.home / "index.json").read_text())["manifests"]:
            if not (self.home / "blobs" / manifest["digest"].replace(":", "/")).exists():
                problems.append(f"index.json names a missing manifest {manifest['digest']}")
        with sqlite3.connect(f"file:{self.home}/store.db?mode=ro", uri=True) as records:
            if records.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                problems.append("the records fail SQLite's own check")
            recorded = {str(number) for (number,) in records.execute("SELECT id FROM snapshots")}
        kept = {path.name for path in (self.home / "snapshots").iterdir() if path.name.isdigit()}
        problems += [f"snapshot {name} is recorded and not there" for name in sorted(recorded - kept)]
        problems += [f"snapshot {name} is there and not recorded" for name in sorted(kept - recorded)]
        return problems


@pytest.fixture
def store(id_mode: str, engine_home: Path, tmp_path: Path) -> Iterator[Store]:
    context = tmp_path / "context"
    context.mkdir()
    for number in range(200):
        (context / f"file{number}").write_text(f"{number}\n" * 100)
    steps = "".join(
        f"RUN echo $SALT {step} > /step{step} && rm -f /step{step - 1} && mkdir -p /d/{step}\n" for step in range(STEPS)
    )
    (context / "Dockerfile").write_text(f"FROM busybox\nARG SALT\n{steps}COPY . /files/\nRUN rm -r /d/0\n")
    made = Store(engine_home, context)
    made.run("load", "-i", busybox_archive(tmp_path / "busybox.tar"))
    yield made
    assert made.broken() == []


def expected(salt: str) -> set[str]:
    return {f"/step{STEPS - 1}", "/files/file0", "/d/1"} | {f"/d/{step}" for step in range(1, STEPS)}


def check(archive: Path, salt: str) -> None:
    """The image is complete and is the one of this salt."""
    tree = merged_tree(read_image(archive).layers)
    text = f"{salt} {STEPS - 1}\n".encode()
    assert expected(salt) <= set(tree)
    assert tree[f"/step{STEPS - 1}"]["content"].split()[1] == hashlib.sha256(text).hexdigest()[:16]
    assert not {"/step0", "/d/0"} & set(tree)
    assert sum(path.startswith("/files/file") for path in tree) == 200


def test_killed_at_any_moment_the_next_start_is_whole(store: Store, tmp_path: Path) -> None:
    """kill -9 at random moments of a build: no process stays, no half layer is used, the next build is right."""
    out = tmp_path / "out.tar"
    store.run(*store.build_words("warm", out))
    start = time.perf_counter()
    store.run(*store.build_words("measure", out))
    whole = time.perf_counter() - start
    moments = random.Random(7)
    killed = 0
    for number in range(KILLS):
        process = store.start(*store.build_words(f"salt{number}", out))
        try:
            process.wait(moments.uniform(0, whole * 0.9))
        except subprocess.TimeoutExpired:
            killed += 1
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 10
        while (left := store.processes()) and time.monotonic() < deadline:
            os.sched_yield()
        assert not left, "a process of the killed build lives on"
        if number % 4 == 3:
            store.run(*store.build_words(f"salt{number}", out))
            check(out, f"salt{number}")
            assert store.broken() == []

    assert killed > KILLS // 2, "most builds ended before their moment came"


def test_many_builds_on_one_store_at_once(store: Store, tmp_path: Path) -> None:
    """The same and other Dockerfiles side by side: each gets its own image, and equal layers exist once."""
    salts = ["a", "b", "a", "b", "a", "c"]
    outs = [tmp_path / f"out{number}.tar" for number in range(len(salts))]
    processes = [store.start(*store.build_words(salt, out)) for salt, out in zip(salts, outs, strict=True)]
    for process in processes:
        out, error = process.communicate()
        assert process.returncode == 0, out + error

    for salt, out in zip(salts, outs, strict=True):
        check(out, salt)
    same = {json.dumps(read_image(out).config["rootfs"]) for salt, out in zip(salts, outs, strict=True) if salt == "a"}
    assert len(same) == 1


def test_interrupted_leaves_nothing_running(store: Store, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a RUN: the exit code says so and its processes are gone with it."""
    (store.context / "Dockerfile").write_text("FROM busybox\nRUN echo begun && sleep 1000\n")
    process = store.start("build", "--progress=plain", store.context)
    assert process.stderr and process.stdout
    for line in process.stderr:
        if "begun" in line and "RUN" not in line:
            break
    process.send_signal(2)
    process.communicate(timeout=20)

    assert process.returncode == 130
    assert store.processes() == []
