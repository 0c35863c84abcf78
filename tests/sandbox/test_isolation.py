"""Isolation, looked at from inside by somebody who wants out, and what is left behind by whatever end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dockermagic.errors import BuildInterruptedError
from dockermagic.sandbox.base import Cancel, Mount
from tests.sandbox.kit import Room

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]


def test_processes_of_the_host_are_neither_seen_nor_reached(room: Room) -> None:
    """Every number that a process of the host has is nobody's inside, or one of the RUN's own."""
    victim = subprocess.Popen(["sleep", "300"])
    try:
        room.run(f"kill -9 {victim.pid}; kill -9 -1; true")
        seen = room.printed("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

        assert victim.poll() is None
        assert "sleep 300" not in seen
        assert "python" not in seen
    finally:
        victim.kill()
        victim.wait()


def test_files_of_the_host_are_not_there(room: Room, tmp_path: Path) -> None:
    """Neither by their path, nor through /proc, nor by a way up out of the root."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    places = [
        str(secret),
        *(f"{start}{secret}" for start in ("/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../..")),
    ]
    up = "/.." * 20

    for place in [*places, f"{up}{secret}"]:
        assert room.run(f"cat {place}") != 0, place
    assert room.printed("ls /..") == room.printed("ls /")


def test_the_store_and_other_layers_are_out_of_reach(room: Room) -> None:
    """No mount, no open descriptor and no path leads to the store's directory."""
    store = str(room.home)

    assert room.run(f"ls {store}") != 0
    assert store not in room.printed("ls -l /proc/self/fd /proc/1/fd")
    assert room.printed("ls /proc/self/fd | wc -l").strip() in ("3", "4")  # with that of ls itself


def test_the_environment_of_the_kernel_is_not_there(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter2")

    assert "hunter2" not in room.printed("env; cat /proc/*/environ")


@pytest.mark.parametrize(
    "attempt",
    [
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/vm/drop_caches",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/mine",
        "mount -t tmpfs none /proc",
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /sys",
        "mount -o remount,rw /proc/sys",
        "umount /proc/sys",
        "umount -l /proc",
        "umount /sys",
        "mount --bind / /proc",
        "mknod /dev/mine b 254 0 && test -b /dev/mine && cat /dev/mine",
        "mknod /mine b 254 0 && test -b /mine && dd if=/mine of=/dev/null count=1",
        "mknod /kmsg c 1 11 && test -c /kmsg && echo x > /kmsg",
        "hostname other",
        "unshare -r true",
        "nsenter -t 1 -m true",
        "chroot /proc/1/root/.. ls /host-has-this",
        "swapoff -a && swapon /x",
        "sysctl -w kernel.panic=1",
    ],
)
def test_nothing_is_mounted_written_or_raised(room: Room, attempt: str) -> None:
    """As root inside: what Docker refuses is refused."""
    assert room.run(f"mkdir -p /mnt; {attempt}") != 0, room.out + room.err


def test_other_runs_are_out_of_reach(room: Room) -> None:
    """Two at once: neither sees the other's processes, files or shared memory."""
    cancel = Cancel()
    seen: dict[str, str] = {}

    def look(stream: int, data: bytes) -> None:
        seen["processes"] = room.printed("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        seen["files"] = room.printed("ls /tmp /dev/shm")
        cancel.set()

    with pytest.raises(BuildInterruptedError):
        room.run(
            "touch /tmp/theirs /dev/shm/theirs; echo ready; sleep 300; true unmistakable", output=look, cancel=cancel
        )

    assert "unmistakable" not in seen["processes"]
    assert "theirs" not in seen["files"]


def test_the_first_process_of_init_shows_nothing_of_the_host(room: Room) -> None:
    """It is a copy of the resident process: nobody looks into it, and a further process enters beside its child."""
    room.run("tr -d '\\0' < /proc/1/environ", init=True)
    assert room.out == ""
    assert room.printed("cat /proc/1/comm", init=True) == "docker-init\n"
    assert room.run("head -c 1 /proc/1/maps", init=True) != 0
    assert room.run("readlink /proc/1/exe", init=True) != 0


def test_control_groups_of_the_host_are_not_there(room: Room) -> None:
    assert room.printed("ls /sys/fs/cgroup") == ""


def test_a_secret_is_gone_with_its_run(room: Room) -> None:
    secret = Mount("file", "/run/secrets/key", content=b"hunter2", mode=0o400)
    snapshot = room.step("cat /run/secrets/key > /dev/null", mounts=(secret,))

    assert set(room.layer(snapshot)) <= {"run"}
    found = subprocess.run(["grep", "-rl", "hunter2", str(room.home)], capture_output=True, text=True, check=False)
    assert found.stdout == ""


LONG = 1_000_000 + os.getpid()
"""Seconds of a sleep that nobody else has, who may run the same test as another user."""


@pytest.mark.plain
@pytest.mark.parametrize("end", ["true", "false", "kill -9 1", "kill -9 $$", "interrupt"])
def test_nothing_is_left_behind(room: Room, end: str) -> None:
    """Processes, mounts, namespaces and files: after each end there are as many as before."""
    room.run("true")
    before = _left(room)
    command = f"(sleep {LONG} &) ; (setsid sleep {LONG} &) ; echo ready; "

    if end == "interrupt":
        cancel = Cancel()
        with pytest.raises(BuildInterruptedError):
            room.run(command + f"sleep {LONG}", output=lambda *_: cancel.set(), cancel=cancel)
    else:
        room.run(command + end)
    room.run("true")

    assert _left(room) == before


def _left(room: Room) -> tuple[list[str], str, list[str]]:
    sleeping = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _command(entry).startswith(f"sleep\0{LONG}\0".encode())
    ]
    mounts = Path("/proc/self/mountinfo").read_text()
    files = sorted(str(path.name) for path in (room.home / "mnt").iterdir())
    return sleeping, mounts, files


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_fork_bomb_is_bounded_and_ends(room: Room) -> None:
    """It runs into its bound, says so, and an interrupt ends all of it."""
    before = len(os.listdir("/proc"))
    bomb = "i=0; while [ $i -lt 100000 ]; do sleep 300 & i=$((i+1)); done; echo all"

    code = room.run(bomb)

    assert code != 0
    assert "fork" in room.err
    deadline = time.monotonic() + 30
    while len(os.listdir("/proc")) > before + 200 and time.monotonic() < deadline:
        os.sched_yield()
    assert len(os.listdir("/proc")) <= before + 200
    assert room.printed("echo again") == "again\n"


def test_a_killed_kernel_leaves_nothing(room: Room, tmp_path: Path) -> None:
    """kill -9 of the client while something runs in the background."""
    (tmp_path / "other").mkdir()
    script = (
        "from pathlib import Path; from tests.sandbox.kit import Room\n"
        f"room = Room(Path({str(tmp_path / 'other')!r}), {room.mode!r}).__enter__()\n"
        f"command = '(setsid sleep {LONG} &); echo ready; sleep {LONG}'\n"
        "room.run(command, output=lambda n, data: print('ready', flush=True))\n"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPO)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"

    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()

    def sleeping() -> bool:
        return any(_command(entry).startswith(f"sleep\0{LONG}\0".encode()) for entry in Path("/proc").iterdir())

    # A disk that is busy with what others wrote holds up who unmounts.
    deadline = time.monotonic() + 120
    while sleeping() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sleeping()
