"""Ports where no network namespace keeps them apart: a server that cannot have its own has another one of the host's.

::

    FOLDER/tcp-80 -> 41233         a server listens at port 80; on the host that is 127.0.0.1:41233
    FOLDER/tcp-81 -> local:41234   the same, and only who is inside may come
    FOLDER/tcp-82 -> 0             published, and nobody listens yet
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

__all__ = ["MovedPorts", "is_here"]

_LOCAL = "local:"


def is_here(host: str) -> bool:
    """Whether a numeric address is this machine's loopback, or any of its addresses."""
    return host.removeprefix("::ffff:").startswith("127.") or host in ("::1", "::", "0.0.0.0")


class MovedPorts:
    """The ports of one container, as they stand in a directory, made when needed. Many processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, protocol: str, port: int) -> None:
        """Have whoever binds this port get another one: its own is needed for those who come from outside."""
        self._note(protocol, port, "0")

    def find(self, protocol: str, port: int) -> int | None:
        """Which port of the host it is; 0 is one that is published, None one that nobody has."""
        target = self._read(protocol, port)
        return None if target is None else int(target.removeprefix(_LOCAL))

    def reach(self, protocol: str, port: int) -> int | None:
        """The same for who comes from outside; None where no server waits for him."""
        target = self._read(protocol, port)
        return None if target is None or target.startswith(_LOCAL) else int(target) or None

    def bind(self, one: socket.socket, address: tuple[Any, ...]) -> bool:
        """Bind a socket to its address, or to another port of the loopback, always the same for the same port.

        Whether it was another one. Raises OSError as bind(2) does.
        """
        host, port = address[:2]
        protocol = "tcp" if one.type == socket.SOCK_STREAM else "udp"
        known = self.find(protocol, port)
        moved = known is not None and known != port
        if not moved:
            try:
                one.bind(address)
            except OSError as error:
                # Somebody else of this machine has it; of this container it would be known.
                if known is not None or error.errno not in (errno.EACCES, errno.EADDRINUSE):
                    raise
                moved = True
        if moved:
            one.bind((_loopback(one), known or 0))
        alone = is_here(host) and host.strip("0.:") != ""
        self._note(protocol, port, f"{_LOCAL if alone else ''}{one.getsockname()[1]}")
        return moved

    def connect(self, one: socket.socket, address: tuple[Any, ...]) -> bool:
        """Connect a socket to a server that was moved; False, and nothing is done, where it was not."""
        host, port = address[:2]
        known = self.find("tcp" if one.type == socket.SOCK_STREAM else "udp", port) if is_here(host) else None
        if not known or known == port:
            return False
        one.connect((_loopback(one), known))
        return True

    def _read(self, protocol: str, port: int) -> str | None:
        try:
            return os.readlink(self.folder / f"{protocol}-{port}")
        except FileNotFoundError:
            return None

    def _note(self, protocol: str, port: int, target: str) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        aside = self.folder / f".{os.getpid()}"
        os.symlink(target, aside)
        os.replace(aside, self.folder / f"{protocol}-{port}")


def _loopback(one: socket.socket) -> str:
    if one.family == socket.AF_INET:
        return "127.0.0.1"
    return "::1" if one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) else "::ffff:127.0.0.1"
