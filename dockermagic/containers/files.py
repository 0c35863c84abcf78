"""Files in and out of a container, as a tar: called in the sandbox's namespaces.

Every path is resolved inside the container: this process makes the container's root its own before it looks at any.
Nothing of it is run: a module, of Python or of the C library's name service, would come from there.
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
from dockermagic.sandbox import syscalls

__all__ = ["export", "extract", "kind"]


@contextlib.contextmanager
def _inside(root: str, process: int) -> Iterator[None]:
    """Have the root of a container, or what is mounted at ``root``, as one's own."""
    home = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    finders, names = sys.meta_path[:], {name: getattr(tarfile, name, None) for name in ("pwd", "grp")}
    try:
        sys.meta_path.clear()
        vars(tarfile).update(dict.fromkeys(names))  # no names of users are looked up
        if process >= 0:
            syscalls.setns(process, syscalls.CLONE_NEWNS)
        else:
            os.chroot(root)
        os.chdir("/")
        yield
    finally:
        os.fchdir(home)
        os.chroot(".")
        os.close(home)
        sys.meta_path[:] = finders
        vars(tarfile).update(names)


def export(*, out: int, path: str, root: str = "", process: int = -1, follow: bool = False) -> dict[str, Any]:
    """Write a file or directory as a tar to ``out``, under its own name; what kind it is.

    Raises ContainerError, with 1, where it is not there.
    """
    with _inside(root, process):
        return _export(out, path, follow)


def _export(out: int, path: str, follow: bool) -> dict[str, Any]:
    place = os.path.normpath(os.path.join("/", path))
    if follow:
        place = os.path.realpath(place)
    try:
        found = os.lstat(place)
    except OSError as error:
        raise ContainerError(f"Could not find the file {path} in container: {error.strerror}", exit_code=1) from None
    name = os.path.basename(os.path.normpath(os.path.join("/", path))) or "."
    with (
        os.fdopen(os.dup(out), "wb") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(place, arcname=name, filter=_without_sockets)
    return {"directory": stat.S_ISDIR(found.st_mode), "name": name}


def _without_sockets(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return entry if entry.isreg() or entry.isdir() or entry.issym() or entry.islnk() else None


def extract(
    *, source: int, path: str, root: str = "", process: int = -1, rename: str = "", owners: bool = False
) -> None:
    """Unpack a tar that is read from ``source`` at ``path``, which is a directory.

    With ``rename`` its topmost name becomes that one. Files belong to root unless ``owners`` keeps those of the tar.
    Raises ContainerError, with 1, where the directory is not there or the file system is read-only.
    """
    with _inside(root, process):
        _extract(source, path, rename, owners)


def _extract(source: int, path: str, rename: str, owners: bool) -> None:
    if not os.path.isdir(path):
        raise ContainerError(f"Could not find the directory {path} in container", exit_code=1)
    os.chroot(os.path.realpath(path))
    os.chdir("/")
    try:
        with os.fdopen(os.dup(source), "rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
            for entry in archive:
                first, slash, rest = entry.name.strip("/").partition("/")
                entry.name = f"{rename or first}{slash}{rest}"
                if entry.islnk() and rename:
                    _, slash, rest = entry.linkname.partition("/")
                    entry.linkname = f"{rename}{slash}{rest}"
                if not owners:
                    entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                if entry.isreg() or entry.isdir() or entry.issym() or entry.islnk():
                    archive.extract(entry, "/", numeric_owner=True)
    except tarfile.TarError as error:
        raise ContainerError(f"cannot copy to {path}: {error}", exit_code=1) from None
    except OSError as error:
        raise ContainerError(f"cannot copy to {path}: {error.strerror}", exit_code=1) from None


def kind(*, path: str, root: str = "", process: int = -1) -> str:
    """``directory``, ``file`` or '' for what is not there; links are followed."""
    with _inside(root, process):
        place = os.path.join("/", path)
        return "directory" if os.path.isdir(place) else "file" if os.path.exists(place) else ""
