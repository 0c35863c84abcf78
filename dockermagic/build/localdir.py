"""``--output type=local``: a tar of a root filesystem becomes files in a directory of the user's."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from dockermagic.build.extract import Limit
from dockermagic.errors import ArchiveError, UsageError, full_disk_error, is_full
from dockermagic.oci import disk
from dockermagic.oci.rooted import Directories, clean, join, remove_tree
from dockermagic.oci.tarheader import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from dockermagic.oci.tarstream import TarReader

__all__ = ["write_directory"]


def write_directory(
    blocks: Iterable[bytes],
    directory: Path,
    *,
    devices: bool = True,
    limit: Limit | None = None,
) -> int:
    """Write the files of a tar into ``directory``, which is made if missing; how many devices were left out.

    The files belong to whoever calls. What is there already stays unless it has the name of something new; nothing is
    written through a link. Each file appears whole or not at all. Raises UsageError, StoreFullError, and ArchiveError
    for a broken archive, one that would leave the directory, and one beyond the limit.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        target = _Target(directory, devices, limit)
    except OSError as error:
        raise UsageError(f"cannot write {directory}: {os.strerror(error.errno or 0)}") from None
    try:
        reader = TarReader(blocks)
        for entry in reader:
            target.add(entry, reader)
        reader.drain()
        target.finish()
    except OSError as error:
        if is_full(error):
            raise full_disk_error(directory, "Make room there, or write to another place.") from None
        raise UsageError(f"cannot write {error.filename or directory}: {error.strerror or error}") from None
    finally:
        target.close()
    return target.left_out


class _Target:
    """The directory while it is written. Directories get their modes and times when all is there."""

    def __init__(self, directory: Path, devices: bool, limit: Limit | None) -> None:
        self.left_out = 0
        self._devices = devices
        self._limit = limit
        self._tree = Directories(str(directory))
        self._place = directory
        self._spelled: dict[str, str] = {}
        self._directories: list[tuple[str, int, int]] = []

    def add(self, entry: Entry, reader: TarReader) -> None:
        """One member, in the place of what has its name."""
        path = clean(entry.name, "the entry")
        if not path:
            return
        if self._limit is not None:
            self._limit.count(entry)
        other = self._spelled.setdefault(path.casefold(), path)
        if other != path and _ignores_case(self._place):
            raise UsageError(
                f"{other} and {path} would be one file in {self._place}, where case does not count",
                hint="Write a tar (--output type=tar), or to a place where it does.",
            )
        above, _, name = path.rpartition("/")
        here = disk.dup(self._reach(above))
        aside = f".{os.urandom(6).hex()}.tmp"
        try:
            if entry.kind == DIRECTORY:
                self._directory(here, name, path, entry)
            elif self._make(here, aside, entry, reader):
                if entry.kind != LINK:
                    disk.utime(aside, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=here, follow_symlinks=False)
                self._clear(here, name, path)
                disk.replace(aside, name, src_dir_fd=here, dst_dir_fd=here)
                # Two names of one file: replacing the one by the other leaves both.
                with contextlib.suppress(FileNotFoundError):
                    disk.unlink(aside, dir_fd=here)
            else:
                self.left_out += 1
        except BaseException:
            with contextlib.suppress(OSError):
                disk.unlink(aside, dir_fd=here)
            raise
        finally:
            disk.close(here)

    def _reach(self, path: str) -> int:
        """The directory at a path; archives may leave out the entries of directories."""
        there, missing = path, list[str]()
        while True:
            try:
                found = self._tree.fd(there)
                break
            except FileNotFoundError:
                there, _, name = there.rpartition("/")
                missing.append(name)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise ArchiveError(f"the archive has files below {path!r:.300}, which is no directory") from None
                raise
        for name in reversed(missing):
            disk.mkdir(name, 0o755, dir_fd=found)
            there = join(there, name)
            found = self._tree.fd(there)
        return found

    def _directory(self, here: int, name: str, path: str, entry: Entry) -> None:
        try:
            found = disk.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                disk.unlink(name, dir_fd=here)
                disk.mkdir(name, 0o700, dir_fd=here)
            else:
                disk.chmod(name, stat.S_IMODE(found.st_mode) | 0o700, dir_fd=here)
        except FileNotFoundError:
            disk.mkdir(name, 0o700, dir_fd=here)
        self._directories.append((path, entry.mode, entry.mtime_ns))

    def _make(self, here: int, name: str, entry: Entry, reader: TarReader) -> bool:
        match entry.kind:
            case _ if entry.kind == FILE:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with open(disk.open(name, flags, 0o600, dir_fd=here), "wb") as file:
                    if entry.sparse is None:
                        for piece in reader.data():
                            file.write(piece)
                    else:
                        _write_sparse(file, entry, reader)
                disk.chmod(name, entry.mode, dir_fd=here)
            case _ if entry.kind == SYMLINK:
                disk.symlink(entry.link, name, dir_fd=here)
            case _ if entry.kind == LINK:
                above, _, leaf = clean(entry.link, "the target of a hard link").rpartition("/")
                try:
                    disk.link(leaf, name, src_dir_fd=self._tree.fd(above), dst_dir_fd=here, follow_symlinks=False)
                except FileNotFoundError:
                    raise ArchiveError(f"the archive links {entry.name!r:.300} to what is not there") from None
            case _ if entry.kind == FIFO:
                disk.mkfifo(name, entry.mode, dir_fd=here)
            case _ if entry.kind in (CHARACTER, BLOCK_DEVICE) and self._devices:
                kind = stat.S_IFCHR if entry.kind == CHARACTER else stat.S_IFBLK
                try:
                    disk.mknod(name, kind | entry.mode, disk.makedev(entry.major, entry.minor), dir_fd=here)
                except PermissionError:
                    return False
            case _:
                return False
        return True

    def _clear(self, here: int, name: str, path: str) -> None:
        """A directory gives way to what is no directory."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(disk.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                self._tree.forget(path)
                remove_tree(name, here)

    def finish(self) -> None:
        """Modes and times of directories, the deepest first."""
        for path, mode, mtime_ns in reversed(self._directories):
            descriptor = self._tree.fd(path)
            disk.utime(descriptor, ns=(mtime_ns, mtime_ns))
            disk.chmod(descriptor, mode)

    def close(self) -> None:
        """Close what is open. Idempotent."""
        self._tree.close()


def _ignores_case(directory: Path) -> bool:
    """Whether the file system takes names that differ by case alone for the same one, as macOS's and Windows's do."""
    name = f".{os.urandom(6).hex()}.tmp"
    try:
        (directory / name).touch()
        return (directory / name.upper()).exists()
    finally:
        (directory / name).unlink(missing_ok=True)


def _write_sparse(file: IO[bytes], entry: Entry, reader: TarReader) -> None:
    spans = iter(entry.sparse or ())
    left = 0
    for data in reader.data():
        at = 0
        while at < len(data):
            while not left:
                offset, left = next(spans)
                file.seek(offset)
            step = file.write(data[at : at + min(left, len(data) - at)])
            at, left = at + step, left - step
    file.truncate(entry.real_size)
