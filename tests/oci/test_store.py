"""The store: names, blobs, leases and what other tools see of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.errors import ArchiveError, ImageNotFoundError, StoreError, StoreFullError
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import (
    LAYER,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    HistoryEntry,
    Platform,
    digest,
    timestamp,
)
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.records import Records

EMPTY_TAR = bytes(10240)
BUSYBOX = Reference.parse("busybox")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    records = Records(tmp_path / "home")
    yield Store(tmp_path / "home", records)
    records.close()


def layer(store: Store, content: bytes = EMPTY_TAR) -> LayerBlob:
    return LayerBlob(store.put(content, LAYER), digest(content), len(content))


def image(store: Store, label: str = "one") -> Descriptor:
    step = HistoryEntry(created=timestamp(0), created_by="COPY . / # buildkit")
    made = Image.empty(Platform("linux", "amd64")).append_layer(layer(store), step)
    return made.with_config(ContainerConfig(labels={"label": label})).with_created(timestamp(0)).write(store)


def age(store: Store) -> None:
    """As if all blobs were old: what was used in the clock's last tick is not collected."""
    for name in store.digests():
        os.utime(store.blob(name), (0, 0))


def test_a_blob_appears_under_its_digest_and_writing_it_again_changes_nothing(store: Store) -> None:
    first = store.put(b"hello", "text/plain")
    second = store.put(b"hello", "text/plain")

    assert first == second == Descriptor("text/plain", digest(b"hello"), 5)
    assert store.read(first.digest) == b"hello"
    assert list(store.digests()) == [first.digest]


def test_a_writer_that_is_left_early_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writer() as writer:
        writer.write(b"half")
        raise ZeroDivisionError

    assert list(store.digests()) == []
    assert list((store.home / "ingest").iterdir()) == []


@pytest.mark.parametrize(
    ("expected", "size"), [("sha256:" + "0" * 64, None), (digest(b"hello"), 6), ("sha256:" + "0" * 64, 5)]
)
def test_a_writer_refuses_bytes_that_are_not_those_expected(store: Store, expected: str, size: int | None) -> None:
    with store.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(ArchiveError, match=expected):
            writer.commit("text/plain", digest=expected, size=size)

    assert list(store.digests()) == []


def test_bytes_written_to_the_descriptor_get_the_digest_they_have(store: Store) -> None:
    with store.writer() as writer:
        os.write(writer.fileno(), b"hello")
        descriptor = writer.commit("text/plain")

    assert descriptor.digest == digest(b"hello")


def test_a_missing_blob_and_a_damaged_one_say_which_and_what_to_do(store: Store) -> None:
    missing, damaged = digest(b"nothing"), store.put(b"hello", "text/plain").digest
    store.blob(damaged).write_bytes(b"hellO")

    for name, words in ((missing, "missing"), (damaged, "damaged")):
        with pytest.raises(StoreError, match=words) as caught:
            store.read(name)
        assert name in str(caught.value)
        assert caught.value.hint
        with pytest.raises(StoreError, match=words):
            store.verify(name)


def test_a_name_moves_to_another_image_and_the_first_one_stays_without(store: Store) -> None:
    one, two = image(store, "one"), image(store, "two")
    store.tag(BUSYBOX, one)
    store.tag(BUSYBOX, two)

    assert store.resolve(BUSYBOX) == two
    assert [(item.descriptor, item.names) for item in store.images()] == [(two, (BUSYBOX,)), (one, ())]
    assert store.references() == {BUSYBOX: two}


def test_an_image_is_found_by_name_id_and_digest(store: Store) -> None:
    one, two = image(store, "one"), image(store, "two")
    store.tag(BUSYBOX, one)
    store.add(two)
    ids = {item.descriptor.digest: item.id for item in store.images()}

    assert store.find("busybox").descriptor == one
    assert store.find("docker.io/library/busybox:latest").descriptor == one
    assert store.find(ids[two.digest]).descriptor == two
    assert store.find(ids[two.digest].removeprefix("sha256:")[:12]).descriptor == two
    assert store.find(f"busybox@{one.digest}").descriptor == one
    for nothing in ("nothing", "busybox:other", f"busybox@{two.digest}", "sha256:", "*"):
        with pytest.raises(ImageNotFoundError):
            store.find(nothing)


def test_forgetting_an_image_takes_its_names(store: Store) -> None:
    one = image(store)
    store.tag(BUSYBOX, one)

    assert store.forget(one.digest)
    assert not store.forget(one.digest)
    assert store.resolve(BUSYBOX) is None
    assert json.loads((store.home / "index.json").read_bytes())["manifests"] == []


def test_index_json_follows_the_commit_and_not_what_was_undone(store: Store) -> None:
    one = image(store)
    with pytest.raises(ZeroDivisionError), store.records.transaction():
        store.tag(BUSYBOX, one)
        raise ZeroDivisionError
    index = json.loads((store.home / "index.json").read_bytes())

    assert index["manifests"] == []
    with store.records.transaction():
        store.tag(BUSYBOX, one)
        assert json.loads((store.home / "index.json").read_bytes()) == index
    assert [item["digest"] for item in json.loads((store.home / "index.json").read_bytes())["manifests"]] == [
        one.digest
    ]


