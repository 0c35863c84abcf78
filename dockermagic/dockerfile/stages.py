"""Stages: their names, the scopes of ARG, and who reads whom.

Everything here is a function of values; what a base image's configuration adds is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from dockermagic.dockerfile.directives import Directive
from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.model import Arg, Copy, From, Instruction, Run
from dockermagic.dockerfile.names import parse_platform
from dockermagic.dockerfile.parser import Notice, Parsed, parse
from dockermagic.dockerfile.shell import expand, expand_with_matches
from dockermagic.dockerfile.suggest import nearest, with_suggestion
from dockermagic.errors import DockerfileSyntaxError, Place
from dockermagic.values import dataclass

__all__ = [
    "Dockerfile",
    "Link",
    "References",
    "Scope",
    "Stage",
    "argument_value",
    "divide",
    "find_target",
    "global_scope",
    "parse_dockerfile",
    "platform_arguments",
    "reachable",
    "references",
]


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it. ``name`` is lower case, '' where there is none."""

    index: int
    name: str
    base: From
    instructions: tuple[Instruction, ...] = ()

    @property
    def label(self) -> str:
        """The name, or the index of a stage without one."""
        return self.name or str(self.index)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """``warnings`` are what the parser found odd; the linter finds more."""

    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    warnings: tuple[Notice, ...] = ()

    def instructions(self) -> list[Instruction]:
        """All of them, in the order of the text."""
        found: list[Instruction] = list(self.global_args)
        for stage in self.stages:
            found += (stage.base, *stage.instructions)
        return found


def parse_dockerfile(text: str) -> Dockerfile:
    """The stages of a whole Dockerfile. Raises DockerfileSyntaxError, also when it has none."""
    parsed = parse(text)
    dockerfile = divide([instruction(node) for node in parsed.nodes], parsed)
    if not dockerfile.stages:
        raise DockerfileSyntaxError(
            "dockerfile contains no stages to build", place=parsed.nodes[-1].place(), hint="Add a FROM after the ARGs."
        )
    return dockerfile


def divide(instructions: list[Instruction], parsed: Parsed) -> Dockerfile:
    """Instructions as stages; a FROM begins one. Only ARG may stand before the first."""
    global_args: list[Arg] = []
    bases: list[From] = []
    bodies: list[list[Instruction]] = []
    for made in instructions:
        if isinstance(made, From):
            bases.append(made)
            bodies.append([])
        elif bodies:
            bodies[-1].append(made)
        elif isinstance(made, Arg):
            global_args.append(made)
        else:
            raise DockerfileSyntaxError(
                "no build stage in current context", place=made.place(), hint="Put a FROM before this instruction."
            )
    stages = tuple(
        Stage(index, base.alias or "", base, tuple(body))
        for index, (base, body) in enumerate(zip(bases, bodies, strict=True))
    )
    return Dockerfile(tuple(global_args), stages, parsed.directives, parsed.escape, parsed.notices)


# ---- ARG scopes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """What FROM and a stage's ``ARG name`` can see: ``values``, and every ``declared`` name, also those without one."""

    values: Mapping[str, str]
    declared: frozenset[str]


def platform_arguments(
    target_platform: str = "linux/amd64", build_platform: str = "linux/amd64", target: str = ""
) -> dict[str, str]:
    """The arguments that are always there: TARGETPLATFORM and its relatives."""
    values = {}
    for prefix, text in (("BUILD", build_platform), ("TARGET", target_platform)):
        platform = parse_platform(text)
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    values["TARGETSTAGE"] = target or "default"
    return values


def global_scope(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str] | None = None,
    automatic: Mapping[str, str] | None = None,
) -> Scope:
    """The arguments before the first FROM. A build argument beats a default, which may use arguments above it.

    ``automatic`` are :func:`platform_arguments`, which build arguments beat, too.
    """
    given = build_args or {}
    values = dict(platform_arguments() if automatic is None else automatic)
    values.update((name, given[name]) for name in values if name in given)
    declared = set(values)
    for arg in dockerfile.global_args:
        for name, default in arg.args:
            declared.add(name)
            if name in given:
                values[name] = given[name]
            elif default is not None:
                values[name] = _located(arg, default, values, dockerfile.escape)
    return Scope(values, frozenset(declared))


def _located(made: Instruction, word: str, values: Mapping[str, str], escape: str) -> str:
    try:
        return expand(word, values, escape)
    except DockerfileSyntaxError as error:
        error.place = error.place or made.place()
        raise


def argument_value(
    name: str, default: str | None, scope: Scope, build_args: Mapping[str, str] | None = None
) -> str | None:
    """The value of ``ARG name=default`` in a stage, its default already expanded; None leaves the name as it is."""
    given = build_args or {}
    if name in given:
        return given[name]
    return scope.values.get(name) if default is None else default


# ---- who reads whom ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A stage reads files of ``name``: of the stage with that index, or, where None, of an image or named context."""

    kind: Literal["copy", "mount"]
    name: str
    stage: int | None
    instruction: Instruction


@dataclass(frozen=True, slots=True)
class References:
    """What a stage stands on. ``base`` and ``platform`` are FROM's words with variables replaced."""

    base: str
    base_stage: int | None
    platform: str
    links: tuple[Link, ...] = ()


