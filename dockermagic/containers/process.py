"""What a container's record comes to: the process, its mounts, and what has to be set up before its command begins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.containers.container import merge_env
from dockermagic.containers.limits import Limits
from dockermagic.containers.request import Bind, ExecRequest, Port
from dockermagic.errors import ContainerError
from dockermagic.oci import lock
from dockermagic.sandbox.base import Mount, Process, Rootfs, Subpath
from dockermagic.sandbox.network import LOCAL, Network, PortTakenError, Published, resolv_conf
from dockermagic.sandbox.ways import WAYS

if TYPE_CHECKING:
    from dockermagic.containers.supervisor import Supervisor

__all__ = ["exec_process", "process_of"]

_NO_OUTSIDE = "it reaches no other network: for that install pasta (package passt), with /dev/net/tun open to users"
_WRITABLE_MOUNT = "read-only mounts can be written to: nothing here can forbid it"
_WRITABLE = "dockermagic.containers.writable"


def process_of(supervisor: Supervisor, stack: contextlib.ExitStack) -> tuple[Process, Callable[[int], None] | None]:
    """The process of a container, and what to do with its pidfd before it begins; ``stack`` undoes it afterwards."""
    container = supervisor.container
    request, launch = container.request, container.launch
    mounts = [
        Mount("bind", bind.target, _source(supervisor, number, bind), bind.readonly)
        for number, bind in enumerate(container.binds)
    ]
    mounts += [
        Mount(
            "tmpfs",
            tmpfs.target,
            readonly=tmpfs.readonly,
            size=tmpfs.size,
            mode=tmpfs.mode,
            uid=tmpfs.uid,
            gid=tmpfs.gid,
            noexec=tmpfs.noexec,
        )
        for tmpfs in request.tmpfs
    ]
    if request.toolbox:
        mounts.append(Mount("bind", "/.debug", Subpath(Rootfs(request.toolbox)), readonly=True))
    network = _network(supervisor, stack)
    resolver = resolv_conf(network.way if network else "", request.dns, request.dns_search, request.dns_options)
    if resolver is not None and all(mount.target != "/etc/resolv.conf" for mount in mounts):
        mounts.append(Mount("file", "/etc/resolv.conf", content=resolver, mode=0o644, readonly=request.read_only))
    limits = Limits(f"dockermagic-{container.id[:12]}", request.memory, request.cpus, request.pids)
    stack.callback(limits.close)
    limits.prepare()
    notes = [*limits.notes, *([_NO_OUTSIDE] if network and network.way == "forwarder" else [])]
    if any(mount.readonly for mount in mounts) and not WAYS[supervisor.sandbox.mode].namespaces:
        notes.append(_WRITABLE_MOUNT)
    supervisor.note(groups=tuple(map(str, limits.groups)), notes=tuple(notes), out_of_memory=False)

    def prepare(process: int) -> None:
        limits.join(process)
        if network is not None:
            network.join(process)

    process = Process(
        args=launch.args,
        env=launch.env,
        cwd=launch.cwd,
        user=launch.user,
        hostname=launch.hostname,
        network=supervisor.state.network,
        mounts=tuple(sorted(mounts, key=lambda mount: mount.target.count("/"))),
        tty=request.tty,
        shm_size=request.shm_size,
        extra_hosts=request.add_hosts,
        readonly_root=request.read_only,
        writable_hosts=not request.read_only,
        window=request.window,
        init=request.init,
        ports=str(_ports_of(supervisor)),
        cap_add=request.cap_add,
        cap_drop=request.cap_drop,
        ulimits=(*request.ulimits, *limits.ulimits),
        groups=request.groups,
    )
    return process, prepare if network is not None or limits.groups else None


def _network(supervisor: Supervisor, stack: contextlib.ExitStack) -> Network | None:
    """The network of a container that has one of its own, with its ports taken; the state says which."""
    container = supervisor.container
    if _ports_of(supervisor).exists():  # of a run before
        import shutil

        shutil.rmtree(_ports_of(supervisor), ignore_errors=True)
    if container.network != "bridge":
        supervisor.note(network=container.network, ports=(), address="")
        return None
    wanted = [
        Published(port.container, port.protocol, port.host, port.host_ip or LOCAL, port.last)
        for port in container.wanted_ports
    ]
    try:
        network = Network(supervisor.sandbox, wanted, _ports_of(supervisor), servers=container.request.dns)
    except PortTakenError as error:
        where = f"{container.name} ({container.id})"
        raise ContainerError(
            f"driver failed programming external connectivity on endpoint {where}: {error.message}",
            hint=error.hint or "`ps` shows which container has it, if one of yours has.",
        ) from None
    stack.callback(network.close)
    ports = tuple(Port(one.container, one.protocol, one.host, one.address) for one in network.ports)
    supervisor.note(network="own", ports=ports, address=network.address)
    return network


def _ports_of(supervisor: Supervisor) -> Path:
    """Where its ports stand while it runs, if no namespace keeps them apart."""
    return supervisor.place.path / "ports"


def exec_process(supervisor: Supervisor, request: ExecRequest) -> Process:
    """One more process of a container that runs."""
    container = supervisor.container
    launch = container.launch
    env = dict(launch.env)
    if request.tty:
        env.setdefault("TERM", "xterm")
    env = merge_env([f"{name}={value}" for name, value in env.items()], request.env)
    cwd = request.workdir or launch.cwd
    if not cwd.startswith("/"):
        raise ContainerError(
            f"the working directory '{cwd}' is invalid, it needs to be an absolute path", exit_code=126
        )
    return Process(
        args=request.command,
        env=env,
        cwd=cwd,
        user=request.user or launch.user,
        hostname=launch.hostname,
        extra_hosts=container.request.add_hosts,
        network=supervisor.state.network or "host",
        ports=str(_ports_of(supervisor)),
        tty=request.tty,
        window=request.window,
        cap_add=("ALL",) if request.privileged else container.request.cap_add,
        cap_drop=() if request.privileged else container.request.cap_drop,
        ulimits=container.request.ulimits,
        groups=container.request.groups,
    )


def _source(supervisor: Supervisor, number: int, bind: Bind) -> Path:
    """The directory or file behind a bind, made where Docker makes it."""
    try:
        if bind.path is not None:
            if not bind.path.exists():
                bind.path.mkdir(parents=True)
            return bind.path.resolve()
        if bind.volume:
            place = supervisor.shelf.volumes.make(bind.volume)
        else:
            place = supervisor.place.path / "volumes" / str(number)
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContainerError(
            f"error while creating mount source path '{bind.path or bind.volume}': {os.strerror(error.errno or 0)}"
        ) from None
    if bind.copy:
        with lock.hold(place.parent / ".lock"):
            supervisor.sandbox.call(
                f"{_WRITABLE}:fill",
                mounts={"root": Rootfs(supervisor.container.lowers)},
                path=bind.target,
                target=str(place),
            )
    return place
