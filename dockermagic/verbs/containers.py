"""``ps``, ``rm``, ``stop``, ``kill``, ``restart``, ``wait``, ``rename``, ``logs``: containers that are there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dockermagic.containers.request import signal_number
from dockermagic.errors import ContainerError, ContainerNotFoundError
from dockermagic.tables import age, clip, human_size, parse_moment
from dockermagic.verbs.base import Console, Shown, Verb, each
from dockermagic.verbs.container_options import duration
from dockermagic.verbs.listing import render
from dockermagic.verbs.options import Arguments, flag, many, text

if TYPE_CHECKING:
    from dockermagic.containers.container import Container

__all__ = ["KILL", "LOGS", "PS", "RENAME", "RESTART", "RM", "STOP", "WAIT", "published", "status"]

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
}
TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


def _ago(seconds: float) -> str:
    return age(datetime.fromtimestamp(seconds, UTC).isoformat())


def status(container: Container) -> str:
    """How it stands, in Docker's words."""
    state = container.state
    if state.status == "running":
        up = "Up " + _ago(state.started or time.time()).removesuffix(" ago")
        health = {"starting": "health: starting"}.get(state.health, state.health)
        return f"{up} ({health})" if health else up
    if state.status in ("exited", "restarting"):
        ended = f" {_ago(state.finished)}" if state.finished else ""
        return f"{state.status.capitalize()} ({state.exit_code}){ended}"
    return "Created"


def published(container: Container) -> str:
    """The PORTS column: what is published, and what is exposed besides."""
    shown = [f"{port.host_ip or '127.0.0.1'}:{port.host}->{port}" for port in container.state.ports]
    if container.status == "running":
        known = {(port.container, port.protocol) for port in container.state.ports}
        shown += [str(port) for port in container.exposed if (port.container, port.protocol) not in known]
    return ", ".join(shown)


def _rows(console: Console, containers: Sequence[Container], full: bool, size: bool) -> list[dict[str, str]]:
    rows = []
    for one in containers:
        path, *words = one.command
        command = " ".join((path, *(f"'{word}'" if " " in word else word for word in words)))
        volumes = [bind for bind in one.binds if bind.path is None]
        rows.append(
            {
                "ID": one.id if full else one.id[:12],
                "Image": one.image,
                "Command": json.dumps(command if full else clip(command, 20), ensure_ascii=False),
                "RunningFor": _ago(one.created),
                "CreatedAt": datetime.fromtimestamp(one.created).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z"),
                "Status": status(one),
                "State": one.status,
                "Ports": published(one),
                "Names": one.name,
                "Labels": ",".join(f"{name}={value}" for name, value in one.labels.items()),
                "Mounts": ",".join(str(bind.path or bind.volume or bind.target) for bind in one.binds),
                "Networks": one.network,
                "LocalVolumes": str(len(volumes)),
                "Size": _size(console, one) if size else human_size(0),
            }
        )
    return rows


def _size(console: Console, container: Container) -> str:
    own, whole = console.engine.container_sizes(container)
    return f"{human_size(own)} (virtual {human_size(whole)})"


def _filter(value: str) -> tuple[str, str]:
    name, equals, wanted = value.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name, wanted


_FILTERS = (
    *("name", "id", "status", "ancestor", "label", "exited", "publish", "expose", "health"),
    *("before", "since", "network", "volume"),
)
_STATUS = ("created", "restarting", "running", "removing", "paused", "exited", "dead")


def _found(expression: str, name: str) -> bool:
    """Whether a name has what an expression describes; one that is none describes nothing, as in Docker."""
    try:
        return re.search(expression, name) is not None
    except re.error:
        return False


