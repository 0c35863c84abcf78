"""Published ports, with pasta and with the forwarder: a server on port 80 inside answers on the host."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dockermagic.sandbox.namespaces import NamespaceSandbox
from dockermagic.sandbox.network import Network, Published
from tests.cli.conftest import Commands
from tests.containers.test_detached import until_logged

SERVER = "mkdir /www; echo page > /www/index.html; echo up; exec httpd -f -p {address}80 -h /www"
ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("up", flush=True)
while True:
    server.sendto(*server.recvfrom(100))
"""
WAYS = ["pasta", "forwarder"]


@pytest.fixture(params=WAYS)
def net(request: pytest.FixtureRequest, busybox: Commands) -> Commands:
    """Commands that give containers a network in one way alone."""
    if request.param == "pasta" and not (shutil.which("pasta") and os.access("/dev/net/tun", os.R_OK | os.W_OK)):
        pytest.skip("pasta (package passt) or an open /dev/net/tun is missing")
    busybox.environment["DOCKERMAGIC_NETWORK"] = request.param
    return busybox


def ports_of(commands: Commands, name: str) -> dict[str, str]:
    """What is published, as ``ps`` shows it."""
    shown = commands("ps", "--filter", f"name={name}", "--format", "{{.Ports}}").out.strip()
    return {inside: outside for outside, inside in re.findall(r"([\d.]+:\d+)->(\d+/\w+)", shown)}


def fetch(where: str, path: str = "") -> bytes:
    """What the server answers, as soon as it listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://{where}/{path}", timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.02)


def serve(commands: Commands, *words: str, name: str = "web", address: str = "") -> dict[str, str]:
    script = SERVER.format(address=address)
    commands("run", "-d", "--name", name, *words, "busybox", "sh", "-c", script)
    until_logged(commands, name, "up")
    return ports_of(commands, name)


def test_a_server_on_port_80_answers_on_the_host(net: Commands) -> None:
    """Twice the same port inside; taken ones are refused; they are free again when the container has ended."""
    one = serve(net, "-p", "80")["80/tcp"]
    two = serve(net, "-p", "127.0.0.1::80", name="two")["80/tcp"]
    assert one.startswith("127.0.0.1:") and one != two, "this machine alone, where no address was named"
    assert fetch(one) == fetch(two) == b"page\n"

    port = one.partition(":")[2]
    done = net("run", "--rm", "-p", f"{port}:80", "busybox", "true", code=125)
    assert f"Bind for 127.0.0.1:{port} failed: port is already allocated" in done.err
    net("stop", "web")
    net("run", "--rm", "-p", f"{port}:80", "busybox", "true")


@pytest.mark.proot
def test_ports_without_a_namespace(busybox: Commands) -> None:
    """Two servers on port 80, one of them for its own loopback; another on the very port that it is published at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = serve(busybox, "-p", "80", "--hostname", "web")["80/tcp"]
    two = serve(busybox, "-p", "80", name="two", address="127.0.0.1:")["80/tcp"]
    script = f"echo three > index.html; exec httpd -f -p {port}"
    busybox("run", "-d", "--name", "three", "-p", f"{port}:{port}", "busybox", "sh", "-c", script)

    assert (fetch(one), fetch(f"127.0.0.1:{port}")) == (b"page\n", b"three\n")
    with pytest.raises((urllib.error.URLError, ConnectionError)), urllib.request.urlopen(f"http://{two}", timeout=30):
        pass
    for name in ("web", "two"):
        assert busybox("exec", name, "wget", "-q", "-O", "-", "http://localhost").out == "page\n"
    assert busybox("exec", "web", "hostname").out == "web\n"
    busybox("kill", "-s", "TERM", "web")
    assert busybox("wait", "web").out == "143\n"


@pytest.mark.alike
def test_much_data_and_many_connections(net: Commands) -> None:
    """Nothing is lost on the way, however many come at once and however slowly they read."""
    size = 8 << 20
    where = serve(net, "-p", "80")["80/tcp"]
    net("exec", "web", "sh", "-c", f"head -c {size} /dev/zero > /www/big")
    found: list[int] = []

    def load() -> None:
        found.append(len(fetch(where, "big")))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [size] * 8


