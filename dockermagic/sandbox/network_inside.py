"""What carries a container's network, beside it: called in the resident process's namespaces, where it may do so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls
from dockermagic.sandbox.moved_ports import MovedPorts

__all__ = ["forward", "pasta"]

_PIECE = 1 << 17
_IDLE = 120.0
_MOST_SENDERS = 256
_SPARED_FILES = 32
_SECONDS = 15.0


def pasta(*, namespace: int, command: list[str], emit: Callable[[Any], None]) -> None:
    """Run pasta on a network namespace until this process is ended; ``emit`` is called when the network is there."""
    # Without names, since this process is killed in the end: nothing stays. pasta writes its number when all is set up.
    ready, write = os.pipe()
    with tempfile.TemporaryFile() as said:
        words = [*command, "--pid", "/proc/self/fd/1", "--runas", "0", "--netns", "/proc/self/fd/0"]
        process = subprocess.Popen(
            words,
            stdin=namespace,
            stdout=write,
            stderr=said,
            preexec_fn=lambda: syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it would go along
        os.close(write)
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(os.pidfd_open(process.pid), select.POLLIN)
        if dict(poll.poll(_SECONDS * 1000)).get(ready, 0) & select.POLLIN:
            # From now on this process ends after it, when its ports are free. A handler would not do: Python runs none
            # in a wait that has just begun.
            awaited = {signal.SIGTERM, signal.SIGCHLD}
            signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
            emit("ready")
        else:
            process.kill()
            said.seek(0)
            lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if "syslog" not in line]
            raise SandboxError(
                f"pasta cannot give the container a network: {lines[-1] if lines else 'no answer'}",
                hint="DOCKERMAGIC_NETWORK=forwarder does without it, and without the outside network.",
            )
        while process.poll() is None:
            if signal.sigwait(awaited) == signal.SIGTERM:
                process.kill()


def forward(
    *,
    ports: list[tuple[int, str]],
    address: str,
    emit: Callable[[Any], None],
    namespace: int = -1,
    alone: bool = False,
    folder: str = "",
    **given: int,
) -> None:
    """Carry what comes to listening sockets (``port0``, ``port1``, ...) to those ports of a network namespace.

    The sockets stay where they were made, and what this process connects from now on is inside. ``alone``: the address
    has to be made first. Without a namespace the ports are those that stand in ``folder``, or the host's own.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if namespace >= 0:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        os.close(namespace)
    if alone:
        _give_address(address)
    carrier = _Carrier(address, MovedPorts(Path(folder)) if folder else None)
    for number, (port, protocol) in enumerate(ports):
        carrier.listen(socket.socket(fileno=given[f"port{number}"]), port, protocol)
    emit("ready")
    carrier.run()


def _give_address(address: str) -> None:
    """An address beside 127.0.0.1, so that a server that listens on that alone is not reached, as in Docker."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for request, value in ((0x8916, address), (0x891C, "255.255.255.255")):  # SIOCSIFADDR, SIOCSIFNETMASK
            packed = struct.pack("16sHH4s8x", b"lo:0", socket.AF_INET, 0, socket.inet_aton(value))
            with contextlib.suppress(OSError):
                fcntl.ioctl(probe, request, packed)


class _Carrier:
    """One loop over all connections; each is two sockets and what is on its way between them.

    When this process may open no more files, who connects waits until another one has gone.
    """

    def __init__(self, address: str, moved: MovedPorts | None = None) -> None:
        self.address = address
        self.moved = moved
        self.poll = select.epoll()
        self.heard: dict[int, Callable[[int], None]] = {}
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARED_FILES
        self.full: set[int] = set()

    def listen(self, listening: socket.socket, port: int, protocol: str) -> None:
        """Carry one port."""
        listening.setblocking(False)
        accept = self._accept if protocol == "tcp" else _Datagrams(self).came
        self.watch(listening, lambda events: accept(listening, port))

    def watch(self, one: socket.socket, heard: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call ``heard`` with what happens to a socket."""
        self.heard[one.fileno()] = heard
        self.poll.register(one.fileno(), events)

    def want(self, one: socket.socket, events: int | None) -> None:
        """Watch a socket for these events from now on; None: for nothing, not even its end."""
        try:
            if events is None:
                self.poll.unregister(one.fileno())
            else:
                self.poll.modify(one.fileno(), events)
        except FileNotFoundError:  # it was wanted for nothing
            if events is not None:
                self.poll.register(one.fileno(), events)

    def forget(self, one: socket.socket) -> None:
        """Watch a socket no more, and close it."""
        if self.heard.pop(one.fileno(), None) is not None:
            self.want(one, None)
        one.close()
        while self.full:
            self.poll.modify(self.full.pop(), select.EPOLLIN)

    def run(self) -> None:
        """Until this process is ended."""
        while True:
            for fd, events in self.poll.poll():
                heard = self.heard.get(fd)
                if heard is not None:
                    heard(events)

    def target(self, port: int, protocol: str) -> tuple[str, int]:
        """Where a port's server is; where none is, nobody answers."""
        return self.address, port if self.moved is None else self.moved.reach(protocol, port) or 0

    def _accept(self, listening: socket.socket, port: int) -> None:
        if len(self.heard) + 2 > self.most:
            self.full.add(listening.fileno())
            self.poll.modify(listening.fileno(), 0)
            return
        try:
            outside, _ = listening.accept()
        except OSError:
            return
        outside.setblocking(False)
        inside = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        inside.setblocking(False)
        for one in (outside, inside):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            if inside.connect_ex(self.target(port, "tcp")) not in (0, 115):  # EINPROGRESS
                outside.close()
                inside.close()
                return
        _Connection(self, outside, inside)


