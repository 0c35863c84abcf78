"""One process whose root directory is a plain one, by PRoot: it traces every process and translates its paths.

It needs no privilege and no namespace, and isolates nothing. Changes of owner are recorded by a listener behind it: a
tracer stops a process before the filters do, so that the listener gets the paths of the host.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import tempfile
import termios
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any, NoReturn

from dockermagic.errors import BuildInterruptedError, DockermagicError, SandboxError
from dockermagic.oci.lock import temporary_directory
from dockermagic.sandbox import descendants, launch, leftovers, seccomp, syscalls, users, wire
from dockermagic.sandbox.base import Mount, Process, Subpath
from dockermagic.sandbox.command import CannotRunError, find_command, not_executed
from dockermagic.sandbox.hosts import network_files
from dockermagic.sandbox.proot_owners import Recorder
from dockermagic.sandbox.supervise import Loop

__all__ = ["Traced", "find_proot"]

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_NATIVE = {"x86_64": (62, 3), "aarch64": (183, 40)}
"""The ELF machines that run here: the wide one and the narrow one."""


def find_proot() -> str:
    """The program. Raises SandboxError where it is not installed."""
    found = shutil.which("proot") or shutil.which("proot", path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxError("proot is not installed", hint="Install the package proot, or another sandbox.")
    return found


class Traced:
    """A process below PRoot, from its start to its answer, which is there when nothing of it is left.

    ``control`` and the messages on it are those of :class:`dockermagic.sandbox.supervise.Run`; ``streams`` are closed.
    """

    def __init__(
        self,
        loop: Loop,
        root: Path | None,
        process: Process,
        control: socket.socket,
        streams: list[int],
        *,
        held: bool = False,
    ) -> None:
        self.loop = loop
        self.process = process
        self.control = control
        self.answer: dict[str, Any] | None = None
        self.cleanup = contextlib.ExitStack()
        self.scratch = self.cleanup.enter_context(temporary_directory(Path(loop.setting.mount_point), "run-"))
        self.scratch.chmod(0o700)  # secrets are in it
        self.tree = root or self._directory("empty")
        self.root = os.open(self.tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.made: list[str] = []
        self.stubs: list[tuple[str, bool]] = []
        self.times: dict[str, int] = {}
        self.after: dict[str, int] = {}
        self.identity = users.Identity(0, 0, (0,), "/root")
        self.listener: Recorder | None = None
        self.error: dict[str, Any] | None = None
        self.stopped = False
        self.pid = -1
        self.fake = os.geteuid() != 0
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._begin(streams, held)
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
        return (ids if self.fake and ids[0] else None), self.made

    # --- before

    def _begin(self, streams: list[int], held: bool) -> None:
        process = self.process
        if process.network != "host":
            what = "a network of its own, as -p needs it," if process.network == "own" else "--network=none"
            raise SandboxError(
                f"{what} is not possible here: PRoot cannot take the host's network away",
                hint="Without it a server's port is this machine's. 'dockermagic info' says what would allow more.",
            )
        if process.readonly_root:
            raise SandboxError("a read-only root filesystem is not possible with PRoot", hint="Leave --read-only out.")
        self.identity = users.lookup(process.user, additional=process.groups, root="", open_file=self._open)
        self._make_directory(process.cwd)
        environment = dict(process.env)
        environment.setdefault("HOME", self.identity.home)
        path = find_command(process.args, environment, self._look, self._may_run)
        self._check_format(path)
        command = self._command(path)
        ours, theirs = socket.socketpair()
        self.pid = self.loop.fork(self._ended)
        if self.pid == 0:
            ours.close()
            self._become(command, environment, streams, theirs, held)
        theirs.close()
        self.start = ours
        self.loop.watch(ours.fileno(), self._hear)
        if held:
            child = os.pidfd_open(self.pid)
            self._tell({"process": True, "held": True}, [child])
            os.close(child)
            self.loop.watch(self.control.fileno(), self._release)
        else:
            self.loop.watch(self.control.fileno(), self._stop, select.POLLRDHUP)

    def _open(self, path: str, flags: int) -> int:
        return syscalls.open_in_root(self.root, path, flags)

    def _look(self, path: str) -> os.stat_result:
        fd = self._open(os.path.join(self.process.cwd, path), os.O_PATH | os.O_CLOEXEC)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _may_run(self, path: str) -> bool:
        return bool(self._look(path).st_mode & 0o111)

    def _check_format(self, path: str) -> None:
        """PRoot's own words for what cannot be executed say nothing."""
        try:
            fd = self._open(os.path.join(self.process.cwd, path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            head = os.read(fd, 256)
        finally:
            os.close(fd)
        own = _NATIVE.get(os.uname().machine, ())
        is_program = head[:4] == b"\x7fELF" and (not own or int.from_bytes(head[18:20], "little") in own)
        if not (is_program or head[:2] == b"#!"):
            raise not_executed(path, OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC)))
        if head[:2] == b"#!":
            interpreter = head[2:].split(b"\n")[0].split()[:1]
            try:
                self._look(os.fsdecode(interpreter[0]) if interpreter else "")
            except OSError as error:
                raise not_executed(path, error) from None

    def _make_directory(self, path: str) -> None:
        """The working directory, made as far as it is missing; this one stays in the layer."""
        try:
            self.made += self._missing(path)
        except OSError as error:
            raise SandboxError(f"working directory {path}: {error.strerror}") from error

    def _missing(self, path: str) -> list[str]:
        """Make a directory and its parents as far as they are missing; what was made."""
        made = []
        place = "/"
        for part in path.strip("/").split("/"):
            above, place = place, os.path.join(place, part)
            try:
                os.close(self._open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            except FileNotFoundError:
                parent = self._open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._remember(parent)
                    os.mkdir(part, 0o755, dir_fd=parent)
                    made.append(os.path.join(self._inside(parent), part))
                finally:
                    os.close(parent)
        return made

    def _inside(self, fd: int) -> str:
        """What an open file is called in the root filesystem."""
        return "/" + os.readlink(f"/proc/self/fd/{fd}").removeprefix(os.path.realpath(self.tree)).lstrip("/")

    def _remember(self, parent: int) -> None:
        self.times.setdefault(self._inside(parent), os.fstat(parent).st_mtime_ns)

    def _stub(self, path: str, *, directory: bool = True) -> None:
        """Make sure that there is something to bind to: PRoot would make it and take it away in its own way."""
        try:
            os.close(self._open(path, os.O_PATH | os.O_CLOEXEC))
            return
        except OSError:
            pass
        try:
            above, name = os.path.split(path)
            self.stubs += [(made, True) for made in self._missing(path if directory else above)]
            if not directory:
                parent = self._open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._remember(parent)
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                    self.stubs.append((os.path.join(self._inside(parent), name), False))
                finally:
                    os.close(parent)
        except OSError as error:
            raise SandboxError(f"mount point {path}: {error.strerror}") from error

    def _remove_stubs(self) -> None:
        found = []
        for path, directory in self.stubs:
            above = os.path.dirname(path)
            try:
                now = os.stat(f"{self.tree}{above}", follow_symlinks=False)
            except OSError:
                continue
            found.append(leftovers.Stub(path, directory, self.times[above], self.after.get(above, -1), now.st_ctime_ns))
        leftovers.remove_stubs(self.tree, found, is_layer=False)

    # --- the command line

    def _command(self, path: str) -> list[str]:
        ids = self.identity
        for place in ("/dev", "/proc", "/sys"):
            self._stub(place)
        self.stubs.clear()  # these stay, as in BuildKit
        command = [find_proot(), "-r", str(self.tree), "-w", os.path.normpath(self.process.cwd or "/")]
        if self.fake:
            command += ["-i", f"{ids.uid}:{ids.gid}"] if ids.uid else ["-0"]
        for source, target in self._binds():
            if ":" in source:
                raise SandboxError(f"PRoot cannot bind a path with a colon in it: {source}")
            command += ["-b", f"{source}:{target}"]
        return [*command, path, *self.process.args[1:]]

    def _binds(self) -> list[tuple[str, str]]:
        device = self._directory("dev")
        binds = [("/proc", "/proc"), (str(device), "/dev")]
        if os.path.isdir("/sys/kernel"):
            binds.append(("/sys", "/sys"))
        for name, target in _LINKS.items():
            os.symlink(target, device / name)
        for name in _DEVICES:
            if os.path.exists(f"/dev/{name}"):
                binds.append((f"/dev/{name}", f"/dev/{name}"))
        (device / "shm").mkdir(mode=0o1777)
        (device / "pts").mkdir()
        binds.append(("/dev/pts", "/dev/pts"))
        mounts = [(os.path.normpath(os.path.join("/", self.process.cwd, m.target)), m) for m in self.process.mounts]
        taken = {target for target, _ in mounts}
        if "/" in taken:
            raise SandboxError("invalid mount target: a mount cannot cover the root directory")
        for target, content in network_files(self.process):
            if target not in taken:
                binds.append((self._file(content, 0o644), target))
        binds += [(self._source(mount), target) for target, mount in mounts]
        for source, target in binds:
            directory = os.path.isdir(source)
            if target.startswith("/dev/"):
                place = device / target.removeprefix("/dev/")
                if not place.exists():
                    (place if directory else place.parent).mkdir(parents=True, exist_ok=True)
                    None if directory else place.touch()
            else:
                self._stub(target, directory=directory)
        self.after = {path: os.stat(f"{self.tree}{path}").st_mtime_ns for path in self.times}
        return binds

    def _directory(self, name: str) -> Path:
        made = self.scratch / name
        made.mkdir(mode=0o755)
        return made

    def _file(self, content: bytes, mode: int) -> str:
        """A file that goes with the run."""
        fd, name = tempfile.mkstemp(dir=self.scratch)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)
        return name

    def _source(self, mount: Mount) -> str:
        if mount.type == "tmpfs":
            place = tempfile.mkdtemp(dir=self.scratch)
            os.chmod(place, mount.mode)
            return place
        if mount.type == "file":
            return self._file(mount.content, mount.mode)
        if isinstance(mount.source, Subpath):
            if mount.source.rootfs.upper is None:
                return str(self._directory("nothing"))
            root = os.open(mount.source.rootfs.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = syscalls.open_in_root(root, mount.source.path, os.O_PATH)
                try:
                    return os.readlink(f"/proc/self/fd/{fd}")
                finally:
                    os.close(fd)
            except OSError as error:
                raise SandboxError(f"the source of a mount: {error.strerror}: {mount.source.path}") from error
            finally:
                os.close(root)
        if not os.path.lexists(str(mount.source)):
            raise SandboxError(f"the source of the mount {mount.target}: No such file or directory: {mount.source}")
        return str(mount.source)

    # --- in the child

    def _become(
        self, command: list[str], environment: dict[str, str], streams: Sequence[int], start: socket.socket, held: bool
    ) -> NoReturn:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            fds = self._terminal(start) if self.process.tty else list(streams)
            if held:
                start.recv(16)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            listener = -1
            if self.fake and (program := seccomp.owners_program()):
                with contextlib.suppress(OSError):
                    listener = seccomp.install(program, listen=True)
            if program := seccomp.proot_program():
                seccomp.install(program)
            syscalls.send(start, b"start", [listener] if listener >= 0 else [])
            for number, fd in enumerate(fds):
                os.dup2(fd, number, inheritable=True)
            syscalls.close_all_but({0, 1, 2, start.fileno()})
            launch.limit(self.process, others=descendants.count_of_user() if self.fake else None)
            os.umask(self.process.umask)
            for name in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(name, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.chdir("/")
            os.execve(command[0], command, environment)
        except BaseException as error:
            start.sendall(wire.dump({"error": wire.encode_error(error)}))
        os._exit(125)

    def _terminal(self, start: socket.socket) -> list[int]:
        master, slave = os.openpty()
        if any(self.process.window):
            termios.tcsetwinsize(slave, self.process.window)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        syscalls.send(start, b"terminal", [master])
        os.close(master)
        return [slave, slave, slave]

    # --- while it runs

    def _hear(self) -> None:
        """What the child says before exec, and its exec."""
        data, fds = syscalls.receive(self.start)
        if data.startswith(b"terminal"):
            self._tell({"terminal": True}, fds[:1])
            os.close(fds.pop(0))
        if data.endswith(b"start") and fds:
            self.listener = Recorder(fds.pop(), self.tree)
            self.listener.hurry()
            self.loop.watch(self.listener.fd, self._answer)
        if data.startswith(b"{"):
            self.error = wire.load(data)
        if not data:
            self.loop.unwatch(self.start.fileno())
            self._began()
        for fd in fds:
            os.close(fd)

    def _answer(self) -> None:
        assert self.listener is not None
        if self.listener.is_waiting():
            self.listener.answer()
        else:
            self.loop.unwatch(self.listener.fd)

    def _began(self) -> None:
        """PRoot is there; its first child is the process."""
        pidfd = -1
        while pidfd < 0:
            if self.pid < 0:
                return
            if first := descendants.children_of(self.pid):
                with contextlib.suppress(OSError):  # it has ended since
                    pidfd = os.pidfd_open(first[0])
            else:  # not there yet, or gone already: then PRoot would wait for what it left behind
                descendants.end_below(os.getpid(), except_for={self.pid})
                self.loop.turn(1)

        def over() -> None:
            """The process has ended; PRoot would wait for all that it left behind."""
            self.loop.unwatch(pidfd)
            os.close(pidfd)
            descendants.end_below(self.pid)
            descendants.end_below(os.getpid(), except_for={self.pid})

        self._tell({"process": True, "held": False}, [pidfd])
        self._tell({"began": True})
        self.loop.watch(pidfd, over)

    def _release(self) -> None:
        """The client has done what it wanted to do before the command begins, or wants it to end."""
        if not self.control.recv(16):
            return self._stop()
        self.loop.unwatch(self.control.fileno())
        self.loop.watch(self.control.fileno(), self._stop, select.POLLRDHUP)
        return self.start.sendall(b"go")

    def _tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        try:
            syscalls.send(self.control, wire.dump(message), fds)
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
        code = os.waitstatus_to_exitcode(status)
        for left in glob(f"/tmp/proot-{pid}-*"):
            shutil.rmtree(left, ignore_errors=True)
        if self.stopped:
            return self._finish({"error": wire.encode_error(BuildInterruptedError("interrupted"))})
        return self._finish({"result": {"exit_code": 128 - code if code < 0 else code, "refused": ""}})

    def _finish(self, answer: dict[str, Any]) -> None:
        if self.listener is not None:
            self.loop.unwatch(self.listener.fd)
            os.close(self.listener.fd)
            self.listener.close()
            self.listener.write_special()
        self.loop.unwatch(self.control.fileno())
        self._remove_stubs()
        self.cleanup.close()
        os.close(self.root)
        self.answer = self.error or answer
