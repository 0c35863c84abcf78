"""The socket of a container's supervisor: one connection, one question, one answer.

Question and answer are each a line of JSON, with descriptors where they need them. Only the store's owner can reach the
socket: it lies in a directory closed to others.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dockermagic.errors import ContainerError, DockermagicError
from dockermagic.sandbox import packets, wire

__all__ = ["Door", "Handler", "Line", "ask", "connect"]

_PATIENCE = 5.0
Handler = Callable[["Line", Mapping[str, Any], list[int]], None]
"""Answers a question on its line, in a thread of its own; descriptors that came with it are its own to close."""


class Line:
    """One connection, on either side. Closed by whoever opened it; a context manager."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._rest = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()

    def send(self, message: Mapping[str, Any], fds: list[int] | None = None) -> None:
        """Say something. Raises OSError where nobody is there."""
        packets.send(self.channel, wire.dump(message), fds)

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, to somebody who may be gone."""
        with contextlib.suppress(OSError):
            self.send({"error": wire.encode_error(error)})

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """What is said, and the descriptors that came with it; nothing at the end. Raises the error that was sent."""
        found: list[int] = []
        while b"\n" not in self._rest:
            try:
                piece, fds = packets.receive(self.channel)
            except ConnectionResetError:
                return {}, found
            found += fds
            if not piece:
                return {}, found
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        message: dict[str, Any] = wire.load(line)
        if "error" in message:
            raise wire.decode_error(message["error"])
        return message, found

    def bytes(self) -> bytes:
        """Whatever comes next, as it is; b"" at the end."""
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        try:
            return self.channel.recv(1 << 17)
        except ConnectionResetError:
            return b""


def connect(path: Path) -> Line:
    """A line to the socket at ``path``. Raises OSError where nobody listens."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with packets.address_of(path) as address:
            channel.connect(address)
    except BaseException:
        channel.close()
        raise
    return Line(channel)


def ask(
    path: Path, question: Mapping[str, Any], fds: list[int] | None = None
) -> tuple[Line, dict[str, Any], list[int]]:
    """Ask, and give the line, on which more may come, the answer, and its descriptors.

    Raises ContainerError, with 1, where nobody is there to answer, and the error that was answered.
    """
    try:
        line = connect(path)
    except OSError:
        raise ContainerError("the container is not running", exit_code=1) from None
    try:
        line.send(question, fds)
        answer, found = line.receive()
        if not answer:
            raise ContainerError("the container's supervisor is gone", exit_code=1)
        return line, answer, found
    except OSError:
        line.channel.close()
        raise ContainerError("the container is not running", exit_code=1) from None
    except BaseException:
        line.channel.close()
        raise


class Door:
    """Listens at ``path`` and has ``handler`` answer, until it is closed; a context manager."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        with packets.address_of(path) as address:
            self._listening.bind(address)
        self._listening.listen(64)
        self._answering: set[threading.Thread] = set()
        self._thread = threading.Thread(target=self._listen, name="dockermagic-door", daemon=True)

    def __enter__(self) -> Door:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for thread in list(self._answering):  # who asked is answered
            thread.join(_PATIENCE)

    def _listen(self) -> None:
        while True:
            try:
                channel, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(channel,), name="dockermagic-answer", daemon=True)
            self._answering.add(thread)
            thread.start()

    def _serve(self, channel: socket.socket) -> None:
        try:
            self._answer(channel)
        finally:
            self._answering.discard(threading.current_thread())

    def _answer(self, channel: socket.socket) -> None:
        with Line(channel) as line:
            fds: list[int] = []
            try:
                question, fds = line.receive()
                if question:
                    self._handler(line, question, fds)
            except (DockermagicError, OSError, ValueError, KeyError) as error:
                line.fail(error)
            finally:
                for fd in fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)
