"""``top``, ``port``, ``stats``, ``diff``, ``commit`` and what ``inspect`` says: looking at a container."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.containers.container import Usage
from dockermagic.containers.request import STOP_TIMEOUT
from dockermagic.errors import ContainerError
from dockermagic.tables import binary_size, human_size
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.listing import render
from dockermagic.verbs.options import Arguments, flag, many, text

if TYPE_CHECKING:
    from dockermagic.containers.container import Container
    from dockermagic.containers.request import Bind, Health, Port

__all__ = ["COMMIT", "DIFF", "PORT", "STATS", "TOP", "document"]

_NEVER = "0001-01-01T00:00:00Z"


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _bindings(ports: Sequence[Port]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        number = f"{port.host}-{port.last}" if port.last else str(port.host or "")
        binding = {"HostIp": port.host_ip or "127.0.0.1", "HostPort": number}
        found.setdefault(str(port), []).append(binding)
    return found


def _mount(bind: Bind, folder: Path, number: int) -> dict[str, Any]:
    volume = {} if bind.path is not None else {"Name": bind.volume or f"{folder.name[:12]}-{number}"}
    source = bind.path or (
        folder.parents[1] / "volumes" / bind.volume / "_data" if bind.volume else folder / "volumes" / str(number)
    )
    return {
        "Type": "volume" if volume else "bind",
        **volume,
        "Source": str(source),
        "Destination": bind.target,
        **({"Driver": "local"} if volume else {}),
        "Mode": "ro" if bind.readonly else "",
        "RW": not bind.readonly,
    }


def _healthcheck(health: Health) -> dict[str, Any]:
    """As in an image's config: durations are nanoseconds."""
    times = {"Interval": health.interval, "Timeout": health.timeout, "StartPeriod": health.start_period}
    return {
        "Test": list(health.test),
        **{name: int(time * 1e9) for name, time in times.items()},
        "Retries": health.retries,
    }


