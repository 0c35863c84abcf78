"""A network namespace of a process's own, with ports that answer on the host.

With ``pasta`` (Debian's package passt) and an openable ``/dev/net/tun`` it has the outside network, too, also for an
ordinary user. Without, it has a loopback alone, and published ports are carried in by a forwarder of ours. Where there
are no namespaces a process has the host's network, and the forwarder carries to the port that its server was moved to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockermagic.errors import DockermagicError, SandboxError
from dockermagic.sandbox.base import Cancel, Sandbox
from dockermagic.sandbox.moved_ports import MovedPorts
from dockermagic.sandbox.running import pid_of
from dockermagic.sandbox.ways import WAYS
from dockermagic.values import dataclass, replace

__all__ = ["LOCAL", "Network", "PortTakenError", "Published", "resolv_conf", "ways"]

ADDRESS, GATEWAY, RESOLVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
LOCAL = "127.0.0.1"
"""Where a port is published that names no address: on this machine alone."""
_INSIDE = "dockermagic.sandbox.network_inside"
_SECONDS = 20.0


class PortTakenError(SandboxError):
    """A port of the host cannot be had."""


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host that leads to one inside; ``host`` 0 is any that is free, with ``last`` any up to that."""

    container: int
    protocol: str
    host: int
    address: str = LOCAL
    last: int = 0

    @property
    def by_pasta(self) -> bool:
        """Whether pasta can carry it: its older versions lose answers to datagrams from the loopback, and its network
        is one of IPv4.
        """
        return self.protocol == "tcp" and ":" not in self.address


def ways() -> tuple[str, ...]:
    """How a namespace can be given a network here, the best first: ``pasta``, ``forwarder``.

    DOCKERMAGIC_NETWORK names one alone.
    """
    wanted = os.environ.get("DOCKERMAGIC_NETWORK", "")
    if wanted:
        if wanted not in ("pasta", "forwarder"):
            raise SandboxError(f"DOCKERMAGIC_NETWORK={wanted} is no way to a network", hint="It is pasta or forwarder.")
        return (wanted,)
    has_tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    return ("pasta", "forwarder") if has_tun and _pasta() else ("forwarder",)


def _pasta() -> str | None:
    import shutil

    return shutil.which("pasta") or shutil.which("pasta", path="/usr/bin:/usr/local/bin")