class _Connection:
    """Two sockets; what one says is said to the other, and no faster than that takes it."""

    def __init__(self, carrier: _Carrier, outside: socket.socket, inside: socket.socket) -> None:
        self.carrier = carrier
        self.other = {outside: inside, inside: outside}
        self.waits: dict[socket.socket, bytes] = {outside: b"", inside: b""}
        self.ended: set[socket.socket] = set()
        self.unheard: set[socket.socket] = set()
        for one in self.other:
            carrier.watch(one, partial(self._heard, one), self._events(one))

    def _events(self, one: socket.socket) -> int:
        events = select.EPOLLOUT if self.waits[one] else 0
        if not self.waits[self.other[one]] and one not in self.ended:
            events |= select.EPOLLIN
        return events

    def _heard(self, one: socket.socket, events: int) -> None:
        is_gone = events & (select.EPOLLHUP | select.EPOLLERR)
        try:
            if events & select.EPOLLOUT and self.waits[one]:
                self.waits[one] = self.waits[one][one.send(self.waits[one]) :]
            if (events & select.EPOLLIN or is_gone) and not self.waits[self.other[one]]:
                self._read(one)
            elif is_gone:  # which is said again and again: the other has to take what waits before there is more to do
                self.unheard.add(one)
            if len(self.ended) == 2 and not any(self.waits.values()):
                self._close()
                return
            for each, other in self.other.items():
                if not self.waits[other]:
                    self.unheard.discard(each)
                self.carrier.want(each, None if each in self.unheard else self._events(each))
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _read(self, one: socket.socket) -> None:
        if one in self.ended:
            raise OSError("closed on both sides")
        other = self.other[one]
        data = one.recv(_PIECE)
        if not data:
            self.ended.add(one)
            other.shutdown(socket.SHUT_WR)
            return
        try:
            sent = other.send(data)
        except BlockingIOError:
            sent = 0
        self.waits[other] = data[sent:]

    def _close(self) -> None:
        for one in self.other:
            self.carrier.forget(one)


class _Datagrams:
    """The datagrams of one port: a socket inside for each sender outside, while it speaks."""

    def __init__(self, carrier: _Carrier) -> None:
        self.carrier = carrier
        self.senders: dict[Any, tuple[socket.socket, float]] = {}

    def came(self, listening: socket.socket, port: int) -> None:
        """Carry one in, and its answers out."""
        try:
            data, sender = listening.recvfrom(1 << 16)
        except OSError:
            return
        now = time.monotonic()
        known = self.senders.pop(sender, None)
        self._forget_old(now)
        with contextlib.suppress(OSError):
            inside = known[0] if known else self._connect(listening, port, sender)
            self.senders[sender] = (inside, now)
            inside.send(data)

    def _forget_old(self, now: float) -> None:
        """The first has been silent for longest."""
        for sender, (inside, last) in list(self.senders.items()):
            if now - last <= _IDLE and len(self.senders) < _MOST_SENDERS:
                return
            self.carrier.forget(inside)
            del self.senders[sender]

    def _connect(self, listening: socket.socket, port: int, sender: Any) -> socket.socket:
        target = self.carrier.target(port, "udp")
        if not target[1]:
            raise ConnectionRefusedError  # nobody listens yet: the next datagram looks again
        inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        inside.setblocking(False)
        inside.connect(target)
        self.carrier.watch(inside, lambda events: self._answer(listening, inside, sender))
        return inside

    def _answer(self, listening: socket.socket, inside: socket.socket, sender: Any) -> None:
        with contextlib.suppress(OSError):
            listening.sendto(inside.recv(1 << 16), sender)
