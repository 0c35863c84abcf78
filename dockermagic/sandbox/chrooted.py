"""One process whose root directory is a plain one, by chroot: for root where there are neither namespaces nor PRoot.

Nothing can be mounted: there is no /proc, no volume and no secret; and it isolates no more than PRoot does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from pathlib import Path

from dockermagic.errors import SandboxError
from dockermagic.sandbox import packets, seccomp, syscalls
from dockermagic.sandbox.base import Process
from dockermagic.sandbox.command import not_executed
from dockermagic.sandbox.hosts import network_files
from dockermagic.sandbox.proot import Traced
from dockermagic.sandbox.proot_bindings import Bindings
from dockermagic.sandbox.proot_calls import listens

__all__ = ["Chrooted"]

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


class Copies(Bindings):
    """What can be put into a root without mounting: devices, and the files that tell the host's name and network."""

    def __init__(self, tree: Path, process: Process, scratch: Path) -> None:
        super().__init__(tree, process, scratch)
        self.before: list[tuple[str, bytes, os.stat_result]] = []
        self.devices: list[str] = []

    def binds(self) -> list[tuple[str, str]]:
        """Nothing is bound; all is in its place."""
        if self.process.mounts:
            where = self.process.mounts[0].target
            raise SandboxError(f"nothing can be mounted at {where} here", hint="Install the package proot: it can.")
        for place in ("/dev", "/proc", "/sys"):
            self._stub(place)
        self.stubs.clear()  # these stay, as in BuildKit
        for path, content in network_files(self.process):
            self._stub(path, directory=False)
            self._write(path, content)
        folder = self.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._remember(folder)
            for name, numbers in _DEVICES.items():
                with contextlib.suppress(OSError):  # it is there, or this root may make none
                    os.mknod(name, stat.S_IFCHR, os.makedev(*numbers), dir_fd=folder)
                    self.devices.append(name)
                    os.chmod(name, 0o666, dir_fd=folder)
        finally:
            os.close(folder)
        self._note_times()
        return []

    def _write(self, path: str, content: bytes) -> None:
        fd = self.open(path, os.O_RDWR)
        try:
            found = os.fstat(fd)
            old = os.pread(fd, found.st_size, 0)
            if old != content:
                self.before.append((path, old, found))
                os.ftruncate(fd, 0)
                os.pwrite(fd, content, 0)
        finally:
            os.close(fd)

    def close(self) -> None:
        for path, content, found in self.before:
            with contextlib.suppress(FileNotFoundError):
                fd = self.open(path, os.O_RDWR)
                try:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, content, 0)
                    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
                finally:
                    os.close(fd)
        if self.devices:
            folder = self.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
            try:
                now = os.fstat(folder).st_mtime_ns
                for name in self.devices:
                    with contextlib.suppress(OSError):
                        if stat.S_ISCHR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                            os.unlink(name, dir_fd=folder)
                if now == self.after["/dev"]:
                    os.utime(folder, ns=(self.times["/dev"], self.times["/dev"]))
            finally:
                os.close(folder)
        super().close()


class Chrooted(Traced):
    """The same without PRoot: ids are real ones, and the process is our own child."""

    surroundings = Copies

    @property
    def owner(self) -> tuple[tuple[int, int] | None, list[str]]:
        """Everything belongs to whom it belongs to."""
        return None, []

    def _command(self) -> list[str]:
        self.bindings.binds()
        return []

    def _emulated(self, path: str, before: list[str]) -> list[str]:
        """The kernel says itself what cannot be executed, and knows what it was told to emulate."""
        return before

    def _filter(self, environment: dict[str, str], fds: list[int], start: socket.socket, words: int) -> dict[str, str]:
        if listens():
            listener = seccomp.install(seccomp.proot_listener_program(False), listen=True)
            packets.send(start, b"start", [listener])
        return environment

    def _execute(self, command: list[str], environment: dict[str, str]) -> None:
        os.chroot(self.bindings.tree)
        os.chdir(self.process.cwd)
        os.setgroups(self.identity.groups)
        os.setresgid(*[self.identity.gid] * 3)
        os.setresuid(*[self.identity.uid] * 3)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of ids clears it
        try:
            os.execve(command[0], list(self.process.args), environment)
        except OSError as error:
            raise not_executed(command[0], error) from None

    def _executed(self) -> None:
        if self.pid >= 0:
            self._begins(self.pid)
        else:  # it was executed, and has ended already
            self.first = 0
