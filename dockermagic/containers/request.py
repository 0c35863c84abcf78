"""What is asked of a container: frozen values, and how Docker writes a volume and a signal."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dockermagic.sandbox.base import Ulimit
from dockermagic.values import dataclass, field

__all__ = [
    "STOP_TIMEOUT",
    "VOLUME_NAME",
    "Bind",
    "ExecRequest",
    "Health",
    "Port",
    "RunRequest",
    "Tmpfs",
    "parse_volume",
    "signal_number",
    "unusable_name",
]

STOP_TIMEOUT = 10
"""Seconds after which a container that was asked to end is killed, unless it says another number."""
VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
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
    """One published port.

    ``host`` 0 is any that is free, and with ``last`` it is one of ``host`` to ``last``. ``host_ip`` '' is this machine
    alone, 127.0.0.1.
    """

    container: int
    protocol: str = "tcp"
    host: int = 0
    host_ip: str = ""
    last: int = 0

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
    """One ``--tmpfs``: ``size`` in bytes, 0 is half of memory; ``uid`` and ``gid`` are its root's."""

    target: str
    size: int = 0
    mode: int = 0o1777
    readonly: bool = False
    uid: int = 0
    gid: int = 0
    noexec: bool = True


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
    stop_timeout: int = STOP_TIMEOUT
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


def unusable_name(name: str) -> str:
    """What is wrong with a volume's name that is no VOLUME_NAME, in Docker's words."""
    return (
        f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
        "allowed. If you intended to pass a host directory, use absolute path"
    )


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
    if not re.fullmatch(VOLUME_NAME, source):
        raise ValueError(unusable_name(source))
    return Bind(target, volume=source, readonly=readonly, copy="nocopy" not in options)
