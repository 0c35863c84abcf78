"""RUN: the process, and everything that is mounted for it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from dockermagic.build.copystep import local_snapshot
from dockermagic.build.graph import (
    Bind,
    CacheMount,
    Exec,
    LocalSource,
    SecretMount,
    SshMount,
    TmpfsMount,
    Vertex,
)
from dockermagic.build.locks import Lock
from dockermagic.build.trust import trust_mounts
from dockermagic.build.workshop import Workshop
from dockermagic.errors import BuildError, RunFailedError
from dockermagic.oci.platform import Platform
from dockermagic.sandbox.base import Mount, Process, Rootfs, Subpath, Ulimit, parse_ulimit
from dockermagic.sandbox.snapshot import Active, Snapshot
from dockermagic.values import replace

__all__ = ["execute_run"]

LOG_TAIL_LINES = 20
DEFAULT_SHM = 64 << 20


def execute_run(vertex: Vertex, op: Exec, active: Active, shop: Workshop, log: Callable[[int, bytes], None]) -> None:
    """Run in the prepared snapshot. Raises :class:`RunFailedError` with the end of the output, and BuildErrors."""
    tail = _Tail()

    def output(stream: int, data: bytes) -> None:
        tail.add(data)
        log(stream, data)

    with contextlib.ExitStack() as stack:
        mounts, env = _mounts(op, shop, stack)
        given = dict(op.env) | dict(op.proxies) | env
        trusted, variables = trust_mounts(op.args, given, Rootfs(active.rootfs.lowers), shop)
        process = Process(
            args=op.args,
            env=variables | given,
            cwd=op.cwd,
            user=op.user,
            hostname=op.hostname or "buildkitsandbox",
            network="none" if op.network == "none" else "host",
            mounts=(*trusted, *mounts),
            security=op.security,
            extra_hosts=op.extra_hosts,
            ulimits=_ulimits(op),
            shm_size=op.shm_size or DEFAULT_SHM,
        )
        code = shop.sandbox.run(active.rootfs, process, output=output, cancel=shop.cancel)
    if code:
        command = json.dumps(" ".join(op.args), ensure_ascii=False)
        raise RunFailedError(
            f"process {command} did not complete successfully: exit code: {code}",
            command=vertex.text,
            process_exit_code=code,
            log_tail=tail.lines(),
            hint=_advice(code, tail.lines(), op.platform),
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


def _advice(code: int, tail: tuple[str, ...], platform: str) -> str:
    text = "\n".join(tail[-5:])
    here = Platform.host()
    if "exec format error" in text.lower() and platform and Platform.parse(platform).distance(here) is None:
        return (
            f"This stage is for {platform}, and this machine is {here}: its programs cannot run here. Do the work in a "
            "stage FROM --platform=$BUILDPLATFORM and COPY what it makes, or have the machine run them through QEMU, "
            "which the packages qemu-user-static and binfmt-support bring."
        )
    if "No space left on device" in text:
        return "The disk is full: make room, for example with `dockermagic prune`, and run it again."
    if code == 127:
        return "The command was not found in this image: check its spelling, or install it in an earlier RUN."
    if code == 126:
        return "The file was found, but it could not be executed: check its mode (chmod +x) and its first line."
    if code == 137:
        return "The process was killed (signal 9), often because memory ran out."
    said = "The last lines of its output stand above." if tail else "It wrote nothing."
    return f"{said} The layers before it are kept: mend the line and run it again."


def _ulimits(op: Exec) -> tuple[Ulimit, ...]:
    try:
        return tuple(map(parse_ulimit, op.ulimits))
    except ValueError as error:
        raise BuildError(str(error), hint="For example --ulimit nofile=1024:2048.") from None


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
                if "SSH_AUTH_SOCK" not in dict(op.env):
                    env.setdefault("SSH_AUTH_SOCK", mount.target)
                if (paths := shop.request.ssh.get(mount.id)) is not None:
                    from dockermagic.build.agents import agent_socket

                    place = stack.enter_context(agent_socket(mount.id, paths, mount.mode, shop.home))
                    mounts.append(Mount("socket", mount.target, place, uid=mount.uid, gid=mount.gid))
                elif mount.required:
                    raise BuildError(
                        f'unset ssh forward key "{mount.id}"', hint=f"Pass an agent or a key: --ssh {mount.id}[=PATH]"
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
        snapshot: Snapshot | None = local_snapshot(mount.source, shop)
    elif isinstance(mount.source, Vertex):
        snapshot = shop.solve(mount.source).snapshot
    else:
        snapshot = None
    if mount.readonly:
        return shop.snapshotter.rootfs(snapshot)
    active = shop.snapshotter.prepare(snapshot)
    stack.callback(shop.snapshotter.discard, active)
    return active.rootfs


@contextlib.contextmanager
def _cache_directory(mount: CacheMount, shop: Workshop) -> Iterator[Path]:
    """The directory behind a cache mount, locked as its sharing mode asks; the lock dies with this process."""
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
            # Under a lock of its own: a directory that is still empty would give way to the rename of another one.
            making = Lock(folder / ".lock", f"{directory.name}.new")
            making.acquire(shop.cancel)
            try:
                if not directory.exists():
                    _make_cache(mount, directory, shop)
            finally:
                making.release()
        yield directory
    finally:
        lock.release()


def _make_cache(mount: CacheMount, directory: Path, shop: Workshop) -> None:
    shop.sandbox.call(
        "dockermagic.build.cachemounts:create",
        mounts={"source": shop.rootfs(mount.source)} if isinstance(mount.source, Vertex) else {},
        cancel=shop.cancel,
        directory=str(directory),
        path=mount.path,
        mode=mount.mode,
        uid=mount.uid,
        gid=mount.gid,
    )
