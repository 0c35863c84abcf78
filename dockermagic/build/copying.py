"""COPY and ADD carried out in a root filesystem, to the letter of the reference.

These functions run in the sandbox's worker, where ``root`` is the mounted root filesystem of the stage and ids are
those of the image. Every directory on the way to a destination is resolved inside the root; below it nothing follows a
link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dockermagic.build.extract import extract, is_archive
from dockermagic.build.ownership import Owners, get_owner
from dockermagic.build.rootpath import resolve_inside
from dockermagic.build.selection import Entry, Group, Tree, clean, digest_files, digest_groups, select
from dockermagic.build.values import apply_chmod
from dockermagic.errors import BuildError, ContextError

__all__ = ["copy", "digest", "make_directory"]

BLOCK = 1 << 20
KEPT_XATTRS_FROM_CONTEXT = ("security.capability",)


@dataclass(slots=True)
class Look:
    """What ``--chown`` and ``--chmod`` say; None leaves a value as it is."""

    uid: int | None = None
    gid: int | None = None
    chmod: str = ""

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        return (uid if self.uid is None else self.uid), (gid if self.gid is None else self.gid)

    def mode(self, mode: int, *, directory: bool = False) -> int:
        if not self.chmod or stat.S_ISLNK(mode):
            return stat.S_IMODE(mode)
        return apply_chmod(self.chmod, stat.S_IMODE(mode), directory)


def copy(
    root: str,
    destination: str,
    sources: list[dict[str, Any]],
    source: str | None = None,
    chown: str = "",
    chmod: str = "",
    excludes: list[str] | None = None,
    parents: bool = False,
    unpack: bool | None = None,
    is_add: bool = False,
    link: bool = False,
    record: str = "",
) -> None:
    """Put every source below ``destination`` (absolute; a trailing slash makes it a directory).

    A source is ``{"groups": rows, "base": directory}`` (selected beforehand), ``{"pattern": ...}`` (selected here, from
    ``source``), ``{"inline": text, "name": ...}`` or ``{"file": path, "name": ..., "mtime": ns}``, a download.
    ``record`` is the file for owners that cannot be set here. Raises :class:`BuildError` where a file and a directory
    stand in each other's way.
    """
    os.umask(0)
    copier = Copier(root, look(root, chown, chmod, link=link), record)
    for item in sources:
        if "inline" in item:
            data = item["inline"].encode("utf-8", "surrogateescape")
            copier.write(destination, item["name"], data)
        elif "file" in item:
            if unpack and is_archive(item["file"]):
                copier.unpack(item["file"], destination)
            else:
                copier.download(destination, item)
        elif "pattern" in item:
            tree = Tree(source or "/var/empty", owner=get_owner)
            for group in select_here(tree, item["pattern"], excludes, parents):
                copier.group(group, tree.root, destination, from_context=False)
        else:
            for row in item["groups"]:
                group = group_from_row(row)
                path = f"{item['base']}/{group.entries[0].path}"
                wants = is_add and unpack is not False and stat.S_ISREG(group.entries[0].mode)
                if wants and is_archive(path):
                    copier.unpack(path, destination)
                else:
                    copier.group(group, item["base"], destination, from_context=True)
    copier.finish()


def digest(
    source: str, patterns: list[str], excludes: list[str] | None = None, parents: bool = False
) -> tuple[str, dict[str, str], int]:
    """The content digest of what the patterns select in a stage, a short digest of each file, and the bytes in all."""
    tree = Tree(source, owner=get_owner)
    groups = [group for pattern in patterns for group in select_here(tree, pattern, excludes, parents)]
    size = sum(entry.size for group in groups for entry in group.entries)
    known: dict[str, str] = {}

    def content(entry: Entry) -> str:
        if entry.path not in known:
            known[entry.path] = file_digest(tree.absolute(entry.path))
        return known[entry.path]

    return digest_groups(groups, content, owners=True), digest_files(groups, content, owners=True), size


def select_here(tree: Tree, pattern: str, excludes: list[str] | None, parents: bool) -> list[Group]:
    """:func:`select`, with a missing path in the reference's words."""
    matcher = None
    if excludes:
        from dockermagic.dockerfile.ignore import Matcher

        matcher = Matcher(excludes)
    try:
        return select(tree, pattern, excludes=matcher, parents=parents)
    except FileNotFoundError:
        raise ContextError(
            f'failed to calculate checksum: "/{clean(pattern)}": not found',
            hint="The path is looked up in the image or stage that --from names.",
        ) from None