def resolv_conf(
    way: str, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> bytes | None:
    """What /etc/resolv.conf has to say inside; None where that of the host is right."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            host = [line.split() for line in file if line.strip() and line.lstrip()[0] not in "#;"]
    except OSError:
        host = []
    found = {name: [line[1:] for line in host if line[0] == name] for name in ("nameserver", "search", "options")}
    known = [words[0] for words in found["nameserver"] if words]
    if way == "pasta" and not servers:
        servers = [RESOLVER]  # pasta answers there for the host's, whose own address its older versions hide
    if not (servers or search or options):
        return None
    lines = [f"nameserver {server}" for server in servers or known]
    wanted = list(search) or [word for words in found["search"] for word in words]
    lines += [f"search {' '.join(wanted)}"] if wanted and wanted != ["."] else []
    given = list(options) or [word for words in found["options"] for word in words]
    lines += [f"options {' '.join(given)}"] if given else []
    return "\n".join(lines).encode() + b"\n"


class Network:
    """The network of one process: made before it, joined when its namespace is there, and closed after it.

    Making it takes the ports; raises PortTakenError where one is not to be had. ``ports`` then have their numbers.
    ``folder`` is the ``ports`` of the process, ``servers`` whom it asks for names instead of the
    host's. ``way`` is one of :func:`ways`, or ``host`` where there is no namespace.
    """

    def __init__(
        self, sandbox: Sandbox, ports: Sequence[Published], folder: Path, *, servers: Sequence[str] = ()
    ) -> None:
        self.sandbox = sandbox
        self.resolves = not servers
        self.folder = folder
        self.way = ways()[0] if WAYS[sandbox.mode].namespaces else "host"
        self.address = LOCAL if self.way == "host" else ADDRESS
        self.ports: list[Published] = []
        self._sockets: list[socket.socket] = []
        self._cancel = Cancel()
        self._threads: list[threading.Thread] = []
        self._error: DockermagicError | None = None
        try:
            for port in ports:
                self._take(port)
            if self.way == "host":
                self._move()
        except BaseException:
            self._release()
            raise

    def _take(self, port: Published) -> None:
        family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
        kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
        taken = socket.socket(family, kind)
        self._sockets.append(taken)
        if port.protocol == "tcp":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] is none of IPv4
        where = f"[{port.address}]" if family == socket.AF_INET6 else port.address
        first, last = port.host, max(port.host, port.last)
        try:
            for number in range(first, last + 1):
                with contextlib.suppress(OSError) if number < last else contextlib.nullcontext():
                    taken.bind((port.address, number))
                    break
            if port.protocol == "tcp":
                taken.listen(512)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                numbers = f"{first}-{last}" if last > first else f"{first}"
                raise PortTakenError(f"Bind for {where}:{numbers} failed: port is already allocated") from None
            hint = "Ports below 1024 are for root: publish a higher one." if error.errno == errno.EACCES else ""
            reason = os.strerror(error.errno or 0).lower()
            raise PortTakenError(f"listen {port.protocol} {where}:{port.host}: bind: {reason}", hint=hint) from None
        self.ports.append(replace(port, host=taken.getsockname()[1], last=0))

    def _move(self) -> None:
        """Have the servers behind published ports listen elsewhere; see whether they can, where that cannot be had."""
        if self.sandbox.call("dockermagic.sandbox.proot_calls:listens"):
            for port in self.ports:
                MovedPorts(self.folder).publish(port.protocol, port.container)
            return
        self.folder = Path()
        for port, taken in zip(self.ports, self._sockets, strict=True):
            if port.host == port.container:
                taken.close()  # the server takes it itself
                continue
            with socket.socket(taken.family, taken.type) as trial:
                try:
                    trial.bind((LOCAL, port.container))
                except OSError as error:
                    raise SandboxError(
                        f"a server cannot have port {port.container} of this machine: {error.strerror}",
                        hint="There is no network namespace here and no other way to give it one: have it listen at a"
                        " free port above 1023.",
                    ) from None

    def join(self, process: int) -> None:
        """Connect the network namespace of a process (a pidfd). Raises SandboxError where that cannot be done."""
        carried = [(port, one) for port, one in zip(self.ports, self._sockets, strict=True) if one.fileno() >= 0]
        if self.way == "host":
            folder = str(self.folder) if self.folder.name else ""
            self._forward(carried, {}, address=LOCAL, folder=folder)
            return self._release()
        namespace = os.open(f"/proc/{pid_of(process)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.way == "pasta":
                carried = [(port, one) for port, one in carried if not port.by_pasta]
                for port, one in zip(self.ports, self._sockets, strict=True):
                    if port.by_pasta:
                        one.close()
                command = [_pasta() or "pasta", *_options(self.ports, self.resolves)]
                self._start(f"{_INSIDE}:pasta", {"namespace": namespace}, command=command)
            if carried or self.way == "forwarder":
                alone = self.way == "forwarder"
                self._forward(carried, {"namespace": namespace}, address=ADDRESS, alone=alone)
            return self._release()
        finally:
            os.close(namespace)

    def _forward(self, carried: list[tuple[Published, socket.socket]], fds: dict[str, int], **arguments: Any) -> None:
        given = {f"port{number}": one.fileno() for number, (_, one) in enumerate(carried)}
        ports = [[port.container, port.protocol] for port, _ in carried]
        self._start(f"{_INSIDE}:forward", {**fds, **given}, ports=ports, **arguments)

    def _start(self, function: str, fds: dict[str, int], **arguments: Any) -> None:
        ready = threading.Event()
        kept = {name: os.dup(fd) for name, fd in fds.items()}

        def serve() -> None:
            try:
                self.sandbox.call(
                    function, fds=kept, cancel=self._cancel, output=lambda value: ready.set(), **arguments
                )
            except DockermagicError as error:
                self._error = error
            finally:
                for fd in kept.values():
                    os.close(fd)
                ready.set()

        thread = threading.Thread(target=serve, name="dockermagic-network", daemon=True)
        self._threads.append(thread)
        thread.start()
        if not ready.wait(_SECONDS):
            raise SandboxError("the container's network does not come up")
        if self._error is not None:
            raise self._error

    def _release(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    def close(self) -> None:
        """Let go of the ports and end what carries them. Idempotent."""
        self._release()
        self._cancel.set()
        for thread in self._threads:
            thread.join()


def _options(ports: Sequence[Published], resolves: bool) -> list[str]:
    words = ["--foreground", "--quiet", "--config-net", "--ipv4-only", "--no-map-gw", "--netns-only"]
    words += ["--address", ADDRESS, "--netmask", "24", "--gateway", GATEWAY]
    words += ["--dns-forward", RESOLVER] if resolves else []
    words += ["--ns-ifname", "eth0", "--tcp-ns", "none", "--udp-ns", "none"]
    chosen = [f"{port.address}/{port.host}:{port.container}" for port in ports if port.by_pasta]
    for spec in chosen or ["none"]:
        words += ["--tcp-ports", spec]
    return [*words, "--udp-ports", "none"]
