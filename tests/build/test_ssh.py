"""Repositories over SSH from a server on this machine, opened with a key and with an agent."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dockermagic.build.repositories import Repositories
from dockermagic.build.request import BuildRequest
from dockermagic.dockerfile.gitref import parse_git_ref
from dockermagic.errors import BuildError
from tests.build.servers import make_repository

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd: apt-get install openssh-server")


@dataclass
class Shell:
    """A server: ``url`` of its repository, the ``key`` that opens it, and what it does."""

    url: str
    key: Path
    commit: str


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """An sshd of this user on a port of its own, which lets in who has the key."""
    for name in ("host", "key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    commit = make_repository(tmp_path / "app.git", {"file": "by ssh\n"})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what separates privileges; the service would make it
    config = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
    }
    (tmp_path / "config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    command = [str(SSHD), "-D", "-e", "-f", str(tmp_path / "config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "Server listening" in line:
                break
        else:
            pytest.fail(f"sshd ended: {server.wait()}")
        try:
            yield Shell(f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/app.git", tmp_path / "key", commit)
        finally:
            server.terminate()


def file_of(url: str, home: Path, **ssh: str) -> str:
    """The content of the repository's file."""
    ref = parse_git_ref(url)
    assert ref is not None
    repositories = Repositories(home, BuildRequest("", ssh=ssh))
    with repositories.checkout(ref, repositories.commit(ref)) as directory:
        return (directory / "file").read_text()


def test_a_key_opens_it(shell: Shell, tmp_path: Path) -> None:
    assert file_of(shell.url, tmp_path / "git", default=str(shell.key)) == "by ssh\n"
    assert file_of(f"{shell.url}#{shell.commit}", tmp_path / "git", default=str(shell.key)) == "by ssh\n"


def test_an_agent_opens_it(shell: Shell, tmp_path: Path) -> None:
    place = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout is not None and agent.stdout.readline()
            subprocess.run(["ssh-add", "-q", shell.key], env=os.environ | {"SSH_AUTH_SOCK": place}, check=True)

            assert file_of(shell.url, tmp_path / "git", default=place) == "by ssh\n"
        finally:
            agent.terminate()


def test_without_a_key_nobody_is_asked(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for given in ({}, {"default": str(tmp_path / "stranger")}):
        with pytest.raises(BuildError, match="git ls-remote of") as caught:
            file_of(shell.url, tmp_path / "git", **given)
        assert "--ssh default" in caught.value.hint
    with contextlib.suppress(FileNotFoundError):
        assert not any((tmp_path / "git").glob("checkout-*"))
    assert capfd.readouterr() == ("", "")
