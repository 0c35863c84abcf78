"""COPY and ADD, file by file, to the letter of the reference: a layer's directory is written as such, without a mount.

What the layers below have is looked up in them. Every directory on the way to a destination is resolved inside the
root; below it nothing follows a link.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dockermagic.build.extract import Limit, extract, is_archive
from dockermagic.build.selection import Entry, Group, clean
from dockermagic.build.values import apply_chmod
from dockermagic.errors import BuildError, ContextError
from dockermagic.oci import disk
from dockermagic.oci.growing import NEW_FILE, GrowingLayer, set_attributes, write_all
from dockermagic.oci.overlay import CAPABILITY, Status, attributes
from dockermagic.oci.rooted import READ, Directories, join
from dockermagic.values import dataclass

__all__ = ["Copier", "Look"]

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Look:
    """What ``--chown`` and ``--chmod`` say; None leaves a value as it is."""

    uid: int | None = None
    gid: int | None = None
    chmod: str = ""

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        return (uid if self.uid is None else self.uid), (gid if self.gid is None else self.gid)

    def status(self, mode: int, uid: int = 0, gid: int = 0, device: tuple[int, int] = (0, 0)) -> Status:
        """What a file of this mode (with its type) and owner is to be."""
        if self.chmod and not stat.S_ISLNK(mode):
            mode = stat.S_IFMT(mode) | apply_chmod(self.chmod, stat.S_IMODE(mode), stat.S_ISDIR(mode))
        return Status(mode, *self.owner(uid, gid), device)


class Copier:
    """Writes into one layer."""

    def __init__(self, layer: GrowingLayer, look: Look, limit: Limit | None = None) -> None:
        self.layer = layer
        self.look = look
        self.limit = limit or Limit(0)
        self.now = time.time_ns()

    # places: a directory's real path in the layer, and a name in it

    def directory(self, path: str) -> str:
        """The real path of a directory; what is missing of it is made, root's or as ``--chown`` and ``--chmod`` say."""
        existing, missing = self.layer.locate(path)
        parent, _, name = existing.rpartition("/")
        found = self.layer.find(parent, name) if existing else None
        if found is not None and not stat.S_ISDIR(found[1].st_mode):
            raise BuildError(
                f"cannot copy to non-directory: /{existing}", hint="A file stands where a directory is needed."
            )
        if not missing:
            return existing  # made in the layer when something is put into it
        place = self.layer.directory(existing)
        for number, part in enumerate(missing):
            if part == "..":
                return self.directory(join(place.rpartition("/")[0], "/".join(missing[number + 1 :])))
            place = self.layer.directory(join(place, part))
            self._dress(place, self.look.status(stat.S_IFDIR | 0o755), self.now)
        return place

    def place(self, destination: str, name: str) -> tuple[str, str]:
        """Where a file goes: into ``destination`` when that is a directory or ends with a slash, else there itself."""
        if not destination.endswith("/"):
            existing, missing = self.layer.locate(destination)
            if missing:
                return self.directory("/".join([existing, *missing[:-1]])), missing[-1]
            parent, _, last = existing.rpartition("/")
            found = self.layer.find(parent, last) if existing else None
            if found is not None and not stat.S_ISDIR(found[1].st_mode):
                return parent, last
        return self.directory(destination), name

    def _dress(self, path: str, status: Status, mtime: int, xattrs: dict[str, bytes] | None = None) -> None:
        self.layer.own(self.layer.tree.fd(path), path, status)
        self.layer.describe(path, stat.S_IMODE(status.mode), mtime, xattrs)

    def _clear(self, parent: str, name: str) -> str:
        """Make room for a file in a directory, which is made in the layer; a directory does not give way."""
        parent = self.layer.directory(parent)
        found = self.layer.find(parent, name)
        if found is not None and stat.S_ISDIR(found[1].st_mode):
            raise BuildError(
                f"cannot replace to directory /{join(parent, name)} with file",
                hint="The destination already holds a directory of that name.",
            )
        if found is not None and found[0] < 0:
            self.layer.remove(self.layer.tree.fd(parent), name, join(parent, name))
        return parent

    # contents

    def write(self, destination: str, name: str, data: bytes) -> None:
        """A file from the Dockerfile itself: mode 0644, root's."""
        with self._new(self.place(destination, name), self.look.status(stat.S_IFREG | 0o644), self.now) as file:
            write_all(file, data)

    def download(self, destination: str, item: dict[str, Any], *, unpack: bool) -> None:
        """A fetched file: mode 0600, root's, with the time the server named. Or what is in it, if it is an archive."""
        source = disk.open(item["file"], READ)
        try:
            if unpack and is_archive(source):
                self.unpack(source, item["name"], destination)
                return
            os.lseek(source, 0, os.SEEK_SET)
            status = self.look.status(stat.S_IFREG | 0o600)
            with self._new(self.place(destination, item["name"]), status, item["mtime"]) as file:
                _pump(source, file)
        finally:
            disk.close(source)

    def unpack(self, archive: int, name: str, destination: str) -> None:
        """ADD of an archive: its members go below the destination, which becomes a directory."""
        top = self.directory(destination)
        extract(archive, name, self.layer, top, self.limit, self.look.uid, self.look.gid)

    @contextmanager
    def _new(self, place: tuple[str, str], status: Status, mtime: int) -> Iterator[int]:
        """A new file that the Dockerfile or a download fills."""
        parent, name = self._clear(place[0], place[1]), place[1]
        file = disk.open(name, NEW_FILE, 0o600, dir_fd=self.layer.tree.fd(parent))
        try:
            yield file
            self.layer.own(file, join(parent, name), status, is_new=True)
            disk.fchmod(file, stat.S_IMODE(status.mode))
            disk.utime(file, ns=(mtime, mtime))
        finally:
            disk.close(file)

    def group(self, group: Group, base: str, destination: str, *, from_context: bool, unpack: bool = False) -> None:
        """One selected source, from below ``base``; ``unpack`` what is an archive and named itself."""
        source = _Source(base, from_context)
        try:
            top = group.entries[0]
            if unpack and stat.S_ISREG(top.mode):
                file = source.open(top)
                try:
                    if is_archive(file):
                        self.unpack(file, posixpath.basename(group.name), destination)
                        return
                finally:
                    disk.close(file)
            if group.parents is not None:
                for parent in group.parents:
                    self._like(clean(posixpath.join(destination, parent.target)), parent, source)
                where = clean(posixpath.join(destination, group.name))
                above, _, name = where.rpartition("/")
                place = (self._like(where, top, source), "") if group.is_directory else (self.directory(above), name)
            elif group.is_directory:
                place = (self.directory(destination), "")
            else:
                place = self.place(destination, posixpath.basename(group.name))
            if group.is_directory:
                self._tree(group.entries[1:], source, place[0])
            else:
                self._file(top, source, self._clear(*place), place[1], {})
        finally:
            source.close()

    def _like(self, path: str, like: Entry, source: _Source) -> str:
        """``--parents``: a directory that looks like the source's where it has to be made."""
        missing = self.layer.locate(path)[1]
        place = self.directory(path)
        if missing:
            self._dress(place, source.status(like, self.look), self.now)
        return place

    def _tree(self, entries: tuple[Entry, ...], source: _Source, place: str) -> None:
        """What is in a directory: below ``place`` nothing follows a link."""
        names: dict[tuple[int, int], tuple[str, str]] = {}
        place = self.layer.directory(place) if entries else place
        made = {"": (place, self.layer.is_alone(place))}
        for entry in entries:
            above, _, name = entry.target.rpartition("/")
            parent, is_alone = made[above]
            if stat.S_ISDIR(entry.mode):
                path = self._directory(entry, source, parent, name)
                made[entry.target] = path, is_alone or self.layer.is_alone(path)
            else:
                # Where nothing can stand in its way, a plain file is simply made.
                if not (is_alone and entry.links == 1 and stat.S_ISREG(entry.mode)):
                    self._clear(parent, name)
                self._file(entry, source, parent, name, names)

    def _directory(self, entry: Entry, source: _Source, parent: str, name: str) -> str:
        found = self.layer.find(parent, name)
        if found is not None and not stat.S_ISDIR(found[1].st_mode):
            raise BuildError(
                f"cannot copy to non-directory: /{join(parent, name)}",
                hint="A file or link stands where a directory is to go.",
            )
        place = self.layer.directory(join(parent, name))
        self._dress(place, source.status(entry, self.look), entry.mtime, source.attributes(entry) or None)
        return place

    def _file(
        self, entry: Entry, source: _Source, parent: str, name: str, names: dict[tuple[int, int], tuple[str, str]]
    ) -> None:
        """A file of any type but a directory. ``names`` are those already given to files that have several."""
        status = source.status(entry, self.look)
        if not stat.S_ISREG(entry.mode):
            self.layer.special(parent, name, status, entry.mtime, entry.link)
            return
        path = join(parent, name)
        identity = (entry.device, entry.inode)
        if entry.links > 1 and identity in names:
            above, first = names[identity]
            here = disk.dup(self.layer.tree.fd(parent))  # asking for the other directory may close this one
            try:
                disk.link(first, name, src_dir_fd=self.layer.tree.fd(above), dst_dir_fd=here, follow_symlinks=False)
            finally:
                disk.close(here)
            return
        names[identity] = (parent, name)
        read = source.open(entry)
        try:
            here = self.layer.tree.fd(parent)
            mode = stat.S_IMODE(status.mode)
            try:
                file = disk.open(name, NEW_FILE, mode & 0o777, dir_fd=here)
            except FileExistsError:
                self._clear(parent, name)
                file = disk.open(name, NEW_FILE, mode & 0o777, dir_fd=here)
            try:
                _pump(read, file)
                self.layer.own(file, path, status, is_new=True)
                if mode & 0o7000 or status.uid or status.gid:
                    disk.fchmod(file, mode)
                if found := source.attributes_of(read):
                    set_attributes(file, found)
                disk.utime(file, ns=(entry.mtime, entry.mtime))
            finally:
                disk.close(file)
        finally:
            disk.close(read)


