"""Lowering: stages of a Dockerfile become vertices and image configs.

The only place that asks 'which instruction is this?'. It touches nothing but ``resolve``, which turns an image's name
into its config and layers; everything else is a return value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dockermagic.build import dispatch
from dockermagic.build.config import StageConfig
from dockermagic.build.graph import ImageSource, LocalSource, Source, Vertex
from dockermagic.build.request import BuildRequest
from dockermagic.dockerfile import model as ins
from dockermagic.dockerfile.shell import expand
from dockermagic.dockerfile.stages import Dockerfile, Stage
from dockermagic.errors import BuildError, DockerfileSyntaxError, DockermagicError, Place
from dockermagic.oci.platform import Platform

__all__ = ["LoweredStage", "Plan", "ResolvedImage", "lower"]


class ResolvedImage(Protocol):
    """What the frontend needs to know of a base image."""

    @property
    def name(self) -> str: ...
    @property
    def manifest(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def chain_ids(self) -> tuple[str, ...]: ...


Resolve = Callable[[str, str], ResolvedImage]


@dataclass(slots=True)
class LoweredStage:
    """A stage as a graph: its top vertex (None: nothing but scratch), its config, the vertex and image it stands on."""

    index: int
    name: str
    config: StageConfig
    top: Vertex | None = None
    base: Vertex | None = None
    base_image: Any = None


@dataclass(slots=True)
class Plan:
    """Everything that has to be solved: lowered stages by index, and which of them is the target.

    ``numbers`` is the number of each stage's FROM among the text's instructions; ``texts`` holds, by number, what an
    instruction says once its variables are filled in.
    """

    target: int
    numbers: dict[int, int]
    stages: dict[int, LoweredStage] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def lower(
    dockerfile: Dockerfile, request: BuildRequest, resolve: Resolve, platform: Platform, created: float | None = None
) -> Plan:
    """Lower the target stage, the further stages of the request and all that they need.

    Raises :class:`DockerfileSyntaxError` for what the language forbids and whatever ``resolve`` raises, each with the
    line of the instruction that asked.
    """
    lowering = Lowering(dockerfile, request, resolve, platform, time.time() if created is None else created)
    return lowering.plan()


class Lowering:
    """The state of one lowering: scopes, and the stages that are already done."""

    def __init__(
        self, dockerfile: Dockerfile, request: BuildRequest, resolve: Resolve, platform: Platform, created: float
    ) -> None:
        self.dockerfile = dockerfile
        self.request = request
        self.resolve = resolve
        self.created = created
        self.build_platform = platform
        self.platform = Platform.parse(request.platform) if request.platform else platform
        self.escape = dockerfile.escape
        self.done: dict[int, LoweredStage] = {}
        self.images: dict[tuple[str, str], Vertex | None] = {}
        self.numbers = self._number()
        self.texts: dict[int, str] = {}
        self.automatic = self._automatic()
        self.globals = self._globals()

    def plan(self) -> Plan:
        """Lower what was asked for."""
        target = self._target()
        for index in (*self.request.stages, target):
            self.stage(index)
        return Plan(target, self.numbers, self.done, self.texts)

    def _number(self) -> dict[int, int]:
        """The 0-based number in the text of each stage's FROM."""
        numbers, count = {}, len(self.dockerfile.global_args)
        for stage in self.dockerfile.stages:
            numbers[stage.index] = count
            count += 1 + len(stage.instructions)
        return numbers

    def _target(self) -> int:
        stages = self.dockerfile.stages
        if not self.request.target:
            return stages[-1].index
        wanted = self.request.target.lower()
        for stage in reversed(stages):
            if stage.name == wanted:
                return stage.index
        names = ", ".join(stage.name for stage in stages if stage.name) or "none has a name"
        raise BuildError(
            f'target stage "{self.request.target}" could not be found', hint=f"The stages of this Dockerfile: {names}."
        )

    def _automatic(self) -> dict[str, str]:
        """The automatic platform args (reference: 'Automatic platform ARGs in the global scope')."""
        found = {"TARGETSTAGE": self.request.target or "default"}
        for prefix, platform in (("BUILD", self.build_platform), ("TARGET", self.platform)):
            found[f"{prefix}PLATFORM"] = str(platform)
            found[f"{prefix}OS"] = platform.os
            found[f"{prefix}OSVERSION"] = ""
            found[f"{prefix}ARCH"] = platform.architecture
            found[f"{prefix}VARIANT"] = platform.variant
        return found | {name: value for name, value in self.request.build_args.items() if name in found}

    def _globals(self) -> dict[str, str]:
        """The global scope: automatic args, then ARG instructions before the first FROM."""
        scope = dict(self.automatic)
        for instruction in self.dockerfile.global_args:
            for name, default in instruction.args:
                if name in self.request.build_args:
                    scope[name] = self.request.build_args[name]
                elif default is not None:
                    with self.at(instruction):
                        scope[name] = expand(default, scope, self.escape)
        return scope

    def at(self, instruction: ins.Instruction) -> _At:
        """A context in which errors without a place get that of the instruction."""
        return _At(instruction, self.request.filename)

    def stage(self, index: int) -> LoweredStage:
        """Lower one stage, once."""
        if index in self.done:
            return self.done[index]
        stage = self.dockerfile.stages[index]
        with self.at(stage.base):
            lowered, triggers = self._base(stage)
        label = stage.name or f"stage-{index}"
        shown = stage.name or (label if len(self.dockerfile.stages) > 1 else "")
        lowered.name = stage.name
        body = dispatch.StageBody(self, stage, lowered, shown, triggers)
        body.run()
        self.done[index] = lowered
        return lowered

    def _base(self, stage: Stage) -> tuple[LoweredStage, tuple[str, ...]]:
        image = expand(stage.base.image, self.globals, self.escape)
        if not image.strip():
            raise DockerfileSyntaxError(
                f"base name ({stage.base.image}) should not be blank",
                hint="Declare the variable with ARG before the first FROM, or give it a default.",
            )
        platform = self.platform
        if stage.base.platform:
            wanted = expand(stage.base.platform, self.globals, self.escape)
            if not wanted:
                raise DockerfileSyntaxError(
                    f"empty platform value from expression {stage.base.platform}",
                    hint="Declare the variable with ARG before the first FROM.",
                )
            platform = Platform.parse(wanted)
        for earlier in reversed(self.dockerfile.stages[: stage.index]):
            if earlier.name and earlier.name == image:
                below = self.stage(earlier.index)
                config = below.config.child()
                made = LoweredStage(stage.index, stage.name, config, below.top, below.top, below.base_image)
                return made, tuple(below.config.config.get("OnBuild") or ())
        if image == "scratch" and "scratch" not in self.request.build_contexts:
            config = StageConfig.scratch(platform.os, platform.architecture, platform.variant, self.created)
            return LoweredStage(stage.index, stage.name, config), ()
        top, resolved = self.image(image, str(platform), stage=stage)
        config = StageConfig.from_image(resolved.config, self.created)
        triggers = tuple(config.config.pop("OnBuild", None) or ())
        return LoweredStage(stage.index, stage.name, config, top, top, resolved), triggers

    def image(self, name: str, platform: str, *, stage: Stage) -> tuple[Vertex | None, ResolvedImage]:
        """The vertex of an image, resolved once a name and platform; None where it has no layers."""
        name = self._named_image(name)
        resolved = self.resolve(name, platform)
        key = (resolved.manifest, platform)
        if key not in self.images:
            op = ImageSource(resolved.name, resolved.manifest, resolved.chain_ids, resolved)
            shown = stage.name or (f"stage-{stage.index}" if len(self.dockerfile.stages) > 1 else "")
            self.images[key] = (
                Vertex(
                    op,
                    None,
                    f"FROM {resolved.name}",
                    stage.index,
                    shown,
                    self.numbers[stage.index],
                    stage.base.range.start_line,
                    stage.base.original,
                )
                if resolved.chain_ids
                else None
            )
        return self.images[key], resolved

    def _named_image(self, name: str) -> str:
        value = self.request.build_contexts.get(name, "")
        return value.removeprefix("docker-image://") if value.startswith("docker-image://") else name

    def copy_source(self, name: str, stage: Stage) -> Source:
        """What ``--from=name`` means: an earlier stage by name or index, a named context, else an image."""
        if name in self.request.build_contexts:
            value = self.request.build_contexts[name]
            if "://" not in value or value.startswith("oci-layout://"):
                return LocalSource(name)
        wanted = name.lower()
        for earlier in reversed(self.dockerfile.stages[: stage.index]):
            if earlier.name and earlier.name == wanted:
                return self.stage(earlier.index).top
        if name.isdigit():
            if int(name) >= stage.index:
                raise DockerfileSyntaxError(
                    f"invalid from flag value {name}: invalid stage index {name}",
                    hint=f"This stage has the index {stage.index}; --from can only name an earlier one.",
                )
            return self.stage(int(name)).top
        for later in self.dockerfile.stages[stage.index :]:
            if later.name == wanted:
                word = "itself" if later.index == stage.index else "a later stage"
                raise DockerfileSyntaxError(
                    f"circular dependency detected on stage: {later.name}",
                    hint=f"--from={name} names {word}; only earlier stages can be copied from.",
                )
        if wanted == "scratch":
            return None
        return self.image(name, str(self.platform), stage=stage)[0]


class _At:
    """Gives errors that pass through it the place of an instruction."""

    def __init__(self, instruction: ins.Instruction, filename: str) -> None:
        self.instruction, self.filename = instruction, filename

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DockermagicError) and error.place is None:
            span = self.instruction.range
            text = self.instruction.original.split("\n", 1)[0]
            error.place = Place(span.start_line, span.start_column, None, text, self.filename)
