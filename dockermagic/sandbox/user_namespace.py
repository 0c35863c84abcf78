"""How a process becomes id 0 of a user namespace of its own."""

from __future__ import annotations

import os
import socket

from dockermagic.errors import SandboxUnavailableError
from dockermagic.sandbox import idmap, syscalls, wire

__all__ = ["enter_user_namespace"]


def enter_user_namespace(mode: str) -> None:
    """Become id 0 of a user namespace as ``mode`` wants it; root stays where it is.

    Raises SandboxUnavailableError where a range of ids is refused.
    """
    if mode == "root":
        return
    uid, gid = os.getuid(), os.getgid()
    mapper = _mapper() if mode == "range" else None
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    if mapper is None:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    else:
        _have_mapped(mapper)
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _mapper() -> socket.socket:
    """A child that stays outside, where a range can be mapped from, and does so when it is told to."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        if theirs.recv(1):
            try:
                idmap.write_ranges(os.getppid())
                answer = {}
            except (SandboxUnavailableError, OSError) as refused:
                answer = wire.encode_error(refused)
            theirs.sendall(wire.dump(answer))
    finally:
        os._exit(0)


def _have_mapped(mapper: socket.socket) -> None:
    with mapper:
        mapper.sendall(b".")
        refused = wire.load(wire.line(mapper))
    os.wait()
    if refused:
        raise wire.decode_error(refused)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
