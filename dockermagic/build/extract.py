"""ADD of a local archive: told by its content, unpacked with every name kept inside the root filesystem."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from dockermagic.build.ownership import Owners
from dockermagic.build.rootpath import resolve_inside
from dockermagic.errors import ArchiveError

__all__ = ["extract", "is_archive", "open_archive"]

BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, RuntimeError)


@contextmanager
def open_archive(path: str) -> Iterator[tarfile.TarFile]:
    """The archive as a stream of members, whatever its compression. Raises one of :data:`BROKEN` when it is none."""
    with open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        with tarfile.open(
            fileobj=_decompressed(file, magic), mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            yield tar


def _decompressed(file: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(b"\x1f\x8b"):
        try:
            from isal import igzip as gzip
        except ImportError:
            import gzip  # type: ignore[no-redef]

        opened: Any = gzip.GzipFile
        return cast(IO[bytes], opened(fileobj=file))
    if magic.startswith(b"BZh"):
        import bz2

        return cast(IO[bytes], bz2.BZ2File(file))
    if magic == b"\xfd7zXZ\x00":
        import lzma

        return cast(IO[bytes], lzma.LZMAFile(file))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            from backports import zstd
        return cast(IO[bytes], zstd.ZstdFile(file))
    return file


def is_archive(path: str) -> bool:
    """Whether ADD unpacks the file: a tar, compressed or not, whatever it is called."""
    try:
        with open_archive(path) as tar:
            return tar.next() is not None
    except BROKEN:
        return False
    except Exception as error:  # the decompressors have exceptions of their own (lzma.LZMAError, ZstdError)
        if type(error).__name__ in ("LZMAError", "ZstdError", "IsalError"):
            return False
        raise


def extract(archive: str, place: str, owners: Owners, *, uid: int | None = None, gid: int | None = None) -> None:
    """Unpack below ``place``, which is the root for every name and link of the archive.

    Owners are the archive's numbers unless given.
    Raises :class:`ArchiveError` for a broken archive.
    """
    unpacker = Unpacker(place, owners, uid, gid)
    try:
        with open_archive(archive) as tar:
            for member in tar:
                unpacker.member(tar, member)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(
            f"{posixpath.basename(archive)} is a broken archive: {error}",
            hint="Make it again, or use COPY to keep it packed.",
        ) from error
    unpacker.finish()


class Unpacker:
    """One extraction: remembers the directories it has resolved, and sets their times at the end."""

    def __init__(self, root: str, owners: Owners, uid: int | None, gid: int | None) -> None:
        self.root, self.owners, self.uid, self.gid = root, owners, uid, gid
        self.times: dict[str, int] = {}

    def finish(self) -> None:
        """Directories get the times that the archive gives them."""
        for path, mtime in sorted(self.times.items(), reverse=True):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.utime(path, ns=(mtime, mtime))

    def directory(self, path: str) -> str:
        """The absolute place of a directory inside the root, made if missing."""
        existing, missing = resolve_inside(self.root, path)
        place = f"{self.root}/{existing}" if existing else self.root
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            raise ArchiveError(f"/{existing} is not a directory, but the archive has files below it")
        for part in missing:
            if part != "..":
                place = f"{place}/{part}"
                os.makedirs(place, 0o755, exist_ok=True)
        return place

    def member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One member of the archive."""
        name = posixpath.normpath("/" + member.name).lstrip("/")
        leaf = posixpath.basename(name)
        if not name or leaf.startswith(".wh."):
            return
        place = f"{self.directory(posixpath.dirname(name))}/{leaf}"
        self._clear(place, keep_directory=member.isdir())
        mode = stat.S_IMODE(member.mode)
        if member.isdir():
            if not os.path.lexists(place):
                os.mkdir(place, mode)
            kind = stat.S_IFDIR
        elif member.isreg():
            self._file(tar, member, place)
            kind = stat.S_IFREG
        elif member.issym():
            os.symlink(member.linkname, place)
            kind = stat.S_IFLNK
        elif member.islnk():
            existing, missing = resolve_inside(self.root, posixpath.normpath("/" + member.linkname))
            if missing:
                raise ArchiveError(f"the archive links {member.name} to {member.linkname}, which is not there")
            os.link(f"{self.root}/{existing}", place, follow_symlinks=False)
            kind = stat.S_IFMT(os.lstat(place).st_mode)
        elif member.isfifo():
            os.mkfifo(place, mode)
            kind = stat.S_IFIFO
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(place, kind | mode, os.makedev(member.devmajor, member.devminor))
        else:
            return
        uid = member.uid if self.uid is None else self.uid
        gid = member.gid if self.gid is None else self.gid
        self.owners.set(place, uid, gid, kind | mode)
        mtime = int(float(member.mtime) * 1_000_000_000)
        if kind != stat.S_IFLNK:
            os.chmod(place, mode)
        if kind == stat.S_IFDIR:
            self.times[place] = mtime
        else:
            os.utime(place, ns=(mtime, mtime), follow_symlinks=False)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
        source = tar.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(place, flags, 0o600), "wb") as file:
            while source is not None and (data := source.read(1 << 20)):
                file.write(data)

    def _clear(self, place: str, *, keep_directory: bool) -> None:
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            if not keep_directory:
                import shutil

                shutil.rmtree(place)
        else:
            os.unlink(place)
