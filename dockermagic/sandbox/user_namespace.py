"""How a process becomes id 0 of a user namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from dockermagic.sandbox import syscalls

__all__ = ["enter_user_namespace"]


def enter_user_namespace(mode: str, mapped: Callable[[int], None]) -> None:
    """Become id 0 of a user namespace as ``mode`` wants it; root stays where it is.

    ``mapped`` gets the process id and returns when somebody outside has written the map of a range.
    """
    if mode == "root":
        return
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    if mode == "single":
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    else:
        mapped(os.getpid())
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
