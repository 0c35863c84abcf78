"""The tree that layers make as one plain tar, without what only layers know; runs in the sandbox's worker."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from dockermagic.errors import StoreError
from dockermagic.oci import disk
from dockermagic.oci.blobs import clear_errors
from dockermagic.oci.overlay import Stack, attributes
from dockermagic.oci.pack import kept_attributes
from dockermagic.oci.rooted import READ, join
from dockermagic.oci.tarheader import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FILE,
    KINDS,
    LINK,
    RECORD,
    Entry,
    header,
)

__all__ = ["flatten"]

_BLOCK = 1 << 20


def flatten(layers: Sequence[str], out: int, *, latest: int | None = None) -> dict[str, int]:
    """Write the tree of ``layers`` (directories, bottom first) to ``out`` as a tar, without the root itself.

    Entries are sorted and have the owners that the layers record; sockets are left out. No time is later than
    ``latest`` seconds where that is given. Returns the number of ``entries``, and the ``bytes`` of files. Raises
    StoreError, also if a file changes meanwhile.
    """
    tree = Stack(layers)
    try:
        with clear_errors("the layers"), open(out, "wb", buffering=_BLOCK, closefd=False) as file:
            writer = _Writer(tree, file.write, latest)
            writer.walk()
            file.write(bytes(2 * RECORD))
    finally:
        tree.close()
    return {"entries": writer.entries, "bytes": writer.bytes}


class _Writer:
    def __init__(self, tree: Stack, write: Callable[[bytes], object], latest: int | None) -> None:
        self.entries = self.bytes = 0
        self._tree = tree
        self._write = write
        self._latest_ns = None if latest is None else latest * 1_000_000_000
        self._linked: dict[tuple[int, int], str] = {}

    def walk(self) -> None:
        """Every entry below the root, a directory before what is in it."""
        waiting = [self._names("")]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
            elif self._add(*found):
                waiting.append(self._names(found[0]))

    def _names(self, directory: str) -> Iterator[tuple[str, int]]:
        names = self._tree.names(directory)[0]
        for name in sorted(names, key=os.fsencode):
            yield join(directory, name), names[name]

    def _add(self, path: str, layer: int) -> bool:
        """Write one entry; True if it is a directory."""
        above, _, name = path.rpartition("/")
        here = self._tree.layers[layer].fd(above)
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            self._entry(path, layer, found, attributes(self._tree.layers[layer].fd(path)))
        elif kind == stat.S_IFREG:
            self._file(here, name, path, layer, found)
        elif kind in KINDS:
            entry = self._describe(path, layer, found, {})
            if kind == stat.S_IFLNK:
                entry.link = disk.readlink(name, dir_fd=here)
            self._header(entry)
        return kind == stat.S_IFDIR

    def _file(self, here: int, name: str, path: str, layer: int, found: os.stat_result) -> None:
        descriptor = disk.open(name, READ, dir_fd=here)
        try:
            entry = self._describe(path, layer, found, attributes(descriptor))
            if entry.kind == FILE and found.st_nlink > 1:
                first = self._linked.setdefault((found.st_dev, found.st_ino), path)
                if first != path:
                    entry.kind, entry.link, entry.xattrs = LINK, first, {}
            if entry.kind != FILE:  # a hard link, or the placeholder of a device
                self._header(entry)
                return
            entry.size = found.st_size
            self._header(entry)
            left = found.st_size
            while left:
                data = os.read(descriptor, min(left, _BLOCK))
                if not data:
                    raise StoreError(f"{path!r} became shorter while it was read")
                left -= len(data)
                self._write(data)
            self._write(bytes(-found.st_size % RECORD))
            self.bytes += found.st_size
        finally:
            disk.close(descriptor)

    def _describe(self, path: str, layer: int, found: os.stat_result, xattrs: dict[str, bytes]) -> Entry:
        status = self._tree.owners(layer).status(path, found, xattrs)
        kind = KINDS[stat.S_IFMT(status.mode)]
        mtime_ns = found.st_mtime_ns
        if self._latest_ns is not None and mtime_ns > self._latest_ns:
            mtime_ns = self._latest_ns
        name = path + "/" if kind == DIRECTORY else path
        entry = Entry(name, kind, stat.S_IMODE(status.mode), status.uid, status.gid, mtime_ns=mtime_ns)
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = status.device
        entry.xattrs = kept_attributes(xattrs)
        return entry

    def _entry(self, path: str, layer: int, found: os.stat_result, xattrs: dict[str, bytes]) -> None:
        self._header(self._describe(path, layer, found, xattrs))

    def _header(self, entry: Entry) -> None:
        self.entries += 1
        self._write(header(entry))