def file_digest(path: str) -> str:
    """sha256 of a regular file's content."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        total = hashlib.sha256()
        while data := os.read(file, BLOCK):
            total.update(data)
            if len(data) < BLOCK:  # a regular file gives less only at its end
                break
        return total.hexdigest()
    finally:
        os.close(file)


def make_directory(root: str, path: str, user: str = "", record: str = "") -> None:
    """WORKDIR: make ``path`` and its missing parents, owned by ``user``; what exists stays as it is."""
    os.umask(0)
    copier = Copier(root, look(root, user, "") if user else Look(0, 0), record)
    copier.directory(clean(path), mode=0o755)
    copier.finish()


def group_row(group: Group) -> dict[str, Any]:
    """A group as a JSON value."""
    return {
        "name": group.name,
        "entries": group.entries,
        "parents": group.parents,
    }


def group_from_row(row: dict[str, Any]) -> Group:
    """The reverse of :func:`group_row`."""
    parents = None if row["parents"] is None else tuple(map(Entry._make, row["parents"]))
    return Group(row["name"], tuple(map(Entry._make, row["entries"])), parents)


def look(root: str, chown: str, chmod: str, *, link: bool = False) -> Look:
    """``--chown`` as ids: names are looked up in the root filesystem; an unknown name counts as 0."""
    if not chown:
        return Look(chmod=chmod)
    user, colon, group = chown.partition(":")
    if link and any(part and not part.isdigit() for part in (user, group)):
        raise BuildError(
            "invalid user index: -1",
            hint="With --link the layer stands alone, so names cannot be looked up: give --chown numbers.",
        )
    uid, gid = 0, 0
    if user.isdigit():
        uid = gid = int(user)
    elif user:
        for name, fields in _database(root, "etc/passwd"):
            if name == user and len(fields) > 3 and fields[2].isdigit() and fields[3].isdigit():
                uid, gid = int(fields[2]), int(fields[3])
                break
    if colon and group:
        gid = int(group) if group.isdigit() else 0
        for name, fields in _database(root, "etc/group") if not group.isdigit() else ():
            if name == group and len(fields) > 2 and fields[2].isdigit():
                gid = int(fields[2])
                break
    return Look(uid, gid, chmod)


def _database(root: str, path: str) -> Iterator[tuple[str, list[str]]]:
    where = resolve_inside(root, path)[0]
    try:
        with open(f"{root}/{where}", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                yield fields[0], fields
    except OSError:
        return


class Copier:
    """Writes into one root filesystem; directories get their times when all is written."""

    def __init__(self, root: str, look: Look, record: str) -> None:
        self.root = root
        self.look = look
        self.owners = Owners(root, record)
        self.times: list[tuple[str, int]] = []
        self.inodes: dict[tuple[int, int], str] = {}

    def finish(self) -> None:
        """Set the times of the directories, the deepest first."""
        for path, mtime in reversed(self.times):
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
        self.owners.save()

    # places

    def directory(self, path: str, mode: int = 0o755) -> str:
        """The absolute place of a directory; what is missing of the path is made."""
        existing, missing = resolve_inside(self.root, path)
        place = f"{self.root}/{existing}" if existing else self.root
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            raise BuildError(
                f"cannot copy to non-directory: /{existing}", hint="A file stands where a directory is needed."
            )
        for part in missing:
            if part == "..":
                place = posixpath.dirname(place) if place != self.root else place
                continue
            place = f"{place}/{part}"
            try:
                os.mkdir(place, 0o755)
            except FileExistsError:
                continue
            uid, gid = self.look.owner(0, 0)
            self._dress(place, uid, gid, self.look.mode(stat.S_IFDIR | mode, directory=True), stat.S_IFDIR)
        return place

    def place(self, destination: str, name: str) -> str:
        """Where a file goes: into ``destination`` when that is a directory or ends with a slash, else there itself."""
        if not destination.endswith("/"):
            existing, missing = resolve_inside(self.root, destination)
            place = f"{self.root}/{existing}" if existing else self.root
            if not missing:
                if not stat.S_ISDIR(os.lstat(place).st_mode):
                    return place
            else:
                return f"{self.directory('/'.join([existing, *missing[:-1]]))}/{missing[-1]}"
        return f"{self.directory(destination)}/{name}"

    def _dress(self, place: str, uid: int, gid: int, mode: int, kind: int) -> None:
        self.owners.set(place, uid, gid, kind | mode)
        if kind != stat.S_IFLNK:
            os.chmod(place, mode)

    def _clear(self, place: str) -> None:
        """Make room for a file; a directory does not give way."""
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            shown = place.removeprefix(self.root)
            raise BuildError(
                f"cannot replace to directory {shown} with file",
                hint="The destination already holds a directory of that name.",
            )
        os.unlink(place)

    # contents

    def write(self, destination: str, name: str, data: bytes) -> None:
        """A file from the Dockerfile itself: mode 0644, root's."""
        place = self.place(destination, name)
        self._clear(place)
        with open(place, "xb") as file:
            file.write(data)
        uid, gid = self.look.owner(0, 0)
        self._dress(place, uid, gid, self.look.mode(stat.S_IFREG | 0o644), stat.S_IFREG)

    def download(self, destination: str, item: dict[str, Any]) -> None:
        """A fetched file: mode 0600, root's, with the time the server named."""
        place = self.place(destination, item["name"])
        self._clear(place)
        source = os.open(item["file"], os.O_RDONLY)
        target = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _pump(source, target)
        finally:
            os.close(source)
            os.close(target)
        uid, gid = self.look.owner(0, 0)
        self._dress(place, uid, gid, self.look.mode(stat.S_IFREG | 0o600), stat.S_IFREG)
        os.utime(place, ns=(item["mtime"], item["mtime"]))

    def unpack(self, archive: str, destination: str) -> None:
        """ADD of an archive: its members go below the destination, which becomes a directory."""
        place = self.directory(destination)
        extract(archive, place, self.owners, uid=self.look.uid, gid=self.look.gid)

    def group(self, group: Group, base: str, destination: str, *, from_context: bool) -> None:
        """One selected source."""
        top = group.entries[0]
        if group.parents is not None:
            self._parents(group, destination, from_context)
            where = clean(posixpath.join(destination, group.name))
            if not group.is_directory:
                self.entry(
                    top, base, self.place(posixpath.dirname(where) + "/", posixpath.basename(where)), from_context
                )
                return
            place = self._like(where, top, from_context)
        elif group.is_directory:
            place = self.directory(destination)
        else:
            self.entry(top, base, self.place(destination, posixpath.basename(group.name)), from_context)
            return
        for entry in group.entries[1:]:
            self.entry(entry, base, f"{place}/{entry.target}", from_context)

    def _parents(self, group: Group, destination: str, from_context: bool) -> None:
        """``--parents``: the directories above come along, with the source's modes."""
        for parent in group.parents or ():
            self._like(clean(posixpath.join(destination, parent.target)), parent, from_context)

    def _like(self, path: str, source: Entry, from_context: bool) -> str:
        """A directory that looks like the source's where it has to be made."""
        missing = resolve_inside(self.root, path)[1]
        place = self.directory(path)
        if missing:
            uid, gid = self.look.owner(*((0, 0) if from_context else (source.uid, source.gid)))
            self._dress(place, uid, gid, self.look.mode(source.mode, directory=True), stat.S_IFDIR)
        return place

    def entry(self, entry: Entry, base: str, place: str, from_context: bool) -> None:
        """One file, link, directory or special file at its place."""
        uid, gid = self.look.owner(*((0, 0) if from_context else (entry.uid, entry.gid)))
        kind = stat.S_IFMT(entry.mode)
        mode = self.look.mode(entry.mode, directory=kind == stat.S_IFDIR)
        source = f"{base}/{entry.path}" if entry.path else base
        if kind == stat.S_IFDIR:
            self._nested_directory(place, uid, gid, mode)
            self.times.append((place, entry.mtime))
            self._xattrs(source, place, from_context)
            return
        if kind == stat.S_IFREG:
            if self._regular(entry, source, place, uid, gid, mode, from_context):
                self._xattrs(source, place, from_context)
            return
        self._clear(place)
        if kind == stat.S_IFLNK:
            os.symlink(entry.link, place)
        elif kind == stat.S_IFIFO:
            os.mkfifo(place, mode)
        elif kind == stat.S_IFSOCK:
            os.mknod(place, stat.S_IFSOCK | mode)
        else:
            os.mknod(place, kind | mode, os.lstat(source).st_rdev)
        self._dress(place, uid, gid, mode, kind)
        os.utime(place, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

    def _nested_directory(self, place: str, uid: int, gid: int, mode: int) -> None:
        try:
            os.mkdir(place, mode)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                shown = place.removeprefix(self.root)
                raise BuildError(
                    f"cannot copy to non-directory: {shown}", hint="A file or link stands where a directory is to go."
                ) from None
        self._dress(place, uid, gid, mode, stat.S_IFDIR)

    def _regular(
        self, entry: Entry, source: str, place: str, uid: int, gid: int, mode: int, from_context: bool
    ) -> bool:
        """Copy a regular file; False where it became another name of one that is there already."""
        if entry.links > 1:
            identity = (entry.device, entry.inode)
            first = self.inodes.get(identity)
            if first is not None:
                self._clear(place)
                os.link(first, place)
                return False
            self.inodes[identity] = place
        read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if from_context:
                status = os.fstat(read)
                if status.st_size != entry.size or status.st_mtime_ns != entry.mtime:
                    raise ContextError(
                        f"{entry.path} changed while it was copied",
                        hint="Something writes into the build context; wait for it and build again.",
                    )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                write = os.open(place, flags, mode & 0o777)
            except FileExistsError:
                self._clear(place)
                write = os.open(place, flags, mode & 0o777)
            try:
                _pump(read, write)
                if uid or gid or mode & 0o7000:
                    self.owners.set(place, uid, gid, stat.S_IFREG | mode)
                    os.fchmod(write, mode)
                os.utime(write, ns=(entry.mtime, entry.mtime))
            finally:
                os.close(write)
        finally:
            os.close(read)
        return True

    def _xattrs(self, source: str, place: str, from_context: bool) -> None:
        try:
            names = os.listxattr(source, follow_symlinks=False)
        except OSError:
            return
        for name in names:
            kept = (
                name in KEPT_XATTRS_FROM_CONTEXT if from_context else not name.startswith(("user.overlay.", "trusted."))
            )
            if not kept or name == "user.containers.override_stat":
                continue
            try:
                os.setxattr(place, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.EINVAL):
                    raise


def _pump(read: int, write: int) -> None:
    """All bytes of one descriptor to another."""
    while data := os.read(read, BLOCK):
        view = memoryview(data)
        while view:
            view = view[os.write(write, view) :]
        if len(data) < BLOCK:  # a regular file gives less only at its end
            break
