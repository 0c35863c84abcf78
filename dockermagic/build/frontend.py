"""Lowering: stages of a Dockerfile become vertices and image configs.

The only place that asks 'which instruction is this?'. It touches nothing but ``resolve``, which turns an image's name
into its config and layers; everything else is a return value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dockermagic.build import dispatch
from dockermagic.build.config import StageConfig
from dockermagic.build.contexts import IMAGE, context_name, is_image
from dockermagic.build.graph import Copy, ImageSource, LocalSource, PathFiles, Source, Vertex
from dockermagic.build.request import BuildRequest
from dockermagic.dockerfile import model as ins
from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.stages import (
    Dockerfile,
    Stage,
    find_target,
    global_scope,
    platform_arguments,
    references,
)
from dockermagic.dockerfile.suggest import nearest
from dockermagic.errors import DockerfileSyntaxError, DockermagicError, ImageNotFoundError, Place
from dockermagic.oci.platform import Platform
from dockermagic.values import dataclass, field, replace

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
"""The image of a name (or of a layout, ``oci-layout://...``) for a platform."""


@dataclass(slots=True)
class LoweredStage:
    """A stage as a graph: its top vertex (None: nothing but scratch), its config, the vertex and image it stands on."""

    index: int
    name: str
    config: StageConfig
    top: Vertex | None = None
    base: Vertex | None = None
    base_image: Any = None
    from_image: bool = False


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
    dockerfile: Dockerfile, request: BuildRequest, resolve: Resolve, platform: Platform, epoch: float | None = None
) -> Plan:
    """Lower the target stage, the further stages of the request and all that they need.

    Raises :class:`DockerfileSyntaxError` for what the language forbids and whatever ``resolve`` raises, each with the
    line of the instruction that asked.
    """
    return Lowering(dockerfile, request, resolve, platform, epoch).plan()


