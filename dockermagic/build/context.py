"""The build context: the user's files through the ignore file, hashed once and remembered by their status."""

from __future__ import annotations

import json
import os
import stat
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.build.selection import Entry, Group, Tree, clean, digest_files, digest_groups, file_digest, select
from dockermagic.dockerfile import ignore
from dockermagic.errors import ContextError
from dockermagic.records import Records, declare
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.sandbox.base import Cancel

__all__ = ["Context", "Selection", "StatCache", "ignore_patterns", "path_matcher", "selected"]

declare("contexts", "CREATE TABLE IF NOT EXISTS contexts(root TEXT PRIMARY KEY, files BLOB NOT NULL);")


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


class StatCache:
    """Digests of files, remembered under device, inode, size and both times; one row a context in the records.

    A file that changed less than two seconds before it was hashed is not remembered: within one tick of the clock it
    could change again without a trace.
    """

    def __init__(self, records: Records, root: str) -> None:
        self.records = records
        self.root = root
        self.files: dict[str, list[object]] = {}
        self.changed = False
        self.lock = threading.Lock()
        row = records.row("SELECT files FROM contexts WHERE root = ?", (root,))
        if row is not None:
            try:
                self.files = json.loads(zlib.decompress(row[0]))
            except (ValueError, zlib.error):
                self.files = {}

    def digest(self, path: str, entry: Entry, now: int, cancel: Cancel | None = None) -> tuple[str, bool]:
        """The digest of a regular file and whether it had to be read."""
        stamp = [entry.device, entry.inode, entry.size, entry.mtime, entry.ctime]
        known = self.files.get(entry.path)
        if known is not None and known[1:] == stamp:
            return str(known[0]), False
        found = file_digest(path, cancel)
        if now - max(entry.mtime, entry.ctime) > 2_000_000_000:
            self.files[entry.path] = [found, *stamp]
            self.changed = True
        return found, True

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
        self.matcher = path_matcher(patterns, self.ignore_name)
        self.tree = Tree(self.directory, self.matcher)
        self.cache = cache
        self.cancel = cancel

    def select(self, patterns: Sequence[str], *, excludes: Sequence[str] = (), parents: bool = False) -> Selection:
        """What the patterns select. Raises :class:`ContextError` in the reference's words where a path is missing."""
        import time

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
