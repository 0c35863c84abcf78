"""A changeset tar -> a layer's directory, in overlay form (image-spec, layer.md). The tar is not trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from typing import Any

from dockermagic.errors import ArchiveError, StoreError
from dockermagic.oci import disk
from dockermagic.oci.blobs import clear_errors
from dockermagic.oci.growing import NEW_FILE, Displaced, GrowingLayer, set_attributes, write_all
from dockermagic.oci.overlay import (
    CAPABILITY,
    KEPT_CAPABILITY,
    OPAQUE_MARK,
    WHITEOUT,
    Status,
    attributes,
    is_own_attribute,
    ownership_file,
)
from dockermagic.oci.pipeline import Source
from dockermagic.oci.rooted import READ, clean, join
from dockermagic.oci.tarheader import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from dockermagic.oci.tarstream import TarReader

__all__ = ["LIMIT", "Maker", "unpack"]

LIMIT = 1 << 40
"""The most that a layer may unpack to where the caller sets no bound: 1 TiB."""

_ZEROS = bytes(1 << 20)
_WORTH_A_HOLE = 1 << 16
_TYPES = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO, SYMLINK: stat.S_IFLNK}
_HIGHEST_ID = (1 << 32) - 2


def unpack(
    blob: int,
    directory: str,
    *,
    lowers: Sequence[str] = (),
    below: int = -1,
    digest: str = "",
    size: int = -1,
    diff_id: str = "",
    limit: int | None = LIMIT,
    ownership: str | None = None,
) -> dict[str, Any] | None:
    """Unpack the layer that is read from ``blob`` into ``directory``, which exists and is empty.

    ``lowers`` are the directories of the layers below, bottom first: a directory that the tar only implies takes its
    attributes from there. Where they are still being made themselves, they are read from ``below`` as a JSON list, as
    late as can be. ``digest``, ``size`` and ``diff_id``, where given, must be those of the
    stream. More than ``limit`` uncompressed bytes are refused. What cannot be owned is recorded in ``ownership`` (see
    overlay.py).

    Returns digest ("" where a diff_id alone was given), diff_id, size, uncompressed_size, and how many entries and
    bytes of files were made; None if it turns out late that it must be unpacked again, with ``lowers``: a path leads
    through a link of theirs. Raises ArchiveError, StoreFullError or StoreError; the caller then throws the directory
    away.
    """
    with clear_errors(directory):
        stands_on = lowers if below < 0 else lambda: _awaited(below)
        layer = GrowingLayer(directory, stands_on, ownership or ownership_file(directory))
    source = Source(blob, limit=limit, has_digest=bool(digest) or not diff_id)
    before = disk.umask(0)
    try:
        with clear_errors(directory):
            reader = TarReader(source)
            maker = Maker(layer, reader)
            for entry in reader:
                maker.add(entry)
            reader.drain()
            for what, expected, found in (
                ("digest", digest, source.digest),
                ("diff_id", diff_id, source.diff_id),
                ("size", size if size >= 0 else "", source.size),
            ):
                if expected not in ("", found):
                    raise ArchiveError(f"the layer has the {what} {found}, expected {expected}")
            layer.finish()
    except Displaced:
        return None
    finally:
        disk.umask(before)
        source.close()
        layer.close()
    return {
        "digest": source.digest,
        "diff_id": source.diff_id,
        "size": source.size,
        "uncompressed_size": source.uncompressed_size,
        "entries": maker.entries,
        "bytes": maker.bytes,
    }


def _awaited(below: int) -> list[str]:
    """The directories of the layers below, when somebody has written them all."""
    with open(below, "rb", closefd=False) as stream:
        written = stream.read()
    if not written:
        raise StoreError("the layers below this one did not come")
    found: list[str] = json.loads(written)
    return found


class Maker:
    """Makes the entries of a tar in a layer, below its directory ``top``; ``what`` is the tar's name in an error."""

    def __init__(self, layer: GrowingLayer, reader: TarReader, *, top: str = "", what: str = "layer") -> None:
        self.entries = self.bytes = 0
        self._top = top
        self._what = what
        self._layer = layer
        self._reader = reader

    def add(self, entry: Entry) -> None:
        """Make one entry, in place of what the layer had there."""
        path = clean(entry.name, f"the {self._what}'s entry")
        if not (0 <= entry.uid <= _HIGHEST_ID and 0 <= entry.gid <= _HIGHEST_ID):
            raise ArchiveError(f"the {self._what}'s entry {entry.name!r:.300} has the owner {entry.uid}:{entry.gid}")
        self.entries += 1
        if entry.xattrs:
            entry.xattrs = {key: value for key, value in entry.xattrs.items() if not is_own_attribute(key)}
        if not path:
            if entry.kind == DIRECTORY:
                self._describe(self._top, entry)
            return
        above, _, name = path.rpartition("/")
        if WHITEOUT in above and any(part.startswith(WHITEOUT) for part in above.split("/")):
            if above.startswith(".wh..wh."):
                return  # what aufs kept for itself
            raise ArchiveError(f"the {self._what}'s entry {entry.name!r:.300} is below a whiteout")
        if name.startswith(WHITEOUT):
            self._whiteout(above, name, entry)
            return
        parent = self._layer.directory(above, self._top)
        if entry.kind == FILE:
            self._file(parent, name, entry)
        elif entry.kind == DIRECTORY:
            self._describe(self._layer.make_directory(parent, name), entry)
        elif entry.kind == LINK:
            self._link(parent, name, entry)
        elif entry.kind == CHARACTER and not entry.major and not entry.minor:
            self._whiteout(above, WHITEOUT + name, entry)
        else:
            self._special(parent, name, entry)

    def _file(self, parent: str, name: str, entry: Entry) -> None:
        layer, here, path = self._layer, self._layer.tree.fd(parent), join(parent, name)
        mode = entry.mode
        # Most files need nothing but the mode they are made with. Setting an attribute takes the right to write.
        is_plain = mode < 0o1000 and not entry.xattrs and layer.owners.is_me(*layer.owners.real(entry.uid, entry.gid))
        first = mode if is_plain else 0o600
        try:
            descriptor = disk.open(name, NEW_FILE, first, dir_fd=here)
        except FileExistsError:
            layer.remove(here, name, path)
            descriptor = disk.open(name, NEW_FILE, first, dir_fd=here)
        try:
            if entry.sparse is not None:
                self._sparse(descriptor, entry)
            elif entry.size >= _WORTH_A_HOLE:
                self._large(descriptor, entry)
            else:
                for piece in self._reader.data():
                    write_all(descriptor, piece)
            self.bytes += entry.real_size
            if not is_plain:
                layer.own(descriptor, path, Status(stat.S_IFREG | mode, entry.uid, entry.gid), is_new=True)
                set_attributes(descriptor, entry.xattrs)
                disk.fchmod(descriptor, mode)
            disk.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            disk.close(descriptor)

    def _large(self, descriptor: int, entry: Entry) -> None:
        """Write a file, with holes where it has nothing but zeros."""
        ends_in_hole = False
        for piece in self._reader.data():
            size = len(piece)
            ends_in_hole = (
                size >= _WORTH_A_HOLE
                and not (piece[0] or piece[-1] or piece[size // 2])
                and bytes(piece) == _ZEROS[:size]
            )
            if ends_in_hole:
                os.lseek(descriptor, size, os.SEEK_CUR)
            else:
                write_all(descriptor, piece)
        if ends_in_hole:
            os.ftruncate(descriptor, entry.size)

    def _sparse(self, descriptor: int, entry: Entry) -> None:
        os.ftruncate(descriptor, entry.real_size)
        pieces = iter(entry.sparse or ())
        offset = left = 0
        for data in self._reader.data():
            at = 0
            while at < len(data):
                while not left:
                    offset, left = next(pieces)
                step = disk.pwrite(descriptor, data[at : at + min(left, len(data) - at)], offset)
                at, offset, left = at + step, offset + step, left - step

    def _describe(self, path: str, entry: Entry) -> None:
        descriptor = self._layer.tree.fd(path)
        self._layer.own(descriptor, path, Status(stat.S_IFDIR | entry.mode, entry.uid, entry.gid))
        self._layer.describe(path, entry.mode, entry.mtime_ns, entry.xattrs)

    def _special(self, parent: str, name: str, entry: Entry) -> None:
        if entry.kind == SYMLINK and (not entry.link or len(os.fsencode(entry.link)) >= 4096):
            raise ArchiveError(f"the {self._what}'s symbolic link {entry.name!r:.300} leads to {entry.link!r:.100}")
        status = Status(_TYPES[entry.kind] | entry.mode, entry.uid, entry.gid, (entry.major, entry.minor))
        self._layer.special(parent, name, status, entry.mtime_ns, entry.link)

    def _link(self, parent: str, name: str, entry: Entry) -> None:
        layer = self._layer
        target = clean(entry.link, f"the target of the {self._what}'s hard link")
        above, _, base = target.rpartition("/")
        source = layer.existing(above, self._top)
        found = layer.find(source, base) if source is not None and base else None
        if source is None or found is None or stat.S_ISDIR(found[1].st_mode):
            if layer.arrive():
                self._link(parent, name, entry)
                return
            raise ArchiveError(
                f"the {self._what}'s hard link {entry.name!r:.300} leads to {entry.link!r:.300}, which is no file"
            )
        path, place = join(parent, name), join(source, base)
        if place == path:
            return
        if place.startswith(f"{path}/"):
            raise ArchiveError(
                f"the {self._what}'s hard link {entry.name!r:.300} takes the place of the directory with its file"
            )
        if found[0] >= 0:
            layer.copy_up(source, base)
        here = disk.dup(layer.tree.fd(parent))  # asking for the other directory may close this one
        try:
            there = layer.tree.fd(source)
            layer.fresh(
                here,
                name,
                path,
                lambda: disk.link(base, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False),
            )
            self._agree(here, name, path, entry)
        finally:
            disk.close(here)

    def _agree(self, here: int, name: str, path: str, entry: Entry) -> None:
        """The header of a hard link is the last word on its file; mostly it says the same."""
        layer = self._layer
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        meant = (*layer.owners.real(entry.uid, entry.gid), entry.mode, entry.mtime_ns)
        is_same = meant == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime_ns)
        if is_same or not stat.S_ISREG(found.st_mode):
            return
        disk.chmod(name, 0o600, dir_fd=here)
        descriptor = disk.open(name, READ, dir_fd=here)
        try:
            had = attributes(descriptor)  # a change of owner takes the capability away
            layer.own(descriptor, path, Status(stat.S_IFREG | entry.mode, entry.uid, entry.gid))
            set_attributes(descriptor, {key: had[key] for key in (CAPABILITY, KEPT_CAPABILITY) if key in had})
            set_attributes(descriptor, entry.xattrs)
            disk.fchmod(descriptor, entry.mode)
            disk.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            disk.close(descriptor)

    def _whiteout(self, above: str, name: str, entry: Entry) -> None:
        layer = self._layer
        if name == OPAQUE_MARK:
            layer.hide(layer.directory(above, self._top))
            return
        if name.startswith(WHITEOUT + WHITEOUT):
            return  # what aufs kept for itself
        removed = name[len(WHITEOUT) :]
        if removed in ("", ".", ".."):
            raise ArchiveError(f"the {self._what}'s whiteout {entry.name!r:.300} names no file")
        layer.whiteout(layer.directory(above, self._top), removed)
