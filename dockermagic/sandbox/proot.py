"""One process whose root directory is a plain one, by PRoot: it traces every process and translates its paths.

It needs no privilege and no namespace, and isolates nothing. Behind it stands a listener (:mod:`.proot_calls`): a
tracer stops a process before the filters do, so that the listener gets the paths of the host. Where the kernel has no
such listener, owners are not recorded, ports stay what they are, and PRoot's words are taken out of the command's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import termios
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Any, NoReturn

from dockermagic.errors import BuildInterruptedError, DockermagicError, SandboxError
from dockermagic.oci.lock import temporary_directory
from dockermagic.sandbox import descendants, launch, packets, seccomp, syscalls, users, wire
from dockermagic.sandbox.base import Process
from dockermagic.sandbox.command import CannotRunError, find_command, not_executed
from dockermagic.sandbox.moved_ports import MovedPorts
from dockermagic.sandbox.privileges import reset_signals
from dockermagic.sandbox.proot_bindings import Bindings
from dockermagic.sandbox.proot_calls import MARK, Answers, listens
from dockermagic.sandbox.supervise import Loop

__all__ = ["Traced", "end_all", "find_proot"]

_NATIVE = {"x86_64": (62, 3), "aarch64": (183, 40)}
"""The ELF machines that run here: the wide one and the narrow one."""
_EMULATED = {3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""What QEMU's programs are called after, by ELF machine."""
_ENDED = re.compile(rb" (v?)pid (\d+): (exited with status|terminated with signal) (\d+)")
_WORDS = re.compile(rb"proot info: [^\n]*\n")
_MOST_WORDS = 1 << 14


