"""How each operation is keyed and carried out: ``inputs`` for its cache key, ``execute`` for its layer."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from dockermagic.build.context import Context, Selection
from dockermagic.build.copying import group_row
from dockermagic.build.graph import (
    Bind,
    CacheMount,
    Copy,
    Exec,
    ImageSource,
    InlineFile,
    LocalSource,
    MakeDirectory,
    PathFiles,
    RemoteFile,
    SecretMount,
    Source,
    SshMount,
    TmpfsMount,
    Vertex,
    definition,
    digest_of,
)
from dockermagic.build.remote import Download, fetch
from dockermagic.build.request import BuildRequest
from dockermagic.errors import BuildError, RunFailedError
from dockermagic.sandbox.base import Cancel, Mount, Process, Rootfs, Sandbox, Subpath, Ulimit
from dockermagic.sandbox.snapshot import Active, Snapshot, Snapshotter

__all__ = ["Inputs", "Workshop", "execute", "inputs_of"]

LOG_TAIL_LINES = 20
DEFAULT_SHM = 64 << 20


@dataclass(frozen=True, slots=True)
class Solved:
    """A vertex that has its layer. ``key`` is the key under which the layer was first made."""

    key: str
    snapshot: Snapshot | None
    cached: bool = False
    base: str = ""
    base_name: str = ""


NOTHING = Solved("scratch", None)


class Solve(Protocol):
    """How an operation gets what it reads: solved vertices by themselves, contexts by name."""

    def __call__(self, vertex: Vertex) -> Solved: ...


@dataclass(slots=True)
class Workshop:
    """What operations work with."""

    request: BuildRequest
    sandbox: Sandbox
    snapshotter: Snapshotter
    solve: Solve
    context: Callable[[str], Context]
    home: Path
    cancel: Cancel | None = None
    selections: dict[tuple[Any, ...], Selection] = field(default_factory=dict)
    contents: dict[tuple[Any, ...], tuple[str, dict[str, str], int]] = field(default_factory=dict)

    def rootfs(self, source: Source) -> Rootfs:
        """The read-only root filesystem of a source that is a stage or image; empty for scratch."""
        if not isinstance(source, Vertex):
            return Rootfs()
        snapshot = self.solve(source).snapshot
        return Rootfs(self.snapshotter.chain(snapshot) if snapshot is not None else ())

    def select(self, op: Copy) -> Selection:
        """What a COPY takes of a context, looked at once a build."""
        assert isinstance(op.source, LocalSource)
        patterns = op.patterns
        key = (op.source.name, patterns, op.excludes, op.parents)
        if key not in self.selections:
            context = self.context(op.source.name)
            self.selections[key] = context.select(patterns, excludes=op.excludes, parents=op.parents)
        return self.selections[key]

    def content(self, source: Vertex, patterns: tuple[str, ...], excludes: tuple[str, ...], parents: bool) -> Any:
        """The digest of paths in a stage or image."""
        solved = self.solve(source)
        key = (solved.key, patterns, excludes, parents)
        if key not in self.contents:
            self.contents[key] = self.sandbox.call(
                "dockermagic.build.copying:digest",
                mounts={"source": self.rootfs(source)},
                cancel=self.cancel,
                patterns=list(patterns),
                excludes=list(excludes),
                parents=parents,
            )
        return self.contents[key]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A cache key and what it is made of; ``files`` gives each file's digest, which only explains it."""

    key: str
    parts: Mapping[str, Any]
    files: Callable[[], Mapping[str, str]] = dict

    @property
    def record(self) -> dict[str, Any]:
        """All that says why this key is not another one."""
        return {**self.parts, "files": self.files()}


