"""What is asked of a container and what comes of it: frozen values, and Docker's rules that turn them into a process.

Nothing here touches the system; :func:`resolve` is a table's worth of rules.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dockermagic.errors import ContainerError
from dockermagic.sandbox.base import Ulimit

__all__ = [
    "Bind",
    "Container",
    "ContainerResult",
    "ExecRequest",
    "Health",
    "Launch",
    "Port",
    "RunRequest",
    "State",
    "Tmpfs",
    "Usage",
    "merge_env",
    "parse_volume",
    "resolve",
    "signal_number",
]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_OPTIONS = frozenset(("ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", *_PROPAGATION))


@dataclass(frozen=True, slots=True)
class Bind:
    """One ``-v``: a directory or file of the host, or a named volume, at ``target``; exactly one source is set or none.

    With neither it is an anonymous volume: a directory that lives as long as the container. An empty volume is given
    what the image has at ``target``, unless ``copy`` is false.
    """

    target: str
    path: Path | None = None
    volume: str = ""
    readonly: bool = False
    copy: bool = True


@dataclass(frozen=True, slots=True)
class Port:
    """One published port. ``host`` 0 is any that is free; ``host_ip`` '' is this machine alone, 127.0.0.1."""

    container: int
    protocol: str = "tcp"
    host: int = 0
    host_ip: str = ""

    def __str__(self) -> str:
        return f"{self.container}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Health:
    """How to find out whether a container is well; times are in seconds, and 0 leaves it to the image.

    ``test`` is as in an image's config: ``("CMD", word...)``, ``("CMD-SHELL", line)`` or ``("NONE",)``.
    """

    test: tuple[str, ...] = ()
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """One ``--tmpfs``: ``size`` in bytes, 0 is half of memory."""

    target: str
    size: int = 0
    mode: int = 0o1777
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One ``docker run``.

    ``entrypoint`` None is the image's own, ``()`` is none. ``env`` is in order; a value of None removes the name.
    ``stdin`` is a file descriptor that the process's input comes from; without one it comes from whoever attaches, if
    ``open_stdin``, else it is at its end. With ``tty`` the process has a terminal of its own, as large as that behind
    ``stdin`` or as ``window`` (rows, columns), and one stream of output. ``remove`` deletes the container at its end.
    ``network`` is ``default``, ``host``, ``none`` or ``bridge``; a port makes ``default`` a bridge. ``memory`` is in
    bytes; a limit of 0 is none. ``restart`` is ``no``, ``on-failure``, ``always`` or ``unless-stopped``, with at most
    ``restart_max`` restarts (0: no end) after failures. ``health`` overrides the image's. ``toolbox`` are the layers of
    ``debug_image``, mounted read-only at /.debug.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[tuple[str, str | None], ...] = ()
    workdir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    tty: bool = False
    stdin: int | None = None
    open_stdin: bool = False
    hostname: str = ""
    read_only: bool = False
    network: str = "default"
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    name: str = ""
    remove: bool = False
    add_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    labels: Mapping[str, str] = field(default_factory=dict)
    window: tuple[int, int] = (0, 0)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    restart: str = "no"
    restart_max: int = 0
    stop_signal: str = ""
    stop_timeout: int = 10
    health: Health | None = None
    init: bool = False
    debug_image: str = ""
    pull: str = "missing"
    toolbox: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """One ``docker exec``; what it does not say is as in the container. ``stdin`` is as for a run."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str | None], ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    stdin: int | None = None
    window: tuple[int, int] = (0, 0)
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """How a container stands; this is all of it that changes. Times are seconds since the epoch.

    ``status`` is created, running, restarting or exited. ``pid`` is that of its first process on the host. ``ports``
    are published at this moment, each with its host's port. ``health`` is '', starting, healthy or unhealthy, and
    ``probes`` are the last answers: (start, end, exit code, output). ``notes`` are what was asked for and cannot be
    had, ``groups`` the control groups that hold it.
    """

    status: str = "created"
    pid: int = 0
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None
    error: str = ""
    restarts: int = 0
    ports: tuple[Port, ...] = ()
    address: str = ""
    network: str = ""
    health: str = ""
    failing: int = 0
    probes: tuple[tuple[float, float, int, str], ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container: what it was made from, which never changes but for its name, and how it stands.

    ``config`` is the ``config`` object of the image, ``lowers`` are its layers' directories, bottom first.
    """

    id: str
    name: str
    created: float
    image_id: str
    request: RunRequest
    config: Mapping[str, Any]
    lowers: tuple[Path, ...]
    state: State = State()

    @property
    def image(self) -> str:
        """The image as it was asked for."""
        return self.request.image

    @property
    def labels(self) -> dict[str, str]:
        """Those of the image, and those it was given."""
        return {**(self.config.get("Labels") or {}), **self.request.labels}

    @property
    def network(self) -> str:
        """host, none or bridge. A container that publishes ports has a network of its own."""
        if self.request.network != "default":
            return self.request.network
        return "bridge" if self.wanted_ports else "host"

    @property
    def launch(self) -> Launch:
        """The process that it runs."""
        return resolve(self.config, self.request, self.id[:12])

    @property
    def binds(self) -> tuple[Bind, ...]:
        """What is mounted of the host and of volumes; an image's VOLUME without a mount of its own is an anonymous one.

        The Nth, if it is anonymous, is ``volumes/N`` of the container's directory.
        """
        taken = {bind.target for bind in self.request.binds} | {mount.target for mount in self.request.tmpfs}
        volumes = self.config.get("Volumes") or {}
        return (*self.request.binds, *(Bind(target) for target in volumes if target not in taken))

    @property
    def env(self) -> tuple[str, ...]:
        """What it was given and what the image has, as ``NAME=value``, or ``NAME`` for what was taken away.

        What every process has besides is not in it.
        """
        names = {name for name, _ in self.request.env}
        given = [name if value is None else f"{name}={value}" for name, value in self.request.env]
        return (*given, *(entry for entry in self.config.get("Env") or () if entry.partition("=")[0] not in names))

    @property
    def command(self) -> tuple[str, ...]:
        """The words of its process."""
        return self.launch.args

    @property
    def status(self) -> str:
        """created, running, restarting or exited."""
        return self.state.status

    @property
    def is_running(self) -> bool:
        """Whether it runs, or is about to run again."""
        return self.state.status in ("running", "restarting")

    @property
    def stop_signal(self) -> int:
        """The number of the signal that asks it to end."""
        return signal_number(self.request.stop_signal or self.config.get("StopSignal") or "SIGTERM")

    @property
    def health(self) -> Health | None:
        """How to find out whether it is well: what was asked for, else what the image says, else Docker's defaults."""
        asked, image = self.request.health or Health(), self.config.get("Healthcheck") or {}
        test = asked.test or tuple(image.get("Test") or ())
        if not test or test[0] == "NONE":
            return None

        def seconds(asked: float, name: str, default: float) -> float:
            return asked or (image.get(name) or 0) / 1e9 or default

        return Health(
            test,
            interval=seconds(asked.interval, "Interval", 30.0),
            timeout=seconds(asked.timeout, "Timeout", 30.0),
            start_period=seconds(asked.start_period, "StartPeriod", 0.0),
            start_interval=seconds(asked.start_interval, "StartInterval", 5.0),
            retries=asked.retries or image.get("Retries") or 3,
        )

    @property
    def exposed(self) -> tuple[Port, ...]:
        """The ports that the image or ``--expose`` names."""
        found = []
        for text in (*(self.config.get("ExposedPorts") or {}), *self.request.expose):
            number, _, protocol = text.partition("/")
            first, _, last = number.partition("-")
            found += [Port(port, protocol or "tcp") for port in range(int(first), int(last or first) + 1)]
        return tuple(dict.fromkeys(found))

    @property
    def wanted_ports(self) -> tuple[Port, ...]:
        """The ports to publish: those of ``-p``, and with ``-P`` every exposed one that is not among them."""
        ports = self.request.ports
        if self.request.publish_all:
            taken = {(port.container, port.protocol) for port in ports}
            ports += tuple(port for port in self.exposed if (port.container, port.protocol) not in taken)
        return ports


@dataclass(frozen=True, slots=True)
class ContainerResult:
    """How a container ended. ``id`` is empty where it was removed at once; ``seconds`` is how long it ran.

    ``interrupted`` is the signal with which the caller had it end, 0 where it ended by itself. ``notes`` are what was
    asked for and could not be had.
    """

    exit_code: int
    id: str = ""
    name: str = ""
    seconds: float = 0.0
    interrupted: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses now.

    Seconds of processors since its start, bytes of memory and their limit (0: none), bytes received and sent, read and
    written, and how many processes there are.
    """

    cpu: float = 0.0
    memory: int = 0
    limit: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """What a request and an image config come to: the process of the container."""

    args: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str
    hostname: str


def signal_number(text: str) -> int:
    """``TERM``, ``SIGTERM``, ``15`` or ``SIGRTMIN+3`` as a number; raises ValueError."""
    name = text.upper().removeprefix("SIG")
    base, plus, more = name.partition("+")
    if name.isdigit() and 0 < int(name) <= 64:
        return int(name)
    found = getattr(signal, f"SIG{base}", None)
    if not isinstance(found, int) or (plus and (base != "RTMIN" or not more.isdigit())):
        raise ValueError(f"invalid signal: {text}")
    return int(found) + int(more or 0)


def merge_env(env: Sequence[str], changes: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """An image's ``NAME=value`` list with changes laid over it; None removes."""
    merged = dict(entry.partition("=")[::2] for entry in env)
    for name, value in changes:
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def resolve(config: Mapping[str, Any], request: RunRequest, hostname: str) -> Launch:
    """Docker's rules for ENTRYPOINT and CMD, environment, directory and user.

    ``config`` is the ``config`` object of the image. An ``--entrypoint`` also drops the image's CMD; words behind the
    image replace CMD; shell forms were made words when the image was built. Raises ContainerError where there is no
    command at all or the working directory is not absolute.
    """
    if request.entrypoint is None:
        entrypoint = tuple(config.get("Entrypoint") or ())
        command = request.command or tuple(config.get("Cmd") or ())
    else:
        entrypoint, command = request.entrypoint, request.command
    args = entrypoint + command
    if not args:
        raise ContainerError(
            "no command specified",
            hint=f"{request.image} has no CMD or ENTRYPOINT: name a command behind the image.",
        )
    cwd = request.workdir or config.get("WorkingDir") or "/"
    if not cwd.startswith("/"):
        raise ContainerError(f"the working directory '{cwd}' is invalid, it needs to be an absolute path")
    name = request.hostname or hostname
    env = {"PATH": PATH, "HOSTNAME": name}
    if request.tty:
        env["TERM"] = "xterm"
    env |= merge_env(config.get("Env") or (), ())
    env = merge_env([f"{key}={value}" for key, value in env.items()], request.env)
    return Launch(args, env, cwd, request.user or config.get("User") or "", name)


def parse_volume(text: str, directory: Path) -> Bind:
    """``[SOURCE:]TARGET[:OPTIONS]``; a source with a leading slash or dot is a path, taken from ``directory``.

    Raises ValueError with Docker's reason.
    """
    parts = text.split(":")
    if not text or len(parts) > 3 or not all(parts):
        raise ValueError(f"invalid volume specification: '{text}'")
    options = parts.pop().split(",") if len(parts) == 3 else []
    if len(parts) == 2 and parts[1] in ("ro", "rw"):
        raise ValueError(f"invalid volume specification: '{text}'")
    for option in options:
        if option not in _OPTIONS:
            raise ValueError(f"invalid mode: {','.join(options)}")
    if "ro" in options and "rw" in options:
        raise ValueError(f"invalid mode: {','.join(options)}")
    target = parts[-1]
    if not target.startswith("/"):
        raise ValueError(f"invalid mount path: '{target}' mount path must be absolute")
    target = str(PurePosixPath(target))
    if ".." in PurePosixPath(target).parts or target == "/":
        raise ValueError(
            "invalid specification: destination can't be '/'" if target == "/" else f"invalid path: {target}"
        )
    readonly = "ro" in options
    if len(parts) == 1:
        return Bind(target)
    source = parts[0]
    if source.startswith(("/", ".", "~")):
        return Bind(target, path=directory / Path(source).expanduser(), readonly=readonly, copy=False)
    if not _VOLUME_NAME.fullmatch(source):
        raise ValueError(
            f'"{source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )
    return Bind(target, volume=source, readonly=readonly, copy="nocopy" not in options)
