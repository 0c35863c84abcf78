"""Without namespaces: PRoot with the listener behind it, how commands end, what they are told, where servers listen."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from pathlib import Path

import pytest

from dockermagic.errors import SandboxError
from dockermagic.sandbox.base import Mount, Process
from dockermagic.sandbox.moved_ports import MovedPorts
from dockermagic.sandbox.running import Hooks
from tests.idmodes import own_mode
from tests.sandbox.kit import PATH, Room


@pytest.mark.proot
def test_a_command_ends_as_it_ends(room: Room) -> None:
    """Its own code, and not that of the process that ended last; a signal is 128 and its number."""
    commands = ["kill -9 $$", "kill -15 $$", "(sleep 0.02; exit 4) & exit 255", "false; kill -6 $$"]

    assert [room.run(command) for command in commands] == [137, 143, 255, 134]
    assert room.err == "", "PRoot has nothing to say to whoever reads this"


@pytest.mark.proot
def test_nothing_outlives_the_resident_process(room: Room) -> None:
    """Not even when that is killed without a warning: untraced, a command would go on with the paths of the host."""
    process = Process(("sleep", "1000"), env=PATH)
    begun = threading.Event()
    running = room.sandbox.start(room.prepare().rootfs, process, hooks=Hooks(began=begun.set))

    def wait() -> None:
        with pytest.raises(SandboxError):
            running.wait()

    waits = threading.Thread(target=wait)
    waits.start()
    assert begun.wait(60)
    command = running.duplicate()
    assert command is not None and room.sandbox.worker.pid

    os.kill(room.sandbox.worker.pid, signal.SIGKILL)

    assert select.select([command], [], [], 60)[0], "the command lives on"
    waits.join(60)
    running.close()
    os.close(command)


@pytest.mark.proot
def test_a_directory_that_its_mode_closes(room: Room) -> None:
    """It cannot be kept; that is said, and what was made is gone."""
    with pytest.raises(SandboxError, match="/closed is a directory that its own mode closes"):
        room.step("mkdir -p /closed/inner; touch /closed/file; chmod 600 /closed")
    assert room.printed("ls -d /closed || true") == ""


def loaders() -> set[str]:
    """What PRoots have in /tmp as long as they run; others may be at work beside us."""
    return {name for name in os.listdir("/tmp") if name.startswith("proot")}


@pytest.mark.proot
def test_what_a_command_is_told(room: Room) -> None:
    """Its own name of the host and groups, and an environment that acts on it alone, unseen by PRoot and its loader."""
    environment = {"PATH": "/bin", "LD_PRELOAD": "/nonexistent.so", "LD_LIBRARY_PATH": "/x", "PROOT_TMP_DIR": "/y"}
    before = loaders()

    assert room.printed("hostname; uname -n; env | sort", hostname="box", env=environment).splitlines() == [
        *("box", "box", "HOME=/root", "LD_LIBRARY_PATH=/x", "LD_PRELOAD=/nonexistent.so", "PATH=/bin"),
        *("PROOT_TMP_DIR=/y", "PWD=/", "SHLVL=1"),
    ]
    assert room.err == ""
    assert not [name for name in loaders() - before if not Path("/proc", name.split("-")[1]).exists()]
    assert room.printed("id -G") == "0 10\n"  # as its /etc/group has it
    assert room.printed("id -G", user="7:8", groups=("9", "10")) == "8 9 10\n"


@pytest.mark.proot
def test_a_server_has_the_port_that_it_wants(room: Room, tmp_path: Path) -> None:
    """One that nobody may have here, one that is taken; who comes from inside finds both."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        script = f"""
        mkdir /www; echo page > /www/index.html
        for port in 80 {port}; do
            httpd -f -p $port -h /www &
            until wget -q -O - http://localhost:$port/; do sleep 0.02; done
        done
        httpd -f -p {port} 2>&1
        """
        assert room.run(script, ports=str(tmp_path / "ports")) == 1
    assert room.out == "page\npage\nhttpd: bind: Address already in use\n"
    assert sorted(os.listdir(tmp_path / "ports")) == sorted(["tcp-80", f"tcp-{port}"])


@pytest.mark.proot
def test_programs_see_what_they_bound(room: Room) -> None:
    script = """
import socket
for family, host in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
    with socket.create_server((host, 81), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
        with socket.create_connection(("localhost", 81)) as client:
            print(server.getsockname()[:2], server.accept()[0].recv(0), client.getpeername()[1] > 1023)
try:
    socket.create_connection(("127.0.0.1", 81))
except ConnectionRefusedError:
    print("refused")
"""
    mounts = tuple(Mount("bind", f"/{name}", Path("/", name)) for name in ("usr", "lib", "lib64"))
    assert room.printed(["/usr/bin/python3", "-I", "-c", script], mounts=mounts).splitlines() == [
        *("('0.0.0.0', 81) b'' True", "('::', 81) b'' True", "refused"),
    ]


@pytest.mark.skipif(own_mode() != "root", reason="chroot is for root")
def test_chroot(engine_home: Path) -> None:
    """What root has without namespaces and without PRoot: real ids, devices, its host's name, ports, a clean layer."""
    with Room(engine_home, "chroot") as room:
        layer = room.layer(
            room.step("cat /etc/hostname; echo x > /dev/null; mkdir /app; chown app /app", hostname="box")
        )
        assert room.out == "box\n"
        assert {name: entry.uid for name, entry in layer.items() if entry.uid or "app" in name} == {"app": 1000}
        assert not {name for name in layer if name.startswith(("dev/", "etc"))}

        assert room.printed("id -un; hostname; echo $HOME; pwd", user="app", cwd="/app", hostname="box") == (
            "app\nbox\n/home/app\n/app\n"
        )
        assert [room.run(command) for command in ("exit 4", "kill -9 $$", "/nosuch")] == [4, 137, 127]
        with pytest.raises(SandboxError, match="nothing can be mounted at /x here"):
            room.run("true", mounts=(Mount("tmpfs", "/x"),))


def test_moved_ports(tmp_path: Path) -> None:
    """What stands about a port: nothing, that it is published, where a server is, that it is for those inside."""
    ports = MovedPorts(tmp_path / "ports")
    assert ports.find("tcp", 8080) is None and ports.reach("tcp", 8080) is None

    ports.publish("tcp", 8080)
    assert ports.find("tcp", 8080) == 0 and ports.reach("tcp", 8080) is None
    with socket.socket() as server:
        assert ports.bind(server, ("0.0.0.0", 8080))
        server.listen()
        where = server.getsockname()
        assert where[0] == "127.0.0.1" and ports.find("tcp", 8080) == ports.reach("tcp", 8080) == where[1] != 8080
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            ports.bind(other, ("0.0.0.0", 8080))
        with socket.socket() as client:
            assert ports.connect(client, ("127.0.0.1", 8080))
        with socket.socket() as client:
            assert not ports.connect(client, ("192.0.2.1", 8080))
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ports.bind(again, ("127.0.0.1", 8080))
        assert again.getsockname() == where, "the same again"
    assert ports.find("tcp", 8080) == where[1] and ports.reach("tcp", 8080) is None
