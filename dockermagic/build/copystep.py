"""COPY and ADD: what they are keyed by, and how they are carried out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from dockermagic.build.context import Context
from dockermagic.build.graph import (
    Copy,
    GitFiles,
    InlineFile,
    LocalSource,
    PathFiles,
    RemoteFile,
    Vertex,
    digest_of,
)
from dockermagic.build.workshop import Workshop
from dockermagic.dockerfile.gitref import GitRef, parse_git_ref
from dockermagic.errors import BuildError
from dockermagic.sandbox.snapshot import Active, Snapshot

__all__ = ["copy_sources", "execute_copy", "local_snapshot"]


def copy_sources(op: Copy, shop: Workshop) -> tuple[list[str], Callable[[], Mapping[str, str]]]:
    """The digests of what is copied, for the key; and what gives a digest of each file, to explain it."""
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
            download = shop.downloads.get(item.url, item.checksum)
            digests.append(f"{download.digest} {download.name} {download.mtime}")
        elif isinstance(item, GitFiles):
            ref = _reference(item)
            commit = shop.repositories.commit(ref, item.checksum)
            digests.append(f"git {commit.id} {ref.subdir} {item.keep_git_dir} {ref.submodules} {ref.mtime}")
    return digests, files


def _reference(item: GitFiles) -> GitRef:
    ref = parse_git_ref(item.url)
    assert ref is not None
    return ref


def _nothing(path: str) -> BuildError:
    return BuildError(
        f'failed to calculate checksum: "/{path.lstrip("/")}": not found', hint="The source is empty (FROM scratch)."
    )


def execute_copy(op: Copy, active: Active, shop: Workshop) -> None:
    """Copy into the prepared snapshot."""
    with contextlib.ExitStack() as stack:
        _copy(op, active, shop, stack)


def _copy(op: Copy, active: Active, shop: Workshop, stack: contextlib.ExitStack) -> None:
    from dockermagic.build.copying import group_row
    from dockermagic.build.remote import size_limit

    sources: list[dict[str, Any]] = []
    mounts = {"source": shop.rootfs(op.source)} if isinstance(op.source, Vertex) else {}
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
                download = shop.downloads.get(item.url, item.checksum)
                sources.append({"file": str(download.path), "name": download.name, "mtime": download.mtime})
            case GitFiles():
                ref = _reference(item)
                commit = shop.repositories.commit(ref, item.checksum)
                checkout = shop.repositories.checkout(ref, commit, keep_git_dir=item.keep_git_dir)
                files = Context(stack.enter_context(checkout), (), None)
                groups = files.select((".",), excludes=op.excludes).groups
                sources.append({"groups": [group_row(group) for group in groups], "base": files.directory})
    shop.sandbox.call(
        "dockermagic.build.copying:copy",
        mounts=mounts,
        cancel=shop.cancel,
        upper=str(active.rootfs.upper),
        lowers=[] if op.link else [str(lower) for lower in active.rootfs.lowers],
        destination=op.destination,
        sources=sources,
        chown=op.chown,
        chmod=op.chmod,
        excludes=list(op.excludes),
        parents=op.parents,
        unpack=op.unpack,
        is_add=op.is_add,
        limit=size_limit(),
    )


def local_snapshot(source: LocalSource, shop: Workshop) -> Snapshot:
    """The files of a context as a snapshot of their own, made once for each content."""
    op = Copy(source, (PathFiles("."),), "/")
    key = digest_of({"local": shop.select(op).digest})
    snapshot = shop.snapshotter.find(key)
    if snapshot is not None:
        return snapshot
    active = shop.snapshotter.prepare(None)
    try:
        execute_copy(op, active, shop)
        return shop.snapshotter.commit(active, key)
    except BaseException:
        shop.snapshotter.discard(active)
        raise