def test_udp(net: Commands) -> None:
    mounts = [word for path in ("usr:/usr", "usr/lib:/lib", "usr/lib64:/lib64") for word in ("-v", f"/{path}:ro")]
    net("run", "-d", "--name", "dns", "-p", "53/udp", *mounts, "busybox", "/usr/bin/python3", "-c", ECHO)
    until_logged(net, "dns", "up")
    host, _, port = ports_of(net, "dns")["53/udp"].partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        for _ in range(100):
            client.sendto(b"hello", (host, int(port)))
            try:
                assert client.recv(100) == b"hello"
                return
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.02)
    raise AssertionError("no answer")


def test_a_network_of_its_own(net: Commands) -> None:
    """It does not hear the host's loopback, and what listens inside is not on the host."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        port = host.getsockname()[1]
        script = f"nc -w 5 127.0.0.1 {port} </dev/null"
        done = net("run", "--rm", "-p", "80", "busybox", "sh", "-c", script, code=1)
        assert "refused" in done.err
    done = net("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", "ip -o addr | grep -c 10.0.2.100")
    assert done.out == "1\n"
    if net.environment["DOCKERMAGIC_NETWORK"] == "pasta":
        words = ("run", "--rm", "--network", "bridge", "busybox", "grep", "^nameserver", "/etc/resolv.conf")
        assert net(*words).out == "nameserver 10.0.2.3\n", "pasta answers for the host's resolver there"


@pytest.mark.alike
def test_port_options(busybox: Commands) -> None:
    """Ranges, -P for what the image exposes, none without a port; wrong ones in Docker's words."""
    busybox.build("FROM busybox\nEXPOSE 80 8125/udp\n", "-q", "-t", "web")
    busybox("run", "-d", "--name", "all", "-P", "web", "sleep", "1000")
    assert set(ports_of(busybox, "all")) == {"80/tcp", "8125/udp"}
    busybox("run", "-d", "--name", "range", "-p", "81-83", "busybox", "sleep", "1000")
    assert set(ports_of(busybox, "range")) == {"81/tcp", "82/tcp", "83/tcp"}
    first = int(ports_of(busybox, "range")["81/tcp"].rpartition(":")[2])
    busybox("run", "-d", "--name", "free", "-p", f"{first}-{first + 200}:80", "busybox", "sleep", "1000")
    assert first < int(ports_of(busybox, "free")["80/tcp"].rpartition(":")[2]) <= first + 200
    busybox("run", "-d", "--name", "none", "web", "sleep", "1000")
    assert busybox("ps", "--filter", "name=none", "--format", "{{.Ports}}").out == "80/tcp, 8125/udp\n"
    for wrong, said in (
        ("80:90-91", "invalid ranges specified"),
        ("x:80", "invalid hostPort: x"),
        ("1.2.3.4.5:80:80", "invalid IP address"),
        ("80/sctp", "invalid proto: sctp"),
    ):
        assert said in busybox("run", "-p", wrong, "busybox", "true", code=125).err


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_a_port_of_ipv6_is_none_of_ipv4(tmp_path: Path) -> None:
    """As Docker has it: who publishes at [::] opens nothing else, and may publish at 0.0.0.0 besides."""
    sandbox = NamespaceSandbox("root", tmp_path)
    first = Network(sandbox, [Published(80, "tcp", 0, "::")], tmp_path)
    second = Network(sandbox, [Published(80, "tcp", first.ports[0].host, "0.0.0.0")], tmp_path)
    second.close()
    first.close()


def test_nothing_of_a_network_is_left(net: Commands) -> None:
    """Neither a process nor a port, also when the keeper is killed."""
    where = serve(net, "-p", "80")["80/tcp"]
    state = next(net.home.glob("containers/*/state.json"))
    pid = json.loads(state.read_text())["pid"]
    keeper = [
        entry.name
        for entry in Path("/proc").glob("[0-9]*")
        if b"containers.keeper" in _command(entry) and str(net.home).encode() in _command(entry)
    ]
    subprocess.run(["kill", "-9", *keeper], check=True)
    host, _, port = where.partition(":")
    for _ in range(1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
                break
            except OSError:
                threading.Event().wait(0.02)
    else:
        raise AssertionError("the port is still taken")
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
