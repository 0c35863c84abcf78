"""A RUN: how its process begins and ends, and what stays of it in the layer."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dockermagic.errors import BuildInterruptedError
from dockermagic.sandbox.base import Cancel, Mount, Process, Rootfs
from tests.sandbox.kit import PATH, Room

pytestmark = pytest.mark.plain
REPO = Path(__file__).parents[2]


@pytest.mark.alike
def test_output_and_exit_code(room: Room) -> None:
    code = room.run("echo out; echo err >&2; exit 3")

    assert (code, room.out, room.err) == (3, "out\n", "err\n")


def test_no_byte_is_lost(room: Room) -> None:
    """Ten megabytes through a pipe, with the last ones written just before the end."""
    assert len(room.printed("head -c 10485760 /dev/zero; printf end")) == 10485763
    assert room.out.endswith("end")


@pytest.mark.alike
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 0", 0),
        ("exit 255", 255),
        ("sh -c 'kill -TERM $$'; exit $?", 143),
        ("sh -c 'kill -KILL $$'; exit $?", 137),
        ("exec nosuch", 127),
    ],
)
def test_exit_codes(room: Room, command: str, code: int) -> None:
    assert room.run(command) == code


@pytest.mark.isolated
def test_pid_1_killed_from_outside_is_128_and_the_signal(room: Room) -> None:
    """Only a signal from outside ends pid 1; the kernel's out-of-memory killer sends one."""
    room.step("cp /bin/busybox /bin/abort")
    unmistakable = f"unmistakable-{os.getpid()}"  # another user may run the same test
    codes = []

    def look(stream: int, data: bytes) -> None:
        inside = int(data)
        assert inside == 1
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and unmistakable.encode() in _command(entry):
                os.kill(int(entry.name), signal.SIGKILL)

    codes.append(room.run(f"echo $$; sleep 1000; true {unmistakable}", output=look))

    assert codes == [137]


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.alike
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc"], 126, 'exec: "/etc": is a directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        ([""], 127, 'exec: "": executable file not found in $PATH'),
        (["/script"], 255, "exec /script: no such file or directory"),
        (["/text"], 255, "exec /text: exec format error"),
        (["/foreign"], 255, "exec /foreign: exec format error"),
    ],
)
def test_what_cannot_be_executed(room: Room, args: list[str], code: int, words: str) -> None:
    # The last one is a program for a machine that nobody emulates.
    foreign = r"printf '\177ELF\1\2\1\0\0\0\0\0\0\0\0\0\0\2\0\4' > /foreign"
    room.step(f"printf '#!/no/shell\\n' > /script; echo text > /text; {foreign}; chmod +x /script /text /foreign")

    assert room.run(args) == code
    assert words in room.err


@pytest.mark.alike
def test_standard_input(room: Room, tmp_path: Path) -> None:
    assert room.printed("cat; echo end") == "end\n"
    (tmp_path / "text").write_text("from a file")
    with (tmp_path / "text").open() as file:
        assert room.printed("cat", stdin=file.fileno()) == "from a file"
        # Through the file itself it could be written.
        room.run("echo into it > /proc/self/fd/0", stdin=file.fileno())
    assert (tmp_path / "text").read_text() == "from a file"


def test_standard_input_that_comes_late_and_is_left_over(room: Room) -> None:
    """One that keeps no reader waiting is waited for; what comes after the command's end is for the next."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        late = threading.Timer(0.3, ours.sendall, (b"late\n",))
        late.start()
        assert room.printed("head -n 1", stdin=theirs.fileno()) == "late\n"
        late.join()
        wait = time.monotonic() + 10
        while any(thread.name == "dockermagic-stdin" for thread in threading.enumerate()):
            assert time.monotonic() < wait
            time.sleep(0.01)
        ours.sendall(b"next\n")
        assert room.printed("head -n 1", stdin=theirs.fileno()) == "next\n"


@pytest.mark.parametrize(
    ("command", "entries"),
    [
        ("true", set()),
        ("cat /etc/hosts /etc/resolv.conf", set()),
        ("echo a > /a", {"a"}),
        ("mkdir -p /x/y; touch /x/y/z", {"x", "x/y", "x/y/z"}),
        ("rm /etc/group", {"etc", "etc/.wh.group"}),
        ("echo x >> /etc/passwd", {"etc", "etc/passwd"}),
        ("touch /tmp/t; rm /tmp/t", {"tmp"}),
        ("touch /dev/x /dev/shm/y", set()),
        ("rm -rf /home; ln -s root /home", {"home"}),
        ("rm -rf /home/app; mkdir /home/new", {"home", "home/.wh.app", "home/new"}),
        ("mv /etc/group /etc/gruppe", {"etc", "etc/.wh.group", "etc/gruppe"}),
        ("chmod 700 /home/app", {"home", "home/app"}),
    ],
)
@pytest.mark.core
def test_what_a_layer_holds(room: Room, command: str, entries: set[str]) -> None:
    assert set(room.layer(room.step(command))) == entries


def test_stubs_stay_where_the_base_has_no_places(room: Room) -> None:
    """As in BuildKit: empty dev, proc and sys, and nothing of the mount points in etc."""
    room.top = None
    active = room.snapshots.prepare(None)
    (active.upper / "bin").mkdir()
    os.link(room.snapshots.find("base").fs / "bin/busybox", active.upper / "bin/sh")  # type: ignore[union-attr]
    room.top = room.snapshots.commit(active, "bare")

    layer = room.layer(room.step("echo hello > /file"))

    assert {name: stat.S_IMODE(entry.mode) for name, entry in layer.items() if entry.isdir()} == dict.fromkeys(
        ("dev", "proc", "sys"), 0o755
    )
    assert set(layer) == {"dev", "proc", "sys", "file"}


def test_mount_points_leave_no_trace(room: Room) -> None:
    """Parents that a mount point was made in keep their times, and are not in the layer."""
    before = os.stat(room.snapshots.find("base").fs / "etc").st_mtime_ns  # type: ignore[union-attr]
    mounts = (Mount("file", "/etc/deep/er/secret", content=b"x"), Mount("tmpfs", "/home/app/.cache/tool"))

    assert set(room.layer(room.step("true", mounts=mounts))) == set()
    snapshot = room.step("echo x >> /etc/group", mounts=mounts)

    assert set(room.layer(snapshot)) == {"etc", "etc/group"}
    assert os.stat(snapshot.fs / "etc").st_mtime_ns == before


def test_a_mount_point_that_the_command_filled_stays(room: Room) -> None:
    """Beside the covered name, not under it."""
    snapshot = room.step("echo x > /opt/mine", mounts=(Mount("tmpfs", "/opt/covered"),))

    assert set(room.layer(snapshot)) == {"opt", "opt/mine"}


def test_hostile_links_do_not_divert_the_cleaning(room: Room, tmp_path: Path) -> None:
    """The command replaces the directory of a mount point by a link to the host."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "covered").mkdir()

    room.step(f"mv /opt /elsewhere; ln -s {victim} /opt", mounts=(Mount("tmpfs", "/opt/covered"),))

    assert (victim / "covered").is_dir()


