"""One RUN seen from outside of its namespaces: start it, wait for it, kill it, and leave the layer clean.

:func:`run` is called in a child of the resident process. It is the parent of pid 1, so its own end kills everything
inside.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from typing import Any

from dockermagic.errors import BuildInterruptedError, DockermagicError, SandboxError
from dockermagic.sandbox import leftovers, syscalls, trees, wire
from dockermagic.sandbox.base import Process, Rootfs
from dockermagic.sandbox.launch import Setting, Status, start
from dockermagic.sandbox.listener import Listener

__all__ = ["run"]


def run(
    *,
    setting: Setting,
    rootfs: dict[str, Any],
    process: dict[str, Any],
    stdin: int,
    stdout: int,
    stderr: int,
    control: int,
) -> dict[str, Any]:
    """Run to the end; ``{"exit_code": n}``. ``control`` becomes readable or broken when the client wants it stopped."""
    root, wanted = wire.rootfs_from_json(rootfs), wire.process_from_json(process)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    _leave_namespaces(wanted)
    pid = os.fork()
    if pid == 0:
        ours.close()
        start(setting, root, wanted, Status(theirs.fileno()), {"stdin": stdin, "stdout": stdout, "stderr": stderr})
    theirs.close()
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    return _Supervisor(setting, root, pid, ours, control).wait()


def _leave_namespaces(process: Process) -> None:
    flags = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    if process.network == "none":
        flags |= syscalls.CLONE_NEWNET
    try:
        syscalls.unshare(flags | syscalls.CLONE_NEWCGROUP)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
        syscalls.unshare(flags)


class _Supervisor:
    """Waits for pid 1, and meanwhile for what it reports, for the client's wish to stop, and for notifications."""

    def __init__(self, setting: Setting, rootfs: Rootfs, pid: int, status: socket.socket, control: int) -> None:
        self.setting = setting
        self.rootfs = rootfs
        self.pid = pid
        self.status = status
        self.control = control
        self.listener: Listener | None = None
        self.stopped = False
        self.report = b""
        self.messages: dict[str, Any] = {}
        self.poll = select.poll()

    def wait(self) -> dict[str, Any]:
        """Until the last process is gone; then clean the layer."""
        try:
            code = self._wait()
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

    def _wait(self) -> int:
        ended = os.pidfd_open(self.pid)
        for fd in (self.status.fileno(), self.control, ended):
            self.poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if self.listener is not None and fd == self.listener.fd:
                    self.listener.answer()
                elif fd == self.status.fileno():
                    self._read()
                elif fd == self.control:
                    self.stopped = True
                    self.poll.unregister(fd)
                    os.kill(self.pid, signal.SIGKILL)
                elif fd == ended:
                    _, raw = os.waitpid(self.pid, 0)
                    os.close(ended)
                    while self._read():
                        pass
                    return os.waitstatus_to_exitcode(raw)

    def _read(self) -> bool:
        """Take in what pid 1 says before exec; False at the end."""
        piece, fds = syscalls.receive(self.status)
        self.report += piece
        *lines, self.report = self.report.split(b"\n")
        for line in lines:
            self.messages.update(wire.load(line))
        for fd in fds:
            self._listen(fd)
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
            try:
                leftovers.own_new_files(self.rootfs, uid, gid, set(self.messages.get("made", ())))
            except OSError as error:
                raise DockermagicError(f"the owners of new files cannot be recorded: {error}") from error
