"""``ps`` and ``rm``: the containers that ``run`` without ``--rm`` left."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dockermagic.errors import DockermagicError
from dockermagic.tables import age, clip
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.listing import render
from dockermagic.verbs.options import Arguments, flag, text

if TYPE_CHECKING:
    from dockermagic.containers.request import Container

__all__ = ["PS", "RM"]

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"


def _ago(seconds: float) -> str:
    return age(datetime.fromtimestamp(seconds, UTC).isoformat())


def _status(container: Container) -> str:
    if container.status == "running":
        return "Up " + _ago(container.started or time.time()).removesuffix(" ago")
    if container.status == "exited":
        ended = f" {_ago(container.finished)}" if container.finished else ""
        return f"Exited ({container.exit_code}){ended}"
    return "Created"


def _rows(containers: Sequence[Container], full: bool) -> list[dict[str, str]]:
    rows = []
    for one in containers:
        command = json.dumps(" ".join(one.command), ensure_ascii=False)
        rows.append(
            {
                "ID": one.id if full else one.id[:12],
                "Image": one.image,
                "Command": command if full else clip(command, 22),
                "RunningFor": _ago(one.created),
                "Status": _status(one),
                "Names": one.name,
            }
        )
    return rows


def ps(console: Console, arguments: Arguments) -> int:
    """List containers; those that run, or all of them."""
    found = [one for one in console.engine.containers() if arguments.flag("all") or one.status == "running"]
    full = arguments.flag("no-trunc")
    if arguments.flag("quiet"):
        console.write("".join(f"{one.id if full else one.id[:12]}\n" for one in found))
        return 0
    console.write(render(_rows(found, full), HEADERS, arguments.text("format"), TABLE))
    return 0


def rm(console: Console, arguments: Arguments) -> int:
    """Remove containers by name or id. One that fails does not keep the others."""
    errors: list[DockermagicError] = []
    for name in arguments.words:
        try:
            console.engine.remove_container(name)
            console.write(f"{name}\n")
        except DockermagicError as refused:
            errors.append(refused)
    for error in errors[:-1]:
        console.note(f"ERROR: {error.render()}")
    if errors:
        raise errors[-1]
    return 0


PS = Verb(
    "ps",
    "[OPTIONS]",
    "List containers",
    ps,
    (
        flag("all", "a", "Show all containers (default shows just running)"),
        text("format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"),
        flag("no-trunc", "", "Don't truncate output"),
        flag("quiet", "q", "Only display container IDs"),
    ),
)
RM = Verb("rm", "CONTAINER [CONTAINER...]", "Remove one or more containers", rm, (), (1, None))
