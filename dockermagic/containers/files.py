"""Files in and out of a container, as a tar: called in the sandbox's process.

Every path is resolved inside the container's root, by the kernel, from a descriptor of that root. Nothing of it is run:
a module, of Python or of the C library's name service, would come from there.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

from dockermagic.errors import ContainerError
from dockermagic.oci import disk, rooted
from dockermagic.sandbox import ownership, syscalls

__all__ = ["export", "extract", "look", "make_way"]

_DIRECTORY = os.O_RDONLY | disk.O_DIRECTORY


@contextlib.contextmanager
def _inside(root: str, process: int) -> Iterator[int]:
    """A descriptor of the root of a container that runs, or of what is mounted at ``root``."""
    finders, names = sys.meta_path[:], {name: getattr(tarfile, name, None) for name in ("pwd", "grp")}
    try:
        sys.meta_path.clear()
        vars(tarfile).update(dict.fromkeys(names))  # no names of users are looked up
        if process >= 0:
            syscalls.setns(process, syscalls.CLONE_NEWNS)
        fd = os.open(root or "/", _DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        sys.meta_path[:] = finders
        vars(tarfile).update(names)


@contextlib.contextmanager
def _directory(root: int, path: str) -> Iterator[int]:
    """A directory of the container as the working directory, and a descriptor of it."""
    fd = syscalls.open_in_root(root, path, _DIRECTORY)
    try:
        os.fchdir(fd)
        yield fd
    finally:
        os.close(fd)


def export(*, out: int, path: str, root: str = "", process: int = -1, follow: bool = False) -> dict[str, Any]:
    """Write a file or directory as a tar to ``out``, under its own name; what kind it is.

    Raises ContainerError, with 1, where it is not there.
    """
    with _inside(root, process) as top:
        place = os.path.normpath(os.path.join("/", path))
        stated = os.path.basename(place) or "."
        with contextlib.ExitStack() as stack:
            try:
                if follow:
                    there, missing = rooted.follow(place, lambda name: _link(top, name))
                    place = os.path.join("/", there, *missing)
                name = os.path.basename(place) or "."
                stack.enter_context(_directory(top, os.path.dirname(place)))
                found = os.lstat(name)
            except OSError as error:
                problem = f"Could not find the file {path} in container: {error.strerror}"
                raise ContainerError(problem, exit_code=1) from None
            with (
                contextlib.suppress(BrokenPipeError),  # nobody wants the rest
                os.fdopen(os.dup(out), "wb") as stream,
                tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                archive.add(name, arcname=stated, filter=lambda entry: _meant(entry, name + entry.name[len(stated) :]))
        return {"directory": stat.S_ISDIR(found.st_mode), "name": stated}


def _link(root: int, path: str) -> str | None:
    fd = syscalls.open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _meant(entry: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """An entry with the owner that the file is meant to have."""
    owner = ownership.meant(path, os.lstat(path))
    entry.uid, entry.gid = owner.uid, owner.gid
    return _without_sockets(entry)


def _without_sockets(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return entry if entry.isreg() or entry.isdir() or entry.issym() or entry.islnk() else None


def extract(
    *, source: int, path: str, root: str = "", process: int = -1, rename: str = "", owners: bool = False
) -> None:
    """Unpack a tar that is read from ``source`` at ``path``, which is a directory.

    With ``rename`` its topmost name becomes that one. Files belong to root unless ``owners`` keeps those of the tar.
    What has the name of an entry makes way, see :func:`make_way`.
    Raises ContainerError, with 1, where the directory is not there or the file system is read-only.
    """
    with _inside(root, process) as top:
        try:
            os.close(syscalls.open_in_root(top, path, _DIRECTORY))
        except OSError:
            raise ContainerError(f"Could not find the directory {path} in container", exit_code=1) from None
        try:
            with os.fdopen(os.dup(source), "rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
                # Names are resolved below, inside the root; modes, owners and links stay as they are in the tar.
                archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
                for entry in filter(_without_sockets, archive):
                    if rename:
                        entry.name = _renamed(entry.name, rename)
                        entry.linkname = _renamed(entry.linkname, rename) if entry.islnk() else entry.linkname
                    if not owners:
                        entry.uid = entry.gid = 0
                    entry.uname = entry.gname = ""
                    _extract(archive, entry, top, path)
        except tarfile.TarError as error:
            raise ContainerError(f"cannot copy to {path}: {error}", exit_code=1) from None
        except OSError as error:
            raise ContainerError(f"cannot copy to {path}: {error.strerror}", exit_code=1) from None


def _renamed(name: str, top: str) -> str:
    _, slash, rest = name.strip("/").partition("/")
    return f"{top}{slash}{rest}"


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, root: int, path: str) -> None:
    above, name = os.path.split(os.path.normpath(os.path.join("/", entry.name)))
    if not name and entry.isdir():
        return  # ".": the directory is there, and stays as it is
    _make_directories(root, path, above)
    with _directory(root, f"{path}/{above}") as folder:
        with contextlib.suppress(FileNotFoundError):
            if name and make_way(stat.S_ISDIR(os.lstat(name).st_mode), entry):
                os.unlink(name)
        if entry.islnk():
            linked, original = os.path.split(os.path.normpath(os.path.join("/", entry.linkname)))
            with _directory(root, f"{path}/{linked}") as source:
                os.link(original, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            return
        entry.name = name or "."
        archive.extract(entry, "", numeric_owner=True)


def make_way(directory: bool, entry: tarfile.TarInfo) -> bool:
    """Whether what has the name of an entry, a ``directory`` or not, goes for it. Raises ContainerError, with 1.

    A file goes for another, but none for a directory, nor a directory for a file: Docker's rule.
    """
    if directory != entry.isdir():
        was, new = ("directory", "non-directory") if directory else ("non-directory", "directory")
        raise ContainerError(f"cannot overwrite {was} {entry.name!r} with {new}", exit_code=1)
    return not directory


def _make_directories(root: int, path: str, above: str) -> None:
    """The parents of an entry, which not every tar has."""
    place = path
    for part in above.strip("/").split("/") if above != "/" else ():
        with _directory(root, place), contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755)
        place = f"{place}/{part}"


def look(*, path: str, root: str = "", process: int = -1, follow: bool = True) -> dict[str, str]:
    """What is at a path: its ``kind`` (``directory``, ``file``, ``link``, '' for what is not there), and the ``path``.

    With ``follow`` that is where links lead to, though nothing may be there; else the last one is what is looked at.
    """
    with _inside(root, process) as top:
        place = os.path.normpath(os.path.join("/", path))
        try:
            if follow:
                there, missing = rooted.follow(place, lambda name: _link(top, name))
                place = os.path.join("/", there, *missing)
            fd = syscalls.open_in_root(top, place, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return {"kind": "", "path": place}
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        return {"kind": "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file", "path": place}
