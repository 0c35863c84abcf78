"""Interpreters of our own: bare ones that see the same packages, each for the ``main`` of one module.

That of the resident process can be started before it is known in what way it shall run: it imports meanwhile. So this
imports next to nothing itself.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

__all__ = ["Begun", "begin_ahead", "begin_resident", "python"]

# Nothing is thrown away while modules are imported.
_BOOT = (
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; from {module} import main; gc.enable(); main(*sys.argv[1:])"
)


def python(module: str) -> list[str]:
    """The command that calls ``main`` of a module of this package in a bare interpreter that sees the same packages."""
    parent = os.path.realpath(f"{__file__}/../../..")
    path = [parent, *(entry for entry in sys.path if entry and entry != parent)]
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT.format(path=path, module=module)]


class Begun:
    """A resident process that waits on ``channel`` to be told its settings, and ends with that socket.

    ``said`` is the file that it writes its errors to.
    """

    def __init__(self, pid: int, channel: socket.socket, said: int) -> None:
        self.pid = pid
        self.channel = channel
        self.said = said

    def last_words(self) -> str:
        """The last line of what it wrote before it could speak: the error in a traceback."""
        try:
            lines = os.pread(self.said, 1 << 16, 0).decode(errors="replace").split("\n")
        except OSError:  # it went to a terminal
            return ""
        return next((line for line in reversed(lines) if line), "It was killed: memory may have run out.")

    def close(self) -> None:
        """End it, and wait for its end. Idempotent."""
        if self.said >= 0:
            self.channel.close()
            os.close(self.said)
            self.said = -1
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


_ahead: list[Begun] = []


def begin_ahead() -> None:
    """Start the resident process that will be asked for first; where nobody asks, it ends with this one."""
    with suppress(OSError):
        _ahead.append(_begin())


def begin_resident() -> Begun:
    """Start the resident process (:mod:`.resident`), if none is ahead, and do not wait for it."""
    return _ahead.pop() if _ahead else _begin()


def _begin() -> Begun:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = os.pidfd_open(os.getpid())
    said = os.dup(2) if os.environ.get("DOCKERMAGIC_DEBUG") else os.memfd_create("said")
    try:
        words = [*python("dockermagic.sandbox.resident"), str(theirs.fileno()), str(client)]
        pid = os.posix_spawn(
            words[0],
            words,
            {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)),
                (os.POSIX_SPAWN_DUP2, said, 2),
                *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in (theirs.fileno(), client)),  # these it inherits
            ],
            setsid=True,
        )
    except BaseException:
        ours.close()
        os.close(said)
        raise
    finally:
        theirs.close()
        os.close(client)
    return Begun(pid, ours, said)
