"""The processes that a filter holds in a call: their memory and their files, as long as they wait for the answer.

Everything is looked at from inside the process's mount namespace, where every path means what it means to the process.
"""

from __future__ import annotations

import errno
import os
import struct

from dockermagic.sandbox import syscalls

__all__ = ["AT_FDCWD", "Callers", "GoneError"]

AT_FDCWD = -100

_ID_VALID = 0x40082102
_PATH_MAX = 4096


class GoneError(Exception):
    """The process that asked does not wait any more."""


class Callers:
    """Made before the process's mount namespace is entered; see :meth:`enter`.

    ``fd`` is the listener of the filter. A notification's ``identity`` says whether its process is still the one that
    asked: it is looked at after something of the process was opened, never before.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.own_fds = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, namespace: int) -> None:
        """Go where the process is."""
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        os.fchdir(self.own_fds)

    def leave(self) -> None:
        """Come back, so that the process's mounts can vanish, and close everything."""
        syscalls.setns(self.home, syscalls.CLONE_NEWNS)
        os.close(self.fd)
        self.close()

    def close(self) -> None:
        """Close what was opened for the work, but not the filter's listener; :meth:`leave` does it."""
        for fd in (self.proc, self.own_fds, self.home):
            os.close(fd)

    def memory(self, pid: int, address: int, size: int) -> bytes:
        """Bytes of a process's memory. Raises OSError(EFAULT)."""
        fd = os.open(f"{pid}/mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            data = os.pread(fd, size, address)
        except OSError:
            data = b""
        finally:
            os.close(fd)
        if len(data) < size:
            raise OSError(errno.EFAULT, "")
        return data

    def store(self, pid: int, address: int, data: bytes) -> None:
        """Write into a process's memory. Raises OSError(EFAULT)."""
        fd = os.open(f"{pid}/mem", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            os.pwrite(fd, data, address)
        except OSError:
            raise OSError(errno.EFAULT, "") from None
        finally:
            os.close(fd)

    def _valid(self, identity: int) -> None:
        try:
            syscalls.ioctl(self.fd, _ID_VALID, struct.pack("Q", identity))
        except OSError:
            raise GoneError from None

    def path(self, pid: int, address: int) -> bytes:
        """The path that stands there in a process's memory. Raises OSError(EFAULT, ENAMETOOLONG)."""
        fd = os.open(f"{pid}/mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            # Up to the end of the page first: what follows may not be mapped.
            size = min(_PATH_MAX, 4096 - address % 4096)
            data = os.pread(fd, size, address)
            if b"\0" not in data and size < _PATH_MAX:
                data += os.pread(fd, _PATH_MAX - size, address + size)
        except OSError:
            raise OSError(errno.EFAULT, "") from None
        finally:
            os.close(fd)
        path, end, _ = data.partition(b"\0")
        if not end:
            raise OSError(errno.ENAMETOOLONG, "")
        return path

    def of(self, pid: int, identity: int, name: str) -> int:
        """What a link of the process's /proc directory stands for."""
        try:
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=self.proc)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "") from None
        try:
            self._valid(identity)
        except GoneError:
            os.close(fd)
            raise
        return fd

    def open(self, pid: int, identity: int, at: int, path: bytes, *, follow: bool) -> int:
        """The file that ``path`` means to the process, as O_PATH."""
        start = self.of(pid, identity, f"{pid}/cwd" if at == AT_FDCWD else f"{pid}/fd/{at}")
        if not path:
            return start
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        root = self._foreign_root(pid)
        try:
            if root is None:
                return os.open(path, flags, dir_fd=start)
            os.fchdir(root)
            os.chroot(".")
            try:
                return os.open(path, flags, dir_fd=start)
            finally:
                # Entering the namespace once more is the way out: it ends at its own root.
                self._enter_again()
        finally:
            os.close(start)
            if root is not None:
                os.close(root)

    def _foreign_root(self, pid: int) -> int | None:
        """The root directory of a process that has changed it; None for the common one."""
        name = f"{pid}/root"
        found, ours = os.stat(name, dir_fd=self.proc), os.stat("/")
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            return None
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc)

    def _enter_again(self) -> None:
        namespace = os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            self.enter(namespace)
        finally:
            os.close(namespace)

    def umask(self, pid: int) -> int:
        """The umask of a process."""
        fd = os.open(f"{pid}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            for line in os.read(fd, 4096).splitlines():
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
        finally:
            os.close(fd)
        return 0o022
