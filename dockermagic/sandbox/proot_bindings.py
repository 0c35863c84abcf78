"""What stands around a process below PRoot: a place in its root for everything that PRoot puts there.

PRoot would make what is missing, and take it away, in its own way: so it is made here, and gone again after the run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dockermagic.errors import SandboxError
from dockermagic.sandbox import leftovers, syscalls
from dockermagic.sandbox.base import Mount, Process, Subpath
from dockermagic.sandbox.hosts import network_files

__all__ = ["Bindings"]

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


class Bindings:
    """The directory that is the root of a process, and what is bound over it. ``scratch`` goes with the run."""

    def __init__(self, tree: Path, process: Process, scratch: Path) -> None:
        self.tree = tree
        self.process = process
        self.scratch = scratch
        self.root = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.bound: list[tuple[str, str]] = []
        self.made: list[str] = []
        self.stubs: list[tuple[str, bool]] = []
        self.times: dict[str, int] = {}
        self.after: dict[str, int] = {}

    def open(self, path: str, flags: int) -> int:
        """Open a path of the root as a process in it would."""
        return syscalls.open_in_root(self.root, path, flags)

    def enter_directory(self, path: str, *, make: bool) -> None:
        """See that the working directory is there; what is made of it stays in the layer. Raises SandboxError."""
        try:
            if make:
                self.made += self._missing(path)
            else:
                os.close(self.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise SandboxError(f"working directory {path}: {error.strerror}") from error

    def _missing(self, path: str) -> list[str]:
        """Make a directory and its parents as far as they are missing; what was made."""
        made = []
        place = "/"
        for part in path.strip("/").split("/"):
            above, place = place, os.path.join(place, part)
            try:
                os.close(self.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            except FileNotFoundError:
                parent = self.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
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
            os.close(self.open(path, os.O_PATH | os.O_CLOEXEC))
            return
        except OSError:
            pass
        try:
            above, name = os.path.split(path)
            self.stubs += [(made, True) for made in self._missing(path if directory else above)]
            if not directory:
                parent = self.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._remember(parent)
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                    self.stubs.append((os.path.join(self._inside(parent), name), False))
                finally:
                    os.close(parent)
        except OSError as error:
            raise SandboxError(f"mount point {path}: {error.strerror}") from error

    def close(self) -> None:
        """Take away what was made for the run."""
        found = []
        for path, directory in self.stubs:
            above = os.path.dirname(path)
            try:
                now = os.stat(f"{self.tree}{above}", follow_symlinks=False)
            except OSError:
                continue
            found.append(leftovers.Stub(path, directory, self.times[above], self.after.get(above, -1), now.st_ctime_ns))
        leftovers.remove_stubs(self.tree, found, is_layer=False)
        os.close(self.root)

    def binds(self) -> list[tuple[str, str]]:
        """Paths of the host, each with the path at which the process finds it; all is made ready."""
        for place in ("/dev", "/proc", "/sys"):
            self._stub(place)
        self.stubs.clear()  # these stay, as in BuildKit
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
                inside = device / target.removeprefix("/dev/")
                if not inside.exists():
                    (inside if directory else inside.parent).mkdir(parents=True, exist_ok=True)
                    None if directory else inside.touch()
            else:
                self._stub(target, directory=directory)
        self._note_times()
        self.bound = binds
        return binds

    def _note_times(self) -> None:
        self.after = {path: os.stat(f"{self.tree}{path}").st_mtime_ns for path in self.times}

    def look(self, path: str, flags: int) -> int:
        """The same as :meth:`open` when all is bound; a link of one that leads into another is not followed."""
        path = os.path.normpath(path)
        for source, target in reversed(self.bound):
            if path == target:
                return os.open(source, flags)
            if path.startswith(f"{target}/") and os.path.isdir(source):
                root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    return syscalls.open_in_root(root, path[len(target) :], flags)
                finally:
                    os.close(root)
        return self.open(path, flags)

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
