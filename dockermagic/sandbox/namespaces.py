"""The sandbox of namespaces over overlayfs, in its three id modes."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox import wire
from dockermagic.sandbox.base import Cancel, Output, Process, Rootfs
from dockermagic.sandbox.probe import choose
from dockermagic.sandbox.stage import Profile
from dockermagic.sandbox.terminal import Terminal
from dockermagic.sandbox.worker import Worker, result, wait_for_end

__all__ = ["NamespaceSandbox", "open_sandbox"]


def open_sandbox(home: Path) -> NamespaceSandbox:
    """The best sandbox this host allows for a store at ``home``; nothing is started before it is needed.

    Raises SandboxUnavailableError where there is none.
    """
    trial = choose(home)
    return NamespaceSandbox(trial.mode, home, fresh_proc=trial.fresh_proc)


class NamespaceSandbox:
    """Runs processes through one resident process; see :class:`dockermagic.sandbox.base.Sandbox` for the contract.

    ``home`` is the store's directory. :meth:`close` ends the resident process; the interpreter's end does so as well.
    """

    def __init__(self, mode: str, home: Path, *, fresh_proc: bool = True) -> None:
        self.mode = mode
        self.worker = Worker(mode, home / "snapshots", home / "mnt", fresh_proc=fresh_proc)

    def close(self) -> None:
        """End the resident process and everything in it. Idempotent."""
        self.worker.close()

    def call(
        self,
        function: str,
        *,
        mounts: Mapping[str, Rootfs] | None = None,
        fds: Mapping[str, int] | None = None,
        cancel: Cancel | None = None,
        output: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """See :meth:`dockermagic.sandbox.worker.Worker.call`."""
        return self.worker.call(function, mounts=mounts, fds=fds, cancel=cancel, output=output, **arguments)

    def run(
        self, rootfs: Rootfs, process: Process, *, output: Output | None = None, cancel: Cancel | None = None
    ) -> int:
        """See :meth:`dockermagic.sandbox.base.Sandbox.run`."""
        running = _Running(self.worker, rootfs, process, output, cancel)
        try:
            return running.wait()
        finally:
            running.close()


class _Running:
    """One process: its pipes, its control socket, and the wish to stop it."""

    def __init__(
        self, worker: Worker, rootfs: Rootfs, process: Process, output: Output | None, cancel: Cancel | None
    ) -> None:
        self.process = process
        self.output = output
        self.cancel = cancel
        self.terminal: Terminal | None = None
        self.streams: dict[int, int] = {}
        self.answer = b""
        given: dict[str, int] = {}
        try:
            own_input = process.stdin is None or process.tty
            given["stdin"] = os.open(os.devnull, os.O_RDONLY) if own_input else os.dup(process.stdin or 0)
            for stream, name in ((1, "stdout"), (2, "stderr")):
                if output is None or process.tty:
                    given[name] = os.open(os.devnull, os.O_WRONLY)
                else:
                    ours, given[name] = os.pipe()
                    self.streams[ours] = stream
            self.control, _ = worker.send(
                "run",
                fds=given,
                run={
                    "profile": Profile.of(process),
                    "upper": str(rootfs.upper) if rootfs.upper else None,
                },
                arguments={"rootfs": rootfs, "process": process},
            )
        except BaseException:
            for fd in self.streams:
                os.close(fd)
            raise
        finally:
            for fd in given.values():
                os.close(fd)
        self.unsubscribe = cancel.subscribe(self.stop) if cancel is not None else lambda: None

    def stop(self) -> None:
        """Have everything inside killed."""
        try:
            self.control.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self) -> int:
        """Pass the output on until every stream has ended and the answer is here."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        for fd in self.streams:
            poll.register(fd, select.POLLIN)
        control: int | None = self.control.fileno()
        while control is not None or self.streams:
            for fd, _ in poll.poll():
                if fd == control:
                    if not self._hear(poll):
                        poll.unregister(fd)
                        control = None
                elif fd in self.streams:
                    self._pass_on(fd, poll)
                elif self.terminal is not None:
                    self.terminal.feed(poll)
        if not self.answer:
            if self.cancel is not None and self.cancel.is_set():
                raise BuildInterruptedError("interrupted")
            raise SandboxError("the sandbox's process died", hint="It may have run out of memory.")
        return int(result(wire.load(self.answer))["exit_code"])

    def _hear(self, poll: select.poll) -> bool:
        """Take in what the supervisor says; False after the last of it."""
        from dockermagic.sandbox import syscalls

        piece, fds = syscalls.receive(self.control)
        *lines, self.answer = (self.answer + piece).split(b"\n")
        for line in lines:
            if fds:  # our side of the process's terminal
                self.terminal = Terminal(fds.pop(), self.process.stdin)
                self.streams[self.terminal.fd] = 1
                poll.register(self.terminal.fd, select.POLLIN)
                self.terminal.listen(poll)
            else:
                self.answer = line
                return False
        return bool(piece)

    def _pass_on(self, fd: int, poll: select.poll) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:  # that is how a terminal ends
                raise
            data = b""
        if data:
            if self.output is not None:
                self.output(self.streams[fd], data)
            return
        poll.unregister(fd)
        del self.streams[fd]
        if self.terminal is not None and fd == self.terminal.fd:
            self.terminal.stop(poll)
        os.close(fd)

    def close(self) -> None:
        """Give everything back; a process that still runs (an interrupt came) is killed."""
        self.unsubscribe()
        if not self.answer:
            self.stop()
            wait_for_end(self.control)
        self.control.close()
        for fd in self.streams:
            os.close(fd)
