"""Processes that are killed at any moment leave a whole store behind; many at once do not disturb one another."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.oci.image import Image
from dockermagic.oci.store import Store
from dockermagic.records import Records

WORK = """
import os, pathlib, random, sys
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import ContainerConfig, HistoryEntry, LAYER, digest
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.records import Records

home, seed, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
store = Store(home, Records(home))
print("ready", flush=True)
for number in range(rounds):
    name = Reference.parse(f"image:{dice.randrange(6)}")
    with store.lease():
        content = dice.randbytes(dice.randrange(200_000)) if dice.random() < 0.7 else bytes(1024)
        with store.writer() as writer:
            for start in range(0, len(content), 10_000):
                writer.write(content[start : start + 10_000])
            blob = writer.commit(LAYER)
        layer = LayerBlob(blob, blob.digest, blob.size)
        store.remember_layer(layer)
        image = Image.empty().append_layer(layer, HistoryEntry()).with_config(ContainerConfig(env=(f"A={number % 5}",)))
        store.tag(name, image.write(store))
    match dice.randrange(4):
        case 0:
            store.untag(Reference.parse(f"image:{dice.randrange(6)}"))
        case 1:
            for stored in store.images():
                if not stored.names:
                    store.forget(stored.descriptor.digest)
            store.collect()
"""


def start(home: Path, seed: int, rounds: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(home), str(seed), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.communicate()[1].decode()
    return process


def check(home: Path) -> int:
    """Open the store as the next process would; every image in it is whole. Returns how many names there are."""
    records = Records(home)
    store = Store(home, records)
    for stored in store.images():
        image = Image.load(store, stored.descriptor)
        for descriptor in store.reachable([stored.descriptor]):
            assert store.verify(descriptor.digest) == descriptor.size
        assert image.id == stored.id
    listed = {
        item["annotations"]["io.containerd.image.name"]: item["digest"]
        for item in json.loads((home / "index.json").read_bytes())["manifests"]
    }
    assert listed == {str(name): descriptor.digest for name, descriptor in store.references().items()}
    assert list((home / "ingest").iterdir()) == list((home / "leases").iterdir()) == []
    found = len(store.references())
    records.close()
    return found


def kill_at_random(home: Path, times: int) -> None:
    dice = random.Random(times)
    for number in range(times):
        process = start(home, number, 1000)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=dice.random() * 0.15)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        check(home)


def test_a_process_killed_at_any_moment_leaves_a_whole_store(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 10)


@pytest.mark.slow
def test_two_hundred_processes_killed(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 200)


def test_processes_that_tag_untag_and_collect_at_once_lose_nothing(tmp_path: Path) -> None:
    running = [start(tmp_path, seed, 30) for seed in range(4)]
    errors = [process.communicate(timeout=200)[1] for process in running]

    assert errors == [b""] * 4
    assert check(tmp_path) > 0