@pytest.mark.alike
def test_a_chain_of_layers(room: Room) -> None:
    for number in range(30):
        room.step(f"echo {number} > /n{number}; echo {number} > /last")

    assert room.printed("ls -d /n* | wc -l; cat /last") == "30\n29\n"


@pytest.mark.alike
def test_a_very_deep_chain(room: Room) -> None:
    """More than a page of mount options: the layers are given one by one."""
    layers = []
    for number in range(490):
        active = room.snapshots.prepare(None)
        (active.upper / f"d{number}").mkdir()
        layers.append(room.snapshots.commit(active, f"deep-{number}-{'x' * 10}").fs)
    base = room.snapshots.rootfs(room.top).lowers

    assert room.printed("ls -d /d[0-9]* | wc -l", rootfs=Rootfs((*base, *layers), room.prepare().upper)) == "490\n"


@pytest.mark.core
def test_what_is_left_behind_dies(room: Room) -> None:
    """A process in the background ends with the command, and does not hold its output open."""
    started = time.monotonic()

    assert room.printed("sleep 300 & echo done") == "done\n"
    assert time.monotonic() - started < 60


@pytest.mark.core
def test_cancel(room: Room) -> None:
    cancel = Cancel()
    lines = []

    def stop(stream: int, data: bytes) -> None:
        lines.append(data)
        cancel.set()

    with pytest.raises(BuildInterruptedError):
        room.run("echo started; sleep 300 & wait", cancel=cancel, output=stop)

    assert lines == [b"started\n"]
    assert room.printed("echo again") == "again\n"


@pytest.mark.alike
def test_cancel_before_the_start(room: Room) -> None:
    cancel = Cancel()
    cancel.set()

    with pytest.raises(BuildInterruptedError):
        room.run("sleep 300", cancel=cancel)


@pytest.mark.alike
def test_an_error_of_the_output_function_stops_the_process(room: Room) -> None:
    def fail(stream: int, data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.run("echo x; sleep 300", output=fail)

    assert room.printed("echo again") == "again\n"


@pytest.mark.isolated
def test_terminal(room: Room) -> None:
    room.written = {1: b"", 2: b""}
    master, slave = os.openpty()
    os.write(master, b"typed\n")

    code = room.run("tty; test -c /dev/console && read x && echo got $x; exit 4", tty=True, stdin=slave)

    os.close(master)
    os.close(slave)
    assert code == 4
    assert "/dev/pts/0\r\n" in room.out
    assert "got typed\r\n" in room.out


@pytest.mark.alike
def test_many_at_once(room: Room) -> None:
    results: dict[int, str] = {}
    rootfs = room.snapshots.rootfs(room.top)

    def one(number: int) -> None:
        seen = bytearray()
        process = Process(("sh", "-c", f"echo {number}; head -c 100000 /dev/zero | tr '\\0' x"), PATH)
        room.sandbox.run(rootfs, process, output=lambda _, data: seen.extend(data))
        results[number] = seen.decode()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {number: f"{number}\n{'x' * 100000}" for number in range(16)}


def test_nothing_stays_mounted(room: Room) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    room.step("echo x > /x")

    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_killed_client_takes_everything_along(room: Room, tmp_path: Path) -> None:
    """kill -9 of the client: neither the sandbox's processes nor what they ran are left."""
    marker = f"marker-{os.getpid()}"
    script = (
        "import sys; from pathlib import Path; from tests.sandbox.kit import Room\n"
        f"room = Room(Path({str(tmp_path / 'other')!r}), {room.mode!r}).__enter__()\n"
        f"room.run('echo ready; sleep 300; true {marker}', output=lambda n, data: print(data.decode(), flush=True))\n"
    )
    (tmp_path / "other").mkdir()
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPO)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    assert _running(marker)

    client.kill()
    client.wait()

    deadline = time.monotonic() + 30
    while _running(marker) and time.monotonic() < deadline:
        os.sched_yield()
    client.stdout.close()
    assert not _running(marker)


def _running(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"true {marker}".encode() in _command(entry) and b"python" not in _command(entry):
            found.append(int(entry.name))
    return found