class Lowering:
    """The state of one lowering: scopes, and the stages that are already done."""

    def __init__(
        self, dockerfile: Dockerfile, request: BuildRequest, resolve: Resolve, platform: Platform, epoch: float | None
    ) -> None:
        self.dockerfile = dockerfile
        self.request = request
        self.resolve = resolve
        self.epoch = epoch
        self.build_platform = platform
        self.platform = Platform.parse(request.platform) if request.platform else platform
        self.escape = dockerfile.escape
        self.done: dict[int, LoweredStage] = {}
        self.images: dict[tuple[str, str], Vertex | None] = {}
        self.texts: dict[int, str] = {}
        self.numbers = self._number()
        automatic = platform_arguments(str(self.platform), str(platform), request.target)
        self.scope = global_scope(dockerfile, request.build_args, automatic)
        self.contexts = {context_name(name): name for name in request.build_contexts}
        self.references = references(dockerfile, self.scope, tuple(self.contexts))

    def plan(self) -> Plan:
        """Lower what was asked for and what it needs, in the order of the text."""
        target = find_target(self.dockerfile, self.request.target)
        wanted = [*self.request.stages, target]
        needed: set[int] = set()
        while wanted:
            index = wanted.pop()
            if index not in needed:
                needed.add(index)
                found = self.references[index]
                below = [found.base_stage, *(link.stage for link in found.links)]
                wanted += [stage for stage in below if stage is not None]
        for index in sorted(needed):
            self.stage(index)
        return Plan(target, self.numbers, self.done, self.texts)

    def _number(self) -> dict[int, int]:
        """The 0-based number in the text of each stage's FROM."""
        numbers, count = {}, len(self.dockerfile.global_args)
        for stage in self.dockerfile.stages:
            numbers[stage.index] = count
            count += 1 + len(stage.instructions)
        return numbers

    def at(self, instruction: ins.Instruction) -> _At:
        """A context in which errors without a place get that of the instruction."""
        return _At(instruction, self.request.filename)

    def stage(self, index: int) -> LoweredStage:
        """Lower one stage, once."""
        if index in self.done:
            return self.done[index]
        stage = self.dockerfile.stages[index]
        if stage.name and self.named(stage.name):
            # A named context takes the place of the whole stage.
            with self.at(stage.base):
                lowered, _ = self._context_stage(stage, stage.name, self._platform(index))
            lowered.name = stage.name
            self.done[index] = lowered
            return lowered
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
        found = self.references[stage.index]
        platform = self._platform(stage.index)
        if found.base_stage is not None:
            below = self.stage(found.base_stage)
            config = below.config.child()
            made = LoweredStage(stage.index, stage.name, config, below.top, below.top, below.base_image)
            return made, tuple(below.config.config.get("OnBuild") or ())
        if self.named(found.base):
            return self._context_stage(stage, found.base, platform)
        if found.base == "scratch":
            config = StageConfig.scratch(platform.os, platform.architecture, platform.variant, self.epoch)
            return LoweredStage(stage.index, stage.name, config), ()
        return self._image_stage(stage, found.base, platform)

    def _image_stage(self, stage: Stage, name: str, platform: Platform) -> tuple[LoweredStage, tuple[str, ...]]:
        top, resolved = self.image(name, str(platform), stage=stage)
        config = StageConfig.from_image(resolved.config, self.epoch)
        triggers = tuple(config.config.pop("OnBuild", None) or ())
        return LoweredStage(stage.index, stage.name, config, top, top, resolved, True), triggers

    def image(self, name: str, platform: str, *, stage: Stage) -> tuple[Vertex | None, ResolvedImage]:
        """The vertex of an image, resolved once a name and platform; None where it has no layers."""
        try:
            resolved = self.resolve(name, platform)
        except ImageNotFoundError as error:
            if guess := nearest(name.lower(), (other.name for other in self.dockerfile.stages[: stage.index])):
                error.hint = f"Did you mean the stage {guess}?\n{error.hint}"
            raise
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

    def rename(self, vertex: Vertex, name: str) -> Vertex:
        """The vertex of an image under another name, from now on for every stage."""
        renamed = replace(vertex, name=name)
        self.images = {key: renamed if found is vertex else found for key, found in self.images.items()}
        return renamed

    def _platform(self, index: int) -> Platform:
        found = self.references[index]
        return Platform.parse(found.platform) if found.platform else self.platform

    def named(self, name: str) -> str:
        """What a named context of this name is, '' where there is none."""
        key = self.contexts.get(context_name(name))
        return self.request.build_contexts[key] if key is not None else ""

    def _context_stage(self, stage: Stage, name: str, platform: Platform) -> tuple[LoweredStage, tuple[str, ...]]:
        """A stage that stands on a named context: on its image, or on nothing but its files."""
        value = self.named(name)
        if is_image(value):
            return self._image_stage(stage, value.removeprefix(IMAGE), platform)
        config = StageConfig.scratch(platform.os, platform.architecture, platform.variant, self.epoch)
        key = self.contexts[context_name(name)]
        top = Vertex(
            Copy(LocalSource(key), (PathFiles("."),), "/"),
            None,
            f"[context {key}] load from client",
            stage.index,
            stage.name,
            self.numbers[stage.index],
            stage.base.range.start_line,
            stage.base.original,
        )
        return LoweredStage(stage.index, stage.name, config, top, top), ()

    def copy_source(self, name: str, stage: Stage) -> Source:
        """What ``--from=name`` means: an earlier stage by name or index, a named context, else an image."""
        value = self.named(name)
        if is_image(value):
            return self.image(value.removeprefix(IMAGE), str(self.platform), stage=stage)[0]
        if value:
            return LocalSource(self.contexts[context_name(name)])
        wanted = name.lower()
        stages = self.dockerfile.stages
        index = next((found.index for found in reversed(stages) if found.name and found.name == wanted), None)
        if index is None and name.isdigit() and int(name) < len(stages):
            index = int(name)
        if index is not None:
            if index >= stage.index:
                raise DockerfileSyntaxError(
                    f'cannot copy from stage "{name}", it needs to be defined before current stage "{stage.label}"',
                    hint="Move that stage up.",
                )
            return self.stage(index).top
        if wanted == "scratch":
            return None
        return self.image(name, str(self.platform), stage=stage)[0]


class _At:
    """Gives errors that pass through it the place of an instruction, and a hint where there is one."""

    def __init__(self, instruction: ins.Instruction, filename: str) -> None:
        self.instruction, self.filename = instruction, filename

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DockermagicError) and error.place is None:
            span = self.instruction.range
            text = self.instruction.original.split("\n", 1)[0]
            error.place = Place(span.start_line, span.start_column, None, text, self.filename)
        if isinstance(error, DockerfileSyntaxError) and not error.hint:
            error.hint = hint_for(error.message)