def inputs_of(vertex: Vertex, parent: Solved, shop: Workshop) -> Inputs:
    """The key of a vertex on its solved parent. Reads the context and, for ``--from``, the source's files."""
    op = vertex.op
    if isinstance(op, ImageSource):
        return Inputs(f"chain:{op.chain_ids[-1]}", {})
    value: dict[str, Any] = {"op": definition(op), "parent": parent.key}
    files: Callable[[], Mapping[str, str]] = dict
    match op:
        case Copy():
            value["sources"], files = _copy_sources(op, shop)
        case Exec():
            value["sources"] = [_bind_source(mount, shop) for mount in op.mounts if isinstance(mount, Bind)]
    return Inputs(digest_of(value), value | {"base": parent.base, "base_name": parent.base_name}, files)


def _copy_sources(op: Copy, shop: Workshop) -> tuple[list[str], Callable[[], Mapping[str, str]]]:
    digests: list[str] = []
    files: Callable[[], Mapping[str, str]] = dict
    patterns = op.patterns
    if patterns and isinstance(op.source, LocalSource):
        selection = shop.select(op)
        digests.append(selection.digest)
        files = selection.files
    elif patterns and isinstance(op.source, Vertex):
        found, named, _ = shop.content(op.source, patterns, op.excludes, op.parents)
        digests.append(found)
        files = named.copy
    elif patterns:
        raise _nothing(patterns[0])
    for item in op.files:
        if isinstance(item, RemoteFile):
            download = _download(item, shop)
            digests.append(f"{download.digest} {download.name} {download.mtime}")
    return digests, files


def _nothing(path: str) -> BuildError:
    return BuildError(
        f'failed to calculate checksum: "/{path.lstrip("/")}": not found', hint="The source is empty (FROM scratch)."
    )


def _download(item: RemoteFile, shop: Workshop) -> Download:
    return fetch(item, shop.home / "downloads", shop.request, cancel=shop.cancel)


def _bind_source(mount: Bind, shop: Workshop) -> str:
    path = mount.path or "."
    if isinstance(mount.source, LocalSource):
        return shop.select(Copy(mount.source, (PathFiles(path),), "/")).digest
    if isinstance(mount.source, Vertex):
        return str(shop.content(mount.source, (path,), (), False)[0])
    return "scratch"


def execute(vertex: Vertex, parent: Solved, active: Active, shop: Workshop, log: Callable[[int, bytes], None]) -> None:
    """Carry the operation out in the prepared snapshot. Raises :class:`BuildError`s; nothing is recorded."""
    match vertex.op:
        case Exec() as op:
            _execute_run(vertex, op, active, shop, log)
        case Copy() as op:
            _execute_copy(op, active, shop)
        case MakeDirectory(path=path, user=user):
            shop.sandbox.call(
                "dockermagic.build.copying:make_directory",
                mounts={"root": active.rootfs},
                cancel=shop.cancel,
                path=path,
                user=user,
                record=str(active.directory / "ownership.json"),
            )


def _execute_copy(op: Copy, active: Active, shop: Workshop) -> None:
    sources: list[dict[str, Any]] = []
    mounts = {"root": Rootfs((), active.rootfs.upper) if op.link else active.rootfs}
    if isinstance(op.source, Vertex):
        mounts["source"] = shop.rootfs(op.source)
    selected = False
    for item in op.files:
        match item:
            case PathFiles(path=path) if isinstance(op.source, LocalSource):
                if not selected:  # one selection holds the groups of every pattern, in their order
                    context = shop.context(op.source.name)
                    rows = [group_row(group) for group in shop.select(op).groups]
                    sources.append({"groups": rows, "base": context.directory})
                    selected = True
            case PathFiles(path=path):
                sources.append({"pattern": path})
            case InlineFile(name=name, data=data):
                sources.append({"inline": data, "name": name})
            case RemoteFile():
                download = _download(item, shop)
                sources.append({"file": str(download.path), "name": download.name, "mtime": download.mtime})
            case _:
                raise BuildError(
                    "ADD of a git repository is not supported yet", hint="Clone it and COPY from the context."
                )
    shop.sandbox.call(
        "dockermagic.build.copying:copy",
        mounts=mounts,
        cancel=shop.cancel,
        destination=op.destination,
        sources=sources,
        chown=op.chown,
        chmod=op.chmod,
        excludes=list(op.excludes),
        parents=op.parents,
        unpack=op.unpack,
        is_add=op.is_add,
        link=op.link,
        record=str(active.directory / "ownership.json"),
    )


