"""``--ssh``: keys and agents as a RUN meets them, through OpenSSH's own programs on both sides."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.build.agents import agent_socket
from dockermagic.errors import BuildError
from tests.build.kit import Bench

pytestmark = pytest.mark.skipif(not shutil.which("ssh-agent"), reason="no ssh-agent: apt-get install openssh-client")


def make_key(place: Path, passphrase: str = "") -> Path:
    """A private key, readable by all: that is for its owner to judge, and no reason not to serve it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", place.name, "-f", place], check=True)
    place.chmod(0o644)
    return place


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "first")


def asked(place: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What an OpenSSH program says with this socket."""
    environment = {"SSH_AUTH_SOCK": place.name, "PATH": os.environ["PATH"]}  # the whole path may be too long for one
    return subprocess.run(words, env=environment, cwd=place.parent, capture_output=True, text=True, check=False)


def names(listed: str) -> list[str]:
    """The comments of the keys that ``ssh-add -l`` lists."""
    return re.findall(r"SHA256:\S+ (\S+) ", listed)


@pytest.fixture
def agent(tmp_path: Path, key: Path) -> Iterator[Path]:
    """The agent of a user, which has the first key."""
    place = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            subprocess.run(
                ["ssh-add", "-q", "-"], input=key.read_bytes(), env={"SSH_AUTH_SOCK": str(place)}, check=True
            )
            yield place
        finally:
            process.terminate()


def client(context: Path) -> None:
    """ssh-add as files of a context, with the libraries that it needs."""
    program = shutil.which("ssh-add")
    assert program
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (program, *re.findall(r"/\S+", listed)):
        place = context / "client" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


@pytest.mark.plain
def test_a_run_has_the_keys(bench: Bench, key: Path, tmp_path: Path) -> None:
    """Of its own id alone, whoever its user is; they can be used and not removed, and nothing of it stays."""
    client(bench.context)
    second = make_key(tmp_path / "second")
    printed = bench.printed(
        "FROM busybox\n"
        "COPY client /\n"
        "RUN --mount=type=cache,target=/c --mount=type=ssh --mount=type=ssh,id=both"
        ' ssh-add -l; ssh-add -D; SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l; echo "$SSH_AUTH_SOCK"\n'
        "RUN mkdir -p /etc && echo u:x:1000:1000::/:/bin/sh > /etc/passwd && ! ls /run\n"
        "USER 1000\n"
        "RUN --mount=type=ssh,uid=1000,gid=1000 ssh-add -l && stat -c %a $SSH_AUTH_SOCK\n",
        ssh={"default": str(key), "both": f"{key},{second}"},
    )

    assert names(printed) == ["first", "first", "second", "first"]
    assert "Failed to remove all identities" in printed
    assert "/run/buildkit/ssh_agent.0\n" in printed
    assert printed.endswith("\n600\n")
    assert not list((bench.engine.home / "contexts").glob("*"))


def test_an_agent_lists_and_signs_and_no_more(agent: Path, tmp_path: Path) -> None:
    """Nor is it this user's alone: who may write to the socket is asked by the file system."""
    letter = tmp_path / "letter"
    letter.write_text("words")
    with agent_socket("default", str(agent), 0o666, tmp_path) as place:
        assert place.stat().st_mode & 0o777 == 0o666
        assert names(asked(place, "ssh-add", "-l").stdout) == ["first"]
        signed = asked(place, "ssh-keygen", "-Y", "sign", "-n", "file", "-f", tmp_path / "first.pub", letter)
        assert signed.returncode == 0, signed.stderr
        for words in (["-D"], ["-d", tmp_path / "first.pub"], ["-x"], [tmp_path / "first"]):
            assert asked(place, "ssh-add", *words).returncode != 0
    assert not place.exists()
    assert names(asked(agent, "ssh-add", "-l").stdout) == ["first"]


def test_what_is_no_message_is_not_answered(agent: Path, tmp_path: Path) -> None:
    """And the next one is."""
    import socket

    with agent_socket("default", str(agent), 0o600, tmp_path) as place:
        for said in (b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\5\x0b"):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(place))
                line.sendall(said)
                line.shutdown(socket.SHUT_WR)
                assert line.recv(1) == b""
        assert names(asked(place, "ssh-add", "-l").stdout) == ["first"]


def test_what_is_no_key(agent: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = make_key(tmp_path / "locked", "secret")
    for given, said in (
        (f"{key},{agent}", "invalid combination of keys and sockets"),
        (f"{key},{locked}", f"{locked}: this private key is passphrase protected"),
        (f"{key}.pub", "is neither the socket of an agent nor a private key"),
        (f"{tmp_path}", "Is a directory"),
        (f"{tmp_path}/none", "No such file or directory"),
    ):
        with pytest.raises(BuildError, match=said), agent_socket("a", given, 0o600, tmp_path / "home"):
            pass
    assert not list((tmp_path / "home/contexts").iterdir())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="are not installed"), agent_socket("a", str(key), 0o600, tmp_path / "home"):
        pass


@pytest.fixture
def near() -> Iterator[Path]:
    """A home whose name is short."""
    with tempfile.TemporaryDirectory(prefix="dm-") as name:
        yield Path(name)


def test_the_agent_of_a_key_ends_with_a_killed_build(key: Path, near: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dockermagic.build.agents import agent_socket\n"
        "with agent_socket('a', sys.argv[1], 0o600, Path(sys.argv[2])):\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, key, near]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as build:
        assert build.stdout is not None and build.stdout.readline()
        children = Path(f"/proc/{build.pid}/task/{build.pid}/children").read_text().split()
        assert len(children) == 1 and Path(f"/proc/{children[0]}/comm").read_text() == "ssh-agent\n"
        agent = os.pidfd_open(int(children[0]))
        try:
            build.send_signal(signal.SIGKILL)

            assert select.select([agent], [], [], 60)[0]
        finally:
            os.close(agent)
    with agent_socket("a", str(key), 0o600, near):  # the next one clears up what it left
        assert len(list((near / "contexts").glob("*.d"))) == 1
