"""A layer's directory -> a changeset tar (image-spec, layer.md): the same tree gives the same bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dockermagic.errors import StoreError
from dockermagic.oci import disk
from dockermagic.oci.blobs import clear_errors
from dockermagic.oci.overlay import (
    CAPABILITY,
    KEPT_CAPABILITY,
    OPAQUE,
    OPAQUE_MARK,
    WHITEOUT,
    Ownership,
    Stack,
    attributes,
    capability_v2,
    is_own_attribute,
    is_whiteout,
    ownership_file,
)
from dockermagic.oci.pipeline import Sink
from dockermagic.oci.rooted import READ, Directories, join
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

__all__ = ["kept_attributes", "pack"]

_END = bytes(2 * RECORD)


def pack(
    directory: str,
    out: int,
    *,
    lowers: Sequence[str] = (),
    compression: str = "gzip",
    level: int | None = None,
    source_date_epoch: int | None = None,
    one_time: bool = False,
    ownership: str | None = None,
) -> dict[str, Any]:
    """Write the layer in ``directory`` to ``out`` as a changeset, with ``compression`` none, gzip or zstd.

    ``lowers`` are the layers below, bottom first: a directory that hides what they have there lists what is gone of it,
    as BuildKit's layers do, instead of bearing the mark of an opaque one.

    Entries are sorted, whiteouts first in their directory; times are whole seconds, and none is later than
    ``source_date_epoch`` where that is given; with ``one_time`` all are that. Attributes are the file capability and
    those in ``user.`` that are not the layer's own; owners as recorded in ``ownership`` (see overlay.py); sockets are
    left out.

    Returns digest, diff_id, size, uncompressed_size and the number of entries. Raises StoreFullError, or StoreError,
    also if a file changes meanwhile.
    """
    with clear_errors(directory):
        tree = Directories(directory)
    sink = Sink(out, compression, level)
    owners = Ownership(ownership or ownership_file(directory))
    packer = _Packer(tree, sink, owners, lowers, source_date_epoch, one_time)
    try:
        with clear_errors(directory):
            packer.pack()
            sink.write(_END)
            sink.finish()
    finally:
        sink.close()
        packer.close_up()
        tree.close()
    return {
        "digest": sink.digest,
        "diff_id": sink.diff_id,
        "size": sink.size,
        "uncompressed_size": sink.uncompressed_size,
        "entries": packer.entries,
    }


class _Packer:
    def __init__(
        self,
        tree: Directories,
        sink: Sink,
        owners: Ownership,
        lowers: Sequence[str],
        latest: int | None,
        one_time: bool,
    ) -> None:
        self.entries = 0
        self._tree = tree
        self._sink = sink
        self._owners = owners
        self._lowers = lowers
        self._below: Stack | None = None
        self._gone: dict[str, set[str]] = {}
        self._latest_ns = None if latest is None else latest * 1_000_000_000
        self._one_time = one_time
        self._linked: dict[tuple[int, int], str] = {}
        self._opened_up: list[tuple[str, int]] = []

    def pack(self) -> None:
        """Write every entry below the root; the root itself is not part of a changeset."""
        waiting = [iter(self._names(""))]
        while waiting:
            path = next(waiting[-1], None)
            if path is None:
                waiting.pop()
            elif self._add(path):
                waiting.append(iter(self._names(path)))

    def _names(self, directory: str) -> Iterator[str]:
        """What is in a directory, in the order of its bytes, with whiteouts first."""
        whiteouts: set[str] = set()
        names: set[str] = set()
        with disk.scandir(self._tree.fd(directory)) as found:
            for item in found:
                is_special = not (item.is_symlink() or item.is_file(follow_symlinks=False) or item.is_dir())
                is_removed = is_special and is_whiteout(item.stat(follow_symlinks=False))
                (whiteouts if is_removed else names).add(item.name)
        whiteouts |= self._gone.get(directory, set()) - names
        for name in sorted(whiteouts, key=os.fsencode):
            self._write(Entry(join(directory, WHITEOUT + name), FILE, mode=0))
        for name in sorted(names, key=os.fsencode):
            yield join(directory, name)

    def _add(self, path: str) -> bool:
        """Write one entry; True if it is a directory."""
        above, _, name = path.rpartition("/")
        here = self._tree.fd(above)
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            self._file(here, name, path, found)
        elif kind == stat.S_IFDIR:
            self._open_up(here, name, path, found)
            xattrs = attributes(self._tree.fd(path))
            self._write(self._entry(path, found, xattrs))
            if (above in self._gone or xattrs.get(OPAQUE) == b"y") and not self._list_gone(path):
                self._write(Entry(join(path, OPAQUE_MARK), FILE, mode=0))
            return True
        elif kind in KINDS and not self._is_linked(path, found):
            entry = self._entry(path, found, {})
            if kind == stat.S_IFLNK:
                entry.link = disk.readlink(name, dir_fd=here)
            self._write(entry)
        return False

    def _list_gone(self, directory: str) -> bool:
        """Note what a directory hides of the layers below; False where they are not known or may not be read."""
        if not self._lowers:
            return False
        if self._below is None:
            self._below = Stack(self._lowers)
        try:
            self._gone[directory] = set(self._below.names(directory)[0])
        except PermissionError:
            return False
        return True

    def _file(self, here: int, name: str, path: str, found: os.stat_result) -> None:
        if self._is_linked(path, found):
            return
        descriptor, xattrs = self._open(here, name, found)
        try:
            entry = self._entry(path, found, xattrs)
            if entry.kind != FILE:  # the placeholder of a device
                self._write(entry)
                return
            entry.size = found.st_size
            self._write(entry)
            self._copy(descriptor, path, found.st_size)
        finally:
            disk.close(descriptor)

    def _copy(self, descriptor: int, path: str, size: int) -> None:
        left = size
        while left:
            room = self._sink.room()
            step = disk.readv(descriptor, [room[:left]])
            if not step:
                raise StoreError(f"{path!r} became shorter while the layer was packed")
            self._sink.filled(step)
            left -= step
        if -size % RECORD:
            self._sink.write(bytes(-size % RECORD))

    def _is_linked(self, path: str, found: os.stat_result) -> bool:
        """Write a hard link if the file is in the archive already."""
        if found.st_nlink < 2:
            return False
        first = self._linked.setdefault((found.st_dev, found.st_ino), path)
        if first == path:
            return False
        entry = self._entry(first, found, self._attributes_of(first))
        entry.name, entry.kind, entry.link, entry.xattrs = path, LINK, first, {}
        self._write(entry)
        return True

    def _attributes_of(self, path: str) -> dict[str, bytes]:
        above, _, name = path.rpartition("/")
        here = self._tree.fd(above)
        found = disk.stat(name, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            return {}
        descriptor, xattrs = self._open(here, name, found)
        disk.close(descriptor)
        return xattrs

    def _entry(self, path: str, found: os.stat_result, xattrs: Mapping[str, bytes]) -> Entry:
        status = self._owners.status(path, found, xattrs)
        kind = KINDS[stat.S_IFMT(status.mode)]
        mtime_ns = found.st_mtime_ns
        if self._latest_ns is not None and (self._one_time or mtime_ns > self._latest_ns):
            mtime_ns = self._latest_ns
        entry = Entry(
            path + "/" if kind == DIRECTORY else path,
            kind,
            stat.S_IMODE(status.mode),
            status.uid,
            status.gid,
            mtime_ns=mtime_ns,
        )
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = status.device
        if xattrs:
            entry.xattrs = kept_attributes(xattrs)
        return entry

    def _write(self, entry: Entry) -> None:
        self.entries += 1
        self._sink.write(header(entry))

    def _open(self, here: int, name: str, found: os.stat_result) -> tuple[int, dict[str, bytes]]:
        """Open a file and read its attributes; without privileges also one that its owner may not read."""
        is_closed = disk.geteuid() != 0 and not found.st_mode & 0o400
        if is_closed:
            disk.chmod(name, stat.S_IMODE(found.st_mode) | 0o400, dir_fd=here)
        try:
            descriptor = disk.open(name, READ, dir_fd=here)
            try:
                return descriptor, attributes(descriptor)
            except BaseException:
                disk.close(descriptor)
                raise
        finally:
            if is_closed:
                disk.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=here)

    def _open_up(self, here: int, name: str, path: str, found: os.stat_result) -> None:
        """Without privileges, let a directory be read that its owner may not read, until :meth:`close_up`."""
        if disk.geteuid() != 0 and found.st_mode & 0o500 != 0o500:
            disk.chmod(name, stat.S_IMODE(found.st_mode) | 0o500, dir_fd=here)
            self._opened_up.append((path, stat.S_IMODE(found.st_mode)))

    def close_up(self) -> None:
        """Give directories that were opened up their modes back, and close the layers below."""
        if self._below is not None:
            self._below.close()
        for path, mode in reversed(self._opened_up):
            disk.fchmod(self._tree.fd(path), mode)


def kept_attributes(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The attributes that go into a layer: what the host adds for itself stays behind."""
    kept = {
        name: value for name, value in sorted(xattrs.items()) if name.startswith("user.") and not is_own_attribute(name)
    }
    capability = xattrs.get(CAPABILITY) or xattrs.get(KEPT_CAPABILITY)
    if capability:
        kept[CAPABILITY] = capability_v2(capability)
    return kept
