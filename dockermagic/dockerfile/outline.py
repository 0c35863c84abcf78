"""What a Dockerfile offers to whoever builds it: its targets, and the arguments and secrets that one of them takes.

A comment directly above that begins with the name describes it: ``# VERSION of the compiler`` above ``ARG VERSION``.
"""

from __future__ import annotations

from collections.abc import Mapping

from dockermagic.dockerfile.model import Arg, Env, Instruction, Run
from dockermagic.dockerfile.mounts import resolve_mount
from dockermagic.dockerfile.shell import expand, expand_with_matches
from dockermagic.dockerfile.stages import (
    Dockerfile,
    References,
    Stage,
    find_target,
    global_scope,
    parse_dockerfile,
    platform_arguments,
    references,
)
from dockermagic.dockerfile.text import NOWHERE, Range
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass, field

__all__ = ["Argument", "Demand", "Outline", "Target", "list_targets", "outline"]


@dataclass(frozen=True, slots=True)
class Argument:
    """A build argument: the value that it has without being given, '' for none."""

    name: str
    value: str = ""
    description: str = ""
    range: Range = NOWHERE


@dataclass(frozen=True, slots=True)
class Demand:
    """A secret or an SSH agent that a RUN asks for."""

    name: str
    required: bool = False
    range: Range = NOWHERE


