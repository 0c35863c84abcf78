"""``RUN --mount`` as the graph knows it: defaults completed, sources looked up."""

from __future__ import annotations

import itertools
import posixpath
from typing import TYPE_CHECKING

from dockermagic.build import graph
from dockermagic.build.graph import LocalSource, Source
from dockermagic.dockerfile import model
from dockermagic.dockerfile.mounts import Mount, resolve_mount
from dockermagic.errors import DockerfileSyntaxError

if TYPE_CHECKING:
    from dockermagic.build.dispatch import StageBody

__all__ = ["lower_mounts"]


def lower_mounts(body: StageBody, instruction: model.Run) -> tuple[graph.Mount, ...]:
    """The mounts of one RUN, in their order."""
    mounts = (resolve_mount(mount, body.word, body.node) for mount in instruction.mounts)
    agents = itertools.count()
    return tuple(_lower(body, mount, next(agents) if mount.type == "ssh" else 0) for mount in mounts)


def _target(body: StageBody, mount: Mount) -> str:
    if not mount.target:
        raise DockerfileSyntaxError(
            f"{mount.type} mount requires a target", hint=f"Say where: --mount=type={mount.type},target=/path"
        )
    path = body.config.absolute(mount.target)
    if path == "/":
        raise DockerfileSyntaxError('invalid mount target "/"', hint="Choose a directory below the root.")
    return path


def _source(body: StageBody, mount: Mount) -> Source:
    return body.lowering.copy_source(mount.from_, body.stage) if mount.from_ else LocalSource()


def _mode(mount: Mount, default: int) -> int:
    return default if mount.mode is None else mount.mode


def _lower(body: StageBody, mount: Mount, agent: int) -> graph.Mount:
    uid, gid = mount.uid or 0, mount.gid or 0
    match mount.type:
        case "bind":
            return graph.Bind(_target(body, mount), _source(body, mount), mount.source, mount.readonly)
        case "tmpfs":
            return graph.TmpfsMount(_target(body, mount), mount.size or 0)
        case "cache":
            target = _target(body, mount)
            source = _source(body, mount) if mount.from_ else None
            space = body.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
            name = mount.id or posixpath.normpath(target)
            mode = _mode(mount, 0o755)
            identity = "\0".join((space, name, mount.from_, mount.source, str(uid), str(gid), oct(mode)))
            sharing = mount.sharing or "shared"
            return graph.CacheMount(target, identity, sharing, source, mount.source, mode, uid, gid, mount.readonly)
        case "secret":
            name = mount.id or posixpath.basename(mount.target)
            if not name:
                raise DockerfileSyntaxError(
                    "secret mount requires an id or a target", hint="For example --mount=type=secret,id=token"
                )
            target = mount.target or ("" if mount.env else f"/run/secrets/{posixpath.basename(name)}")
            place = body.config.absolute(target) if target else ""
            return graph.SecretMount(place, name, mount.env or "", _mode(mount, 0o400), uid, gid, mount.required)
        case _:
            target = mount.target or f"/run/buildkit/ssh_agent.{agent}"
            place = body.config.absolute(target)
            return graph.SshMount(place, mount.id or "default", _mode(mount, 0o600), uid, gid, mount.required)
