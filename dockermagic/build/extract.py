"""ADD of an archive: told by its content, unpacked with every name kept below the destination."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

from dockermagic.errors import ArchiveError
from dockermagic.oci import disk
from dockermagic.oci.compression import BLOCK, decompressed
from dockermagic.oci.growing import GrowingLayer
from dockermagic.oci.overlay import CAPABILITY, WHITEOUT
from dockermagic.oci.tarheader import CHARACTER, LINK, Entry
from dockermagic.oci.tarstream import TarReader
from dockermagic.oci.unpack import Maker

__all__ = ["Limit", "extract", "is_archive"]

MOST_FILES = 2_000_000


class Limit:
    """How much an archive may unpack to, in bytes and in files."""

    def __init__(self, most_bytes: int, most_files: int = MOST_FILES) -> None:
        self._bytes, self._files = most_bytes, most_files

    def count(self, entry: Entry) -> None:
        """One more member. Raises ArchiveError once it is too much, before anything of it is written."""
        self._files -= 1
        self._bytes -= entry.real_size or entry.size
        if self._files < 0 or self._bytes < 0:
            raise ArchiveError(
                "the archive unpacks to more than is allowed", hint="Raise $DOCKERMAGIC_ADD_LIMIT, in bytes."
            )


def is_archive(file: int) -> bool:
    """Whether ADD unpacks an open file: a tar, compressed or not, whatever it is called. Moves the file's position."""
    try:
        return stat.S_ISREG(disk.fstat(file).st_mode) and TarReader(_blocks(file)).next() is not None
    except ArchiveError:
        return False


def _blocks(file: int) -> Iterator[bytes]:
    os.lseek(file, 0, os.SEEK_SET)
    return decompressed(lambda: os.read(file, BLOCK))


def extract(
    file: int, name: str, layer: GrowingLayer, top: str, limit: Limit, uid: int | None = None, gid: int | None = None
) -> None:
    """Unpack an open archive below the layer's directory ``top``, which is the root for its names and links.

    Owners are the archive's numbers unless given. Raises :class:`ArchiveError` for a broken archive and for one beyond
    the limit.
    """
    try:
        reader = TarReader(_blocks(file))
        maker = Maker(layer, reader, top=top, what="archive")
        for entry in reader:
            limit.count(entry)
            # A name may climb or start at the root: both end at the destination, which keeps its own looks.
            entry.name = posixpath.normpath(f"/{entry.name}").lstrip("/")
            if entry.kind == LINK:
                entry.link = posixpath.normpath(f"/{entry.link}")
            is_whiteout = entry.kind == CHARACTER and not entry.major and not entry.minor
            if not entry.name or is_whiteout or posixpath.basename(entry.name).startswith(WHITEOUT):
                continue
            entry.uid = entry.uid if uid is None else uid
            entry.gid = entry.gid if gid is None else gid
            entry.xattrs = {key: value for key, value in entry.xattrs.items() if key == CAPABILITY}
            maker.add(entry)
    except ArchiveError as error:
        raise ArchiveError(
            f"cannot unpack {name}: {error.message}",
            hint=error.hint or "Make the archive again, or use COPY to keep it packed.",
        ) from error
