"""Requests to the resident process: arguments, mounts, descriptors, answers, errors, and how it ends."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dockermagic.errors import BuildInterruptedError, DockerfileSyntaxError, SandboxError, SandboxUnavailableError
from dockermagic.sandbox import interpreters
from dockermagic.sandbox.base import Cancel, Process, Rootfs
from dockermagic.sandbox.worker import Worker
from tests.sandbox.kit import Room

MEASURE = "dockermagic.sandbox.trees:measure"


def test_a_mount_arrives_as_a_path(room: Room) -> None:
    """The whole stack of layers is there, and gone afterwards."""
    room.step("head -c 100 /dev/zero > /hundred; rm /bin/busybox")
    size = sum(path.stat().st_size for path in (room.snapshots.find("base").fs / "etc").iterdir())  # type: ignore[union-attr]

    assert room.sandbox.call(MEASURE, mounts={"path": room.snapshots.rootfs(room.top)}) == size + 100
    assert not any((room.home / "mnt").iterdir())


def test_a_function_writes_a_layer_with_the_ids_of_the_image(room: Room) -> None:
    active = room.prepare()
    room.sandbox.call(
        "dockermagic.build.copying:make_directory",
        upper=str(active.rootfs.upper),
        lowers=[str(lower) for lower in active.rootfs.lowers],
        path="/a/b",
        user="1000:1000",
    )
    layer = room.layer(room.snapshots.commit(active, "made"))

    assert {name: (entry.uid, entry.gid) for name, entry in layer.items()} == {"a": (1000, 1000), "a/b": (1000, 1000)}


def test_one_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        interpreters, "python", lambda module: [sys.executable, "-S", "-c", "raise ImportError('half a file')"]
    )

    with pytest.raises(SandboxUnavailableError) as caught:
        Worker("root", tmp_path / "layers", tmp_path / "mnt").call(MEASURE, path="/")

    assert caught.value.hint == "ImportError: half a file"


def test_nothing_but_layers_is_an_empty_root(room: Room) -> None:
    assert room.sandbox.call(MEASURE, mounts={"path": Rootfs()}) == 0


@pytest.mark.alike
def test_large_requests_and_answers(room: Room) -> None:
    """Far more than a packet holds, both ways."""
    words = ["x" * 1000] * 3000

    assert room.sandbox.call("dockermagic.dockerfile.shell:expand", word=" ".join(words), env={}) == " ".join(words)


@pytest.mark.alike
def test_errors_keep_type_and_fields(room: Room) -> None:
    with pytest.raises(DockerfileSyntaxError) as caught:
        room.sandbox.call("dockermagic.dockerfile.stages:parse_dockerfile", text="FROM x\nNOSUCH thing\n")

    assert caught.value.line == 2
    assert "unknown instruction: NOSUCH" in caught.value.message


@pytest.mark.alike
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("os:getpid", "not a function of dockermagic: os:getpid"),
        ("dockermagic.nosuch:x", "No module named 'dockermagic.nosuch'"),
        ("dockermagic.errors:nosuch", "has no attribute 'nosuch'"),
        (MEASURE, "missing 1 required positional argument"),
    ],
)
def test_a_request_that_cannot_be_served(room: Room, function: str, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        room.sandbox.call(function)

    assert room.sandbox.call(MEASURE, mounts={"path": Rootfs()}) == 0


@pytest.mark.alike
def test_a_missing_layer_is_named(room: Room, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"a layer's directory is gone: .*nowhere"):
        room.sandbox.call(MEASURE, mounts={"path": Rootfs((tmp_path, tmp_path / "nowhere"))})


def test_cancel_kills_the_child(room: Room, tmp_path: Path) -> None:
    """A child that waits for a lock that it never gets."""
    os.mkfifo(tmp_path / "fifo")
    cancel = Cancel()
    reading, writing = os.pipe()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()

    with pytest.raises(BuildInterruptedError):
        room.sandbox.call(
            "dockermagic.oci.layer:unpack", fds={"blob": reading}, cancel=cancel, directory=str(room.prepare().upper)
        )

    os.close(reading)
    os.close(writing)
    assert room.printed("echo again") == "again\n"


def test_a_dead_resident_process_is_replaced(room: Room) -> None:
    room.printed("true")
    first = room.sandbox.worker.pid
    assert first is not None
    (inner,) = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
    gone = os.pidfd_open(inner)
    os.kill(inner, signal.SIGKILL)
    select.select([gone], [], [])
    os.close(gone)

    assert room.printed("echo again") == "again\n"
    assert room.sandbox.worker.pid != first


@pytest.mark.alike
def test_close_and_use_again(room: Room) -> None:
    room.sandbox.close()
    room.sandbox.close()

    assert room.printed("echo again") == "again\n"


def test_the_resident_process_is_small(room: Room) -> None:
    room.printed("true")
    assert room.sandbox.worker.pid is not None
    children = [Path(f"/proc/{pid}") for pid in _with_descendants(room.sandbox.worker.pid)]

    sizes = [re.search(rb"VmRSS:\s*(\d+)", _read(child / "status")) for child in children]

    assert len(sizes) > 1
    assert all(int(size[1]) < 20 * 1024 for size in sizes if size)


def _with_descendants(pid: int) -> list[int]:
    below = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(file).split()]
    return [pid, *(found for child in below for found in _with_descendants(child))]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.alike
def test_a_fork_of_the_client_has_its_own(room: Room) -> None:
    """As with multiprocessing: parent and child do not share a connection."""
    room.printed("true")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, room.printed("echo child").encode())
            room.sandbox.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(read, 100) == b"child\n"
    assert room.printed("echo parent") == "parent\n"
    os.close(read)
    os.close(write)


def test_a_single_uid_mode_maps_what_its_name_says(room: Room) -> None:
    lines = [line.split() for line in room.printed("cat /proc/self/uid_map").splitlines()]
    count = sum(int(line[2]) for line in lines)

    assert {
        "root": count == 4294967295,
        "range": count > 65000 and lines[0][1] == str(os.getuid()),
        "single": count == 1,
    }[room.mode]


def test_a_stopped_process_is_over_though_another_child_was_forked_meanwhile(room: Room) -> None:
    """What is forked in between must not have its socket, whose end is waited for."""
    top = room.top
    process = Process(("/bin/sh", "-c", "sleep 100 & sleep 100"), env={"PATH": "/bin"})
    for _ in range(3):
        running = room.sandbox.start(room.prepare(top).rootfs, process)
        calling = threading.Thread(target=room.sandbox.call, args=(MEASURE,), kwargs={"path": str(room.home / "mnt")})
        time.sleep(0.05)
        begun = time.monotonic()
        calling.start()
        running.close()
        calling.join()
        assert time.monotonic() - begun < 5