# RUN


def _execute_run(vertex: Vertex, op: Exec, active: Active, shop: Workshop, log: Callable[[int, bytes], None]) -> None:
    tail = _Tail()

    def output(stream: int, data: bytes) -> None:
        tail.add(data)
        log(stream, data)

    with contextlib.ExitStack() as stack:
        mounts, env = _mounts(op, shop, stack)
        process = Process(
            args=op.args,
            env=dict(op.env) | dict(op.proxies) | env,
            cwd=op.cwd,
            user=op.user,
            hostname=op.hostname or "buildkitsandbox",
            network="none" if op.network == "none" else "host",
            mounts=tuple(mounts),
            security=op.security,
            extra_hosts=op.extra_hosts,
            ulimits=tuple(map(parse_ulimit, op.ulimits)),
            shm_size=op.shm_size or DEFAULT_SHM,
        )
        code = shop.sandbox.run(active.rootfs, process, output=output, cancel=shop.cancel)
    if code:
        command = " ".join(op.args)
        raise RunFailedError(
            f'process "{command}" did not complete successfully: exit code: {code}',
            command=vertex.text,
            process_exit_code=code,
            log_tail=tail.lines(),
            hint=_advice(code, tail.lines()),
        )


class _Tail:
    """The last lines of an output, in bounded memory."""

    def __init__(self) -> None:
        self.data = b""

    def add(self, data: bytes) -> None:
        self.data = (self.data + data)[-16384:]

    def lines(self) -> tuple[str, ...]:
        text = self.data.decode("utf-8", "replace").rstrip("\n")
        return tuple(text.split("\n")[-LOG_TAIL_LINES:]) if text else ()


def _advice(code: int, tail: tuple[str, ...]) -> str:
    text = "\n".join(tail[-5:])
    if "No space left on device" in text:
        return "The disk is full: make room, for example with `dockermagic prune`, and run it again."
    if code == 127:
        return "The command was not found in this image: check its spelling, or install it in an earlier RUN."
    if code == 126:
        return "The file was found, but it could not be executed: check its mode (chmod +x) and its first line."
    if code == 137:
        return "The process was killed (signal 9), often because memory ran out."
    return "The last lines of its output stand above. The layers before it are kept: mend the line and run it again."


def parse_ulimit(text: str) -> Ulimit:
    """``name=soft[:hard]``. Raises :class:`BuildError` for another form."""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return Ulimit(name, int(soft), int(hard or soft))
    except ValueError:
        raise BuildError(f"invalid ulimit argument: {text}", hint="For example --ulimit nofile=1024:2048.") from None


