"""Values of options with a grammar of their own: sizes, hosts, secrets, outputs, ``NAME=VALUE`` lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.errors import UsageError
from dockermagic.settings import parse_size as size

if TYPE_CHECKING:
    from dockermagic.build.request import CacheOption, Output, Secret

__all__ = [
    "cache",
    "call_method",
    "comma_fields",
    "host_entry",
    "named_context",
    "output",
    "pairs",
    "secret",
    "size",
    "ssh_agent",
    "ssh_agents",
    "with_environment",
]


def comma_fields(text: str) -> dict[str, str]:
    """``type=oci,dest=F``, quoted as CSV is; raises ValueError where a field has no '='."""
    import csv

    found = {}
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        found[key.strip().lower()] = value
    return found


def pairs(values: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` entries, the last of a name wins; a name alone has an empty value."""
    return dict(value.partition("=")[::2] for value in values)


def with_environment(values: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """``NAME=VALUE`` entries; a name alone takes its value from the environment and is left out where it has none."""
    found = {}
    for value in values:
        name, equals, given = value.partition("=")
        if equals:
            found[name] = given
        elif name in environment:
            found[name] = environment[name]
    return found


def named_context(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of ``--build-context``."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ValueError(f"invalid context value: {text}, expected key=value")
    return name, value


def call_method(text: str) -> tuple[str, str]:
    """``METHOD[,format=text|json]`` of ``--call`` as (method, format); raises ValueError."""
    name, *options = text.split(",")
    form = "text"
    for option in options:
        key, _, value = option.partition("=")
        if key != "format" or value not in ("text", "json"):
            raise ValueError(f'invalid option "{option}": there is format=text, format=json')
        form = value
    name = {"lint": "check", "": "build"}.get(name, name)
    if name not in ("build", "check", "outline", "targets"):
        raise ValueError(f'unknown method "{name}": there is build, check, outline, targets')
    return name, form


def host_entry(text: str) -> tuple[str, str]:
    """``HOST:IP`` or ``HOST=IP`` as (host, address); ``host-gateway`` is this machine, for who shares its network."""
    import ipaddress

    host, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not host:
        raise ValueError(f'bad format for add-host: "{text}"')
    address = address.removeprefix("[").removesuffix("]")
    if address == "host-gateway":
        return host, "127.0.0.1"
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return host, address


def secret(text: str, environment: Mapping[str, str] | None = None) -> tuple[str, Secret]:
    """``id=ID[,src=FILE|,env=NAME]``; an id alone is an environment variable of that name, else a file."""
    from dockermagic.build.request import Secret

    known = os.environ if environment is None else environment
    fields = comma_fields(text)
    kind = fields.pop("type", "")
    if kind not in ("", "file", "env"):
        raise ValueError(f'unsupported secret type "{kind}"')
    name = fields.pop("id", "")
    env, source = fields.pop("env", ""), fields.pop("src", "") or fields.pop("source", "")
    if fields:
        raise ValueError(f"unexpected key '{next(iter(fields))}' in '{text}'")
    if not name:
        raise ValueError("secret without an id: id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if kind == "env" and not env:
        env, source = source, ""
    if not env and not source:
        env, source = (name, "") if name in known else ("", name)
    if env:
        return name, Secret(env=env)
    return name, Secret(source=Path(source).expanduser().absolute())


def ssh_agent(text: str, environment: Mapping[str, str] | None = None) -> tuple[str, str]:
    """``default`` or ``ID[=SOCKET|KEY[,KEY]]`` as (id, absolute paths with commas). Raises ValueError."""
    known = os.environ if environment is None else environment
    name, _, value = text.partition("=")
    if "," in name:  # default,raw=true
        name, _, rest = text.partition(",")
        value = f"{known.get('SSH_AUTH_SOCK', '')},{rest}".strip(",")
    name, value = name or "default", value or known.get("SSH_AUTH_SOCK", "")
    words = [word for word in value.split(",") if word not in ("", "raw=false")]
    if not words:
        raise ValueError(f"invalid empty ssh agent socket for '{name}': SSH_AUTH_SOCK is not set")
    if "raw=true" in words:
        raise ValueError("raw=true is not supported: a RUN reaches an agent, which lists its keys and signs")
    paths = [Path(path).expanduser().absolute() for path in words]
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or directory")
    return name, ",".join(map(str, paths))


def ssh_agents(texts: Sequence[str]) -> dict[str, str]:
    """Each of several by its id. Raises UsageError, in BuildKit's words, where two have the same."""
    found: dict[str, str] = {}
    for name, paths in map(ssh_agent, texts):
        if name in found:
            raise UsageError(
                f"invalid duplicate ID {name}", hint=f"--ssh {name} is given twice: keys of one id stand in one."
            )
        found[name] = paths
    return found


def cache(text: str) -> CacheOption:
    """``type=registry,ref=NAME`` and the like; a name alone is one of a registry. Raises ValueError."""
    from dockermagic.build.request import CacheOption

    if "=" not in text:
        return CacheOption("registry", {"ref": text})
    fields = comma_fields(text)
    kind = fields.pop("type", "")
    if not kind:
        raise ValueError("type is required: type=registry,ref=NAME")
    return CacheOption(kind, fields)


def output(text: str) -> Output:
    """``type=TYPE,dest=PATH[,KEY=VALUE...]``; a directory's path alone is ``local``, ``-`` alone ``tar``.

    ``registry`` is an ``image`` that is pushed.
    """
    from dockermagic.build.request import Output

    if "=" not in text and "," not in text:
        return Output("tar" if text == "-" else "local", text)
    fields = comma_fields(text)
    kind = fields.pop("type", "")
    dest = fields.pop("dest", "") or fields.pop("destination", "")
    if not kind:
        raise ValueError("type is required for output: type=oci,dest=FILE")
    if kind == "registry":
        kind, fields = "image", {"push": "true", **fields}
    if kind in ("oci", "tar") and not dest:
        dest = "-"
    return Output(kind, dest, fields)
