"""``cp``: files into containers and out of them."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dockermagic.errors import ContainerError, DockermagicError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag

__all__ = ["CP"]


def _split(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` in two; a path of this machine has no container."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and not name.startswith((".", "/")) and text != "-" else ("", text)


def _piped(produce: Callable[[int], object], consume: Callable[[BinaryIO], None]) -> None:
    """Have one write into a pipe and the other read it; raises what either raised, the writer's first."""
    read, write = os.pipe()
    failed: list[DockermagicError] = []

    def run() -> None:
        try:
            produce(write)
        except DockermagicError as error:
            failed.append(error)
        finally:
            os.close(write)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with os.fdopen(read, "rb") as stream:
            consume(stream)
    except (OSError, tarfile.TarError):
        thread.join()
        if not failed:
            raise
    thread.join()
    if failed:
        raise failed[0]


def _unpack(stream: BinaryIO, folder: Path, name: str, *, into: bool) -> None:
    """Make what a tar holds at ``folder/name``; ``into`` leaves the topmost directory's own name out.

    Only files, directories and links are made, none through a link, and none outside of ``folder``.
    """
    made: set[Path] = set()

    def place(path: str) -> Path:
        parts = PurePosixPath(path).parts[1:]
        if ".." in parts or any(part.startswith("/") for part in parts):
            raise ContainerError(f"refused to copy {path}", exit_code=1)
        found = folder.joinpath(name, *parts) if name else folder.joinpath(*parts)
        if any(above in made and above.is_symlink() for above in found.parents):
            raise ContainerError(f"refused to copy through a link: {path}", exit_code=1)
        return found

    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            target = place(entry.name)
            if entry.isdir():
                target.mkdir(exist_ok=True)
            elif entry.issym():
                target.unlink(missing_ok=True)
                target.symlink_to(entry.linkname)
                made.add(target)
                continue
            elif entry.islnk():
                source = place(entry.linkname)
                target.unlink(missing_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
                continue
            else:
                content = archive.extractfile(entry)
                if content is None:
                    continue
                if target.is_symlink():
                    target.unlink()
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
            target.chmod(entry.mode & 0o777 | (0o700 if entry.isdir() else 0))
            os.utime(target, (entry.mtime, entry.mtime))


def _out(console: Console, name: str, path: str, target: str, follow: bool) -> None:
    running = console.engine.running

    def produce(write: int) -> None:
        running.export(name, path, write, follow=follow)

    if target == "-":
        _piped(produce, lambda stream: shutil.copyfileobj(stream, console.stdout()))
        return
    place = Path(target)
    kind = running.kind(name, path)
    contents = path.endswith("/.")
    if kind != "directory" and (target.endswith("/") and not place.is_dir()):
        raise ContainerError(f'no such directory: "{target}"', exit_code=1)
    if place.is_dir() and not contents:
        folder, new = place, PurePosixPath(os.path.normpath(path)).name
    else:
        folder, new = place.parent, place.name
        if kind == "directory" and place.exists() and not place.is_dir():
            raise ContainerError("cannot copy a directory over a file", exit_code=1)
    if not folder.is_dir():
        raise ContainerError(f'invalid output path: directory "{folder}" does not exist', exit_code=1)
    _piped(produce, lambda stream: _unpack(stream, folder, new, into=False))


def _into(console: Console, source: str, name: str, path: str, follow: bool, owners: bool) -> None:
    running = console.engine.running
    if source == "-":
        if console.stdin is None:
            raise UsageError("a cell has no standard input", hint="Name a file.")
        running.extract(name, path, console.stdin.fileno(), owners=owners)
        return
    place = Path(source)
    if not os.path.lexists(place):
        raise ContainerError(f"lstat {place}: no such file or directory", exit_code=1)
    is_directory, kind = place.is_dir(), running.kind(name, path)
    if kind == "directory":
        folder, new = path, "." if is_directory and source.endswith("/.") else place.resolve().name
    elif kind == "file" and is_directory:
        raise ContainerError("cannot copy directory to a file", exit_code=1)
    else:
        folder, new = os.path.dirname(path.rstrip("/")) or "/", os.path.basename(path.rstrip("/"))
        if path.endswith("/") and not is_directory:
            raise ContainerError(f"no such directory in the container: {path}", exit_code=1)

    def produce(write: int) -> None:
        with (
            os.fdopen(os.dup(write), "wb") as stream,
            tarfile.open(fileobj=stream, mode="w|", dereference=False, format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(place.resolve() if follow or is_directory else place, arcname=new)

    _piped(produce, lambda stream: running.extract(name, folder, stream.fileno(), owners=owners))


def cp(console: Console, arguments: Arguments) -> int:
    """Copy files into a container or out of it, as ``cp -r`` would; ``-`` is a tar on a standard stream."""
    source, target = arguments.words
    (from_name, from_path), (to_name, to_path) = _split(source), _split(target)
    follow, owners = arguments.flag("follow-link"), arguments.flag("archive")
    if from_name and to_name:
        raise UsageError("copying between containers is not supported")
    if from_name:
        _out(console, from_name, from_path, target, follow)
    elif to_name:
        _into(console, source, to_name, to_path, follow, owners)
    else:
        raise UsageError("must specify at least one container source", hint="CONTAINER:PATH names a file in one.")
    return 0


CP = Verb(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    cp,
    (
        flag("archive", "a", "Keep the ids of the owners"),
        flag("follow-link", "L", "Always follow symbolic links in SRC_PATH"),
        flag("quiet", "q", hidden=True),
    ),
    (2, 2),
)
