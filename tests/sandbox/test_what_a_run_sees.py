"""What the process of a RUN finds around itself: ids, devices, mounts, network, and what it may not do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox.base import Cancel, Mount, Subpath, Ulimit
from tests.sandbox.kit import FRESH_PROC, Room

pytestmark = pytest.mark.plain


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
    assert room.printed("id -G", user="0:staff") == "50\n"
    assert set(room.printed("id -G", user="app").split()) == {"1000", "50", "44"}
    assert set(room.printed("id -G", user="app:staff").split()) == {"50"}


@pytest.mark.isolated
def test_working_directory_umask_and_hostname(room: Room) -> None:
    assert room.printed("pwd; umask; hostname", cwd="/srv/new", hostname="box") == "/srv/new\n0022\nbox\n"
    assert room.printed("umask", umask=0o077) == "0077\n"


@pytest.mark.core
def test_signals_do_what_they_do_by_default(room: Room) -> None:
    """Also where this process ignores them, as below nohup: a shell could set no trap for them."""
    room.sandbox.close()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ignored = room.printed(["grep", "SigIgn", "/proc/self/status"])
    finally:
        signal.signal(signal.SIGHUP, before)

    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0  # above are those of the C library


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
    first, count = room.printed("echo $$; set -- /proc/[0-9]*; echo $#").split()

    assert first == "1"
    assert count == "1" or not FRESH_PROC  # where only the outer /proc can be had, it shows all


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


@pytest.mark.parametrize("path", ["/node", "/dev/node", "/dev/shm/node", "/bound/node", "/scratch/node"])
def test_device_nodes_do_not_work(room: Room, tmp_path: Path, path: str) -> None:
    """Neither in the root nor on any mount, whoever may make them."""
    mounts = (Mount("bind", "/bound", tmp_path), Mount("tmpfs", "/scratch"))
    room.run(f"mkdir -p /scratch; mknod {path} c 1 5; head -c 3 {path} | wc -c", mounts=mounts)

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


@pytest.mark.isolated
@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/link/fs"])
def test_a_mount_cannot_cover_proc(room: Room, target: str) -> None:
    """Neither by that name, nor through a link of the image."""
    room.step("ln -s /proc /link")
    with pytest.raises(SandboxError, match="inside /proc"):
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
