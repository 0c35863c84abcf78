"""The graph that a Dockerfile lowers to: vertices with an operation each, standing on one another.

A :class:`Vertex` makes one layer on top of its parent. ``None`` as a parent is the empty root (``FROM scratch``).
Nothing here runs anything: an operation is a frozen description, and :func:`definition` is the part of it that a cache
key holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from dockermagic.values import dataclass, field, fields, is_dataclass

__all__ = [
    "Bind",
    "CacheMount",
    "Copy",
    "Exec",
    "GitFiles",
    "ImageSource",
    "InlineFile",
    "LocalSource",
    "MakeDirectory",
    "Operation",
    "PathFiles",
    "RemoteFile",
    "SecretMount",
    "Source",
    "SshMount",
    "TmpfsMount",
    "Vertex",
    "definition",
    "digest_of",
    "walk",
]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A base image: its familiar name, the digest it was resolved to and its layers' chain ids, bottom first."""

    name: str
    manifest: str
    chain_ids: tuple[str, ...]
    image: Any = field(compare=False, repr=False, default=None)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files of the person's own: the build context (``name`` '') or a named context that is a directory."""

    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Vertex:
    """One step of the graph. ``name`` is what progress shows; ``instruction`` counts those of the text from 0."""

    op: Operation
    parent: Vertex | None
    name: str
    stage: int
    stage_name: str
    instruction: int
    line: int
    text: str


Source = Vertex | LocalSource | None


@dataclass(frozen=True, slots=True)
class PathFiles:
    """Paths (with wildcards) of a source."""

    path: str


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file whose content stands in the Dockerfile: a here-document of COPY or ADD."""

    name: str
    data: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that ADD fetches by HTTP; ``checksum`` is ``sha256:...`` or empty. It is keyed by what was fetched."""

    url: str = field(compare=False)
    checksum: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class GitFiles:
    """A git repository that ADD checks out; ``checksum`` is a commit's id or empty. It is keyed by the commit."""

    url: str = field(compare=False)
    checksum: str = field(compare=False, default="")
    keep_git_dir: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and ADD. ``destination`` is absolute and keeps a trailing slash; an empty owner or mode says 'as it is'."""

    source: Source = field(compare=False)
    files: tuple[PathFiles | InlineFile | RemoteFile | GitFiles, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    unpack: bool | None = None
    is_add: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths that are looked up in the source."""
        return tuple(item.path for item in self.files if isinstance(item, PathFiles))


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """WORKDIR: ``path`` exists afterwards; where it did not, ``user`` owns it."""

    path: str
    user: str = ""


@dataclass(frozen=True, slots=True)
class Bind:
    """``RUN --mount=type=bind``."""

    target: str
    source: Source = field(compare=False)
    path: str = ""
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """``RUN --mount=type=cache``; ``id`` is the identity after the namespace and owner were taken into it."""

    target: str
    id: str
    sharing: str = "shared"
    source: Source = field(compare=False, default=None)
    path: str = ""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """``RUN --mount=type=tmpfs``; ``size`` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """``RUN --mount=type=secret``: a file at ``target``, or the variable ``env``, or both."""

    target: str
    id: str
    env: str = ""
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    required: bool = False


@dataclass(frozen=True, slots=True)
class SshMount:
    """``RUN --mount=type=ssh``: the agent's socket at ``target``."""

    target: str
    id: str = "default"
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    required: bool = False


Mount = Bind | CacheMount | TmpfsMount | SecretMount | SshMount


@dataclass(frozen=True, slots=True)
class Exec:
    """RUN. ``scripts`` are here-documents with a ``#!`` line, given as files; ``proxies`` reach the process, never the
    key. ``platform`` is the one that the image says it is for.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    hostname: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    shm_size: int | None = None
    ulimits: tuple[str, ...] = ()
    proxies: tuple[tuple[str, str], ...] = field(compare=False, default=())
    platform: str = field(compare=False, default="")


Operation = ImageSource | Copy | MakeDirectory | Exec


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or value is None:  # nearly all of it; a class is asked what it is only where it may be one
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    if not is_dataclass(kind):
        return value
    if isinstance(value, CacheMount):  # which cache is mounted does not change what the step means
        return {"type": "CacheMount", "target": value.target}
    return {"type": kind.__name__, **{name: _plain(getattr(value, name)) for name in _keyed(kind)}}


@cache
def _keyed(kind: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind) if item.compare)


def definition(op: Operation) -> dict[str, Any]:
    """What of an operation belongs into its cache key, as a JSON value: all but sources (they enter by content)."""
    plain: dict[str, Any] = _plain(op)
    return plain


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def digest_of(value: Mapping[str, Any]) -> str:
    """``sha256:`` of the value's canonical JSON form."""
    return "sha256:" + hashlib.sha256(_canonical(value).encode()).hexdigest()


def sources(vertex: Vertex) -> Iterator[Source]:
    """What a vertex reads besides its parent."""
    match vertex.op:
        case Copy(source=source):
            yield source
        case Exec(mounts=mounts):
            for mount in mounts:
                if isinstance(mount, Bind | CacheMount):
                    yield mount.source


def below(vertex: Vertex) -> list[Vertex]:
    """The vertices that one stands on or reads from, its parent first."""
    parent = [] if vertex.parent is None else [vertex.parent]
    return parent + [source for source in sources(vertex) if isinstance(source, Vertex)]


def walk(*tops: Vertex | None) -> Iterator[Vertex]:
    """Every vertex that the given ones stand on or read from, each once, parents first."""
    seen: set[int] = set()
    for top in tops:
        stack: list[tuple[Vertex, bool]] = [(top, False)] if top is not None else []
        while stack:
            vertex, ready = stack.pop()
            if ready:
                yield vertex
                continue
            if id(vertex) in seen:
                continue
            seen.add(id(vertex))
            stack.append((vertex, True))
            stack += [(item, False) for item in reversed(below(vertex))]