def test_a_store_whose_index_json_fell_behind_writes_it_when_opened(store: Store) -> None:
    old = (store.home / "index.json").read_bytes()
    store.tag(BUSYBOX, image(store))
    new = (store.home / "index.json").read_bytes()
    (store.home / "index.json").write_bytes(old)
    (store.home / "index.lock").write_bytes(b"0")
    Store(store.home, store.records)

    assert old != new == (store.home / "index.json").read_bytes()


def test_garbage_is_what_no_image_needs(store: Store) -> None:
    one, two = image(store, "one"), image(store, "two")
    loose, kept = store.put(b"loose", "text/plain"), store.put(b"kept", "text/plain")
    store.tag(BUSYBOX, one)

    age(store)
    config_of_two = store.manifest(two).config.digest
    assert store.garbage([kept.digest]).keys() == {loose.digest, two.digest, config_of_two}
    assert store.collect([kept.digest, two]) == {loose.digest: 5}
    assert store.has(kept.digest)
    assert store.garbage([kept.digest]).keys() == {two.digest, config_of_two}


def test_a_lease_protects_what_is_written_or_asked_for_inside_it(store: Store) -> None:
    old, used = store.put(b"old", "text/plain"), store.put(b"used", "text/plain")
    age(store)
    with store.lease():
        new = store.put(b"new", "text/plain")
        assert store.has(used.digest)
        assert store.collect() == {old.digest: 3}

    age(store)
    assert store.collect().keys() == {new.digest, used.digest}


def test_a_lease_ends_with_its_process_and_unfinished_blobs_are_swept(store: Store) -> None:
    program = (
        "import sys, pathlib, dockermagic.oci.blobs as b\n"
        "blobs = b.Blobs(pathlib.Path(sys.argv[1]))\n"
        "with blobs.lease(), blobs.writer() as writer:\n"
        "    blobs.put(b'mine', 'text/plain'); writer.write(b'half'); print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert store.sweep() == 0
        assert store.collect() == {}
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert store.sweep() == 2
    age(store)
    assert store.collect() == {digest(b"mine"): 4}


def test_what_is_used_while_somebody_looks_for_garbage_stays(store: Store) -> None:
    """Between the look at the records and the removal another process takes the blob up again and is done with it."""
    blob = store.put(b"taken up again", "text/plain")
    age(store)
    horizon = store.horizon()
    garbage = store.garbage()
    with store.lease():
        assert store.has(blob.digest)

    assert store.remove(garbage, horizon) == {}
    assert store.has(blob.digest)


def test_many_processes_tag_at_once_and_index_json_has_every_name(store: Store) -> None:
    one = image(store)
    program = (
        "import sys, pathlib\n"
        "from dockermagic.oci.store import Store\n"
        "from dockermagic.oci.reference import Reference\n"
        "from dockermagic.oci.spec import Descriptor, MANIFEST\n"
        "from dockermagic.records import Records\n"
        "home, name, digest, size = sys.argv[1:]\n"
        "store = Store(pathlib.Path(home), Records(pathlib.Path(home)))\n"
        "for number in range(10):\n"
        "    store.tag(Reference.parse(f'{name}:{number}'), Descriptor(MANIFEST, digest, int(size)))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(store.home), f"p{number}", one.digest, str(one.size)])
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    index = json.loads((store.home / "index.json").read_bytes())

    wanted = {f"p{process}:{number}" for process in range(4) for number in range(10)}
    assert {item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]} == wanted


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
def test_skopeo_reads_the_store_as_it_stands(store: Store) -> None:
    store.tag(BUSYBOX, image(store, "from the store"))
    found = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.home}:busybox:latest"], check=True, capture_output=True, text=True
    )

    assert json.loads(found.stdout)["Labels"] == {"label": "from the store"}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
def test_a_full_disk_is_said_clearly_and_the_store_goes_on_after_room_is_made(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=True)
    try:
        records = Records(tmp_path)
        store = Store(tmp_path, records)
        kept = image(store)
        store.tag(BUSYBOX, kept)
        with pytest.raises(StoreFullError, match="full"):
            store.put(bytes(4 << 20), "text/plain")
        assert store.resolve(BUSYBOX) == kept
        assert list((tmp_path / "ingest").iterdir()) == []
        assert store.read(store.put(b"small", "text/plain").digest) == b"small"
        filler = tmp_path / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(4 << 20))
        with pytest.raises(StoreFullError):
            for number in range(10_000):
                store.tag(Reference.parse(f"busybox:{number}"), kept)
        filler.unlink()
        store.tag(Reference.parse("after"), kept)
        assert store.resolve(Reference.parse("after")) == kept
        records.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_manifest_of_the_wrong_kind_is_refused(store: Store) -> None:
    broken = store.put(b"[]", MANIFEST)

    with pytest.raises(ArchiveError, match="expected a JSON object"):
        store.manifest(broken)
    with pytest.raises(ArchiveError, match="not an image"):
        store.manifest(store.put(b"{}", "text/plain"))
