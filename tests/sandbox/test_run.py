"""A RUN: what the process sees, what comes out of it, how it ends, and what stays in the layer."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox.base import Cancel, Mount, Process, Rootfs, Subpath, Ulimit
from tests.sandbox.kit import FRESH_PROC, PATH, Room

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
    ],
)
def test_what_cannot_be_executed(room: Room, args: list[str], code: int, words: str) -> None:
    room.step("printf '#!/no/shell\\n' > /script; echo text > /text; chmod +x /script /text")

    assert room.run(args) == code
    assert words in room.err


@pytest.mark.alike
@pytest.mark.isolated
def test_environment_is_what_was_given(room: Room) -> None:
    os.environ["DOCKERMAGIC_TEST_LEAK"] = "leak"
    try:
        assert (
            room.printed(["env"], env={"PATH": "/bin", "A": "1 2", "EMPTY": ""})
            == "PATH=/bin\nA=1 2\nEMPTY=\nHOME=/root\n"
        )
    finally:
        del os.environ["DOCKERMAGIC_TEST_LEAK"]


@pytest.mark.parametrize(
    ("user", "ids", "home"),
    [
        ("", "uid=0(root) gid=0(root)", "/root"),
        ("root", "uid=0(root) gid=0(root)", "/root"),
        ("app", "uid=1000(app) gid=1000(app)", "/home/app"),
        ("1000", "uid=1000(app) gid=1000(app)", "/home/app"),
        ("app:staff", "uid=1000(app) gid=50(staff)", "/home/app"),
        ("1000:44", "uid=1000(app) gid=44(video)", "/home/app"),
        ("4242", "uid=4242 gid=0(root)", "/"),
        ("4242:4343", "uid=4242 gid=4343", "/"),
        ("nohome", "uid=1001(nohome) gid=1001", "/"),
    ],
)
def test_user(room: Room, user: str, ids: str, home: str) -> None:
    printed = room.printed("id; echo $HOME", user=user).splitlines()

    assert printed[0].startswith(ids)
    assert printed[1] == home


@pytest.mark.alike
@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("99999999999", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_user_that_does_not_exist(room: Room, user: str, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        room.run("true", user=user)


@pytest.mark.isolated
def test_supplementary_groups(room: Room) -> None:
    if room.ids == "single":
        assert room.printed("id -G", user="0:staff") == "50\n"
        pytest.xfail("a user other than root has no further groups with a single id")

    assert set(room.printed("id -G", user="app").split()) == {"1000", "50", "44"}
    assert set(room.printed("id -G", user="app:staff").split()) == {"50"}


@pytest.mark.isolated
def test_working_directory_umask_and_hostname(room: Room) -> None:
    assert room.printed("pwd; umask; hostname", cwd="/srv/new", hostname="box") == "/srv/new\n0022\nbox\n"
    assert room.printed("umask", umask=0o077) == "0077\n"


@pytest.mark.alike
def test_standard_input(room: Room, tmp_path: Path) -> None:
    assert room.printed("cat; echo end") == "end\n"
    (tmp_path / "text").write_text("from a file")
    with (tmp_path / "text").open() as file:
        assert room.printed("cat", stdin=file.fileno()) == "from a file"


@pytest.mark.alike
def test_descriptors(room: Room) -> None:
    """Nothing but the three standard ones arrives."""
    assert room.printed(["ls", "/proc/self/fd"]).split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


@pytest.mark.isolated
def test_dev(room: Room) -> None:
    names = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"

    assert set(room.printed("ls /dev").split()) == set(names.split()) - {"console"}
    assert room.printed("echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 8 /dev/urandom | wc -c") == "3\n8\n"
    assert room.run("echo x > /dev/full") != 0


@pytest.mark.isolated
def test_only_own_processes_are_seen(room: Room) -> None:
    first, count = room.printed("echo $$; ls /proc | grep -c '^[0-9]'").split()

    assert first == "1"
    assert count == "3" or not FRESH_PROC  # sh, ls and grep; where only the outer /proc can be had, it shows all


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list"])
@pytest.mark.isolated
def test_masked_files_are_empty(room: Room, path: str) -> None:
    assert room.printed(f"test ! -e {path} || cat {path} | wc -c") in ("", "0\n")


@pytest.mark.parametrize(
    "command", ["echo 1 > /proc/sysrq-trigger", "echo x > /proc/sys/kernel/hostname", "touch /sys/x"]
)
def test_the_kernel_is_read_only(room: Room, command: str) -> None:
    assert room.run(command) != 0


@pytest.mark.parametrize(
    "command",
    ["mount -t tmpfs x /tmp", "unshare -r true", "hostname changed"],
)
@pytest.mark.isolated
def test_what_no_process_may(room: Room, command: str) -> None:
    assert room.run(command) != 0


@pytest.mark.parametrize("path", ["/node", "/dev/node", "/dev/shm/node", "/bound/node"])
def test_device_nodes_do_not_work(room: Room, tmp_path: Path, path: str) -> None:
    """Neither in the root nor on any mount, whoever may make them."""
    room.run(f"mknod {path} c 1 5; head -c 3 {path} | wc -c", mounts=(Mount("bind", "/bound", tmp_path),))

    assert room.out == "0\n"


def test_modes_of_devices_are_its_own(room: Room) -> None:
    before = os.stat("/dev/null").st_mode
    room.run("chmod 600 /dev/null")

    assert os.stat("/dev/null").st_mode == before
    assert room.printed("stat -c %a /dev/null") == "666\n"


@pytest.mark.isolated
def test_capabilities_and_filter(room: Room) -> None:
    status = dict(line.split(":\t") for line in room.printed("cat /proc/self/status").splitlines() if ":\t" in line)

    assert status["CapEff"] == status["CapBnd"] == "00000000a80425fb"
    assert status["Seccomp"] == "2"
    assert f"NoNewPrivs:\t{status['NoNewPrivs']}\n" in Path("/proc/self/status").read_text()  # none of our own


def test_an_ordinary_user_has_no_capabilities(room: Room) -> None:
    assert "CapEff:\t0000000000000000" in room.printed("cat /proc/self/status", user="app")


@pytest.mark.isolated
def test_capabilities_can_be_dropped(room: Room) -> None:
    assert "CapEff:\t0000000000000000" in room.printed("cat /proc/self/status", cap_drop=("ALL",))
    assert room.run("chroot / /bin/true", cap_drop=("sys_chroot",)) != 0


@pytest.mark.isolated
def test_insecure_may_mount(room: Room) -> None:
    assert room.printed("mount -t tmpfs x /tmp && ls /tmp", security="insecure") == ""


@pytest.mark.isolated
def test_setuid_programs_work(room: Room) -> None:
    if room.ids == "single":
        pytest.xfail("a single id cannot become another")
    room.step("mkdir /s; cp /bin/busybox /s/crontab")
    room.run(["/s/crontab", "-l"], user="app")
    assert "must be suid to work properly" in room.err

    room.step("chmod 4755 /s/crontab")

    room.run(["/s/crontab", "-l"], user="app")
    assert "must be suid" not in room.err


# --- network


@pytest.mark.isolated
def test_host_files(room: Room) -> None:
    printed = room.printed("cat /etc/hosts /etc/hostname", hostname="box", extra_hosts=(("db", "10.0.0.9"),))

    assert "127.0.0.1\tlocalhost box\n" in printed
    assert "10.0.0.9\tdb\n" in printed
    assert printed.endswith("\nbox\n")
    assert room.printed("cat /etc/resolv.conf") == Path("/etc/resolv.conf").read_text()
    assert room.run("echo x >> /etc/hosts") != 0


@pytest.mark.isolated
def test_no_network(room: Room) -> None:
    script = "ip -o link show | cut -d' ' -f2; ip -o addr show lo | grep -c inet\\ "
    assert room.printed(script, network="none") == "lo:\n1\n"
    assert not FRESH_PROC or room.printed("ls /sys/class/net", network="none") == "lo\n"
    assert room.run("ping -c 1 -w 1 192.0.2.1", network="none") != 0


@pytest.mark.alike
def test_host_network(room: Room) -> None:
    assert set(room.printed("ls /sys/class/net").split()) == set(os.listdir("/sys/class/net"))


# --- mounts


@pytest.mark.isolated
def test_mounts(room: Room, tmp_path: Path) -> None:
    base = room.snapshots.rootfs(room.top)
    (tmp_path / "cache").mkdir()
    (tmp_path / "file").write_text("from the host")
    mounts = (
        Mount("file", "/run/secrets/token", content=b"s3cret", mode=0o400, readonly=True),
        Mount("tmpfs", "/scratch", size=1 << 20, mode=0o1777),
        Mount("bind", "/var/cache/x", tmp_path / "cache"),
        Mount("bind", "relative", tmp_path / "file", readonly=True),
        Mount("bind", "/base", Subpath(base, "/etc"), readonly=True),
        Mount("bind", "/thrown", Subpath(base, "/etc")),
    )
    command = (
        "cat /run/secrets/token /work/relative; ls /base; stat -c %a /run/secrets/token /scratch;"
        "echo kept > /var/cache/x/y; echo lost > /thrown/z && ls /thrown; touch /base/z || echo refused"
    )

    room.step("mkdir /work")

    snapshot = room.step(command, mounts=mounts, cwd="/work")

    assert room.out == "s3cretfrom the hostgroup\npasswd\n400\n1777\ngroup\npasswd\nz\nrefused\n"
    assert (tmp_path / "cache/y").exists()
    assert set(room.layer(snapshot)) == set()
    assert not (room.snapshots.rootfs(room.top).lowers[0] / "etc/z").exists()


@pytest.mark.isolated
def test_a_mount_point_behind_a_link_stays_inside(room: Room, tmp_path: Path) -> None:
    """An absolute link in the image never leads to the host."""
    room.step(f"mkdir -p /real; ln -s /real /link; ln -s {tmp_path} /outside")

    room.run(
        "ls /real", mounts=(Mount("file", "/link/secret", content=b"x"), Mount("file", "/outside/secret", content=b"x"))
    )

    assert room.out == "secret\n"
    assert os.listdir(tmp_path) == ["dockermagic"]


@pytest.mark.alike
@pytest.mark.parametrize("target", ["/", "/..", "."])
def test_a_mount_cannot_cover_the_root(room: Room, target: str) -> None:
    with pytest.raises(SandboxError, match="cannot cover the root"):
        room.run("true", mounts=(Mount("tmpfs", target),))


@pytest.mark.alike
def test_a_mount_whose_source_is_missing(room: Room) -> None:
    with pytest.raises(SandboxError, match="/no/such"):
        room.run("true", mounts=(Mount("bind", "/x", Path("/no/such")),))


@pytest.mark.isolated
def test_shared_memory_and_limits(room: Room) -> None:
    assert room.printed("df -k /dev/shm | tail -1 | awk '{print $2}'", shm_size=8 << 20) == "8192\n"
    assert room.printed("ulimit -n; ulimit -c", ulimits=(Ulimit("nofile", 77, 88), Ulimit("core", 0, 0))) == "77\n0\n"


@pytest.mark.isolated
def test_read_only_root(room: Room) -> None:
    assert room.run("echo x > /x", readonly_root=True) != 0
    assert room.printed("echo x > /tmp/x; cat /tmp/x", readonly_root=True, mounts=(Mount("tmpfs", "/tmp"),)) == "x\n"


@pytest.mark.overlay
def test_nothing_of_the_host_is_visible(room: Room) -> None:
    printed = room.printed("cat /proc/self/mountinfo /proc/mounts; ls -la / /proc/1/root/")

    assert str(room.home) not in printed
    assert "dockermagic" not in printed


# --- the layer


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


# --- the end


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


@pytest.mark.isolated
def test_where_a_fresh_proc_is_refused(id_mode: str, engine_home: Path) -> None:
    """As in a container with a masked /proc: the outer one is bound, and all else is as ever."""
    with Room(engine_home, id_mode, fresh_proc=False) as room:
        assert room.printed("echo $$; test -d /proc/self/fd && echo proc") == "1\nproc\n"
        assert [room.run(f"exit {code}") for code in (0, 3, 255)] == [0, 3, 255]
        assert room.printed("id -u; pwd", user="app", cwd="/home/app") == "1000\n/home/app\n"
        layer = room.layer(room.step("touch /f; chown 7:8 /f; sleep 300 & true"))
        assert (layer["f"].uid, layer["f"].gid) == (7, 8)
        cancel = Cancel()
        with pytest.raises(BuildInterruptedError):
            room.run("echo started; sleep 300", cancel=cancel, output=lambda *_: cancel.set())
        assert room.printed("echo again") == "again\n"
