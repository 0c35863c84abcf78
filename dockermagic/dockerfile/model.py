"""One frozen dataclass an instruction. Words are as written: before variables are replaced and quotes removed.

Two instructions are equal when they say the same, wherever they stand.
"""

from __future__ import annotations

from typing import ClassVar

from dockermagic.dockerfile.heredoc import Heredoc
from dockermagic.dockerfile.mounts import RunMount
from dockermagic.dockerfile.parser import Node
from dockermagic.dockerfile.text import NOWHERE, Range
from dockermagic.errors import Place
from dockermagic.values import dataclass, field

__all__ = [
    "Add",
    "Arg",
    "Cmd",
    "Command",
    "Copy",
    "Device",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Onbuild",
    "Run",
    "Shell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN, CMD and ENTRYPOINT start. In the shell form ``words`` is the text alone, or nothing."""

    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have: where they stand, and the text that they were made from."""

    name: ClassVar[str] = ""
    node: Node | None = field(default=None, compare=False, repr=False)

    @property
    def range(self) -> Range:
        """Where the instruction stands, heredocs included."""
        return self.node.range if self.node else NOWHERE

    @property
    def original(self) -> str:
        """The logical line: continuations joined, comments inside it dropped, no heredoc bodies."""
        return self.node.original if self.node else self.name

    @property
    def comments(self) -> tuple[str, ...]:
        """The comment lines above, without their ``#``."""
        return self.node.comments if self.node else ()

    @property
    def line(self) -> int | None:
        """The first line, 1-based."""
        return self.node.range.start_line if self.node else None

    def place(self) -> Place | None:
        """Where an error about this instruction points."""
        return self.node.place() if self.node else None


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """``alias`` is lower case, None where the stage has no name."""

    name = "FROM"
    image: str
    platform: str = ""
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """Names with their default values, None where there is none."""

    name = "ARG"
    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    """``legacy`` says that it was written without an equals sign."""

    name = "ENV"
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    """``legacy`` says that it was written without an equals sign."""

    name = "LABEL"
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name = "MAINTAINER"
    author: str


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    name = "EXPOSE"
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    name = "VOLUME"
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    name = "USER"
    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    name = "WORKDIR"
    path: str


@dataclass(frozen=True, slots=True)
class StopSignal(Instruction):
    name = "STOPSIGNAL"
    signal: str


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    name = "SHELL"
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """``test`` begins with NONE, CMD or CMD-SHELL. Durations are nanoseconds; 0 stands for the default."""

    name = "HEALTHCHECK"
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """``text`` is the trigger as it goes into the image's configuration, heredocs included."""

    name = "ONBUILD"
    text: str


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    name = "CMD"
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    name = "ENTRYPOINT"
    command: Command


@dataclass(frozen=True, slots=True)
class Device:
    """A device of ``RUN --device``."""

    device: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    name = "RUN"
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """``sources`` are paths; files that are written here, in the Dockerfile, are ``heredocs``.

    Options are '' where absent. ``from_`` is a stage, an image or a named context, '' for the build context.
    """

    name = "COPY"
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add(Instruction):
    """As :class:`Copy`; ``keep_git_dir`` and ``unpack`` are None where they were not said."""

    name = "ADD"
    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    keep_git_dir: bool | None = None
    checksum: str = ""
    unpack: bool | None = None
