"""The build context: the user's files through the ignore file, hashed once and remembered by their status."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.build.selection import (
    Entry,
    Group,
    Tree,
    clean,
    digest_files,
    digest_groups,
    file_digest,
    is_pattern,
    resolve,
    select,
)
from dockermagic.dockerfile import ignore
from dockermagic.errors import ContextError
from dockermagic.records import Records, declare
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.sandbox.base import Cancel

__all__ = [
    "Context",
    "Recalled",
    "Selection",
    "StatCache",
    "forget_gone",
    "ignore_patterns",
    "path_matcher",
    "selected",
]

declare(
    "contexts",
    """
    CREATE TABLE IF NOT EXISTS contexts(root TEXT PRIMARY KEY, files BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS selections(
        root TEXT, wanted TEXT, stamp TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (root, wanted)
    );
    """,
)

_SELECTED = 1
"""Raised when what is selected by the same words, or its digest, is another: what is remembered is of its version."""

_SETTLED = 2_000_000_000
"""A file that changed less than that many nanoseconds ago could change again, within one tick, without a trace."""


def ignore_patterns(directory: Path, filename: str = "Dockerfile") -> tuple[list[str], str]:
    """The patterns that apply to a context and the name of the file they stand in.

    ``FILENAME.dockerignore`` beside the Dockerfile wins over ``.dockerignore`` in the context's root.
    """
    for candidate in (Path(directory, filename + ".dockerignore"), directory / ".dockerignore"):
        try:
            text = candidate.read_bytes().decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ContextError(f"cannot read {candidate}: {error.strerror}") from error
        return ignore.parse(text), candidate.name
    return [], ""


def selected(root: str | Path, patterns: Sequence[str]) -> list[str]:
    """The relative paths that are part of a context: directories end with a slash, links do not."""
    tree = Tree(str(root), ignore.Matcher(list(patterns)) if patterns else None)
    return [target + "/" * stat.S_ISDIR(status.st_mode) for target, _, status in tree.walk("")]


def path_matcher(patterns: Sequence[str], file: str) -> ignore.Matcher | None:
    """What the patterns of an ignore file leave out; None for none. Raises :class:`ContextError` for a bad one."""
    try:
        return ignore.Matcher(list(patterns)) if patterns else None
    except ValueError as error:
        raise ContextError(str(error), hint=f"Mend the pattern in {file or '.dockerignore'}.") from None


def forget_gone(records: Records) -> None:
    """Let go of what is remembered of contexts that are not there any more."""
    rows = records.rows("SELECT root FROM contexts UNION SELECT root FROM selections")
    gone = [(row["root"],) for row in rows if not os.path.isdir(row["root"])]
    if gone:
        with records.transaction() as tx:
            tx.executemany("DELETE FROM contexts WHERE root = ?", gone)
            tx.executemany("DELETE FROM selections WHERE root = ?", gone)


class StatCache:
    """Digests of files, remembered under device, inode, size and both times; one row a context in the records.

    The digest of a selection is remembered, too, under all of that about all of its files: where none has changed, that
    row is all that is read. Nothing is remembered of a file before it has settled.
    """

    def __init__(self, records: Records, root: str) -> None:
        self.records = records
        self.root = root
        self.changed = False
        self.lock = threading.Lock()

    @cached_property
    def files(self) -> dict[str, list[object]]:
        """What is known of each path: the digest, and what it was taken under."""
        row = self.records.row("SELECT files FROM contexts WHERE root = ?", (self.root,))
        try:
            known: dict[str, list[object]] = json.loads(zlib.decompress(row[0])) if row is not None else {}
        except (ValueError, zlib.error):
            known = {}
        return known

    def digest(self, path: str, entry: Entry, now: int, cancel: Cancel | None = None) -> tuple[str, bool]:
        """The digest of a regular file and whether it had to be read."""
        stamp = [entry.device, entry.inode, entry.size, entry.mtime, entry.ctime]
        known = self.files.get(entry.path)
        if known is not None and known[1:] == stamp:
            return str(known[0]), False
        found = file_digest(path, cancel)
        if now - max(entry.mtime, entry.ctime) > _SETTLED:
            self.files[entry.path] = [found, *stamp]
            self.changed = True
        return found, True

    def recall(self, wanted: str, stamp: str) -> str | None:
        """The digest of a selection that was remembered under this stamp."""
        known = self.records.row(
            "SELECT stamp, digest FROM selections WHERE root = ? AND wanted = ?", (self.root, wanted)
        )
        return str(known["digest"]) if known is not None and known["stamp"] == stamp else None

    def remember(self, wanted: str, stamp: str, digest: str) -> None:
        """Remember the digest of a selection whose stamp was taken before the files were read."""
        with self.records.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO selections VALUES (?, ?, ?, ?)", (self.root, wanted, stamp, digest))

    def save(self) -> None:
        """Write what was learnt."""
        with self.lock:
            if not self.changed:
                return
            self.changed = False
            body = zlib.compress(json.dumps(self.files, separators=(",", ":")).encode(), 1)
        with self.records.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO contexts(root, files) VALUES (?, ?)", (self.root, body))


@dataclass(frozen=True, slots=True)
class Selection:
    """What a COPY takes of a context: the groups, their digest, and the bytes that were read. ``files`` explains it."""

    groups: tuple[Group, ...]
    digest: str
    transferred: int
    content: Callable[[Entry], str]

    def files(self) -> dict[str, str]:
        """A short digest of each file, to say later which of them changed."""
        return digest_files(self.groups, self.content, owners=False)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A selection whose files are all as they were: the digest is known, and they are read if more is asked for."""

    digest: str
    read: Callable[[], Selection]
    transferred: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """The files. Raises :class:`ContextError` where the digest is not theirs any more."""
        found = self.read()
        if found.digest != self.digest:
            raise ContextError("files of the build context changed while it was built", hint="Build again.")
        return found.groups

    def files(self) -> dict[str, str]:
        """As of a selection."""
        return self.read().files()


class Context:
    """A directory as a build context. Every build makes one anew; the stat cache is what stays."""

    def __init__(
        self,
        directory: Path,
        patterns: Sequence[str],
        cache: StatCache | None,
        ignore_name: str = "",
        cancel: Cancel | None = None,
    ) -> None:
        self.directory = str(directory)
        self.ignore_name = ignore_name or ".dockerignore"
        self.patterns = list(patterns)
        self.matcher = path_matcher(patterns, self.ignore_name)
        self.tree = Tree(self.directory, self.matcher)
        self.cache = cache
        self.cancel = cancel

    def select(
        self, patterns: Sequence[str], *, excludes: Sequence[str] = (), parents: bool = False
    ) -> Selection | Recalled:
        """What the patterns select. Raises :class:`ContextError` in the reference's words where a path is missing."""
        stamp = self._stamp(patterns) if self.cache is not None and not parents else ""
        if self.cache is None or not stamp:
            return self._read(patterns, excludes, parents)
        wanted = json.dumps([_SELECTED, self.patterns, list(patterns), list(excludes)])
        known = self.cache.recall(wanted, stamp)
        if known is not None:
            return Recalled(known, lambda: self._read(patterns, excludes, parents))
        found = self._read(patterns, excludes, parents)
        self.cache.remember(wanted, stamp, found.digest)
        return found

    def _stamp(self, patterns: Sequence[str]) -> str:
        """A digest of the status of every file below what the patterns name; '' for wildcards, and before they settle.

        Taken before the files are read, so that what changes meanwhile is seen the next time.
        """
        lines, newest = [], 0
        try:
            for pattern in map(clean, patterns):
                top = None if is_pattern(pattern) else resolve(self.tree, pattern)
                status = self.tree.lstat(top) if top is not None else None
                if top is None or status is None:
                    return ""
                below = self.tree.walk(top) if stat.S_ISDIR(status.st_mode) else ()
                for target, _, each in chain(((top, top, status),), below):
                    mode, size = each.st_mode, each.st_size if stat.S_ISREG(each.st_mode) else 0
                    modified, changed = each.st_mtime_ns, each.st_ctime_ns
                    newest = max(newest, modified, changed)
                    lines.append(f"{target}\0{mode} {each.st_dev} {each.st_ino} {size} {modified} {changed}")
        except (OSError, ValueError):  # reading them says what is wrong
            return ""
        if time.time_ns() - newest <= _SETTLED:
            return ""
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def _read(self, patterns: Sequence[str], excludes: Sequence[str], parents: bool) -> Selection:
        matcher = ignore.Matcher(list(excludes)) if excludes else None
        groups: list[Group] = []
        for pattern in patterns:
            try:
                groups += select(self.tree, pattern, excludes=matcher, parents=parents)
            except FileNotFoundError:
                raise self._missing(pattern) from None
            except ValueError as error:
                raise ContextError(f'"{pattern}": {error}', hint="Check the wildcard: every [ needs its ].") from None
            except PermissionError as error:
                raise ContextError(
                    f"cannot read {error.filename}: permission denied",
                    hint="Make it readable, or add it to .dockerignore.",
                ) from None
        read = 0
        now = time.time_ns()

        def content(entry: Entry) -> str:
            nonlocal read
            path = self.tree.absolute(entry.path)
            if self.cache is None:
                found, fresh = file_digest(path, self.cancel), True
            else:
                found, fresh = self.cache.digest(path, entry, now, self.cancel)
            if fresh:
                read += entry.size
            return found

        try:
            digest = digest_groups(groups, content, owners=False)
        except PermissionError as error:
            raise ContextError(
                f"cannot read {error.filename}: permission denied", hint="Make it readable, or add it to .dockerignore."
            ) from None
        return Selection(tuple(groups), digest, read, content)

    def _missing(self, pattern: str) -> ContextError:
        path = clean(pattern)
        hint = f"The build context is {self.directory}; paths are relative to it."
        if self.matcher is not None and os.path.lexists(self.tree.absolute(path)):
            hint = f"The file is there, but {self.ignore_name} leaves it out of the build context."
        elif pattern.startswith("../"):
            hint += " Files above it are out of reach: use a context that holds them."
        else:
            import difflib

            folder, _, name = path.rpartition("/")
            try:
                names = os.listdir(self.tree.absolute(folder))
            except OSError:
                names = []
            close = difflib.get_close_matches(name, names, 1)
            if close:
                hint += f" Did you mean {folder + '/' if folder else ''}{close[0]}?"
        return ContextError(f'failed to calculate checksum: "/{path}": not found', hint=hint)
