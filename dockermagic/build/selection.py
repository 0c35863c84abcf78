"""What a COPY means by its sources: wildcards, links and excludes resolved against a tree of files.

The same code selects from the build context, in the user's own process, and from the root filesystem of a stage, in the
worker. Nothing follows a link out of the tree's root: ``..`` is clamped and absolute links start at the root.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dockermagic.errors import BuildInterruptedError
from dockermagic.oci import disk
from dockermagic.oci.overlay import Status
from dockermagic.oci.rooted import READ, follow
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.sandbox.base import Cancel

__all__ = [
    "Entry",
    "Group",
    "Paths",
    "Tree",
    "clean",
    "digest_files",
    "digest_groups",
    "file_digest",
    "resolve",
    "select",
]


class Paths(Protocol):
    """The part of an ignore file's matcher that selection asks."""

    def matches(self, path: str) -> bool:
        """Whether the path is left out."""
        ...

    def may_include_below(self, directory: str) -> bool:
        """Whether something below a left-out directory may be taken in again."""
        ...


_BLOCK = 1 << 20
Meant = Callable[[str, os.stat_result], Status]


class Entry(NamedTuple):
    """A file to copy: ``target`` is relative to the group's place ('' for the group itself), ``path`` to the root.

    ``link`` is where a symbolic link leads, and a device's numbers as ``major:minor``.

    A tuple, since there are as many of them as files: it is made fast, and is its own JSON value.
    """

    target: str
    path: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    device: int
    inode: int
    links: int
    link: str = ""
    ctime: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """One matched source: its ``name`` in the destination, and what is in it. ``entries[0]`` is the source itself.

    ``parents`` are the directories of its path that come along, None unless ``--parents`` asked for them.
    """

    name: str
    entries: tuple[Entry, ...]
    parents: tuple[Entry, ...] | None = None

    @property
    def is_directory(self) -> bool:
        """Whether the contents of a directory are copied."""
        return stat.S_ISDIR(self.entries[0].mode)