def _matches(console: Console, container: Container, name: str, wanted: str) -> bool:
    label, equals, value = wanted.partition("=")
    known = console.engine.running.get
    return {
        "before": lambda: container.created < known(wanted).created,
        "since": lambda: container.created > known(wanted).created,
        "network": lambda: container.network == wanted,
        "volume": lambda: any(wanted in (bind.volume, str(bind.path), bind.target) for bind in container.binds),
        "name": lambda: any(_found(wanted, name) for name in (container.name, f"/{container.name}")),
        "id": lambda: container.id.startswith(wanted),
        "status": lambda: container.status == wanted,
        "ancestor": lambda: (
            wanted in (container.image, container.image.partition(":")[0])
            or container.image_id.removeprefix("sha256:").startswith(wanted.removeprefix("sha256:"))
        ),
        "label": lambda: label in container.labels and (not equals or container.labels[label] == value),
        "exited": lambda: container.status == "exited" and str(container.state.exit_code) == wanted,
        "publish": lambda: any(wanted in (str(port.host), str(port)) for port in container.state.ports),
        "expose": lambda: any(wanted in (str(port.container), str(port)) for port in container.exposed),
        "health": lambda: (container.state.health or "none") == wanted,
    }[name]()


def ps(console: Console, arguments: Arguments) -> int:
    """List containers; those that run, or all of them."""
    filters: dict[str, list[str]] = {}
    for value in arguments.many("filter"):
        name, wanted = _filter(value)
        if name not in _FILTERS:
            raise ContainerError(f"invalid filter '{name}'", exit_code=1, hint=f"There are {', '.join(_FILTERS)}.")
        if name == "status" and wanted not in _STATUS:
            raise ContainerError(f"invalid filter '{value}'", exit_code=1, hint=f"There are {', '.join(_STATUS)}.")
        filters.setdefault(name, []).append(wanted)
    last = int(arguments.text("last"))
    last = 1 if arguments.flag("latest") else last
    everything = arguments.flag("all") or last >= 0 or "status" in filters or "exited" in filters
    found = [one for one in console.engine.containers() if everything or one.is_running]
    found = [
        one
        for one in found
        if all(any(_matches(console, one, name, value) for value in wanted) for name, wanted in filters.items())
    ]
    if last >= 0:
        found = found[:last]
    full = arguments.flag("no-trunc")
    if arguments.flag("quiet"):
        console.write("".join(f"{one.id if full else one.id[:12]}\n" for one in found))
        return 0
    form = arguments.text("format")
    size = arguments.flag("size") or ".Size" in form
    listing = render(_rows(console, found, full, size), HEADERS, form, TABLE + ("\t{{.Size}}" if size else ""))
    if form:
        console.write(listing)
    else:
        console.show(Shown("containers", found, listing))
    return 0


def rm(console: Console, arguments: Arguments) -> int:
    """Remove containers by name or id. With --force, one that is not there is as good as removed."""
    force = arguments.flag("force")

    def remove(name: str) -> str:
        try:
            console.engine.remove_container(name, force=force)
        except ContainerNotFoundError as absent:
            if not force:
                raise
            console.note(absent.message)
            return ""
        return name

    return each(console, arguments.words, remove)


def _timeout(arguments: Arguments) -> float | None:
    for name in ("timeout", "time"):
        if arguments.given(name):
            return float(arguments.text(name))
    return None


def _signal(arguments: Arguments) -> int:
    try:
        return signal_number(arguments.text("signal")) if arguments.text("signal") else 0
    except ValueError as error:
        raise ContainerError(str(error), exit_code=1) from None


def stop(console: Console, arguments: Arguments) -> int:
    """Ask containers to end, and kill those that do not in time."""
    timeout, number = _timeout(arguments), _signal(arguments)
    return each(
        console, arguments.words, lambda name: console.engine.running.stop(name, timeout=timeout, number=number)
    )


def restart(console: Console, arguments: Arguments) -> int:
    """Stop containers and start them again."""
    timeout, number = _timeout(arguments), _signal(arguments)
    running = console.engine.running
    return each(console, arguments.words, lambda name: running.stop(name, timeout=timeout, number=number, again=True))


def kill(console: Console, arguments: Arguments) -> int:
    """Send a signal to containers."""
    return each(console, arguments.words, lambda name: console.engine.running.kill(name, _signal(arguments)))


