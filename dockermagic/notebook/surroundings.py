"""What is around a cell that is being written: images, stages, variables, the context, the root filesystem.

Everything here is for completion and help: it builds nothing, and what cannot be had is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from dockermagic.build.request import StageResult
from dockermagic.catalog import ImageSummary
from dockermagic.containers.container import Container
from dockermagic.dockerfile import ignore
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.model import Arg, Env, From, Instruction
from dockermagic.dockerfile.parser import parse_fragment
from dockermagic.dockerfile.shell import expand
from dockermagic.dockerfile.stages import platform_arguments
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.notebook.workbench import Workbench
from dockermagic.session import Run, Session
from dockermagic.session.cellrun import Inputs, inputs_of
from dockermagic.values import dataclass

__all__ = ["Surroundings", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable with the value that it has, None where it has none, and ``origin``: what set it."""

    value: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class Root:
    """A root filesystem: its layers as snapshots, and the image config that goes with it."""

    layers: tuple[int, ...]
    config: Mapping[str, Any]


class Surroundings:
    """What a workbench and its session offer to a cell with this text above the cursor."""

    def __init__(self, bench: Workbench, above: str = "") -> None:
        self.bench = bench
        self.above = above
        self.session = _readable(bench.latest_session())

    @property
    def engine(self) -> Engine:
        return self.bench.engine

    # ---- the Dockerfile so far --------------------------------------------------------------------------------------

    def instructions(self) -> Iterator[tuple[str, Instruction]]:
        """The chain's instructions, then the cell's own above the cursor, each with where it stands."""
        cells = [(cell.label, cell.text) for cell in self.session.chain.on] if self.session else []
        for label, text in [*cells, ("this cell", self.above)]:
            for made in _read(text):
                yield label, made

    def stages(self) -> list[str]:
        """The names of the stages above."""
        return [made.alias for _, made in self.instructions() if isinstance(made, From) and made.alias]

    def variables(self) -> dict[str, Variable]:
        """What ``$`` may name here: the image's ENV, the ARGs and ENVs of this stage above the cursor."""
        given = dict(pair for cell in self.session.chain.on for pair in cell.build_args) if self.session else {}
        outside: dict[str, Variable] = {}
        found = outside
        for label, made in self.instructions():
            if isinstance(made, From):
                found = {}
            elif isinstance(made, Arg):
                for name, default in made.args:
                    origin = "--build-arg" if name in given else f"ARG in {label}"
                    inherited = outside[name].value if name in outside else None
                    value = given.get(name, default if default is not None else inherited)
                    found[name] = Variable(_expanded(value, found), origin)
            elif isinstance(made, Env):
                for name, value in made.pairs:
                    found[name] = Variable(_expanded(value, found), f"ENV in {label}")
        for name, value in self.environment().items():
            found.setdefault(name, Variable(value, "the image"))
        return found

    def build_arguments(self) -> dict[str, Variable]:
        """The ARGs of the Dockerfile, and those that are always there."""
        always = {name: Variable(value, "the build") for name, value in platform_arguments().items()}
        declared = (pair for _, made in self.instructions() if isinstance(made, Arg) for pair in made.args)
        return always | {name: Variable(value, "ARG") for name, value in declared}

    def _begins_anew(self) -> bool:
        return any(isinstance(made, From) for made in _read(self.above))

    # ---- root filesystems -------------------------------------------------------------------------------------------

    @cached_property
    def root(self) -> Root | None:
        """What the cell goes on with: the stage as it is built, else the image of its FROM; None where none is here."""
        run = self._run()
        if run is not None and run.stage is not None and not self._begins_anew():
            return _root_of(run.stage)
        froms = self._froms()
        return self._based(froms[-1].image, froms[:-1]) if froms else None

    def _froms(self) -> list[From]:
        return [made for _, made in self.instructions() if isinstance(made, From)]

    def _based(self, name: str, above: Sequence[From]) -> Root | None:
        """The root filesystem that a FROM begins with: a stage ``above`` it or an image of the store."""
        image = _expanded(name, self.build_arguments()) or ""
        for number, one in enumerate(above):
            if image.lower() == one.alias:
                return self._named(image.lower()) or self._based(one.image, above[:number])
        try:
            if image.lower() == "scratch" or not self.engine.is_here(image) or not self.bench.at_hand(image):
                return None
            return Root(self.engine.snapshots_of(image), self.engine.inspect(image)["Config"] or {})
        except DockermagicError:
            return None

    def _run(self) -> Run | None:
        return self.bench.head(self.session) if self.session is not None else None

    def _named(self, stage: str) -> Root | None:
        """A stage, by its name or number, as the last cell that went on with it left it."""
        if self.session is None or self._run() is None:
            return None
        names = [made.alias for made in self._froms()]
        index = names.index(stage) if stage in names else int(stage) if stage.isdecimal() else -1
        cells = [part.cell for part in self.session.script().parts if part.after == index >= 0]
        built = self.session.build(cells[-1].id).stage if cells else None
        return _root_of(built) if built is not None else None

    def config(self) -> Mapping[str, Any]:
        """The image config as it stands: ``Env``, ``WorkingDir``, ``User`` ..."""
        return self.root.config if self.root else {}

    def environment(self) -> dict[str, str]:
        """The image's ENV."""
        return dict(pair.split("=", 1) for pair in self.config().get("Env") or () if "=" in pair)

    def files(self, path: str, place: str = "") -> list[str]:
        """The names in a directory of the root filesystem, directories with a slash behind.

        ``place`` names another stage or an image; a relative path counts from the WORKDIR.
        """
        root = (self._named(place) or self._based(place, self._froms())) if place else self.root
        if root is None:
            return []
        here = "/" if place else str(self.config().get("WorkingDir") or "/")
        return list(self.bench.names(root.layers, os.path.normpath(os.path.join(here, path))))

    def accounts(self, file: str) -> list[str]:
        """The names in ``passwd`` or ``group`` of the root filesystem."""
        try:
            text = self.engine.read_file(self.root.layers, f"/etc/{file}") if self.root else b""
        except DockermagicError:
            return []
        names = (line.partition(":")[0] for line in text.decode("utf-8", "replace").split("\n") if ":" in line)
        return list(names)

    # ---- the store and the context ----------------------------------------------------------------------------------

    def images(self) -> list[ImageSummary]:
        """The images of the store."""
        try:
            return self.engine.images()
        except (DockermagicError, OSError):
            return []

    def starts(self, image: str) -> list[tuple[str, list[str]]]:
        """What a container of an image runs: its ENTRYPOINT and its CMD."""
        try:
            config = self.engine.inspect(image)["Config"] or {}
        except DockermagicError:
            return []
        return [("ENTRYPOINT", config.get("Entrypoint") or []), ("CMD", config.get("Cmd") or [])]

    def containers(self) -> list[Container]:
        """Every container, the newest first."""
        try:
            return self.engine.containers()
        except (DockermagicError, OSError):
            return []

    def volumes(self) -> list[str]:
        """The names of the volumes."""
        try:
            return [volume.name for volume in self.engine.running.volumes.all()]
        except (DockermagicError, OSError):
            return []

    def context(self, path: str) -> list[str]:
        """The names in a directory of the build context, without those that an ignore file leaves out."""
        session = self.session
        folder = (session.folder if session else None) or Path.cwd()
        inputs = Inputs(folder)
        with suppress(DockermagicError):
            inputs = inputs_of(session.chain.on, folder, session.notebook) if session else inputs
        folder = inputs.context or folder
        patterns = [*inputs.left_out, *_ignored(folder)]
        try:
            matcher = ignore.Matcher(patterns)
        except ValueError:  # the build says which pattern is none
            matcher = ignore.Matcher(())
        names = local_files(folder, path)
        return [name for name in names if _is_taken(matcher, os.path.normpath(os.path.join(path, name)), name)]


