"""The system calls that Python's standard library does not have, through ctypes. Linux only; nothing is loaded at
import.

Each raises OSError with errno and the path that was meant.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from functools import cache
from typing import Any

__all__ = [
    "capget",
    "capset",
    "close_all_but",
    "ioctl",
    "join_new_session_keyring",
    "make_private",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_in_root",
    "open_tree",
    "pivot_root",
    "prctl",
    "set_loopback_up",
    "sethostname",
    "setns",
    "syncfs",
    "syscall",
    "umount",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_SYMLINKS = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# Same numbers on every architecture since Linux 5.1; the others stand in _NUMBERS.
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_CLOSE_RANGE = 436
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capget": 125, "capset": 126, "keyctl": 250, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "capget": 90, "capset": 91, "keyctl": 219, "seccomp": 277},
}


@cache
def libc() -> Any:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


@cache
def number(name: str) -> int:
    """The number of a system call on this machine."""
    machine = os.uname().machine
    try:
        return _NUMBERS[machine][name]
    except KeyError:
        raise OSError(38, f"no system call {name} known for {machine}") from None


def _check(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(path) if path else None)
    return result


def syscall(number: int, *arguments: Any, path: str | None = None) -> int:
    """Any system call; integers are passed as C long."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _check(libc().syscall(ctypes.c_long(number), *words), path)


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``. Raises OSError, whose ENOSPC is not that of a full disk."""
    try:
        _check(libc().unshare(flags))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.EUSERS, "no more namespaces may be made (sysctl user.max_*_namespaces)") from None


def setns(fd: int, kind: int = 0) -> None:
    """Enter the namespace behind ``fd``."""
    _check(libc().setns(fd, kind))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    where = os.fsencode(target)
    _check(
        libc().mount(
            os.fsencode(source),
            where,
            kind.encode() or None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        where,
    )


def make_private() -> None:
    """No mount event of this namespace leaves it, and none comes in."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    where = os.fsencode(target)
    _check(libc().umount2(where, flags), where)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(libc().syscall(ctypes.c_long(number("pivot_root")), os.fsencode(new), os.fsencode(old)), new)


def open_tree(path: str, *, recursive: bool = False, directory: int = AT_FDCWD, empty: bool = False) -> int:
    """A detached copy of the mount at ``path`` as a descriptor, for :func:`move_mount`; it vanishes if it is closed
    unused.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (AT_EMPTY_PATH if empty else 0)
    return _check(
        libc().syscall(
            ctypes.c_long(SYS_OPEN_TREE), ctypes.c_long(directory), os.fsencode(path), ctypes.c_ulong(flags)
        ),
        path,
    )


def move_mount(tree: int, target: str, *, source: str = "", source_directory: int = AT_FDCWD) -> None:
    """Attach the detached mount ``tree`` and close it; or, with -1, the mount at ``source`` with all on top of it."""
    try:
        _check(
            libc().syscall(
                ctypes.c_long(SYS_MOVE_MOUNT),
                ctypes.c_long(tree if tree >= 0 else source_directory),
                os.fsencode(source),
                ctypes.c_long(AT_FDCWD),
                os.fsencode(target),
                ctypes.c_ulong((MOVE_MOUNT_F_EMPTY_PATH if tree >= 0 else 0) | MOVE_MOUNT_T_SYMLINKS),
            ),
            target,
        )
    finally:
        if tree >= 0:
            os.close(tree)


def mount_setattr(path: str, attributes: int, *, directory: int = AT_FDCWD, recursive: bool = False) -> None:
    """Add mount attributes; with ``path`` empty to the mount behind ``directory``."""
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    data = struct.pack("QQQQ", attributes, 0, 0, 0)
    _check(
        libc().syscall(
            ctypes.c_long(SYS_MOUNT_SETATTR),
            ctypes.c_long(directory),
            os.fsencode(path),
            ctypes.c_ulong(flags),
            data,
            ctypes.c_ulong(len(data)),
        ),
        path,
    )


def prctl(option: int, *words: int) -> int:
    """prctl(2)."""
    padded = [ctypes.c_ulong(word) for word in (*words, 0, 0, 0, 0)[:4]]
    return _check(libc().prctl(option, *padded))


def set_name(name: str) -> None:
    """Name this thread, as /proc/PID/comm and ps show it: 15 bytes."""
    _check(libc().prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), *[ctypes.c_ulong(0)] * 3))


def capget() -> int:
    """The permitted capabilities of this thread."""
    header = struct.pack("Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    _check(libc().syscall(ctypes.c_long(number("capget")), header, data))
    words = struct.unpack("IIIIII", data.raw)
    return int(words[1] | words[4] << 32)


def capset(permitted: int, inheritable: int = 0) -> None:
    """Make ``permitted`` the permitted and effective capabilities of this thread."""
    header = struct.pack("Ii", 0x20080522, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    low_inherited, high_inherited = inheritable & 0xFFFFFFFF, inheritable >> 32
    data = struct.pack("IIIIII", low, low, low_inherited, high, high, high_inherited)
    _check(libc().syscall(ctypes.c_long(number("capset")), header, data))


def sethostname(name: str) -> None:
    """The host name of this UTS namespace."""
    data = os.fsencode(name)
    _check(libc().sethostname(data, ctypes.c_size_t(len(data))))


def join_new_session_keyring() -> None:
    """Leave the keys of the session that started us; quiet where the kernel has no keyrings."""
    libc().syscall(ctypes.c_long(number("keyctl")), ctypes.c_long(1), None)


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open ``path`` as if the directory ``root`` were "/": no link and no ".." leads out of it (Linux 5.6)."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    return _check(
        libc().syscall(
            ctypes.c_long(SYS_OPENAT2), ctypes.c_long(root), os.fsencode(path), how, ctypes.c_ulong(len(how))
        ),
        path,
    )


def ioctl(fd: int, request: int, data: int | bytes | bytearray) -> None:
    """ioctl(2); a bytearray is written to."""
    import fcntl

    if isinstance(data, bytearray):
        fcntl.ioctl(fd, request, data, True)
    else:
        fcntl.ioctl(fd, request, data)


def syncfs(fd: int) -> None:
    """Write the file system of ``fd`` through to its disk."""
    _check(libc().syncfs(fd))


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor that is not in ``kept``."""
    first = 0
    for fd in [*sorted(kept), 0xFFFFFFFF]:
        words = ctypes.c_long(SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(max(first, fd - 1)), 0
        if first < fd and libc().syscall(*words) < 0:
            os.closerange(first, min(fd, os.sysconf("SC_OPEN_MAX")))
        first = fd + 1


def set_loopback_up() -> None:
    """Raise ``lo`` in this network namespace."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH22x", b"lo", 1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(probe, 0x8914, request)  # SIOCSIFFLAGS
