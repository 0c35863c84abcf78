"""What a single id cannot do, done for it: the listener of the filter that hands over changes of owner.

In a user namespace with one id, chown to another, a change of ids and the making of a device would fail, and with them
dpkg, rpm and most Dockerfiles. The calls are answered with success; an owner is recorded on the file, so that the layer
has it. ``stat`` goes on to show the own id.

The ids that a process gave itself are remembered and told to whoever asks (:mod:`.identities`): apt, su and the like
look whether they became what they wanted.

The answers are given from inside the process's mount namespace, where every path means what it means to the process.
The memory of a process may change while it is read; the worst that follows is that another file of the same root
filesystem is meant, which the process may change as well.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path

from dockermagic.oci.overlay import OVERRIDE, Ownership, Status, ownership_file
from dockermagic.sandbox import seccomp, syscalls
from dockermagic.sandbox.callers import AT_FDCWD, Callers, GoneError
from dockermagic.sandbox.identities import Ids, Processes, change, read_stat
from dockermagic.sandbox.syscall_numbers import numbers
from dockermagic.sandbox.trees import walk

__all__ = ["Listener", "Verdict", "c_int", "known_calls"]

# struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, instruction pointer, six arguments.
_RECEIVED = struct.Struct("QIIiIQ6Q")
# struct seccomp_notif_resp: id, val, error, flags.
_ANSWER = struct.Struct("QqiI")
_RECV = 0xC0502100
_SEND = 0xC0182101
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
_KEEP = 0xFFFFFFFF
_KEEP_16 = 0xFFFF
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_NGROUPS_MAX = 65536


class Verdict(Enum):
    """What becomes of a call that is given no value."""

    GO_ON = "the kernel carries it out as it is"
    ANSWERED = "it has its answer already"


class Listener(Callers):
    """Answers the filter's notifications.

    ``upper`` is the layer where they are written down; ``prefix`` is what stands before its paths where they are those
    of the host. ``groups`` are root's: its own one and the supplementary ones.
    """

    prefix = ""

    def __init__(self, fd: int, upper: Path | None, groups: Sequence[int] = (0,)) -> None:
        super().__init__(fd)
        self.upper = upper
        self.device = 0
        self.me = (0, 0)
        # What carries no attribute: links and special files, by device and inode.
        self.special: dict[tuple[int, int], tuple[str, Status]] = {}
        self.calls = known_calls()
        gid = groups[0] if groups else 0
        first = Ids(rgid=gid, egid=gid, sgid=gid, groups=tuple(groups))
        self.processes = Processes(lambda pid: read_stat(self.proc, pid), first)
        self.buffer = bytearray(_RECEIVED.size)

    def hurry(self) -> None:
        """Have the kernel switch to us and back without a detour, where it can (Linux 6.6)."""
        try:
            syscalls.ioctl(self.fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass

    def enter(self, namespace: int) -> None:
        super().enter(namespace)
        self.device = os.stat("/").st_dev

    def answer(self) -> None:
        """Take one notification and answer it. Quiet if the process that asked is gone."""
        self.buffer[:] = bytes(_RECEIVED.size)
        try:
            syscalls.ioctl(self.fd, _RECV, self.buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return
            raise
        identity, pid, _, number, arch, _, *arguments = _RECEIVED.unpack(self.buffer)
        call, bits = self.calls.get((arch, number & ~_x32(arch)), ("", 64))
        value: int | Verdict
        try:
            value, failed = self._do(call, bits, identity, pid, arguments), 0
        except OSError as error:
            value, failed = 0, error.errno or errno.EPERM
        except GoneError:
            return
        if value is Verdict.ANSWERED:
            return
        plain = (0, 0, _CONTINUE) if isinstance(value, Verdict) else (value, -failed, 0)
        try:
            syscalls.ioctl(self.fd, _SEND, _ANSWER.pack(identity, *plain))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _do(self, call: str, bits: int, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        """Carry the call out; its value."""
        if call.startswith("get"):
            return self._tell(call, bits, pid, arguments)
        if call in seccomp.SET_IDS:
            return self._set(call, bits, pid, arguments)
        if call == "fchown":
            fd = self.of(pid, identity, f"{pid}/fd/{c_int(arguments[0])}")
            self._chown(fd, arguments[1:3], bits, pid)
        elif call in ("chown", "lchown"):
            path = self.path(pid, arguments[0])
            fd = self.open(pid, identity, AT_FDCWD, path, follow=call == "chown")
            self._chown(fd, arguments[1:3], bits, pid)
        elif call == "fchownat":
            flags = arguments[4]
            path = self.path(pid, arguments[1])
            if not path and not flags & _AT_EMPTY_PATH:
                raise OSError(errno.ENOENT, "")
            follow = not flags & _AT_SYMLINK_NOFOLLOW
            fd = self.open(pid, identity, c_int(arguments[0]), path, follow=follow)
            self._chown(fd, arguments[2:4], bits, pid)
        elif call in ("mknod", "mknodat"):
            if self.processes.get(pid).euid != 0:
                raise OSError(errno.EPERM, "")
            at, name, mode, device = (AT_FDCWD, *arguments[:3]) if call == "mknod" else arguments[:4]
            self._mknod(pid, identity, c_int(at), self.path(pid, name), mode, device)
        return 0

    def _set(self, call: str, bits: int, pid: int, arguments: list[int]) -> int:
        before = self.processes.get(pid)
        keep = _KEEP if bits == 64 else _KEEP_16
        wanted: tuple[int | None, ...]
        if call == "setgroups":
            count, width = arguments[0] & _KEEP, 4 if bits == 64 else 2
            if count > _NGROUPS_MAX:
                raise OSError(errno.EINVAL, "")
            data = self.memory(pid, arguments[1], count * width) if count else b""
            wanted = struct.unpack(f"{count}{'I' if width == 4 else 'H'}", data)
        else:
            size = 3 if "res" in call else 2 if "re" in call else 1
            words = (word & keep for word in arguments[:size])
            wanted = tuple(None if word == keep and size > 1 else word for word in words)
        after = change(before, call, wanted)
        if after != before:
            self.processes.set(pid, after)
        if call.startswith("setfs"):
            return before.egid if call.endswith("gid") else before.euid
        return 0

    def _tell(self, call: str, bits: int, pid: int, arguments: list[int]) -> int:
        ids = self.processes.get(pid)
        if call in ("getuid", "geteuid", "getgid", "getegid"):
            return {"getuid": ids.ruid, "geteuid": ids.euid, "getgid": ids.rgid, "getegid": ids.egid}[call]
        form = "I" if bits == 64 else "H"
        if call == "getgroups":
            size = c_int(arguments[0])
            if size and size < len(ids.groups):
                raise OSError(errno.EINVAL, "")
            if size:
                self.store(pid, arguments[1], struct.pack(f"{len(ids.groups)}{form}", *ids.groups))
            return len(ids.groups)
        three = (ids.ruid, ids.euid, ids.suid) if call == "getresuid" else (ids.rgid, ids.egid, ids.sgid)
        for address, value in zip(arguments, three, strict=False):
            self.store(pid, address, struct.pack(form, value))
        return 0

    def _chown(self, fd: int, owner: list[int], bits: int, pid: int) -> None:
        try:
            keep = _KEEP if bits == 64 else _KEEP_16
            uid, gid = (value & keep for value in owner)
            ids = self.processes.get(pid)
            if ids.euid != 0 and (uid not in (keep, ids.euid) or gid not in (keep, ids.egid, *ids.groups)):
                raise OSError(errno.EPERM, "")
            name = str(fd)  # in /proc/self/fd, the working directory
            # Really done for what it does besides: it fails where it would fail, clears set-id bits, copies the file
            # up.
            os.chown(name, *self.me)
            found = os.fstat(fd)
            if not self._is_inside(name, found):
                return
            if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                self._record(name, found, uid, gid, keep, pid)
                return
            key = (found.st_dev, found.st_ino)
            place, before = self.special.get(key) or (os.readlink(name), Status(found.st_mode, 0, 0))
            wanted = Status(found.st_mode, before.uid if uid == keep else uid, before.gid if gid == keep else gid)
            self.special[key] = (place, wanted)
        finally:
            os.close(fd)

    def _is_inside(self, name: str, found: os.stat_result) -> bool:
        """Whether a file (by its name in /proc/self/fd) is one of the root filesystem."""
        return found.st_dev == self.device

    def _record(self, name: str, found: os.stat_result, uid: int, gid: int, keep: int, pid: int) -> None:
        record, tail = b"", ""
        if uid in (0, keep) or gid in (0, keep):
            try:
                record = os.getxattr(name, OVERRIDE)
            except OSError:
                if not (uid or gid):
                    return
        if record:
            if (uid == 0) != (gid == 0) and self._asks_first(pid):
                uid, gid = uid or keep, gid or keep
            old_uid, old_gid, *rest = record.decode("ascii", "replace").split(":")
            uid = int(old_uid) if uid == keep else uid
            gid = int(old_gid) if gid == keep else gid
            tail = f":{rest[1]}" if len(rest) > 1 else ""
        uid, gid = (0 if value == keep else value for value in (uid, gid))
        try:
            if uid or gid or tail:
                self._note(name, found, f"{uid}:{gid}:0{stat.S_IMODE(found.st_mode):o}{tail}".encode())
            elif record:
                self._note(name, found, b"")
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise

    def _note(self, name: str, found: os.stat_result, record: bytes) -> None:
        """Write the record on a file; an empty one takes it away."""
        if record:
            os.setxattr(name, OVERRIDE, record)
        else:
            os.removexattr(name, OVERRIDE)

    def _asks_first(self, pid: int) -> bool:
        """Whether the program puts what ``stat`` says, the own id, in the place of the id that it was not told to
        change.
        """
        try:
            return os.path.basename(os.readlink(f"{pid}/exe", dir_fd=self.proc)) == "busybox"
        except OSError:
            return False

    def _mknod(self, pid: int, identity: int, at: int, path: bytes, mode: int, device: int) -> None:
        """A device becomes an empty file that says what it is meant to be."""
        folder, name = os.path.split(path)
        fd = self.open(pid, identity, at, folder or b".", follow=True)
        try:
            mask = self.umask(pid)
            file = os.open(os.fsencode(str(fd)) + b"/" + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0)
        finally:
            os.close(fd)
        try:
            if not self._is_inside(str(file), os.fstat(file)):
                return
            kind = "char" if stat.S_ISCHR(mode) else "block"
            bits = mode & 0o7777 & ~mask
            major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
            self._note(str(file), os.fstat(file), f"0:0:0{bits:o}:{kind}-{major}-{minor}".encode())
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
        finally:
            os.close(file)

    def write_special(self) -> None:
        """Write the owners of links and special files beside the layer. After :meth:`leave`, when all is still."""
        if self.upper is None or not self.special:
            return
        owners = Ownership(ownership_file(str(self.upper)))
        moved: dict[int, Status] = {}
        found: list[tuple[str, Status]] = []
        for (_, inode), (place, wanted) in self.special.items():
            if not place.startswith(self.prefix):
                continue
            inside = self._find(place.removeprefix(self.prefix).lstrip("/"), inode, stat.S_IFMT(wanted.mode))
            if inside is None:
                moved[inode] = wanted
            else:
                found.append((inside, wanted))
        if moved:
            found += [
                (inside, moved[entry.inode()])
                for inside, entry in walk(str(self.upper))
                if entry.inode() in moved and not entry.is_dir(follow_symlinks=False)
            ]
        for inside, wanted in found:
            if wanted.uid or wanted.gid:
                owners.record(inside, wanted, file=None)
            else:
                owners.forget(inside)
        owners.save()

    def _find(self, place: str, inode: int, kind: int) -> str | None:
        """Where the file is now in the layer: at its place, or under another name beside it."""
        assert self.upper is not None
        folder = self.upper / os.path.dirname(place)
        if os.path.realpath(folder) != str(folder):
            return None
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.inode() == inode:
                        return os.path.join(os.path.dirname(place), entry.name)
            found = os.lstat(self.upper / place)
        except OSError:
            return None
        return place if stat.S_IFMT(found.st_mode) == kind else None


def c_int(value: int) -> int:
    """A C int that came as an unsigned word."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def _x32(arch: int) -> int:
    return 1 << 30 if arch == 0xC000003E else 0


@cache
def known_calls() -> dict[tuple[int, int], tuple[str, int]]:
    """What each number means: the call by its plain name, and 16 where its ids have 16 bits."""
    found = {}
    for arch, interface in seccomp.interfaces():
        known = numbers(interface)
        for call in (*seccomp.CHOWN, *seccomp.SET_IDS, *seccomp.GET_IDS, *seccomp.MKNOD, *seccomp.PROOT_CALLS):
            if call in known:
                short = interface in ("i386", "arm") and f"{call}32" in known
                found[arch, known[call]] = (call.removesuffix("32"), 16 if short else 64)
    return found
