"""Nodes become instructions: arguments counted, flags typed, JSON and shell form told apart.

Errors are BuildKit's, with the line, its text and, where there is something to say, a hint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dockermagic.dockerfile.flags import read_flags
from dockermagic.dockerfile.heredoc import Heredoc, parse_heredoc
from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.literals import boolean, csv_fields, duration, integer
from dockermagic.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Device,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from dockermagic.dockerfile.mounts import parse_mount
from dockermagic.dockerfile.parser import Node, parse, parse_fragment
from dockermagic.dockerfile.suggest import with_suggestion
from dockermagic.dockerfile.text import SPACE, quote
from dockermagic.errors import DockerfileSyntaxError, Place

__all__ = ["KEYWORDS", "instruction", "parse_instructions", "parse_trigger"]

_T = TypeVar("_T")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*\Z")
_NAMED_FLAG = re.compile(r"--[\w-]+")
_SHORTEST_INTERVAL = 1_000_000


def parse_instructions(text: str) -> list[Instruction]:
    """The instructions of a whole Dockerfile, for other programs. Before the first FROM only ARG may stand."""
    found: list[Instruction] = []
    staged = False
    for node in parse(text).nodes:
        made = instruction(node)
        staged = staged or isinstance(made, From)
        if not (staged or isinstance(made, Arg)):
            raise DockerfileSyntaxError(
                "no build stage in current context", place=node.place(), hint="Put a FROM before this instruction."
            )
        found.append(made)
    return found


def parse_trigger(text: str) -> Instruction:
    """The one instruction of an ONBUILD trigger, as it stands in the configuration of an image."""
    nodes = parse_fragment(text, directives=False).nodes
    if len(nodes) != 1:
        raise DockerfileSyntaxError(f"onbuild trigger should be a single expression: {text}")
    return instruction(nodes[0])


def instruction(node: Node) -> Instruction:
    """The instruction that a node says. Raises DockerfileSyntaxError at the node."""
    make = _MAKERS.get(node.keyword)
    try:
        if make is None:
            message = f"unknown instruction: {node.written}"
            raise ValueError(with_suggestion(message, node.written, KEYWORDS, case_sensitive=False))
        return make(node)
    except _FlagError as error:
        message = str(error)
        raise DockerfileSyntaxError(
            message, place=node.flag_place(error.flag), hint=hint_for(message, node.keyword)
        ) from None
    except ValueError as error:
        message = str(error)
        raise DockerfileSyntaxError(
            message, place=_place(node, message), hint=hint_for(message, node.keyword)
        ) from None
    except DockerfileSyntaxError as error:
        error.place = error.place or node.place()
        raise


class _FlagError(ValueError):
    """What is wrong is the value of a flag, which stands like this among the node's."""

    def __init__(self, message: str, flag: str) -> None:
        super().__init__(message)
        self.flag = flag


def _value(flag: str, text: str, read: Callable[[str], _T]) -> _T:
    """The value of a flag; what is wrong with it is said of the flag."""
    try:
        return read(text)
    except ValueError as error:
        raise _FlagError(str(error), f"--{flag}={text}") from None


def _place(node: Node, message: str) -> Place:
    """The keyword or the flag that the message is about, else the whole first line."""
    if message.startswith("unknown instruction"):
        return node.place(node.keyword_range())
    named = _NAMED_FLAG.search(message)
    if named:
        for flag, where in zip(node.flags, node.flag_ranges(), strict=True):
            if flag.partition("=")[0] == named[0]:
                return node.place(where)
    return node.place()


def _one(node: Node) -> str:
    if len(node.words) != 1:
        raise ValueError(f"{node.keyword.upper()} requires exactly one argument")
    return node.words[0]


def _some(node: Node) -> tuple[str, ...]:
    if not node.words:
        raise ValueError(f"{node.keyword.upper()} requires at least one argument")
    return node.words


def _no_flags(node: Node) -> None:
    if node.flags:
        read_flags(node.keyword, node.flags)


