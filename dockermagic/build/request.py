"""What is asked of a build and what comes of it: frozen values, shared by every engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockermagic.values import dataclass, field

__all__ = ["BuildRequest", "BuildResult", "CacheOption", "FailedStep", "Output", "Secret", "StageResult", "Step"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A value for ``RUN --mount=type=secret``: from a file or from an environment variable. Its repr never shows it."""

    source: Path | None = None
    env: str = ""

    def read(self) -> bytes:
        """The secret's bytes; raises OSError or KeyError where there is none."""
        import os

        return self.source.read_bytes() if self.source is not None else os.environb[os.fsencode(self.env)]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a build's image goes besides the store: ``type`` oci, docker, tar or local; ``dest`` a path, '-' for
    stdout.
    """

    type: str
    dest: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheOption:
    """A cache to write or to read: ``type`` registry, local or inline, with its options."""

    type: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build, as ``docker build`` or a notebook cell asks for it.

    ``text`` is the whole Dockerfile. ``context`` is a directory (None: empty); if it was made for this build alone,
    ``context_from`` says of what (a URL, ``-``) and ``context_time`` when that was made. ``filename`` names the
    Dockerfile in messages and finds ``FILENAME.dockerignore``; ``left_out`` are patterns that count before those of the
    ignore file. ``stages`` asks for further stages by index, beside the
    target: a notebook builds every stage that its cell touches. Instructions before ``first`` are built in silence, and
    ``no_cache`` does not count for them. ``trail`` is the name under which the keys are remembered for the next build's
    reasons; by default that of the Dockerfile and its context.
    """

    text: str
    context: Path | None = None
    filename: str = "Dockerfile"
    ignore: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    stages: tuple[int, ...] = ()
    first: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    pull: bool = False
    platform: str = ""
    build_contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    hostname: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[str, ...] = ()
    shm_size: int | None = None
    ca: Path | None = None
    trail: str = ""
    outputs: tuple[Output, ...] = ()
    context_from: str = ""
    context_time: float | None = None
    cache_from: tuple[CacheOption, ...] = ()
    cache_to: tuple[CacheOption, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction as it was built.

    ``index`` counts the instructions of the text from 0, FROM included; ``line`` is 1-based. ``key`` is its cache key,
    and ``snapshot`` the layer it made; both are empty for an instruction that only changes the config. ``reason`` says
    why the cache had no answer. Sizes are bytes, times seconds.
    """

    index: int
    line: int
    stage: int
    text: str
    key: str = ""
    snapshot: int | None = None
    cached: bool = False
    reason: str = ""
    size: int = 0
    seconds: float = 0.0
    added: int = 0
    modified: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class StageResult:
    """A built stage: its layers as snapshots (bottom first), its image config and history as JSON values.

    ``base`` is the engine's hold on the base image.
    """

    index: int
    name: str
    snapshots: tuple[int, ...]
    config: Mapping[str, Any]
    base: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FailedStep:
    """What is left of a failed RUN: the half-made layer over its parents' directories, until a build makes another."""

    index: int
    parents: tuple[Path, ...]
    directory: Path


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build gave: every step, the built stages by index, the target's index, and the image's id where one was
    made.

    ``image_id`` is the digest of the image config (``sha256:...``), empty where no tag or output asked for an image.
    """

    steps: tuple[Step, ...]
    stages: Mapping[int, StageResult]
    target: int
    image_id: str = ""
    seconds: float = 0.0