def wait(console: Console, arguments: Arguments) -> int:
    """Wait until containers have ended, and print their exit codes."""
    return each(console, arguments.words, lambda name: console.engine.running.wait(name))


def rename(console: Console, arguments: Arguments) -> int:
    """Give a container another name."""
    console.engine.running.rename(*arguments.words)
    return 0


def moment(value: str) -> float:
    """``--since``: an RFC 3339 time, seconds since the epoch, or how long ago (``10m``); raises ValueError."""
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    text = value if re.search(r"[T ]\d", value) else f"{value}T00:00:00"
    text = text if re.search(r":\d\d:\d\d", text) else f"{text}:00"
    then = parse_moment(text)
    if then is not None:
        return then.timestamp()
    return time.time() - duration(value)


def logs(console: Console, arguments: Arguments) -> int:
    """Print what a container wrote to its two streams."""
    (name,) = arguments.words
    tail, stamps = arguments.text("tail"), arguments.flag("timestamps")
    wanted = int(tail) if tail.isdigit() else -1
    gap = b" " if arguments.flag("details") else b""  # attributes of the log would stand before it, and there are none
    since = moment(arguments.text("since")) if arguments.given("since") else 0.0
    until = moment(arguments.text("until")) if arguments.given("until") else float("inf")
    by_line = stamps or bool(gap)
    for piece in console.engine.running.logs(name, follow=arguments.flag("follow"), tail=wanted, by_line=by_line):
        if not since <= piece.time <= until:
            continue
        stamp = f"{datetime.fromtimestamp(piece.time, UTC):%Y-%m-%dT%H:%M:%S.%f}000Z ".encode() if stamps else b""
        console.output(piece.stream, stamp + gap + piece.data)
    return 0


def _tail(value: str) -> str:
    if value != "all" and not value.removeprefix("-").isdigit():
        raise ValueError(f"invalid number of lines: {value}")
    return value


_STOP_OPTIONS = (
    text("signal", "s", "Signal to send to the container"),
    text("time", "t", "Seconds to wait before killing the container", value="int", check=float),
    text("timeout", "", value="int", check=float, hidden=True),
)
PS = Verb(
    "ps",
    "[OPTIONS]",
    "List containers",
    ps,
    (
        flag("all", "a", "Show all containers (default shows just running)"),
        many("filter", "f", "Filter output based on conditions provided", value="filter", check=_filter),
        text("format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"),
        text("last", "n", "Show n last created containers (includes all states)", value="int", default="-1", check=int),
        flag("latest", "l", "Show the latest created container (includes all states)"),
        flag("no-trunc", "", "Don't truncate output"),
        flag("quiet", "q", "Only display container IDs"),
        flag("size", "s", "Display total file sizes"),
    ),
)
RM = Verb(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    rm,
    (
        flag("force", "f", "Force the removal of a running container (uses SIGKILL)"),
        flag("volumes", "v", "Remove anonymous volumes associated with the container (always done)"),
    ),
    (1, None),
)
STOP = Verb(
    "stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers", stop, _STOP_OPTIONS, (1, None)
)
RESTART = Verb(
    "restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers", restart, _STOP_OPTIONS, (1, None)
)
KILL = Verb(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    kill,
    (text("signal", "s", "Signal to send to the container", default="KILL"),),
    (1, None),
)
WAIT = Verb(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    wait,
    (),
    (1, None),
)
RENAME = Verb("rename", "CONTAINER NEW_NAME", "Rename a container", rename, (), (2, 2))
LOGS = Verb(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    logs,
    (
        flag("details", "", hidden=True),
        flag("follow", "f", "Follow log output"),
        text("since", "", 'Show logs since timestamp or relative ("42m" for 42 minutes)', check=moment),
        text("tail", "n", "Number of lines to show from the end of the logs", default="all", check=_tail),
        flag("timestamps", "t", "Show timestamps"),
        text("until", "", "Show logs before a timestamp or relative", check=moment),
    ),
    (1, 1),
    watches=True,
)
