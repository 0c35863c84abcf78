"""What came out of a container as a tar, made on this machine's disk."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

from dockermagic.containers.files import make_way
from dockermagic.errors import ContainerError
from dockermagic.oci.rooted import DIRECTORY, READ, Directories, clean

__all__ = ["unpack"]


def unpack(stream: BinaryIO, folder: Path, name: str) -> None:
    """Make what a tar holds at ``folder/name``, where '' is the folder itself.

    The tar is the container's, and so may be what an earlier one left: nothing is made outside of ``folder``, and
    nothing through a link in it. Only files, directories and links are made.
    """
    there = Directories(str(folder))

    def place(path: str) -> tuple[int, str]:
        """The directory of an entry, until the next call, and the entry's name in it; '' is the folder itself."""
        _, _, below = path.partition("/")
        above, _, last = "/".join(filter(None, (name, clean(below, "the copy's member")))).rpartition("/")
        try:
            return there.fd(above), last
        except OSError:
            raise ContainerError(f"refused to copy through a link: {folder / above}", exit_code=1) from None

    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                _make(archive, entry, place)
    finally:
        there.close()


def _make(archive: tarfile.TarFile, entry: tarfile.TarInfo, place: Callable[[str], tuple[int, str]]) -> None:
    """Make one entry."""
    parent, last = place(entry.name)
    if not last or not (entry.isdir() or entry.isreg() or entry.issym() or entry.islnk()):
        return
    try:
        present = os.stat(last, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        if entry.isdir():
            os.mkdir(last, dir_fd=parent)
    else:
        if make_way(stat.S_ISDIR(present.st_mode), entry):
            os.unlink(last, dir_fd=parent)
    if entry.issym():
        os.symlink(entry.linkname, last, dir_fd=parent)
        return
    how = DIRECTORY if entry.isdir() else os.O_WRONLY | os.O_CREAT | os.O_EXCL
    made = os.open(last, how, 0o600, dir_fd=parent)
    try:
        if not entry.isdir():
            with _content(archive, entry, place) as content, open(made, "wb", closefd=False) as file:
                shutil.copyfileobj(content, file)
        os.fchmod(made, entry.mode & 0o777 | (0o700 if entry.isdir() else 0))
        os.utime(made, (entry.mtime, entry.mtime))
    finally:
        os.close(made)


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, place: Callable[[str], tuple[int, str]]) -> IO[bytes]:
    """What is in a file; in a further name of one, what is in the first."""
    if entry.islnk():
        parent, name = place(entry.linkname)
        return open(os.open(name, READ, dir_fd=parent), "rb")
    found = archive.extractfile(entry)
    assert found is not None
    return found