def references(dockerfile: Dockerfile, scope: Scope, contexts: Collection[str] = ()) -> tuple[References, ...]:
    """Of every stage what it stands on and reads. ``contexts`` are named contexts, which hide stages of their name.

    Raises DockerfileSyntaxError for a blank base, a bad platform, a stage index that is none, a variable in
    ``COPY --from``, and stages that read each other in a circle.
    """
    hidden = {name.lower() for name in contexts}
    last = {stage.name: stage.index for stage in dockerfile.stages if stage.name and stage.name not in hidden}
    earlier: dict[str, int] = {}
    found = []
    for stage in dockerfile.stages:
        base = _base(stage, scope, dockerfile.escape)
        platform = _platform(stage, scope, dockerfile.escape)
        links = tuple(_links(stage, last, len(dockerfile.stages)))
        found.append(References(base, earlier.get(base), platform, links))
        if stage.name and stage.name not in hidden:
            earlier[stage.name] = stage.index
    _refuse_circles(dockerfile, found)
    return tuple(found)


def _base(stage: Stage, scope: Scope, escape: str) -> str:
    base = _located(stage.base, stage.base.image, scope.values, escape)
    if not base:
        names = expand_with_matches(stage.base.image, scope.values, escape)[2]
        raise DockerfileSyntaxError(
            f"base name ({stage.base.image}) should not be blank",
            place=stage.base.place(),
            hint=" ".join(f"Give {name} a value: ARG {name}=… before the first FROM." for name in sorted(names)),
        )
    return base


def _platform(stage: Stage, scope: Scope, escape: str) -> str:
    written = stage.base.platform
    if not written:
        return ""
    platform = _located(stage.base, written, scope.values, escape)
    message = "" if platform else f"empty platform value from expression {written}"
    if platform:
        try:
            parse_platform(platform)
        except ValueError as error:
            message = f"failed to parse platform {written}: {error}"
    if message:
        for name in sorted(expand_with_matches(written, scope.values, escape)[2]):
            best = nearest(name, sorted(scope.declared))
            if best:
                message += f" (did you mean {best}?)"
                break
        raise DockerfileSyntaxError(message, place=stage.base.place(), hint=hint_for(message))
    return platform


def _links(stage: Stage, names: Mapping[str, int], count: int) -> list[Link]:
    links = []
    for made in stage.instructions:
        if isinstance(made, Copy) and made.from_:
            links.append(Link("copy", made.from_, _copy_source(made, names, count), made))
        elif isinstance(made, Run):
            for mount in made.mounts:
                if mount.from_:
                    links.append(Link("mount", mount.from_, names.get(mount.from_.lower()), made))
    return links


def _refused(message: str, made: Instruction) -> DockerfileSyntaxError:
    """An error at the ``--from`` flag of an instruction, or at all of it."""
    flag = f"--from={made.from_}" if isinstance(made, Copy) else ""
    return DockerfileSyntaxError(
        message, place=made.node.flag_place(flag) if made.node else None, hint=hint_for(message)
    )


def _copy_source(made: Copy, names: Mapping[str, int], count: int) -> int | None:
    if "$" in made.from_ and any(expand_with_matches(made.from_, {})[1:]):
        raise _refused(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope"
            " as a workaround",
            made,
        )
    if made.from_.isascii() and made.from_.lstrip("+-").isdigit():
        index = int(made.from_[:9])
        if not 0 <= index < count:
            raise _refused(f"invalid from flag value {made.from_}: invalid stage index {index}", made)
        return index
    return names.get(made.from_.lower())


def _sources(reference: References) -> list[tuple[int, Instruction | None]]:
    found: list[tuple[int, Instruction | None]] = []
    if reference.base_stage is not None:
        found.append((reference.base_stage, None))
    found += [(link.stage, link.instruction) for link in reference.links if link.stage is not None]
    return found


def _refuse_circles(dockerfile: Dockerfile, found: list[References]) -> None:
    done: set[int] = set()
    for start in range(len(found)):
        if start in done:
            continue
        path = [start]
        walks = [iter(_sources(found[start]))]
        while walks:
            source, made = next(walks[-1], (None, None))
            if source is None:
                walks.pop()
                done.add(path.pop())
            elif source in path:
                stage = dockerfile.stages[start]
                raise _refused(f"circular dependency detected on stage: {stage.label}", made or stage.base)
            elif source not in done:
                path.append(source)
                walks.append(iter(_sources(found[source])))


def find_target(dockerfile: Dockerfile, target: str = "") -> int:
    """The index of the stage with that name, whatever its case; the last one of that name, or of all without a name."""
    if not target:
        return len(dockerfile.stages) - 1
    for stage in reversed(dockerfile.stages):
        if stage.name and stage.name == target.lower():
            return stage.index
    names = [stage.name for stage in dockerfile.stages if stage.name]
    raise DockerfileSyntaxError(
        with_suggestion(f'target stage "{target}" could not be found', target, names),
        place=Place(dockerfile.stages[0].base.line or 1),
        hint=f"The stages are {', '.join(names)}." if names else "No stage of this Dockerfile has a name.",
    )


def reachable(dockerfile: Dockerfile, target: str = "", found: tuple[References, ...] | None = None) -> list[int]:
    """The stages that the target needs, itself included, in the order of the text.

    ``found`` are :func:`references`; without them those of a build without arguments.
    """
    known = references(dockerfile, global_scope(dockerfile)) if found is None else found
    wanted = [find_target(dockerfile, target)]
    seen = set(wanted)
    while wanted:
        for source, _ in _sources(known[wanted.pop()]):
            if source not in seen:
                seen.add(source)
                wanted.append(source)
    return sorted(seen)
