"""``inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dockermagic.errors import ContainerError, ContainerNotFoundError, DockermagicError, ImageNotFoundError, UsageError
from dockermagic.verbs.base import Console, Shown, Verb, raise_last
from dockermagic.verbs.options import Arguments, flag, text
from dockermagic.verbs.template import Template

__all__ = ["INSPECT"]

KNOWN: dict[str, tuple[str, ...]] = {
    "": (
        *("Architecture", "Author", "Comment", "Config", "Container", "Created", "DockerVersion", "GraphDriver", "Id"),
        *(
            "Metadata",
            "Os",
            "OsVersion",
            "Parent",
            "RepoDigests",
            "RepoTags",
            "RootFS",
            "Size",
            "Variant",
            "VirtualSize",
        ),
    ),
    "Config": (
        *("AttachStderr", "AttachStdin", "AttachStdout", "Cmd", "Domainname", "Entrypoint", "Env", "ExposedPorts"),
        *("Healthcheck", "Hostname", "Image", "Labels", "OnBuild", "OpenStdin", "Shell", "StdinOnce", "StopSignal"),
        *("StopTimeout", "Tty", "User", "Volumes", "WorkingDir"),
    ),
}
"""Fields that Docker's template knows even where an image has no value for them."""


class _Known(dict[str, Any]):
    """A document whose ``known`` fields may be asked for where they are not; as JSON it is what it holds."""

    def __init__(self, document: Mapping[str, Any], known: Sequence[str]) -> None:
        super().__init__(document)
        self._known = frozenset(known)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._known

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, None if name in self._known else default)


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    config = _Known(document.get("Config") or {}, KNOWN["Config"])
    return _Known({**document, "Config": config}, () if "HostConfig" in document else KNOWN[""])


def _look(console: Console, name: str, kind: str, size: bool) -> dict[str, Any]:
    """A container of that name, with its ``size``, else an image; ``kind`` is one of both, or '' for either."""
    if kind != "image" and (kind or (console.engine.home / "containers").is_dir()):
        from dockermagic.verbs.container_look import document

        try:
            container = console.engine.running.get(name)
            folder = console.engine.running.shelf.find(container.id).path
            return document(container, folder, console.engine.container_sizes(container) if size else None)
        except ContainerNotFoundError:
            if kind:
                raise
    return console.engine.inspect(name)


def inspect(console: Console, arguments: Arguments) -> int:
    """Print what is known of containers and images, as JSON or through a template; a missing one fails at the end."""
    kind = arguments.text("type")
    if kind not in ("", "image", "container"):
        raise UsageError(f'"{kind}" is not a type that can be inspected here', hint="There is: container, image.")
    form = arguments.text("format")
    template = Template(form) if form and form != "json" else None
    found: list[dict[str, Any]] = []
    missing: list[DockermagicError] = []
    for name in arguments.words:
        try:
            found.append(_look(console, name, kind, arguments.flag("size")))
        except (ImageNotFoundError, ContainerError) as absent:
            missing.append(absent)
    if template is not None:
        console.write("".join(template.render(_complete(document)) + "\n" for document in found))
    elif form:
        console.write(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        listing = json.dumps(found, ensure_ascii=False, indent=4) + "\n"
        console.show(Shown("inspect", found, listing))
    raise_last(console, missing)
    return 0


INSPECT = Verb(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on containers and images",
    inspect,
    (
        text(
            "format", "f", "Format output: 'json' or 'TEMPLATE', a Go template such as '{{.Id}}' or '{{json .Config}}'"
        ),
        flag("size", "s", "Display total file sizes if the type is container"),
        text("type", "", "Only inspect objects of the given type: container or image"),
    ),
    (1, None),
)
