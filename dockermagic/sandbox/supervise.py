"""One RUN seen from outside of its namespaces: start it, wait for it, kill it, and leave the layer clean.

A :class:`Run` is driven by the loop of the resident process, which is the parent of pid 1. It can be made before there
is anything to run: then its namespaces and its stage are ready when the job comes.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from dockermagic.errors import BuildInterruptedError, DockermagicError, SandboxError
from dockermagic.sandbox import leftovers, syscalls, trees, wire
from dockermagic.sandbox.launch import Status, start
from dockermagic.sandbox.listener import Listener
from dockermagic.sandbox.stage import Profile, Setting

__all__ = ["Loop", "Run"]


class Loop(Protocol):
    """What a run needs of the resident process."""

    setting: Setting

    def fork(self, ended: Callable[[int], None], *, first: bool = False) -> int:
        """Fork; in the child nothing of the loop is open any more. ``first`` makes it pid 1 of a new namespace.

        ``ended`` is called with the child's status when it is gone.
        """
        ...

    def kill(self, pid: int) -> None:
        """End pid 1 of a namespace, and with it all in it."""
        ...

    def watch(self, fd: int, happened: Callable[[], object], events: int = select.POLLIN) -> None:
        """Call ``happened`` whenever ``fd`` has something."""
        ...

    def unwatch(self, fd: int) -> None:
        """No more of it. Idempotent."""
        ...


class Run:
    """A process from its fork to its answer. ``over`` is called when there is nothing left of it."""

    def __init__(self, loop: Loop, profile: Profile, over: Callable[[Run], None]) -> None:
        self.loop = loop
        self.profile = profile
        self.over = over
        self.upper: Path | None = None
        self.control: socket.socket | None = None
        self.code: int | None = None
        self.stopped = False
        self.partial = b""
        self.messages: dict[str, Any] = {}
        self.status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.waiting_for = 1
        records: tuple[socket.socket, socket.socket] | None = None
        if loop.setting.mode == "single":
            records = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            records[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.pid = loop.fork(self._ended, first=True)
        if self.pid == 0:
            self.status.close()
            if records:
                records[0].close()
            start(loop.setting, profile, Status(theirs.fileno()), records[1] if records else None)
        theirs.close()
        if records:
            self.waiting_for += 1
            if loop.fork(self._recorded) == 0:
                self.status.close()
                records[1].close()
                _record(records[0])
            records[0].close()
            records[1].close()
        loop.watch(self.status.fileno(), self._read)

    def assign(self, upper: str | None, job: bytes, fds: list[int]) -> None:
        """Give it its job (see :func:`dockermagic.sandbox.launch.start`); the first descriptor is that of the client.

        The client shuts its end down when it wants the process stopped. ``fds`` are closed.
        """
        self.upper = Path(upper) if upper else None
        try:
            syscalls.send(self.status, job, fds)
        except OSError:
            pass  # it has ended while it built the stage, and said why
        self.control = socket.socket(fileno=fds[0])
        for fd in fds[1:]:
            os.close(fd)
        self.loop.watch(fds[0], self._stop, select.POLLRDHUP)

    def _stop(self) -> None:
        assert self.control is not None
        self.stopped = True
        self.loop.unwatch(self.control.fileno())
        self.loop.kill(self.pid)

    def _read(self) -> bool:
        """Take in what pid 1 says before exec; False at the end."""
        piece, fds = syscalls.receive(self.status)
        *lines, self.partial = (self.partial + piece).split(b"\n")
        for line in lines:
            message = wire.load(line)
            self.messages.update(message)
            if "terminal" in message and self.control is not None:
                syscalls.send(self.control, line + b"\n", fds)
        for fd in fds:
            os.close(fd)
        if not piece:
            self.loop.unwatch(self.status.fileno())
        return bool(piece)

    def _ended(self, status: int) -> None:
        self.code = os.waitstatus_to_exitcode(status)
        while self._read():
            pass
        self._one_less()

    def _recorded(self, status: int) -> None:
        if status:
            self.messages.setdefault(
                "error", wire.encode_error(SandboxError("the owners of this layer's files could not be recorded"))
            )
        self._one_less()

    def _one_less(self) -> None:
        self.waiting_for -= 1
        if self.waiting_for:
            return
        self.loop.unwatch(self.status.fileno())
        self.status.close()
        if self.control is not None:
            self.loop.unwatch(self.control.fileno())
            self._answer(self.control)
            self.control.close()
        self.over(self)

    def _answer(self, control: socket.socket) -> None:
        try:
            if self.upper is not None:
                trees.remove_work(str(self.upper.parent / "work"))
                leftovers.remove_stubs(
                    self.upper, [leftovers.Stub(*fields) for fields in self.messages.get("stubs", ())]
                )
            answer: dict[str, Any] = {"result": {"exit_code": self._result()}}
        except (DockermagicError, OSError) as error:
            answer = {"error": wire.encode_error(error)}
        try:
            control.sendall(wire.dump(answer))
        except OSError:
            pass  # nobody waits for it

    def _result(self) -> int:
        if self.stopped:
            raise BuildInterruptedError("interrupted")
        if "error" in self.messages:
            raise wire.decode_error(self.messages["error"])
        assert self.code is not None
        if "stubs" not in self.messages:
            raise SandboxError(f"the process ended before it began (exit code {self.code})")
        return 128 - self.code if self.code < 0 else self.code


def _record(channel: socket.socket) -> NoReturn:
    """The companion of a run with a single id, in a process of its own: it ends after pid 1, with 0 if all is recorded.

    It waits for one message of pid 1. For root it answers the filter's notifications; for another user, who owns all
    that is made, it writes that owner down at the end.
    """
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        data, fds, pid = syscalls.receive_from(channel)
        channel.close()
        if data:
            job = wire.load(data)
            ended = _open(pid)
            if fds:
                _listen(fds[0], Path(job["upper"]) if job["upper"] else None, pid, ended)
            elif ended is not None and job["upper"]:
                select.select([ended], [], [])
                uid, gid = job["owner"]
                leftovers.own_new_files(wire.rootfs_from_json(job), uid, gid, set(job["except"]))
        code = 0
    finally:
        os._exit(code)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _listen(fd: int, upper: Path | None, pid: int, ended: int | None) -> None:
    listener = Listener(fd, upper)
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return  # it has ended meanwhile
        raise
    listener.enter(namespace)
    os.close(namespace)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if ended is not None:
        poll.register(ended, select.POLLIN)
    running = True
    while running:
        for ready, events in poll.poll():
            if ready == fd and events & select.POLLIN:
                listener.answer()
            else:  # pid 1 has ended, or nobody is left whom the filter holds
                running = False
    listener.leave()
    listener.write_special()
