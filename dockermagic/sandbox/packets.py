"""Bytes and descriptors through a socket, and the address of one."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["address_of", "receive", "receive_from", "send"]


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """A socket's path that is short enough, wherever it lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def send(channel: socket.socket, data: bytes, fds: list[int] | None = None) -> None:
    """One packet, or the start of a stream, with descriptors; a stream's remainder follows."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = channel.sendmsg([data], ancillary)
    if sent < len(data):
        channel.sendall(data[sent:])


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """What :func:`send` sent; empty data is the end. Descriptors arrive close-on-exec."""
    data, fds, _ = receive_from(channel)
    return data, fds


def receive_from(channel: socket.socket) -> tuple[bytes, list[int], int]:
    """The same, with the sender's process id as it is called here, where SO_PASSCRED is set; else 0."""
    fds = array.array("i")
    pid = 0
    room = socket.CMSG_SPACE(253 * fds.itemsize) + socket.CMSG_SPACE(12)
    try:
        data, ancillary, _, _ = channel.recvmsg(1 << 18, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # it ended with words of ours unread: told once, before its own last words
        data, ancillary, _, _ = channel.recvmsg(1 << 18, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            (pid,) = struct.unpack("i", content[:4])
    return data, list(fds), pid
