"""The sandbox: processes and functions through one resident process, in whatever way this host allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.sandbox.base import Cancel, Output, Process, Rootfs
from dockermagic.sandbox.probe import choose

if TYPE_CHECKING:
    import socket

    from dockermagic.sandbox.interpreters import Begun
    from dockermagic.sandbox.running import Hooks, Running
    from dockermagic.sandbox.worker import Worker

__all__ = ["NamespaceSandbox", "open_sandbox"]


def open_sandbox(home: Path, wanted: str = "") -> NamespaceSandbox:
    """The best sandbox this host allows for a store at ``home``, or the one that is wanted by name (:mod:`.ways`).

    Nothing is started before it is needed.

    Raises SandboxUnavailableError where there is none.
    """
    trial = choose(home, wanted)
    return NamespaceSandbox(trial.mode, home, fresh_proc=trial.fresh_proc)


class NamespaceSandbox:
    """Runs processes through one resident process; see :class:`dockermagic.sandbox.base.Sandbox` for the contract.

    ``home`` is the store's directory, ``mode`` the name of a way. :meth:`close` ends the resident process; the
    interpreter's end does so as well.
    """

    def __init__(self, mode: str, home: Path, *, fresh_proc: bool = True) -> None:
        self.mode = mode
        self.home = home
        self.fresh_proc = fresh_proc

    @cached_property
    def worker(self) -> Worker:
        """The client of the resident process. A build that finds everything cached never imports it."""
        from dockermagic.sandbox.worker import Worker

        return Worker(self.mode, self.home / "snapshots", self.home / "mnt", fresh_proc=self.fresh_proc)

    def begin(self, begun: Begun | None = None) -> None:
        """Start the resident process, if none has ``begun``, and do not wait for it: there will be something to run."""
        self.worker.begin(begun)

    def close(self) -> None:
        """End the resident process and everything in it. Idempotent."""
        if "worker" in self.__dict__:
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
        running = self.start(rootfs, process, output=output, cancel=cancel)
        try:
            return running.wait()
        finally:
            running.close()

    def start(
        self,
        rootfs: Rootfs,
        process: Process,
        *,
        output: Output | None = None,
        cancel: Cancel | None = None,
        hooks: Hooks | None = None,
    ) -> Running:
        """See :meth:`dockermagic.sandbox.base.Sandbox.start`."""
        from dockermagic.sandbox.profile import Profile
        from dockermagic.sandbox.running import NO_HOOKS, Running

        wanted = hooks or NO_HOOKS

        def send(given: Mapping[str, int]) -> socket.socket:
            upper = str(rootfs.upper) if rootfs.upper else None
            arguments = {"rootfs": rootfs, "process": process, "held": wanted.prepare is not None}
            run = {"profile": Profile.of(process), "upper": upper}
            return self.worker.send("run", fds=given, run=run, arguments=arguments)[0]

        return Running(send, tty=process.tty, stdin=process.stdin, output=output, cancel=cancel, hooks=wanted)

    def beside(
        self, running: int, rootfs: Rootfs, process: Process, fds: Mapping[str, int], *, held: bool = False
    ) -> socket.socket:
        """See :meth:`dockermagic.sandbox.base.Sandbox.beside`."""
        from dockermagic.sandbox.profile import Profile

        arguments = {"rootfs": rootfs, "process": process, "held": held}
        given = {**fds, "beside": running}
        run = {"profile": Profile.of(process)}
        return self.worker.send("exec", fds=given, run=run, arguments=arguments)[0]