class _Source:
    """Where entries are read from: a context of the user's, which may change meanwhile, or a mounted stage."""

    def __init__(self, base: str, from_context: bool) -> None:
        self.from_context = from_context
        self._tree = Directories(base)

    def close(self) -> None:
        self._tree.close()

    def status(self, entry: Entry, look: Look) -> Status:
        """What the copy is to be; what comes from a context is root's."""
        uid, gid = (0, 0) if self.from_context else (entry.uid, entry.gid)
        if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode):
            major, _, minor = entry.link.partition(":")
            return look.status(entry.mode, uid, gid, (int(major), int(minor)))
        return look.status(entry.mode, uid, gid)

    def open(self, entry: Entry) -> int:
        """The regular file of an entry, open for reading. Raises ContextError where it is not what was selected."""
        above, _, name = entry.path.rpartition("/")
        try:
            file = disk.open(name, READ, dir_fd=self._tree.fd(above))
        except OSError as error:
            if self.from_context and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise _changed(entry) from None
            raise
        if self.from_context:
            found = disk.fstat(file)
            if found.st_size != entry.size or found.st_mtime_ns != entry.mtime or not stat.S_ISREG(found.st_mode):
                disk.close(file)
                raise _changed(entry)
        return file

    def attributes(self, entry: Entry) -> dict[str, bytes]:
        """The attributes of a directory that go into the layer."""
        return self.attributes_of(self._tree.fd(entry.path))

    def attributes_of(self, file: int) -> dict[str, bytes]:
        """The attributes of an open file that go into the layer: of a context's file only what it is able to do."""
        found = attributes(file)
        if self.from_context and found:
            return {name: value for name, value in found.items() if name == CAPABILITY}
        return found


def _changed(entry: Entry) -> ContextError:
    return ContextError(
        f"{entry.path} changed while it was copied",
        hint="Something writes into the build context; wait for it and build again.",
    )


def _pump(read: int, write: int) -> None:
    """All bytes of one descriptor to another."""
    while data := os.read(read, BLOCK):
        write_all(write, data)
        if len(data) < BLOCK:  # a regular file gives less only at its end
            break
