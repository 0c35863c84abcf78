"""``cp``: files into containers and out of them."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dockermagic.errors import ContainerError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag

__all__ = ["CP"]


def _split(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` in two; a path of this machine has no container."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and not name.startswith((".", "/")) and text != "-" else ("", text)


def _piped(produce: Callable[[int], object], consume: Callable[[BinaryIO], None]) -> None:
    """Have one write into a pipe and the other read it; raises what either raised, the writer's first.

    The writer is waited for, whatever happens: what it uses may have to be cleared up.
    """
    read, write = os.pipe()
    failed: list[Exception] = []

    def run() -> None:
        try:
            produce(write)
        except BrokenPipeError:
            pass  # the reader knows why
        except Exception as error:
            failed.append(error)
        finally:
            os.close(write)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    broken: Exception | None = None
    try:
        with os.fdopen(read, "rb") as stream:
            consume(stream)
    except Exception as error:
        broken = error
    finally:
        thread.join()
    if failed:
        raise failed[0]
    if broken is not None:
        raise broken


def _out(console: Console, name: str, path: str, target: str, follow: bool) -> None:
    running = console.engine.running

    def produce(write: int) -> None:
        running.export(name, path, write, follow=follow)

    if target == "-":
        _piped(produce, lambda stream: shutil.copyfileobj(stream, console.stdout()))
        return
    place = Path(os.path.realpath(target) if os.path.islink(target) else target)
    if place.exists() and not (place.is_dir() or place.is_file()):
        raise ContainerError(f'invalid output path: "{target}" must be a directory or a regular file', exit_code=1)
    contents = path.endswith("/.")
    follow = follow or contents or path.endswith("/")
    kind, _ = running.look(name, path, follow=follow)
    if kind == "file" and path.endswith(("/", "/.")):
        raise ContainerError(f"lstat {path}: not a directory", exit_code=1)
    if kind != "directory" and (target.endswith("/") and not place.is_dir()):
        raise ContainerError(f'no such directory: "{target}"', exit_code=1)
    if place.is_dir():
        folder, new = place, "" if contents else PurePosixPath(os.path.normpath(path)).name
    else:
        folder, new = place.parent, place.name
        if kind == "directory" and place.exists() and not place.is_dir():
            raise ContainerError("cannot copy a directory over a file", exit_code=1)
    if not folder.is_dir():
        raise ContainerError(f'invalid output path: directory "{folder}" does not exist', exit_code=1)
    _piped(produce, lambda stream: running.unpack(stream, folder, new))


def _into(console: Console, source: str, name: str, path: str, follow: bool, owners: bool) -> None:
    running = console.engine.running
    if source == "-":
        if console.stdin is None:
            raise UsageError("a cell has no standard input", hint="Name a file.")
        running.extract(name, path, console.stdin.fileno(), owners=owners)
        return
    place, follow = Path(source), follow or source.endswith(("/", "/."))
    if not (place.exists() if follow else os.path.lexists(place)):
        raise ContainerError(f"lstat {source}: no such file or directory", exit_code=1)
    is_directory = place.is_dir() and (follow or not place.is_symlink())
    kind, there = running.look(name, path)
    if kind == "directory":
        folder, new = there, "." if is_directory and source.endswith("/.") else Path(os.path.abspath(place)).name
    elif kind == "file" and is_directory:
        raise ContainerError("cannot copy directory to a file", exit_code=1)
    else:
        folder, new = os.path.split(there)
        if path.endswith("/") and not is_directory:
            raise ContainerError(f"no such directory in the container: {path}", exit_code=1)

    def produce(write: int) -> None:
        with (
            os.fdopen(os.dup(write), "wb") as stream,
            tarfile.open(fileobj=stream, mode="w|", dereference=False, format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(place.resolve() if follow else place, arcname=new)

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