def _from(node: Node) -> From:
    words = node.words
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise ValueError("FROM requires either one or three arguments")
    alias = None
    if len(words) == 3:
        alias = words[2].lower()
        if not _STAGE_NAME.match(alias):
            raise ValueError(
                f"invalid name for build stage: {quote(words[2])}, name can't start with a number or contain symbols"
            )
    flags = read_flags("from", node.flags)
    return From(words[0], flags.get("platform", [""])[0], alias, node=node)


def _arg(node: Node) -> Arg:
    args: list[tuple[str, str | None]] = []
    for word in _some(node):
        name, equals, value = word.partition("=")
        if equals and not name:
            raise ValueError("ARG names can not be blank")
        args.append((name, value if equals else None))
    return Arg(tuple(args), node=node)


def _pairs(node: Node) -> tuple[tuple[tuple[str, str], ...], bool]:
    _no_flags(node)
    words = _some(node)
    pairs = tuple(zip(words[::3], words[1::3], strict=True))
    if any(not name for name, _ in pairs):
        raise ValueError(f"{node.keyword.upper()} names can not be blank")
    return pairs, not words[2]


def _env(node: Node) -> Env:
    pairs, legacy = _pairs(node)
    return Env(pairs, legacy, node=node)


def _label(node: Node) -> Label:
    pairs, legacy = _pairs(node)
    return Label(pairs, legacy, node=node)


def _maintainer(node: Node) -> Maintainer:
    author = _one(node)
    _no_flags(node)
    return Maintainer(author, node=node)


def _expose(node: Node) -> Expose:
    ports = _some(node)
    _no_flags(node)
    return Expose(ports, node=node)


def _volume(node: Node) -> Volume:
    paths = _some(node)
    _no_flags(node)
    stripped = tuple(path.strip(SPACE) for path in paths)
    if not all(stripped):
        raise ValueError("VOLUME specified can not be an empty string")
    return Volume(stripped, node=node)


def _user(node: Node) -> User:
    user = _one(node)
    _no_flags(node)
    return User(user, node=node)


def _workdir(node: Node) -> Workdir:
    path = _one(node)
    _no_flags(node)
    return Workdir(path, node=node)


def _stopsignal(node: Node) -> StopSignal:
    return StopSignal(_one(node), node=node)


def _shell(node: Node) -> Shell:
    _no_flags(node)
    words = _some(node)
    if not node.json:
        raise ValueError("SHELL requires the arguments to be in JSON form")
    return Shell(words, node=node)


def _command(node: Node) -> Command:
    return Command(node.words, not node.json)


def _cmd(node: Node) -> Cmd:
    _no_flags(node)
    return Cmd(_command(node), node=node)


def _entrypoint(node: Node) -> Entrypoint:
    _no_flags(node)
    return Entrypoint(_command(node), node=node)


def _healthcheck(node: Node) -> Healthcheck:
    kind, *words = _some(node)
    kind = kind.upper()
    if kind == "NONE":
        if words:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(("NONE",), node=node)
    flags = read_flags("healthcheck", node.flags)
    if kind != "CMD":
        raise ValueError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not words:
        raise ValueError("Missing command after HEALTHCHECK CMD")
    times = {}
    for name in ("interval", "timeout", "start-period", "start-interval"):
        times[name.replace("-", "_")] = _value(name, flags.get(name, [""])[0], partial(_interval, name))
    retries = 0
    if flags.get("retries", [""])[0]:
        retries = _value("retries", flags["retries"][0], integer)
        if retries < 0:
            raise ValueError(f"--retries cannot be negative ({retries})")
    return Healthcheck(("CMD" if node.json else "CMD-SHELL", *words), **times, retries=retries, node=node)


def _interval(name: str, text: str) -> int:
    if not text:
        return 0
    value = duration(text)
    if value and value < _SHORTEST_INTERVAL:
        raise ValueError(f"Interval {quote(name)} cannot be less than 1ms")
    return value