def _mounts(op: Exec, shop: Workshop, stack: contextlib.ExitStack) -> tuple[list[Mount], dict[str, str]]:
    mounts: list[Mount] = [
        Mount("file", f"/dev/pipes/{name}", content=body.encode("utf-8", "surrogateescape"), mode=0o755, readonly=True)
        for name, body in op.scripts
    ]
    env: dict[str, str] = {}
    for mount in op.mounts:
        match mount:
            case Bind():
                source = Subpath(_bound(mount, shop, stack), "/" + mount.path.lstrip("/"))
                mounts.append(Mount("bind", mount.target, source, readonly=mount.readonly))
            case TmpfsMount():
                mounts.append(Mount("tmpfs", mount.target, size=mount.size, mode=0o1777))
            case CacheMount():
                directory = stack.enter_context(_cache_directory(mount, shop))
                mounts.append(Mount("bind", mount.target, directory, readonly=mount.readonly))
            case SecretMount():
                value = _secret(mount, shop)
                if value is None:
                    continue
                if mount.env:
                    env[mount.env] = value.decode("utf-8", "surrogateescape")
                if mount.target:
                    file = Mount("file", mount.target, content=value, readonly=True)
                    mounts.append(replace(file, mode=mount.mode, uid=mount.uid, gid=mount.gid))
            case SshMount():
                socket = shop.request.ssh.get(mount.id) or (
                    os.environ.get("SSH_AUTH_SOCK", "") if mount.id == "default" else ""
                )
                env["SSH_AUTH_SOCK"] = mount.target
                if mount.id in shop.request.ssh and socket:
                    socket_mount = Mount("socket", mount.target, Path(socket))
                    mounts.append(replace(socket_mount, mode=mount.mode, uid=mount.uid, gid=mount.gid))
                elif mount.required:
                    raise BuildError(
                        f'unset ssh forward key "{mount.id}"', hint=f"Pass the agent's socket: --ssh {mount.id}"
                    )
    return mounts, env


def _secret(mount: SecretMount, shop: Workshop) -> bytes | None:
    secret = shop.request.secrets.get(mount.id)
    if secret is None:
        if mount.required:
            raise BuildError(
                f"secret {mount.id}: not found", hint=f"Pass it: --secret id={mount.id},src=FILE (or ,env=VARIABLE)"
            )
        return None
    try:
        return secret.read()
    except (OSError, KeyError) as error:
        raise BuildError(f"secret {mount.id} cannot be read: {type(error).__name__}") from None


def _bound(mount: Bind, shop: Workshop, stack: contextlib.ExitStack) -> Rootfs:
    """What a bind mount shows; what is written to a writable one goes to a layer that is thrown away."""
    if isinstance(mount.source, LocalSource):
        snapshot: Snapshot | None = _local_snapshot(mount.source, shop)
    elif isinstance(mount.source, Vertex):
        snapshot = shop.solve(mount.source).snapshot
    else:
        snapshot = None
    if mount.readonly:
        return shop.snapshotter.rootfs(snapshot)
    active = shop.snapshotter.prepare(snapshot)
    stack.callback(shop.snapshotter.discard, active)
    return active.rootfs


def _local_snapshot(source: LocalSource, shop: Workshop) -> Snapshot:
    """The files of a context as a snapshot of their own, made once for each content."""
    op = Copy(source, (PathFiles("."),), "/")
    key = digest_of({"local": shop.select(op).digest})
    snapshot = shop.snapshotter.find(key)
    if snapshot is not None:
        return snapshot
    active = shop.snapshotter.prepare(None)
    try:
        _execute_copy(op, active, shop)
        return shop.snapshotter.commit(active, key)
    except BaseException:
        shop.snapshotter.discard(active)
        raise


@contextlib.contextmanager
def _cache_directory(mount: CacheMount, shop: Workshop) -> Iterator[Path]:
    """The directory behind a cache mount, locked as its sharing mode asks; the lock dies with this process."""
    from dockermagic.build.locks import Lock

    name = hashlib.sha256(f"{shop.sandbox.mode}\0{mount.id}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    folder = shop.home / "cache-mounts"
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        directory = folder / (name if number == 0 else f"{name}.{number}")
        lock = Lock(folder / ".lock", directory.name, shared=mount.sharing == "shared")
        if mount.sharing == "private":
            if not lock.try_acquire():
                number += 1
                continue
        else:
            lock.acquire(shop.cancel)
        break
    try:
        if not directory.exists():
            mounts = {"source": shop.rootfs(mount.source)} if isinstance(mount.source, Vertex) else {}
            shop.sandbox.call(
                "dockermagic.build.cachemounts:create",
                mounts=mounts,
                directory=str(directory),
                path=mount.path,
                mode=mount.mode,
                uid=mount.uid,
                gid=mount.gid,
            )
        yield directory
    finally:
        lock.release()