def _readable(session: Session | None) -> Session | None:
    """A session whose file is not damaged."""
    with suppress(DockermagicError):
        if session is not None and session.chain is not None:
            return session
    return None


def _root_of(stage: StageResult) -> Root:
    return Root(stage.snapshots, stage.config.get("config") or {})


def _ignored(folder: Path) -> list[str]:
    """The patterns of a context's ignore file."""
    try:
        return ignore.parse((folder / ".dockerignore").read_text("utf-8", "surrogateescape"))
    except OSError:
        return []


def _is_taken(matcher: ignore.Matcher, path: str, name: str) -> bool:
    return not matcher.matches(path) or (name.endswith("/") and matcher.may_include_below(path))


def local_files(folder: Path, path: str) -> list[str]:
    """The names in a directory of this machine, directories with a slash behind."""
    try:
        with os.scandir(folder / path) as entries:
            return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    except OSError:
        return []


def _read(text: str) -> list[Instruction]:
    """The instructions of a text that is still being written."""
    try:
        return [instruction(node) for node in parse_fragment(text).nodes]
    except DockermagicError:
        return [made for line in text.split("\n") for made in _read_line(line)]


def _read_line(line: str) -> list[Instruction]:
    try:
        return [instruction(node) for node in parse_fragment(line, directives=False).nodes]
    except DockermagicError:
        return []


def _expanded(value: str | None, known: Mapping[str, Variable]) -> str | None:
    if value is None:
        return None
    try:
        return expand(value, {name: one.value for name, one in known.items() if one.value is not None})
    except DockermagicError:
        return value