class Tree:
    """Files below ``root`` as selection sees them: what ``ignore`` leaves out is not there."""

    def __init__(self, root: str, ignore: Paths | None = None, *, meant: Meant | None = None) -> None:
        self.root = root
        self.ignore = ignore
        self.meant = meant

    def absolute(self, path: str) -> str:
        """Where a relative path is on disk."""
        return f"{self.root}/{path}" if path else self.root

    def lstat(self, path: str) -> os.stat_result | None:
        """The file's status, None where there is none (or it is left out)."""
        try:
            status = disk.lstat(self.absolute(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if self.visible(path, status) else None

    def visible(self, path: str, status: os.stat_result) -> bool:
        """Whether the path is part of the tree; a left-out directory is when something in it is."""
        if self.ignore is None or not path or not self.ignore.matches(path):
            return True
        if not stat.S_ISDIR(status.st_mode) or not self.ignore.may_include_below(path):
            return False
        return any(True for _ in self.entries(path))

    def entries(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        """The directory's visible entries in the order of their names."""
        with disk.scandir(self.absolute(path)) as listing:
            found = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        for item in found:
            below = f"{path}/{item.name}" if path else item.name
            status = item.stat(follow_symlinks=False)
            if self.visible(below, status):
                yield item.name, status

    def entry(self, target: str, path: str, status: os.stat_result) -> Entry:
        """An entry from a status; ``meant`` knows of owners and types that the file system cannot hold."""
        mode, uid, gid, size, link = status.st_mode, status.st_uid, status.st_gid, 0, ""
        if self.meant is not None:
            found = self.meant(self.absolute(path), status)
            mode, uid, gid = found.mode, found.uid, found.gid
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                link = f"{found.device[0]}:{found.device[1]}"
        if stat.S_ISREG(mode):
            size = status.st_size
        elif stat.S_ISLNK(mode):
            link = disk.readlink(self.absolute(path))
        identity = (status.st_dev, status.st_ino, status.st_nlink)
        return Entry(target, path, mode, uid, gid, size, status.st_mtime_ns, *identity, link, status.st_ctime_ns)

    def walk(self, path: str, target: str = "") -> Iterator[tuple[str, str, os.stat_result]]:
        """Everything below a directory as (target, path, status), parents first."""
        stack = [(path, target, self.entries(path))]
        while stack:
            here, prefix, listing = stack[-1]
            for name, status in listing:
                below = f"{here}/{name}" if here else name
                reached = f"{prefix}/{name}" if prefix else name
                yield reached, below, status
                if stat.S_ISDIR(status.st_mode):
                    stack.append((below, reached, self.entries(below)))
                    break
            else:
                stack.pop()


def clean(path: str) -> str:
    """A path relative to the root: cleaned, ``..`` and a leading slash clamped; '' is the root."""
    return posixpath.normpath("/" + path).lstrip("/")


def resolve(tree: Tree, path: str) -> str | None:
    """The path with every link followed inside the root; None where nothing is there."""

    def link(below: str) -> str | None:
        status = tree.lstat(below)
        if status is None:
            raise FileNotFoundError(below)
        return disk.readlink(tree.absolute(below)) if stat.S_ISLNK(status.st_mode) else None

    try:
        found, missing = follow(path, link)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None
    return None if missing else found


def is_pattern(path: str) -> bool:
    """Whether Go's ``filepath.Match`` would see more than a literal."""
    return any(letter in path for letter in "*?[\\")


def component_regex(pattern: str) -> re.Pattern[str]:
    """One component of a wildcard as Go's ``filepath.Match`` reads it. Raises ValueError for a bad pattern."""
    out, index = [], 0
    while index < len(pattern):
        letter = pattern[index]
        index += 1
        if letter == "*":
            out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "[":
            end, negate, body = index, False, []
            if pattern[end : end + 1] == "^":
                negate, end = True, end + 1
            first = True
            while end < len(pattern) and (first or pattern[end] != "]"):
                first = False
                if pattern[end] == "\\":
                    end += 1
                body.append(re.escape(pattern[end : end + 1]) if pattern[end : end + 1] != "-" else "-")
                end += 1
            if end >= len(pattern):
                raise ValueError("syntax error in pattern")
            out.append(f"[{'^' if negate else ''}{''.join(body)}]")
            index = end + 1
        elif letter == "\\":
            if index >= len(pattern):
                raise ValueError("syntax error in pattern")
            out.append(re.escape(pattern[index]))
            index += 1
        else:
            out.append(re.escape(letter))
    return re.compile("".join(out), re.DOTALL)


def matches(tree: Tree, pattern: str, *, deep: bool = False) -> list[str]:
    """The paths that a wildcard matches. ``deep`` lets ``**`` span directories (``COPY --parents``).

    No match is no error. Raises FileNotFoundError where the directory before the first wildcard is not there.
    """
    parts = pattern.split("/")
    split = next((index for index, part in enumerate(parts) if is_pattern(part)), len(parts))
    base = resolve(tree, "/".join(parts[:split]))
    if base is None:
        if not deep:
            raise FileNotFoundError("/".join(parts[:split]))
        return []
    status = tree.lstat(base)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return []
    rest = parts[split:]
    regexes = [None if deep and part == "**" else component_regex(part) for part in rest]
    named = "/".join(parts[:split])
    return list(_match(tree, base, named, regexes))


def _match(tree: Tree, base: str, named: str, regexes: list[re.Pattern[str] | None]) -> Iterator[str]:
    if not regexes:
        yield named
        return
    head, *rest = regexes
    if head is None and rest:
        yield from _match(tree, base, named, rest)
    for name, status in tree.entries(base):
        below, reached = (f"{where}/{name}" if where else name for where in (base, named))
        is_directory = stat.S_ISDIR(status.st_mode)
        if head is None:
            if not rest:
                yield reached
            elif is_directory:
                yield from _match(tree, below, reached, regexes)
        elif head.fullmatch(name):
            if not rest:
                yield reached
            elif is_directory:
                yield from _match(tree, below, reached, rest)


def select(tree: Tree, pattern: str, *, excludes: Paths | None = None, parents: bool = False) -> list[Group]:
    """What one source pattern stands for.

    A wildcard without a match gives no groups. Raises FileNotFoundError for a literal path that is not there and
    ValueError for a malformed wildcard.
    """
    depth = None
    if parents:
        # What stands before "/./" says where to look and does not come along.
        kept = pattern.lstrip("/")
        while kept.startswith("./"):
            kept = kept[2:]
        head, dot, tail = kept.partition("/./")
        depth = len([part for part in clean(head).split("/") if part]) if dot else 0
        pattern = f"{head}/{tail}" if dot else kept
    wanted = clean(pattern)
    wild = is_pattern(wanted)
    found = matches(tree, wanted, deep=parents) if wild else [wanted]
    groups = []
    for named in found:
        path = resolve(tree, named)
        status = None if path is None else tree.lstat(path)
        if path is None or status is None:
            if wild and parents:
                continue
            raise FileNotFoundError(named)
        groups.append(_group(tree, named, path, status, excludes, depth))
    return groups


def _group(
    tree: Tree, named: str, path: str, status: os.stat_result, excludes: Paths | None, depth: int | None
) -> Group:
    top = tree.entry("", path, status)
    entries = [top]
    if stat.S_ISDIR(status.st_mode):
        skip = _Below(path, excludes) if excludes is not None else None
        for target, below, found in tree.walk(path):
            if skip is not None and skip.leaves_out(target, found):
                continue
            entries.append(tree.entry(target, below, found))
        if skip is not None:
            entries = skip.without_empty_parents(entries)
    if depth is None:
        return Group(posixpath.basename(named), tuple(entries))
    parts = named.split("/")
    above = []
    for end in range(depth + 1, len(parts)):
        real = resolve(tree, "/".join(parts[:end]))
        found_parent = tree.lstat(real) if real is not None else None
        if real is not None and found_parent is not None:
            above.append(tree.entry("/".join(parts[depth:end]), real, found_parent))
    return Group("/".join(parts[depth:]), tuple(entries), tuple(above))


def _ancestors(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]


class _Below:
    """``--exclude``: patterns relative to the copied directory."""

    def __init__(self, base: str, patterns: Paths) -> None:
        self.patterns = patterns
        self.left_out: set[str] = set()

    def leaves_out(self, target: str, status: os.stat_result) -> bool:
        if not self.patterns.matches(target):
            return False
        if stat.S_ISDIR(status.st_mode) and self.patterns.may_include_below(target):
            self.left_out.add(target)
            return False
        return True

    def without_empty_parents(self, entries: list[Entry]) -> list[Entry]:
        """A left-out directory stays only where something below it was taken in."""
        needed = {
            parent for entry in entries if entry.target not in self.left_out for parent in _ancestors(entry.target)
        }
        return [entry for entry in entries if entry.target not in self.left_out or entry.target in needed]


def lines_of(groups: Iterable[Group], content: Callable[[Entry], str], *, owners: bool) -> Iterator[tuple[str, str]]:
    """Everything that matters about each selected path, as one line each, with the path ('' for a directory)."""
    for number, group in enumerate(groups):
        top = group.entries[0] if group.is_directory and group.parents is None else None
        named = group.name if top is None else ""
        for entry in (*(group.parents or ()), *group.entries):
            mode = entry.mode
            kind = stat.S_IFMT(mode)
            body = content(entry) if kind == stat.S_IFREG else entry.link
            # the top of a copied directory gets a mode of its own; a link's mode means nothing
            bits = 0 if entry is top or kind == stat.S_IFLNK else mode
            owner = f"{entry.uid}:{entry.gid}" if owners else ""
            line = f"{number}\0{named}\0{entry.target}\0{kind:o}\0{bits:o}\0{owner}\0{body}\n"
            yield ("" if kind == stat.S_IFDIR else entry.path), line


def digest_groups(groups: Iterable[Group], content: Callable[[Entry], str], *, owners: bool) -> str:
    """``sha256:`` of everything that matters in the selection.

    ``content`` gives the digest of a regular file. Times do not count; owners only where ``owners`` is set.
    """
    text = "".join(line for _, line in lines_of(groups, content, owners=owners))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest_files(groups: Iterable[Group], content: Callable[[Entry], str], *, owners: bool) -> dict[str, str]:
    """A short digest for each selected path that is no directory, to say later which of them changed."""
    found = {}
    for path, line in lines_of(groups, content, owners=owners):
        if path:
            found[path] = hashlib.sha256(line.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return found


def file_digest(path: str, cancel: Cancel | None = None) -> str:
    """sha256 of a regular file's content. Raises BuildInterruptedError once ``cancel`` is set."""
    file = disk.open(path, READ)
    try:
        total = hashlib.sha256()
        while data := os.read(file, _BLOCK):
            if cancel is not None and cancel.is_set():
                raise BuildInterruptedError("interrupted")
            total.update(data)
            if len(data) < _BLOCK:  # a regular file gives less only at its end
                break
        return total.hexdigest()
    finally:
        disk.close(file)
