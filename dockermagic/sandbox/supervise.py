"""One RUN seen from outside of its namespaces: start it, wait for it, kill it, and leave the layer clean.

A :class:`Run` is driven by the loop of the resident process, which is the parent of pid 1. It can be made before there
is anything to run: then its namespaces and its stage are ready when the job comes.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from dockermagic.errors import BuildInterruptedError, DockermagicError, SandboxError
from dockermagic.sandbox import leftovers, packets, trees, wire
from dockermagic.sandbox.channels import Status
from dockermagic.sandbox.launch import start
from dockermagic.sandbox.profile import Profile
from dockermagic.sandbox.stage import Setting
from dockermagic.sandbox.tasks import Group

__all__ = ["Loop", "Run"]

_NUMBERS = itertools.count(1)


class Loop(Protocol):
    """What a run needs of the resident process."""

    setting: Setting
    records: socket.socket | None
    """Leads to the :mod:`.companion` where there is a single id."""

    def fork(self, ended: Callable[[int], None], *, first: bool = False, into: int | None = None) -> int:
        """Fork; in the child nothing of the loop is open any more.

        ``first`` makes it pid 1 of a new namespace, ``into`` puts it into that of a process (a pidfd).

        ``ended`` is called with the child's status when it is gone.
        """
        ...

    def kill(self, pid: int) -> None:
        """End pid 1 of a namespace, and with it all in it."""
        ...

    def turn(self, timeout: int | None = None) -> bool:
        """Wait for something to happen, and see to it; False if nothing did in that many milliseconds."""
        ...

    def is_over(self, number: int, recorded: Callable[[bool], None]) -> None:
        """Tell the companion that a run is over; ``recorded`` is called when it has written all down, and how well."""
        ...

    def watch(self, fd: int, happened: Callable[[], object], events: int = select.POLLIN) -> None:
        """Call ``happened`` whenever ``fd`` has something."""
        ...

    def unwatch(self, fd: int) -> None:
        """No more of it. Idempotent."""
        ...

    def keep(self, fd: int) -> None:
        """Call nothing any more, though no other child may have what is watched."""
        ...


class Run:
    """A process from its fork to its answer. ``over`` is called when there is nothing left of it.

    ``beside`` is a pidfd: then it is one more process in the namespaces of that one. It is closed.
    """

    def __init__(self, loop: Loop, profile: Profile, over: Callable[[Run], None], *, beside: int | None = None) -> None:
        self.loop = loop
        self.profile = profile
        self.over = over
        self.upper: Path | None = None
        self.control: socket.socket | None = None
        self.code: int | None = None
        self.stopped = False
        self.partial = b""
        self.messages: dict[str, Any] = {}
        self.number = next(_NUMBERS)
        self.recorded = loop.records is None
        self.status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.group = Group() if loop.setting.mode == "root" and beside is None else None
        self.pid = loop.fork(self._ended, first=beside is None, into=beside)
        if self.pid == 0:
            self.status.close()
            start(loop.setting, profile, Status(theirs.fileno()), loop.records, self.number, self.group, beside)
        theirs.close()
        if beside is not None:
            os.close(beside)
        loop.watch(self.status.fileno(), self._read)

    def assign(self, upper: str | None, job: bytes, fds: list[int]) -> None:
        """Give it its job (see :func:`dockermagic.sandbox.launch.start`); the first descriptor is that of the client.

        The client shuts its end down when it wants the process stopped. ``fds`` are closed.
        """
        self.upper = Path(upper) if upper else None
        try:
            packets.send(self.status, job, fds)
        except OSError:
            pass  # it has ended while it built the stage, and said why
        self.control = socket.socket(fileno=fds[0])
        for fd in fds[1:]:
            os.close(fd)
        self.loop.watch(fds[0], self._stop, select.POLLRDHUP)

    def _stop(self) -> None:
        """Kill it. What has ended already keeps its exit code, though it is yet to be told."""
        assert self.control is not None
        self.loop.keep(self.control.fileno())
        if self.code is None:
            self.stopped = True
            self.loop.kill(self.pid)

    def _read(self) -> bool:
        """Take in what pid 1 says before exec; False at the end."""
        piece, fds = packets.receive(self.status)
        *lines, self.partial = (self.partial + piece).split(b"\n")
        for line in lines:
            self.messages.update(wire.load(line))
        if fds and lines:  # they belong to the last line that came with them
            self._tell(lines[-1], fds)
            if self.messages.get("held") and self.control is not None:
                self.loop.unwatch(self.control.fileno())
                self.loop.watch(self.control.fileno(), self._release)
        for fd in fds:
            os.close(fd)
        if not piece:
            self.loop.unwatch(self.status.fileno())
            known = self.messages.keys()
            if not self.stopped and "process" in known and not known & {"error", "refused", "began"}:
                self.messages["began"] = True  # the end is read again when it has ended
                self._tell(b'{"began":true}')
        return bool(piece)

    def _tell(self, line: bytes, fds: list[int] | None = None) -> None:
        """Pass a message on to the client."""
        if self.control is not None:
            try:
                packets.send(self.control, line + b"\n", fds)
            except OSError:
                pass  # it is gone, and so will be the process

    def _release(self) -> None:
        """The client has done what it wanted to do before the command begins, or wants it to end."""
        assert self.control is not None
        if not self.control.recv(16):
            self._stop()
            return
        self.loop.unwatch(self.control.fileno())
        self.loop.watch(self.control.fileno(), self._stop, select.POLLRDHUP)
        try:
            self.status.sendall(b"go\n")
        except OSError:
            pass  # it has ended meanwhile

    def _ended(self, status: int) -> None:
        self.code = os.waitstatus_to_exitcode(status)
        while self._read():
            pass
        self.loop.unwatch(self.status.fileno())
        self.status.close()
        if self.recorded:
            self._finish()
        else:
            self.loop.is_over(self.number, self._recorded)

    def _recorded(self, well: bool) -> None:
        if not well:
            error = SandboxError("the owners of this layer's files could not be recorded")
            self.messages.setdefault("error", wire.encode_error(error))
        self._finish()

    def _finish(self) -> None:
        if self.group is not None:
            self.group.remove()
        if self.control is not None:
            self.loop.unwatch(self.control.fileno())
            self._answer(self.control)
            self.control.close()
        self.over(self)

    def _answer(self, control: socket.socket) -> None:
        away = None
        try:
            if self.upper is not None:
                away = trees.WorkDirectory(str(self.upper.parent / "work"), self.loop.setting.base)
                leftovers.remove_stubs(self.upper, self._stubs())
            answer = self._result()
        except (DockermagicError, OSError) as error:
            answer = {"error": wire.encode_error(error)}
        try:
            control.sendall(wire.dump(answer))
        except OSError:
            pass  # nobody waits for it
        if away is not None:
            away.remove()

    def _stubs(self) -> list[leftovers.Stub]:
        return [leftovers.Stub(**fields) for fields in self.messages.get("stubs", ())]

    def _result(self) -> dict[str, Any]:
        if self.stopped and (self.code == -signal.SIGKILL or "process" not in self.messages):
            raise BuildInterruptedError("interrupted")
        if "error" in self.messages:
            return {"error": self.messages["error"]}
        assert self.code is not None
        if "process" not in self.messages:
            raise SandboxError(f"the process ended before it began (exit code {self.code})")
        code = 128 - self.code if self.code < 0 else self.code
        return {"result": {"exit_code": code, "refused": self.messages.get("refused", "")}}