def _onbuild(node: Node) -> Onbuild:
    trigger = node.child
    if not trigger:
        raise ValueError("ONBUILD requires at least one argument")
    _no_flags(node)
    if trigger.keyword == "onbuild":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger.keyword in ("from", "maintainer"):
        raise ValueError(f"{trigger.keyword.upper()} isn't allowed as an ONBUILD trigger")
    text = re.sub(rf"[{SPACE}]*ONBUILD[{SPACE}]*", "", node.original, count=1, flags=re.IGNORECASE)
    for heredoc in node.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return Onbuild(text, node=node)


def _run(node: Node) -> Run:
    flags = read_flags("run", node.flags)
    mounts = tuple(_value("mount", text, parse_mount) for text in flags.get("mount", ()))
    network = flags.get("network", ["default"])[0]
    if network not in ("default", "none", "host"):
        raise _FlagError(f"invalid network mode {quote(network)}", f"--network={network}")
    security = flags.get("security", ["sandbox"])[0]
    if security not in ("sandbox", "insecure"):
        raise _FlagError(f"security {quote(security)} is not valid", f"--security={security}")
    devices = tuple(_value("device", text, _device) for text in flags.get("device", ()))
    return Run(_command(node), node.heredocs, mounts, network, security, devices, node=node)


def _device(text: str) -> Device:
    name, required = "", False
    for index, field in enumerate(csv_fields(text)):
        key, equals, value = field.partition("=")
        if index == 0 and key not in ("name", "required"):
            name = field
        elif key == "name" and equals:
            if name:
                raise ValueError(f"device name already set to {name}")
            name = value
        elif key == "required":
            required = boolean(value) if equals else True
        else:
            raise ValueError(with_suggestion(f"unexpected key '{key}' in '{field}'", key, ("name", "required")))
    return Device(name, required)


def _files(node: Node) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
    """Sources, destination and heredocs of ADD and COPY."""
    name = node.keyword.upper()
    if len(node.words) < 2:
        raise ValueError(
            f"{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    *words, destination = node.words
    if "<<" not in node.original:
        return tuple(words), destination, ()
    if parse_heredoc(destination):
        raise ValueError(f"{name} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc for heredoc in node.heredocs}
    sources: list[str] = []
    heredocs: list[Heredoc] = []
    for word in words:
        heredoc = parse_heredoc(word)
        if heredoc:
            heredocs.append(bodies.get(heredoc.name, heredoc))
        else:
            sources.append(word)
    return tuple(sources), destination, tuple(heredocs)


def _switch(values: list[str] | None) -> bool | None:
    return values[0] == "true" if values else None


def _copy(node: Node) -> Copy:
    sources, destination, heredocs = _files(node)
    flags = read_flags("copy", node.flags) if node.flags else {}
    return Copy(
        sources,
        destination,
        heredocs,
        from_=flags.get("from", [""])[0],
        chown=flags.get("chown", [""])[0],
        chmod=flags.get("chmod", [""])[0],
        link=bool(_switch(flags.get("link"))),
        parents=bool(_switch(flags.get("parents"))),
        excludes=tuple(flags.get("exclude", ())),
        node=node,
    )


def _add(node: Node) -> Add:
    sources, destination, heredocs = _files(node)
    flags = read_flags("add", node.flags) if node.flags else {}
    return Add(
        sources,
        destination,
        heredocs,
        chown=flags.get("chown", [""])[0],
        chmod=flags.get("chmod", [""])[0],
        link=bool(_switch(flags.get("link"))),
        excludes=tuple(flags.get("exclude", ())),
        keep_git_dir=_switch(flags.get("keep-git-dir")),
        checksum=flags.get("checksum", [""])[0],
        unpack=_switch(flags.get("unpack")),
        node=node,
    )


_MAKERS: dict[str, Callable[[Node], Instruction]] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stopsignal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}

KEYWORDS = tuple(keyword.upper() for keyword in _MAKERS)
"""Every instruction, upper case."""