def find_proot() -> str:
    """The program. Raises SandboxError where it is not installed."""
    found = shutil.which("proot") or shutil.which("proot", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxError("proot is not installed", hint="Install the package proot, or another sandbox.")
    return found


def end_all() -> None:
    """End every process below this one, and what PRoots among them leave."""
    ended = descendants.below(os.getpid())
    descendants.end_below(os.getpid())
    _remove_left(ended)


def _remove_left(pids: Iterable[int]) -> None:
    """PRoot 5.1 knows no other directory than /tmp, and leaves a file there when it is killed."""
    for pid in pids:
        for left in glob(f"/tmp/proot*-{pid}-*"):
            with contextlib.suppress(OSError):
                os.unlink(left)


class Traced:
    """A process below PRoot, from its start to its answer, which is there when nothing of it is left.

    ``control`` and the messages on it are those of :class:`dockermagic.sandbox.supervise.Run`; ``streams`` are closed.
    """

    surroundings: type[Bindings] = Bindings

    def __init__(
        self,
        loop: Loop,
        root: Path | None,
        process: Process,
        control: socket.socket,
        streams: list[int],
        *,
        held: bool = False,
        beside: bool = False,
    ) -> None:
        self.loop = loop
        self.process = process
        self.control = control
        self.answer: dict[str, Any] | None = None
        self.cleanup = contextlib.ExitStack()
        self.scratch = self.cleanup.enter_context(temporary_directory(Path(loop.setting.mount_point), "run-"))
        self.scratch.chmod(0o700)  # secrets are in it
        self.bindings = self.surroundings(root or Path(tempfile.mkdtemp(dir=self.scratch)), process, self.scratch)
        self.identity = users.Identity(0, 0, (0,), "/root")
        self.listener: Answers | None = None
        self.error: dict[str, Any] | None = None
        self.stopped = False
        self.speaking = False
        self.pid = -1
        self.first = -1
        self.codes: dict[int, int] = {}
        self.words = b""
        self.speaks = self.stderr = -1
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._begin(streams, held, beside)
        except CannotRunError as problem:
            os.write(streams[2], problem.message.encode("utf-8", "surrogateescape") + b"\n")
            self._finish({"result": {"exit_code": problem.code, "refused": problem.message}})
        except (DockermagicError, OSError) as error:
            self._finish({"error": wire.encode_error(error)})
        finally:
            for fd in streams:
                os.close(fd)

    @property
    def owner(self) -> tuple[tuple[int, int] | None, list[str]]:
        """Whose everything is that was made, where no other id could make it; and what was not."""
        ids = (self.identity.uid, self.identity.gid)
        return (ids if ids[0] else None), self.bindings.made

    # --- before

    def _begin(self, streams: list[int], held: bool, beside: bool) -> None:
        process = self.process
        if process.network == "none":
            raise SandboxError(
                "--network=none is not possible here: nothing can take the host's network away",
                hint="'dockermagic info' says what would allow more.",
            )
        if process.readonly_root:
            raise SandboxError("a read-only root filesystem is not possible here", hint="Leave --read-only out.")
        self.identity = users.lookup(process.user, additional=process.groups, root="", open_file=self.bindings.open)
        self.bindings.enter_directory(process.cwd, make=not beside)
        environment = dict(process.env)
        environment.setdefault("HOME", self.identity.home)
        before = self._command()
        path = find_command(process.args, environment, self._look, self._may_run)
        command = [*self._emulated(path, before), path, *process.args[1:]]
        ours, theirs = socket.socketpair()
        self.speaks, words = os.pipe()
        if not listens() and not process.tty:  # PRoot and the command have one standard error between them
            self.stderr = os.dup(streams[2])
        self.pid = self.loop.fork(self._ended)
        if self.pid == 0:
            ours.close()
            self._become(command, environment, streams, theirs, words, held)
        theirs.close()
        os.close(words)
        self.loop.watch(self.speaks, self._listen)
        self.start = ours
        self.speaking = True
        self.loop.watch(ours.fileno(), self._hear)
        if held:
            child = os.pidfd_open(self.pid)
            self._tell({"process": True, "held": True}, [child])
            os.close(child)
            self.loop.watch(self.control.fileno(), self._release)
        else:
            self.loop.watch(self.control.fileno(), self._stop, select.POLLRDHUP)

    def _look(self, path: str) -> os.stat_result:
        fd = self.bindings.look(os.path.join(self.process.cwd, path), os.O_PATH | os.O_CLOEXEC)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _may_run(self, path: str) -> bool:
        return bool(self._look(path).st_mode & 0o111)

    def _emulated(self, path: str, before: list[str]) -> list[str]:
        """PRoot's command line, through QEMU where it is installed and the program is for another machine.

        Raises CannotRunError for what cannot be executed: PRoot's own words for it say nothing.
        """
        program = path
        head = self._head(path)
        if head is not None and head[:2] == b"#!":
            program = os.fsdecode(b"".join(head[2:].split(b"\n")[0].split()[:1]))
            try:
                self._look(program)
            except OSError as error:
                raise not_executed(path, error) from None
            head = self._head(program)
        if head is None or head[:2] == b"#!":  # its mode forbids to read it, or it is a script once more
            return before
        machine = int.from_bytes(head[18:20], "big" if head[5:6] == b"\2" else "little")
        own = _NATIVE.get(os.uname().machine, (machine,))
        if head[:4] == b"\x7fELF" and machine in own:
            return before
        name = _EMULATED.get(machine) if head[:4] == b"\x7fELF" else None
        emulator = name and (shutil.which(f"qemu-{name}-static") or shutil.which(f"qemu-{name}"))
        if not emulator:
            raise not_executed(path, OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC)))
        return [before[0], "-q", emulator, *before[1:]]

    def _head(self, path: str) -> bytes | None:
        """How a file begins; None where it cannot be read."""
        try:
            fd = self.bindings.look(os.path.join(self.process.cwd, path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(fd, 256)
        finally:
            os.close(fd)

    # --- the command line

    def _command(self) -> list[str]:
        ids = self.identity
        command = [find_proot(), "-r", str(self.bindings.tree), "-w", os.path.normpath(self.process.cwd or "/")]
        if listens() or not self.process.tty:
            command += ["-v", "1"]  # it tells how each process ends
        command += ["-i", f"{ids.uid}:{ids.gid}"] if ids.uid else ["-0"]
        for source, target in self.bindings.binds():
            if ":" in source:
                raise SandboxError(f"PRoot cannot bind a path with a colon in it: {source}")
            command += ["-b", f"{source}:{target}"]
        return command

    # --- in the child

    def _become(
        self,
        command: list[str],
        environment: dict[str, str],
        streams: Sequence[int],
        start: socket.socket,
        words: int,
        held: bool,
    ) -> NoReturn:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            fds = self._terminal(start) if self.process.tty else list(streams)
            if held:
                start.recv(16)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            environment = self._filter(environment, fds, start, words)
            for number, fd in enumerate(fds):
                os.dup2(fd, number, inheritable=True)
            syscalls.close_all_but({0, 1, 2, start.fileno()})
            launch.limit(self.process, others=descendants.count_of_user())
            os.umask(self.process.umask)
            reset_signals()
            self._execute(command, environment)
        except CannotRunError as problem:
            os.write(2, problem.message.encode("utf-8", "surrogateescape") + b"\n")
            start.sendall(wire.dump({"result": {"exit_code": problem.code, "refused": problem.message}}))
        except BaseException as error:
            start.sendall(wire.dump({"error": wire.encode_error(error)}))
        os._exit(125)

    def _filter(self, environment: dict[str, str], fds: list[int], start: socket.socket, words: int) -> dict[str, str]:
        """Put the filters on this process; the environment and the streams that PRoot is to have."""
        if listens():
            listener = seccomp.install(seccomp.proot_listener_program(True), listen=True)
            packets.send(start, b"start", [listener, fds[2]])
            environment = {f"{MARK}{name}": value for name, value in environment.items()}
            fds[2] = words
        elif self.stderr >= 0:
            fds[2] = words
        if program := seccomp.proot_program():
            seccomp.install(program)
        return {**environment, "PROOT_TMP_DIR": str(self.scratch)}

    def _execute(self, command: list[str], environment: dict[str, str]) -> None:
        os.chdir("/")
        os.execve(command[0], command, environment)

    def _terminal(self, start: socket.socket) -> list[int]:
        master, slave = os.openpty()
        if any(self.process.window):
            termios.tcsetwinsize(slave, self.process.window)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        packets.send(start, b"terminal", [master])
        os.close(master)
        return [slave, slave, slave]

    # --- while it runs

    def _hear(self) -> None:
        """What the child says before exec, and its exec."""
        data, fds = packets.receive(self.start)
        if data.startswith(b"terminal"):
            self._tell({"terminal": True}, fds[:1])
            os.close(fds.pop(0))
        if data.endswith(b"start") and fds:
            listener, stderr = fds.pop(0), fds.pop(0) if fds else -1
            ports = MovedPorts(Path(self.process.ports or self.scratch / "ports"))
            root, name = self.bindings.tree, self.process.hostname
            groups = self.identity.groups
            self.listener = Answers(listener, root, groups, ports, name, self.pid, stderr, self._begins)
            self.listener.hurry()
            self.loop.watch(listener, self._answer)
        if data.startswith(b"{"):
            self.error = wire.load(data)
        if not data:
            self.speaking = False
            self.loop.unwatch(self.start.fileno())
            if self.error is None:
                self._executed()
        for fd in fds:
            os.close(fd)

    def _answer(self) -> None:
        assert self.listener is not None
        if self.listener.is_waiting():
            self.listener.answer()
        else:
            self.loop.unwatch(self.listener.fd)

    def _listen(self) -> bool:
        """What PRoot says itself: how every process ended, and what it cannot do. False at the end."""
        piece = os.read(self.speaks, 1 << 16)
        if not piece:
            self.loop.unwatch(self.speaks)
            return False
        *lines, rest = (self.words + piece).split(b"\n")
        for line in lines:
            found = _ENDED.search(line)
            if found and (self.first < 0 or found[1] or int(found[2]) == self.first):
                number = 0 if found[1] + found[2] == b"v1" else int(found[2])  # newer ones count from 1
                self.codes[number] = int(found[4]) + (128 if found[3].startswith(b"term") else 0)
        said = _WORDS.sub(b"", b"".join(line + b"\n" for line in lines))
        if self.stderr >= 0:
            self._pass_on(said)
            said = b""
        self.words = (said + rest)[-_MOST_WORDS:]
        return True

    def _pass_on(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            while data:
                data = data[os.write(self.stderr, data) :]

    def _begins(self, pid: int) -> None:
        """The command is about to be executed, by the first process that PRoot made."""
        self.first = pid
        pidfd = os.pidfd_open(pid)

        def over() -> None:
            """The process has ended; PRoot would wait for all that it left behind."""
            self.loop.unwatch(pidfd)
            os.close(pidfd)
            descendants.end_below(self.pid)
            descendants.end_below(os.getpid(), except_for={self.pid})

        self._tell({"process": True, "held": False}, [pidfd])
        self._tell({"began": True})
        self.loop.watch(pidfd, over)

    def _executed(self) -> None:
        """PRoot is there; its first child is the process, where no listener hears of it."""
        while self.listener is None and self.pid >= 0 and self.first < 0:
            if first := descendants.children_of(self.pid):
                with contextlib.suppress(OSError):  # it has ended since
                    self._begins(first[0])
            else:  # not there yet, or gone already: then PRoot would wait for what it left behind
                descendants.end_below(os.getpid(), except_for={self.pid})
                self.loop.turn(1)

    def _release(self) -> None:
        """The client has done what it wanted to do before the command begins, or wants it to end."""
        if not self.control.recv(16):
            return self._stop()
        self.loop.unwatch(self.control.fileno())
        self.loop.watch(self.control.fileno(), self._stop, select.POLLRDHUP)
        return self.start.sendall(b"go")

    def _tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        try:
            packets.send(self.control, wire.dump(message), fds)
        except OSError:
            pass  # it is gone, and so will be the process

    def _stop(self) -> None:
        self.stopped = True
        self.loop.unwatch(self.control.fileno())
        descendants.end_below(os.getpid())

    # --- after

    def _ended(self, status: int) -> None:
        pid, self.pid = self.pid, -1
        descendants.end_below(os.getpid())
        _remove_left([pid])
        code = os.waitstatus_to_exitcode(status)
        while self.speaking:  # its end may be heard before its last words
            self._hear()
        while self._listen():
            pass
        if self.stopped:
            return self._finish({"error": wire.encode_error(BuildInterruptedError("interrupted"))})
        if self.first < 0 and self.listener is not None:
            said = self.words.decode(errors="replace").strip() or f"it ended with {code}"
            return self._finish(
                {"error": wire.encode_error(SandboxError(f"PRoot could not start the command: {said}"))}
            )
        code = 128 - code if code < 0 else code
        if self.codes:  # where it was too quick to be seen, it is the one that was there first
            code = self.codes.get(0, self.codes.get(self.first, self.codes[min(self.codes)]))
        return self._finish({"result": {"exit_code": code, "refused": ""}})

    def _finish(self, answer: dict[str, Any]) -> None:
        if self.listener is not None:
            self.loop.unwatch(self.listener.fd)
            os.close(self.listener.fd)
            self.listener.close()
            self.listener.write_special()
        self.loop.unwatch(self.control.fileno())
        if self.speaks >= 0:
            self.loop.unwatch(self.speaks)
            os.close(self.speaks)
        if self.stderr >= 0:
            self._pass_on(self.words)
            os.close(self.stderr)
        self.bindings.close()
        self.cleanup.close()
        self.answer = self.error or answer