def document(container: Container, folder: Path, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """What ``docker inspect`` prints of a container.

    ``folder`` is its directory, ``sizes`` are the bytes that it changed, and those with its image's.
    """
    request, state, launch = container.request, container.state, container.launch
    status = {
        "Status": state.status,
        "Running": container.is_running,
        "Paused": False,
        "Restarting": state.status == "restarting",
        "OOMKilled": state.out_of_memory,
        "Dead": False,
        "Pid": state.pid,
        "ExitCode": state.exit_code or 0,
        "Error": state.error,
        "StartedAt": _moment(state.started),
        "FinishedAt": _moment(state.finished),
    }
    if state.health:
        log = [
            {"Start": _moment(start), "End": _moment(end), "ExitCode": code, "Output": output}
            for start, end, code, output in state.probes
        ]
        status["Health"] = {"Status": state.health, "FailingStreak": state.failing, "Log": log}
    mounts = [_mount(bind, folder, number) for number, bind in enumerate(container.binds)]
    ports: dict[str, Any] = {str(port): None for port in container.exposed} if container.is_running else {}
    ports |= _bindings(state.ports)
    network = {"IPAddress": state.address, "Gateway": "10.0.2.2" if state.address else ""}
    return {
        "Id": container.id,
        "Created": _moment(container.created),
        "Path": launch.args[0],
        "Args": list(launch.args[1:]),
        "State": status,
        "Image": container.image_id,
        "LogPath": str(folder / "log"),
        "Name": f"/{container.name}",
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": {
            "Binds": [
                f"{bind.path or bind.volume}:{bind.target}" for bind in request.binds if bind.path or bind.volume
            ],
            "NetworkMode": container.network,
            "PortBindings": _bindings(container.wanted_ports),
            "RestartPolicy": {"Name": request.restart, "MaximumRetryCount": request.restart_max},
            "AutoRemove": request.remove,
            "CapAdd": list(request.cap_add) or None,
            "CapDrop": list(request.cap_drop) or None,
            "Privileged": request.cap_add == ("ALL",),
            "Dns": list(request.dns),
            "DnsOptions": list(request.dns_options),
            "DnsSearch": list(request.dns_search),
            "ExtraHosts": [f"{name}:{address}" for name, address in request.add_hosts] or None,
            "GroupAdd": list(request.groups) or None,
            "ReadonlyRootfs": request.read_only,
            "ShmSize": request.shm_size,
            "Memory": request.memory,
            "NanoCpus": int(request.cpus * 1e9),
            "PidsLimit": request.pids or None,
            "Init": request.init or None,
            "Tmpfs": {one.target: "" for one in request.tmpfs},
            "Ulimits": [{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in request.ulimits],
        },
        **(dict(zip(("SizeRw", "SizeRootFs"), sizes, strict=True)) if sizes else {}),
        "Mounts": mounts,
        "Config": {
            "Hostname": launch.hostname,
            "User": launch.user,
            "Tty": request.tty,
            "OpenStdin": request.open_stdin,
            "ExposedPorts": {str(port): {} for port in container.exposed},
            "Env": list(container.env),
            "Cmd": list(request.command) or container.config.get("Cmd"),
            "Image": container.image,
            "WorkingDir": container.request.workdir or container.config.get("WorkingDir", ""),
            "Entrypoint": list(request.entrypoint or ()) or container.config.get("Entrypoint"),
            "Labels": container.labels,
            "Volumes": container.config.get("Volumes"),
            "StopSignal": request.stop_signal or container.config.get("StopSignal"),
            "StopTimeout": request.stop_timeout if request.stop_timeout != STOP_TIMEOUT else None,
            **({"Healthcheck": _healthcheck(container.health)} if container.health else {}),
        },
        "NetworkSettings": {"Ports": ports, **network, "Networks": {container.network: network}},
    }


def _host_ps(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["ps", *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise ContainerError("ps is not installed on this machine", exit_code=1, hint="`exec` its own ps.") from None


def top(console: Console, arguments: Arguments) -> int:
    """Show the processes of a container as the host's ps does: of all its lines those with their ids."""
    name, *words = arguments.words
    found = list(map(str, console.engine.running.processes(name)))
    done = _host_ps([*(words or ["-ef"]), "-q", ",".join(found)])
    if done.returncode:  # there are options that choose processes themselves
        done = _host_ps(words or ["-ef"])
    head, *lines = done.stdout.splitlines() or [""]
    if done.returncode and not lines:
        raise ContainerError(f"ps: {done.stderr.strip()}", exit_code=1)
    columns = head.split()
    if "PID" not in columns:
        raise ContainerError("Couldn't find PID field in ps output", exit_code=1, hint="Have it print `pid` as well.")
    place = columns.index("PID")
    theirs = [line for line in lines if line.split()[place : place + 1] and line.split()[place] in found]
    console.write("".join(f"{line}\n" for line in (head, *theirs)))
    return 0


def port(console: Console, arguments: Arguments) -> int:
    """List where the ports of a container are published."""
    name, *wanted = arguments.words
    container = console.engine.running.get(name)
    lines = []
    for one in container.state.ports:
        where = f"{one.host_ip or '127.0.0.1'}:{one.host}"
        if not wanted:
            lines.append(f"{one} -> {where}\n")
        elif wanted[0] in (str(one), str(one.container)):
            lines.append(f"{where}\n")
    if wanted and not lines:
        raise ContainerError(f"No public port '{wanted[0]}' published for {container.name}", exit_code=1)
    console.write("".join(lines))
    return 0


_STATS_HEADERS = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_STATS = "\t".join("{{." + name + "}}" for name in _STATS_HEADERS if name != "Container")


_CLEARED = "\x1b[2J\x1b[H"


def stats(console: Console, arguments: Arguments) -> int:
    """Show what containers use, again and again until Ctrl-C; in a cell, where nothing moves, once."""
    running = console.engine.running
    once = arguments.flag("no-stream") or console.stdin is None
    form, before, pause = arguments.text("format"), dict[str, tuple[float, Usage]](), 0.25
    while True:
        there = [one for one in console.engine.containers() if one.is_running or arguments.flag("all")]
        containers = [running.get(name) for name in arguments.words] or there
        for one in containers:
            before.setdefault(one.id, (time.monotonic(), running.usage(one) or Usage()))
        time.sleep(pause)
        after = {one.id: (time.monotonic(), running.usage(one) or Usage()) for one in containers}
        rows = [_usage_row(one, before[one.id], after[one.id]) for one in containers]
        console.write(("" if once else _CLEARED) + render(rows, _STATS_HEADERS, form, _STATS))
        if once:
            return 0
        console.stdout().flush()
        before, pause = after, 1.0


def _usage_row(container: Container, before: tuple[float, Usage], after: tuple[float, Usage]) -> dict[str, str]:
    (began, then), (ended, now) = before, after
    total = now.limit or _memory()
    return {
        "ID": container.id[:12],
        "Container": container.id[:12],
        "Name": container.name,
        "CPUPerc": f"{max(0.0, now.cpu - then.cpu) / (ended - began) * 100:.2f}%",
        "MemUsage": f"{binary_size(now.memory)} / {binary_size(total)}",
        "MemPerc": f"{now.memory / total * 100 if total else 0:.2f}%",
        "NetIO": f"{human_size(now.received)} / {human_size(now.sent)}",
        "BlockIO": f"{human_size(now.read)} / {human_size(now.written)}",
        "PIDs": str(now.processes),
    }


def _memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal"))
    except (OSError, StopIteration):
        return 0


def diff(console: Console, arguments: Arguments) -> int:
    """List what a container changed: A for added, C for changed, D for deleted."""
    letters = {"added": "A", "modified": "C", "removed": "D"}
    changes = sorted(console.engine.running.changes(arguments.words[0]), key=lambda one: one["path"].split("/"))
    console.write("".join(f"{letters[one['state']]} /{one['path'].lstrip('/')}\n" for one in changes))
    return 0


def commit(console: Console, arguments: Arguments) -> int:
    """Make an image of what a container is now."""
    name, *target = arguments.words
    identity = console.engine.commit_container(
        name,
        target[0] if target else "",
        changes=arguments.many("change"),
        author=arguments.text("author"),
        message=arguments.text("message"),
    )
    console.write(f"{identity}\n")
    return 0


TOP = Verb("top", "CONTAINER [ps OPTIONS]", "Display the running processes of a container", top, (), (1, None), False)
PORT = Verb("port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping", port, (), (1, 2))
STATS = Verb(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display what containers use",
    stats,
    (
        flag("all", "a", "Show all containers (default shows just running)"),
        text("format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"),
        flag("no-stream", "", "Disable streaming stats and only pull the first result"),
        flag("no-trunc", "", hidden=True),
    ),
    (0, None),
    watches=True,
)
DIFF = Verb(
    "diff", "CONTAINER", "Inspect changes to files or directories on a container's filesystem", diff, (), (1, 1)
)
COMMIT = Verb(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    commit,
    (
        text("author", "a", 'Author (e.g., "Ada Byron <ada@example.org>")'),
        many("change", "c", "Apply Dockerfile instruction to the created image (ENV, LABEL, CMD ...)"),
        text("message", "m", "Commit message"),
        flag("pause", "p", hidden=True, default=True),
    ),
    (1, 2),
)
