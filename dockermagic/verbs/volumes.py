"""``volume ls``, ``create``, ``inspect``, ``rm`` and ``prune``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dockermagic.errors import ContainerError
from dockermagic.tables import human_size
from dockermagic.verbs import values
from dockermagic.verbs.base import Console, Verb, each
from dockermagic.verbs.listing import render
from dockermagic.verbs.options import Arguments, flag, many, text, unsupported
from dockermagic.verbs.template import Template

if TYPE_CHECKING:
    from dockermagic.containers.container import Volume

__all__ = ["VOLUME_CREATE", "VOLUME_INSPECT", "VOLUME_LS", "VOLUME_PRUNE", "VOLUME_RM"]

_HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Labels": "LABELS",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
}


def _filter(value: str) -> tuple[str, str]:
    name, equals, wanted = value.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    if name not in ("dangling", "driver", "label", "name"):
        raise ValueError(f"invalid filter '{name}'")
    if name == "dangling" and wanted not in ("true", "false", "1", "0"):
        raise ValueError(f"invalid filter 'dangling={wanted}'")
    return name, wanted


def _driver(value: str) -> str:
    if value != "local":
        raise ValueError(f"there is no volume driver '{value}', only 'local'")
    return value


def _filtered(console: Console, filters: Sequence[str]) -> list[Volume]:
    """The volumes that pass: one of the values of each filter, all of the labels."""
    volumes = console.engine.running.volumes
    wanted: dict[str, list[str]] = {}
    for name, value in map(_filter, filters):
        wanted.setdefault(name, []).append(value)

    def passes(volume: Volume) -> bool:
        labels = [value.partition("=") for value in wanted.get("label", ())]
        dangling = [value in ("true", "1") for value in wanted.get("dangling", ())]
        return (
            all(key in volume.labels and (not equals or volume.labels[key] == value) for key, equals, value in labels)
            and any(value in volume.name for value in wanted.get("name", [""]))
            and "local" in wanted.get("driver", ["local"])
            and (not dangling or (not volumes.users(volume.name)) in dangling)
        )

    return [volume for volume in volumes.all() if passes(volume)]


def ls(console: Console, arguments: Arguments) -> int:
    """List volumes."""
    found = _filtered(console, arguments.many("filter"))
    if arguments.flag("quiet"):
        console.write("".join(f"{volume.name}\n" for volume in found))
        return 0
    rows = [
        {
            "Driver": "local",
            "Name": volume.name,
            "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()),
            "Mountpoint": str(volume.path),
            "Scope": "local",
        }
        for volume in found
    ]
    console.write(render(rows, _HEADERS, arguments.text("format"), "{{.Driver}}\t{{.Name}}"))
    return 0


def create(console: Console, arguments: Arguments) -> int:
    """Make a volume and print its name."""
    name = arguments.words[0] if arguments.words else arguments.text("name")
    console.write(f"{console.engine.running.volumes.create(name, values.pairs(arguments.many('label')))}\n")
    return 0


def _document(volume: Volume) -> dict[str, Any]:
    return {
        "CreatedAt": datetime.fromtimestamp(volume.created).astimezone().isoformat(timespec="seconds"),
        "Driver": "local",
        "Labels": dict(volume.labels) or None,
        "Mountpoint": str(volume.path),
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def inspect(console: Console, arguments: Arguments) -> int:
    """Print all there is to know of volumes; those that are there are printed, too, where another is not."""
    found: list[dict[str, Any]] = []
    missing: list[ContainerError] = []
    for name in arguments.words:
        try:
            found.append(_document(console.engine.running.volumes.get(name)))
        except ContainerError as absent:
            missing.append(absent)
    if form := arguments.text("format"):
        template = Template(form)
        console.write("".join(f"{template.render(one)}\n" for one in found))
    else:
        console.write(json.dumps(found, indent=4) + "\n")
    if missing:
        raise missing[0]
    return 0


def rm(console: Console, arguments: Arguments) -> int:
    """Remove volumes. With --force, one that is not there is as good as removed."""
    volumes = console.engine.running.volumes
    there = {volume.name for volume in volumes.all()} if arguments.flag("force") else set(arguments.words)
    return each(console, arguments.words, lambda name: volumes.remove(name) if name in there else None)


def prune(console: Console, arguments: Arguments) -> int:
    """Remove the volumes that no container stands on: those without a name of their own, or all."""
    running, every = console.engine.running, arguments.flag("all")
    unused = [
        volume
        for volume in _filtered(console, ["dangling=true", *arguments.many("filter")])
        if every or volume.is_anonymous
    ]
    if not arguments.flag("force"):
        which = "all" if every else "anonymous"
        console.note(f"WARNING! This will remove {which} local volumes not used by at least one container.")
        if console.ask("Are you sure you want to continue? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    freed = sum(running.bytes_below(volume.path) for volume in unused)
    if unused:
        console.write("Deleted Volumes:\n")
        each(console, [volume.name for volume in unused], running.volumes.remove)
        console.write("\n")
    console.write(f"Total reclaimed space: {human_size(freed)}\n")
    return 0


VOLUME_LS = Verb(
    "volume ls",
    "[OPTIONS]",
    "List volumes",
    ls,
    (
        many("filter", "f", 'Provide filter values (e.g. "dangling=true")', value="filter", check=_filter),
        text("format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"),
        flag("quiet", "q", "Only display volume names"),
    ),
)
VOLUME_CREATE = Verb(
    "volume create",
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    create,
    (
        text("driver", "d", "Volume driver, which is 'local'", default="local", check=_driver),
        many("label", "", "Set metadata for a volume"),
        text("name", "", hidden=True),
        unsupported("opt", "o", "a volume is a directory of the store."),
    ),
    (0, 1),
)
VOLUME_INSPECT = Verb(
    "volume inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    inspect,
    (text("format", "f", "Format output using a Go template"),),
    (1, None),
)
VOLUME_RM = Verb(
    "volume rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    rm,
    (flag("force", "f", "Do not mind one that is not there"),),
    (1, None),
    more="A volume that a container stands on stays.",
)
VOLUME_PRUNE = Verb(
    "volume prune",
    "[OPTIONS]",
    "Remove unused local volumes",
    prune,
    (
        flag("all", "a", "Remove all unused volumes, not just anonymous ones"),
        many("filter", "", 'Provide filter values (e.g. "label=<label>")', value="filter", check=_filter),
        flag("force", "f", "Do not prompt for confirmation"),
    ),
)
