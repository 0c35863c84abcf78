"""One RUN seen from outside of its namespaces: start it, wait for it, kill it, and leave the layer clean.

A :class:`Supervisor` lives in a child of the resident process. It is the parent of pid 1, so its own end kills
everything inside. It can be made before there is anything to run: then the namespaces and the stage are ready when the
job comes.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from typing import Any

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox import leftovers, syscalls, trees, wire
from dockermagic.sandbox.base import Rootfs
from dockermagic.sandbox.launch import Status, start
from dockermagic.sandbox.listener import Listener
from dockermagic.sandbox.stage import Profile, Setting

__all__ = ["Supervisor"]


class Supervisor:
    """Starts pid 1 and waits for it, and meanwhile for what it reports, for the wish to stop, and for notifications."""

    def __init__(self, setting: Setting, profile: Profile) -> None:
        self.setting = setting
        self.rootfs = Rootfs()
        self.listener: Listener | None = None
        self.stopped = False
        self.report = b""
        self.messages: dict[str, Any] = {}
        self.poll = select.poll()
        self.status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        _leave_namespaces(profile)
        self.pid = os.fork()
        if self.pid == 0:
            self.status.close()
            start(setting, profile, Status(theirs.fileno()))
        theirs.close()

    def run(self, job: bytes, control: socket.socket, streams: list[int]) -> dict[str, Any]:
        """Run ``job`` (see :func:`dockermagic.sandbox.launch.start`) to the end; ``{"exit_code": n}``.

        ``control`` becomes readable or broken when the client wants it stopped. ``streams`` are closed.
        """
        try:
            syscalls.send(self.status, job, streams)
        except OSError:
            pass  # it ended while it built the stage, and said why
        for fd in streams:
            os.close(fd)
        self.rootfs = wire.rootfs_from_json(wire.load(job)["rootfs"])
        try:
            code = self._wait(control)
        finally:
            if self.listener is not None:
                self.listener.leave()
            self._clean()
        if self.stopped:
            raise BuildInterruptedError("interrupted")
        if "error" in self.messages:
            raise wire.decode_error(self.messages["error"])
        if "stubs" not in self.messages:
            raise SandboxError(f"the process ended before it began (exit code {code})")
        return {"exit_code": 128 - code if code < 0 else code}

    def _wait(self, control: socket.socket) -> int:
        ended = os.pidfd_open(self.pid)
        for fd in (self.status.fileno(), control.fileno(), ended):
            self.poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if self.listener is not None and fd == self.listener.fd:
                    self.listener.answer()
                elif fd == self.status.fileno():
                    self._read(control)
                elif fd == control.fileno():
                    self.stopped = True
                    self.poll.unregister(fd)
                    os.kill(self.pid, signal.SIGKILL)
                elif fd == ended:
                    _, raw = os.waitpid(self.pid, 0)
                    os.close(ended)
                    while self._read(control):
                        pass
                    return os.waitstatus_to_exitcode(raw)

    def _read(self, control: socket.socket) -> bool:
        """Take in what pid 1 says before exec; False at the end."""
        piece, fds = syscalls.receive(self.status)
        self.report += piece
        *lines, self.report = self.report.split(b"\n")
        for line in lines:
            message = wire.load(line)
            self.messages.update(message)
            if "listener" in message:
                self._listen(fds.pop())
            elif "terminal" in message:
                fd = fds.pop()
                syscalls.send(control, wire.dump(message), [fd])
                os.close(fd)
        if not piece:
            try:
                self.poll.unregister(self.status)
            except KeyError:
                pass
        return bool(piece)

    def _listen(self, fd: int) -> None:
        try:
            namespace = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it has ended meanwhile
            os.close(fd)
            return
        listener = Listener(fd, self.rootfs.upper)
        try:
            listener.enter(namespace)
        finally:
            os.close(namespace)
        self.listener = listener
        self.poll.register(fd, select.POLLIN)

    def _clean(self) -> None:
        upper = self.rootfs.upper
        if upper is None:
            return
        stubs = [leftovers.Stub(*fields) for fields in self.messages.get("stubs", ())]
        leftovers.remove_stubs(upper, stubs)
        trees.clear_work(str(upper.parent / "work"))
        if self.setting.mode != "single" or self.stopped:
            return
        if self.listener is not None:
            self.listener.write_special()
        uid, gid = self.messages.get("owner", (0, 0))
        if uid or gid:
            leftovers.own_new_files(self.rootfs, uid, gid, set(self.messages.get("made", ())))


def _leave_namespaces(profile: Profile) -> None:
    flags = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    if profile.network == "none":
        flags |= syscalls.CLONE_NEWNET
    try:
        syscalls.unshare(flags | syscalls.CLONE_NEWCGROUP)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
        syscalls.unshare(flags)
