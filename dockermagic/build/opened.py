"""Contexts that are no directories: a tar, a URL, a git repository. Each becomes one that is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dockermagic.build.extract import Limit
from dockermagic.build.localdir import write_directory
from dockermagic.build.remote import Downloads, size_limit
from dockermagic.build.repositories import Repositories
from dockermagic.build.request import BuildRequest
from dockermagic.build.values import is_http_url
from dockermagic.dockerfile.gitref import GitRef, parse_git_ref
from dockermagic.dockerfile.literals import boolean
from dockermagic.errors import ArchiveError, ContextError
from dockermagic.oci.compression import decompressed, detect
from dockermagic.oci.lock import temporary_directory
from dockermagic.oci.tarstream import TarReader
from dockermagic.sandbox.base import Cancel
from dockermagic.values import dataclass

__all__ = ["OpenedContext", "is_remote", "open_context", "open_named"]

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class OpenedContext:
    """``directory`` is None where there are no files; ``dockerfile`` is what was found instead of a context.

    ``time`` is that of the commit or of the remote file, in seconds; None where nobody knows.
    """

    directory: Path | None
    dockerfile: bytes | None = None
    time: float | None = None


def git_reference(text: str) -> GitRef | None:
    """The repository that a context names; a path that exists is none."""
    ref = parse_git_ref(text)
    return None if ref is not None and ref.maybe_local and os.path.exists(text) else ref


def is_remote(text: str) -> bool:
    """Whether a context has to be fetched."""
    return is_http_url(text) or git_reference(text) is not None


@contextlib.contextmanager
def open_context(
    source: str | IO[bytes], request: BuildRequest, home: Path, cancel: Cancel | None = None
) -> Iterator[OpenedContext]:
    """The main context: a git repository, the URL or the path of a tar or Dockerfile, or a stream of one of these.

    What is a tar is told by its content. The directory lasts as long as the block. Raises :class:`BuildError` and
    :class:`ArchiveError`.
    """
    ref = git_reference(source) if isinstance(source, str) else None
    if ref is not None:
        with _checkout(ref, request, home, cancel) as opened:
            yield opened
        return
    time = None
    with contextlib.ExitStack() as stack:
        if not isinstance(source, str):
            file, name = source, "standard input"
        elif is_http_url(source):
            download = Downloads(home / "downloads", request, cancel).get(source)
            file, name = stack.enter_context(download.path.open("rb")), source
            time = download.mtime / 1_000_000_000 if download.mtime else None
        else:
            file, name = stack.enter_context(_readable(source)), source
        head = _start(file)
        if not _is_archive(head):
            yield OpenedContext(None, head + file.read(), time)
            return
        directory = stack.enter_context(_temporary(home))
        _unpack(head, file.read, directory, name)
        yield OpenedContext(directory, None, time)


@contextlib.contextmanager
def open_named(value: str, request: BuildRequest, home: Path, cancel: Cancel | None = None) -> Iterator[OpenedContext]:
    """A named context that has to be fetched: a git repository's files, or the one file of a URL, not unpacked."""
    ref = git_reference(value)
    if ref is not None:
        with _checkout(ref, request, home, cancel) as opened:
            yield opened
        return
    download = Downloads(home / "downloads", request, cancel).get(value)
    with _temporary(home) as directory:
        place = directory / download.name
        shutil.copyfile(download.path, place)
        place.chmod(0o600)
        os.utime(place, ns=(download.mtime, download.mtime))
        yield OpenedContext(directory, None, download.mtime / 1_000_000_000 if download.mtime else None)


@contextlib.contextmanager
def _checkout(ref: GitRef, request: BuildRequest, home: Path, cancel: Cancel | None) -> Iterator[OpenedContext]:
    repositories = Repositories(home / "git", request, cancel)
    commit = repositories.commit(ref)
    try:
        keep = boolean(request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") or "0")
    except ValueError:
        keep = False
    with repositories.checkout(ref, commit, keep_git_dir=keep or bool(ref.keep_git_dir)) as directory:
        yield OpenedContext(directory, None, repositories.time(ref, commit))


@contextlib.contextmanager
def _temporary(home: Path) -> Iterator[Path]:
    """A directory that its owner alone can look into; what is in it is removed, after a kill -9 by the next one."""
    with temporary_directory(home / "contexts", "context-") as directory:
        directory.chmod(0o700)
        inner = directory / "context"
        inner.mkdir(0o755)
        yield inner


def _readable(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ContextError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None


def _start(file: IO[bytes]) -> bytes:
    """The beginning of a stream, enough to tell what it is."""
    head = b""
    while len(head) < 4096:
        more = file.read(4096 - len(head))
        if not more:
            break
        head += more
    return head


def _is_archive(head: bytes) -> bool:
    if detect(head) != "none":
        return True
    try:
        TarReader(iter((head,))).next()
    except ArchiveError:
        return False
    return bool(head)


def _unpack(head: bytes, read: Callable[[int], bytes], directory: Path, name: str) -> None:
    pieces = [head]
    blocks = decompressed(lambda: pieces.pop() if pieces else read(BLOCK))
    try:
        write_directory(blocks, directory, devices=False, limit=Limit(size_limit()))
    except ArchiveError as error:
        raise ContextError(f"the archive {name} cannot be unpacked: {error.message}", hint=error.hint) from None