@dataclass(frozen=True, slots=True)
class Outline:
    """What a target takes, each in the order of the text; ``name`` is '' for a stage without one."""

    name: str = ""
    description: str = ""
    arguments: tuple[Argument, ...] = ()
    secrets: tuple[Demand, ...] = ()
    agents: tuple[Demand, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A stage as something to build. ``base`` and ``platform`` are as written."""

    name: str = ""
    is_default: bool = False
    description: str = ""
    base: str = ""
    platform: str = ""
    range: Range = NOWHERE


def list_targets(text: str) -> tuple[Target, ...]:
    """The stages of a Dockerfile. Raises DockerfileSyntaxError."""
    stages = parse_dockerfile(text).stages
    return tuple(
        Target(
            stage.name,
            stage.index == len(stages) - 1,
            _description(stage.base, stage.name),
            stage.base.image,
            stage.base.platform,
            stage.base.range,
        )
        for stage in stages
    )


def outline(
    text: str, *, target: str = "", build_args: Mapping[str, str] | None = None, platform: str = "linux/amd64"
) -> Outline:
    """What a target and the stages that it needs take. Nothing is built, and no base image is asked.

    Raises DockerfileSyntaxError.
    """
    dockerfile = parse_dockerfile(text)
    return _Outliner(dockerfile, target, build_args or {}, platform).outline(target)


def _description(made: Instruction, name: str) -> str:
    """The rest of the first comment above that begins with the name."""
    found = (comment for comment in made.comments if name and comment.startswith(f"{name} "))
    return next(found, "").removeprefix(f"{name} ")


@dataclass(slots=True)
class _Known:
    """What one stage was found to define and use."""

    variables: dict[str, str]
    defined: dict[str, tuple[Argument, frozenset[str]]]
    used: set[str] = field(default_factory=set)
    secrets: dict[str, Demand] = field(default_factory=dict)
    agents: dict[str, Demand] = field(default_factory=dict)


class _Outliner:
    def __init__(self, dockerfile: Dockerfile, target: str, build_args: Mapping[str, str], platform: str) -> None:
        self.dockerfile = dockerfile
        self.build_args = build_args
        self.scope = global_scope(dockerfile, build_args, platform_arguments(platform, platform, target))
        self.references = references(dockerfile, self.scope)
        self.globals = self._globals()
        self.known: dict[int, _Known] = {}

    def outline(self, target: str) -> Outline:
        index = find_target(self.dockerfile, target)
        stage = self.dockerfile.stages[index]
        order = self._needed(index)
        arguments: dict[str, Argument] = {}
        secrets: dict[str, Demand] = {}
        agents: dict[str, Demand] = {}
        for number in order:
            known = self._stage(number)
            used = self._with_dependencies(known)
            for name, (argument, _) in known.defined.items():
                if name in used:
                    arguments.setdefault(name, argument)
            for found, more in ((secrets, known.secrets), (agents, known.agents)):
                for name, demand in more.items():
                    found.setdefault(name, demand)
        return Outline(
            stage.name,
            _description(stage.base, stage.name),
            tuple(sorted(arguments.values(), key=_place)),
            tuple(sorted(secrets.values(), key=_place)),
            tuple(sorted(agents.values(), key=_place)),
        )

    def _needed(self, index: int) -> list[int]:
        """The target, its bases from the top down, then what they copy from."""
        order: dict[int, None] = {}
        waiting: list[int | None] = [index]
        while waiting:
            number = waiting.pop()
            if number is not None and number not in order:
                order[number] = None
                found: References = self.references[number]
                waiting += reversed([found.base_stage, *(link.stage for link in found.links)])
        return list(order)

    def _globals(self) -> dict[str, tuple[Argument, frozenset[str]]]:
        found: dict[str, tuple[Argument, frozenset[str]]] = {}
        values = dict(self.scope.values)
        for made in self.dockerfile.global_args:
            for name, default in made.args:
                value, matched = self.build_args.get(name, ""), frozenset[str]()
                if name not in self.build_args and default is not None:
                    value, names, _ = expand_with_matches(default, values, self.dockerfile.escape)
                    matched = frozenset(names)
                found[name] = (Argument(name, value, _description(made, name), made.range), matched)
        return found

    @staticmethod
    def _with_dependencies(known: _Known) -> set[str]:
        used: set[str] = set()
        waiting = list(known.used)
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting += known.defined[name][1] if name in known.defined else ()
        return used

    def _stage(self, index: int) -> _Known:
        line: list[int] = []
        base: int | None = index
        while base is not None and base not in self.known:
            line.append(base)
            base = self.references[base].base_stage
        for number in reversed(line):
            self.known[number] = self._read(number)
        return self.known[index]

    def _read(self, index: int) -> _Known:
        """What a stage has, those that it is FROM being known."""
        stage, base = self.dockerfile.stages[index], self.references[index].base_stage
        known = _Known(dict(self.known[base].variables) if base is not None else {}, dict(self.globals))
        for word in (stage.base.image, stage.base.platform):
            known.used |= expand_with_matches(word, self.scope.values, self.dockerfile.escape)[1]
        for made in stage.instructions:
            self._instruction(stage, made, known)
        return known

    def _instruction(self, stage: Stage, made: Instruction, known: _Known) -> None:
        match made:
            case Env():
                names = [expand(name, known.variables, self.dockerfile.escape) for name, _ in made.pairs]
                known.variables.update(
                    zip(names, [self._expand(value, known.variables) for _, value in made.pairs], strict=True)
                )
            case Arg():
                self._argument(made, known)
            case Run():
                for mount in made.mounts:
                    if mount.type not in ("secret", "ssh"):
                        continue
                    asked = resolve_mount(mount, lambda word: self._expand(word, known.variables), made.node)
                    name = asked.id or (asked.target.rpartition("/")[2] if mount.type == "secret" else "default")
                    place = known.secrets if mount.type == "secret" else known.agents
                    place.setdefault(name, Demand(name, asked.required, made.range))

    def _argument(self, made: Arg, known: _Known) -> None:
        for raw, default in made.args:
            name = expand(raw, known.variables, self.dockerfile.escape)
            known.used.add(name)
            inherited = name not in self.build_args and default is None and name in self.scope.values
            value = self.build_args.get(name, "")
            if inherited:
                value = self.scope.values[name]
            elif name not in self.build_args and default is not None:
                value = self._expand(default, known.variables)
            if not inherited:
                argument = Argument(name, value, _description(made, name), made.range)
                known.defined[name] = (argument, frozenset())
            if value or default is not None or name in self.build_args:
                known.variables[name] = value

    def _expand(self, word: str, variables: Mapping[str, str]) -> str:
        try:
            return expand(word, variables, self.dockerfile.escape)
        except DockerfileSyntaxError:
            return word  # ${x:?}: what it demands may come from a base image, which nobody asks here


def _place(found: Argument | Demand) -> tuple[int, int]:
    return found.range.start_line, found.range.start_column
