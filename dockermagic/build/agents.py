"""``--ssh``: what a RUN reaches at ``$SSH_AUTH_SOCK``, an agent that lists its keys and signs, and does nothing else.

Neither a key's file nor the user's own agent is handed to a RUN, which could lock or empty the latter: a relay of this
process answers at the socket, whoever the RUN's user is. Messages are those of draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dockermagic.errors import BuildError
from dockermagic.oci.lock import temporary_directory
from dockermagic.sandbox.interpreters import python
from dockermagic.sandbox.packets import address_of

__all__ = ["agent_socket"]

LISTS, SIGNS = 11, 13
FAILURE = b"\x05"
LARGEST_MESSAGE = 256 << 10
LARGEST_KEY = 100 << 10
CONNECTIONS = 64
_BUSY_SECONDS = 0.05
_FAR = 70


@contextlib.contextmanager
def agent_socket(name: str, paths: str, mode: int, home: Path) -> Iterator[Path]:
    """A socket of the given mode behind which an agent answers until the block is left.

    ``paths`` is what ``--ssh NAME=`` said: the socket of an agent, or files of private keys with commas between them,
    which get an agent of their own. Raises :class:`BuildError` where they are neither.
    """
    with temporary_directory(_folder(home), "agent-") as directory, contextlib.ExitStack() as stack:
        directory.chmod(0o700)
        given = [Path(path) for path in paths.split(",")]
        sockets = [path for path in given if path.is_socket()]
        if not sockets:
            agent = stack.enter_context(_agent_with(name, given, directory))
        elif len(given) == 1:
            agent = sockets[0]
        else:
            raise BuildError(
                f"--ssh {name}: invalid combination of keys and sockets",
                hint="Give one socket, or the files of keys; another --ssh with another id takes the rest.",
            )
        place = directory / "socket"
        stack.enter_context(_Relay(place, agent, mode))
        yield place


def _folder(home: Path) -> Path:
    """Where sockets go: beside what else a build needs for a while, or, where that is far down, below TMPDIR.

    PRoot connects a program to the path that a socket has on the host, which may have 107 bytes.
    """
    near = home / "contexts"
    if len(os.fsencode(near)) <= _FAR:
        return near
    import tempfile

    short = Path(tempfile.gettempdir(), f"dockermagic-{os.getuid()}")
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return short if is_own else near


@contextlib.contextmanager
def _agent_with(name: str, keys: list[Path], directory: Path) -> Iterator[Path]:
    """OpenSSH's agent with these keys. It ends with the block, and with the thread if that is killed."""
    if not (shutil.which("ssh-agent") and shutil.which("ssh-add")):
        raise BuildError(
            f"--ssh {name}={keys[0]}: ssh-agent and ssh-add are not installed, and without them no key can be served",
            hint="Install OpenSSH's client (Debian: openssh-client), or pass the socket of an agent.",
        )
    # Its socket by a name below its own directory: the whole path may be too long for one.
    with subprocess.Popen(
        [*python("dockermagic.sandbox.tether"), str(os.getpid()), "ssh-agent", "-D", "-a", "agent"],
        cwd=directory,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as agent:
        try:
            assert agent.stdout is not None
            said = agent.stdout.readline()
            if not (directory / "agent").is_socket():
                raise BuildError(f"ssh-agent does not start: {said.strip() or agent.wait()}")
            for key in keys:
                _add(name, key, directory)
            yield directory / "agent"
        finally:
            agent.terminate()


def _add(name: str, path: Path, directory: Path) -> None:
    try:
        with path.open("rb") as file:
            key = file.read(LARGEST_KEY)
    except OSError as error:
        raise BuildError(
            f"--ssh {name}={path}: {os.strerror(error.errno or 0)}",
            hint="Give the socket of an agent or the file of a private key.",
        ) from None
    # Through a pipe, and in a session without a terminal: it asks nobody and does not mind the file's mode.
    added = subprocess.run(
        ["ssh-add", "-q", "-"],
        input=key,
        cwd=directory,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "SSH_AUTH_SOCK": "agent",
            "SSH_ASKPASS_REQUIRE": "never",
        },
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    if not added.returncode:
        return
    if b"passphrase" in added.stderr:
        raise BuildError(
            f"--ssh {name}={path}: this private key is passphrase protected",
            hint=f"Give it to your agent once (ssh-add {path}), and the agent to the build: --ssh {name}",
        )
    said = added.stderr.decode("utf-8", "replace").strip()
    raise BuildError(
        f"--ssh {name}={path} is neither the socket of an agent nor a private key: {said}",
        hint="A private key has no .pub at its end and begins with -----BEGIN.",
    )


class _Relay:
    """Answers at ``place`` with what ``agent`` says to the two questions that are allowed; a context manager."""

    def __init__(self, place: Path, agent: Path, mode: int) -> None:
        self._agent = agent
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with address_of(place) as address:
            self._listening.bind(address)
        place.chmod(mode)
        self._listening.listen()

    def __enter__(self) -> _Relay:
        threading.Thread(target=self._listen, name="dockermagic-agent", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for one in (self._listening, *self._open.copy()):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        with self._listening:
            while True:
                self._free.acquire()
                try:
                    asking, _ = self._listening.accept()
                except OSError as error:
                    self._free.release()
                    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        return
                    time.sleep(_BUSY_SECONDS)  # no descriptor is free now: who asks waits
                    continue
                threading.Thread(target=self._serve, args=(asking,), name="dockermagic-agent", daemon=True).start()

    def _serve(self, asking: socket.socket) -> None:
        try:
            agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            asking.close()
            self._free.release()
            return
        self._open |= {asking, agent}
        try:
            with asking, agent, asking.makefile("rb") as questions, agent.makefile("rb") as answers:
                with address_of(self._agent) as address:
                    agent.connect(address)
                while question := _message(questions):
                    answer = FAILURE
                    if question[0] in (LISTS, SIGNS):
                        agent.sendall(_framed(question))
                        answer = _message(answers) or FAILURE
                    asking.sendall(_framed(answer))
        except OSError:  # either side is gone
            pass
        finally:
            self._open -= {asking, agent}
            self._free.release()


def _message(stream: IO[bytes]) -> bytes:
    """The next message without its length; b"" at the end and where it is longer than any may be."""
    length = int.from_bytes(stream.read(4), "big")
    message = stream.read(length) if length <= LARGEST_MESSAGE else b""
    return message if len(message) == length else b""


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message
