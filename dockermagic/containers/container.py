"""A container as a value: what it was made from, how it stands, and Docker's rules that make a process of both.

Nothing here touches the system; :func:`resolve` is a table's worth of rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dockermagic.containers.request import Bind, Health, Port, RunRequest, signal_number
from dockermagic.errors import ContainerError
from dockermagic.values import dataclass

__all__ = ["ANONYMOUS", "Container", "ContainerResult", "Launch", "State", "Usage", "Volume", "merge_env", "resolve"]

ANONYMOUS = "com.docker.volume.anonymous"
"""Docker's own label for a volume that was given no name."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """How a container stands; this is all of it that changes. Times are seconds since the epoch.

    ``status`` is created, running, restarting or exited. ``pid`` is that of its first process on the host. ``ports``
    are published at this moment, each with its host's port. ``health`` is '', starting, healthy or unhealthy, and
    ``probes`` are the last answers: (start, end, exit code, output). ``notes`` are what was asked for and cannot be
    had, ``groups`` the control groups that hold it; ``out_of_memory``: one of its processes was killed for that.
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
    out_of_memory: bool = False


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


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume. ``created`` is in seconds since the epoch."""

    name: str
    path: Path
    created: float
    labels: Mapping[str, str]

    @property
    def is_anonymous(self) -> bool:
        """Whether its name is none that anybody chose."""
        return ANONYMOUS in self.labels
