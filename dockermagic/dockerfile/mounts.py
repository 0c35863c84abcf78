"""``RUN --mount=type=cache,target=/x``: as written, and with its variables replaced and its values checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.literals import boolean, csv_fields, size, unsigned
from dockermagic.dockerfile.nodes import Node
from dockermagic.dockerfile.suggest import with_suggestion
from dockermagic.dockerfile.text import quote
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass

__all__ = ["Mount", "RunMount", "parse_mount", "resolve_mount"]

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = (
    *("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid"),
    *("src", "dst", "destination", "ro", "rw", "readwrite", "env"),
)
_BARE = frozenset({"readonly", "readwrite", "required"})


@dataclass(frozen=True, slots=True)
class RunMount:
    """A mount as written: values before variables are replaced, None where absent, ``true`` for a bare ``ro``.

    ``text`` is the whole value of the flag. :func:`resolve_mount` makes a :class:`Mount` of it.
    """

    text: str
    type: str = "bind"
    source: str | None = None
    target: str | None = None
    readonly: str | None = None
    readwrite: str | None = None
    id: str | None = None
    sharing: str | None = None
    required: str | None = None
    size: str | None = None
    mode: str | None = None
    uid: str | None = None
    gid: str | None = None
    env: str | None = None
    from_: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A checked mount. ``size`` is in bytes; None and '' say that an option was not given."""

    type: str = "bind"
    source: str = ""
    target: str = ""
    readonly: bool = True
    id: str = ""
    sharing: str = ""
    required: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None
    from_: str = ""


def _fields(text: str) -> list[tuple[str, str, str | None]]:
    try:
        fields = csv_fields(text)
    except ValueError as error:
        raise ValueError(f"failed to parse csv mounts: {error}") from None
    split = []
    for field in fields:
        key, equals, value = field.partition("=")
        split.append((field, key.lower(), value if equals else None))
    return split


def parse_mount(text: str) -> RunMount:
    """The mount as written. Raises ValueError only for broken CSV and for a variable in ``from``."""
    values: dict[str, Any] = {}
    for _, key, value in _fields(text):
        name = _ALIASES.get(key, key)
        if name == "from":
            if value and 0 <= value.find("$") < len(value) - 1:
                raise ValueError("'from' doesn't support variable expansion, define alias stage instead")
            name = "from_"
        elif key not in _KEYS:
            continue
        values[name] = value if value is not None else "true" if name in _BARE else ""
    return RunMount(text, **values)


def resolve_mount(mount: RunMount, expand: Callable[[str], str], node: Node | None = None) -> Mount:
    """The mount with each value expanded and checked. Raises DockerfileSyntaxError at the flag of ``node``."""
    try:
        return _checked(_options(mount.text, expand))
    except ValueError as error:
        place = node.flag_place(f"--mount={mount.text}") if node else None
        raise DockerfileSyntaxError(str(error), place=place, hint=hint_for(str(error), "run")) from None


def _options(text: str, expand: Callable[[str], str]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "bind"}
    for field, key, raw in _fields(text):
        name = _ALIASES.get(key, key)
        if raw is None:
            if name not in _BARE:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        else:
            value = expand(raw)
        if key not in _KEYS:
            raise ValueError(with_suggestion(f"unexpected key '{key}' in '{field}'", key, _KEYS))
        if (name == "required" and found["type"] not in ("secret", "ssh")) or (
            name == "size" and found["type"] != "tmpfs"
        ):
            raise ValueError(f"unexpected key '{key}' for mount type '{found['type']}'")
        found[name] = _value(name, key, value)
        if name == "readwrite":
            found["readonly"] = not found.pop("readwrite")
    return found


def _value(name: str, key: str, value: str) -> Any:
    if name == "type":
        if value.lower() not in _TYPES:
            raise ValueError(with_suggestion(f"unsupported mount type {quote(value)}", value, _TYPES))
        return value.lower()
    if name == "sharing":
        if value.lower() not in _SHARING:
            raise ValueError(with_suggestion(f"unsupported sharing value {quote(value)}", value, _SHARING))
        return value.lower()
    try:
        if name in _BARE:
            return boolean(value)
        if name == "size":
            return size(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None
    if name in ("mode", "uid", "gid"):
        try:
            return unsigned(value, 8 if name == "mode" else 10)
        except ValueError:
            raise ValueError(f"invalid value {value} for {key}") from None
    return value


def _checked(options: dict[str, Any]) -> Mount:
    kind = options["type"]
    if kind in ("bind", "tmpfs"):
        for key in ("mode", "uid", "gid"):
            if key in options:
                raise ValueError(f"{key} not allowed for {quote(kind)} type mounts")
    options.setdefault("readonly", kind not in ("cache", "tmpfs"))
    options["from_"] = options.pop("from", "")
    if kind == "secret":
        if options["from_"]:
            raise ValueError("secret mount should not have a from")
        if options.get("sharing"):
            raise ValueError("secret mount should not define sharing")
        if not (options.get("source") or options.get("target") or options.get("id")):
            raise ValueError("invalid secret mount. one of source, target required")
        if options.get("source") and options.get("id"):
            raise ValueError("both source and id can't be set")
    elif kind != "cache" and options.get("sharing"):
        raise ValueError(f"invalid cache sharing set for {kind} mount")
    return Mount(**options)
