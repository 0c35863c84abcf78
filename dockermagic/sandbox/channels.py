"""What the first process of a RUN speaks through, to its supervisor and to the companion."""

from __future__ import annotations

import socket
from typing import Any

from dockermagic.sandbox import packets, wire

__all__ = ["Records", "Status"]


class Status:
    """The channel to the supervisor; it closes itself when exec succeeds."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, data: bytes, fds: list[int] | None = None) -> None:
        """Write all of ``data``, and pass descriptors with it."""
        channel = socket.socket(fileno=self.fd)
        packets.send(channel, data, fds)
        channel.detach()

    def receive(self) -> tuple[bytes, list[int]]:
        """Some bytes and the descriptors that came with them; nothing at the end."""
        channel = socket.socket(fileno=self.fd)
        try:
            return packets.receive(channel)
        finally:
            channel.detach()


class Records(Status):
    """The channel to the companion, which knows this run by its number."""

    def __init__(self, channel: socket.socket, number: int) -> None:
        super().__init__(channel.fileno())
        self.number = number

    def tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Say what there is to record."""
        self.send(wire.dump({"run": self.number, **message}), fds)
