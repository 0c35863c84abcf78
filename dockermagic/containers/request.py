"""What is asked of a container and what comes of it: frozen values, and Docker's rules that turn them into a process.

Nothing here touches the system; :func:`resolve` is a table's worth of rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dockermagic.errors import ContainerError

__all__ = ["Bind", "Container", "ContainerResult", "Launch", "RunRequest", "merge_env", "parse_volume", "resolve"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_OPTIONS = frozenset(("ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", *_PROPAGATION))


@dataclass(frozen=True, slots=True)
class Bind:
    """One ``-v``: a directory or file of the host, or a named volume, at ``target``; exactly one source is set or none.

    With neither it is an anonymous volume: a directory that lives as long as the container.
    """

    target: str
    path: Path | None = None
    volume: str = ""
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record. ``status`` is created, running or exited; times are seconds since the epoch."""

    id: str
    name: str
    image: str
    image_id: str
    command: tuple[str, ...]
    status: str
    created: float
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One ``docker run``.

    ``entrypoint`` None is the image's own, ``()`` is none. ``env`` is in order; a value of None removes the name.
    ``stdin`` is a file descriptor that the process's input comes from (None: end of file). With ``tty`` the process has
    a terminal of its own, as large as that behind ``stdin`` or as ``window`` (rows, columns), and one stream of output.
    ``remove`` deletes the container at its end.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[tuple[str, str | None], ...] = ()
    workdir: str = ""
    user: str = ""
    binds: tuple[Bind, ...] = ()
    tty: bool = False
    stdin: int | None = None
    hostname: str = ""
    read_only: bool = False
    network: str = "host"
    name: str = ""
    remove: bool = False
    add_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20
    labels: Mapping[str, str] = field(default_factory=dict)
    window: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ContainerResult:
    """How a container ended. ``id`` is empty where it was removed at once; ``seconds`` is how long it ran."""

    exit_code: int
    id: str = ""
    name: str = ""
    seconds: float = 0.0


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


def parse_volume(text: str, directory: Path) -> Bind:
    """``[SOURCE:]TARGET[:OPTIONS]``; a source with a slash or a leading dot is a path, taken from ``directory``.

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
    if "/" in source or source in (".", "..") or source.startswith("~"):
        return Bind(target, path=directory / Path(source).expanduser(), readonly=readonly)
    if not _VOLUME_NAME.fullmatch(source):
        raise ValueError(
            f'"{source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )
    return Bind(target, volume=source, readonly=readonly)
