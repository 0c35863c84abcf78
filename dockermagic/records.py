"""The records of a store: one SQLite file that many processes and threads share.

A room declares its tables once, at import time, with :func:`declare`; a :class:`Records` creates what is missing the
next time it is used. A connection belongs to one thread and one process and is never carried over a fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dockermagic.errors import StoreError, full_disk_error, is_full

__all__ = ["Records", "declare"]

VERSION = 1
"""``PRAGMA user_version`` of a store this code can read and write; 0 is a file that was just made."""

_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "lustre", "ceph", "gpfs"})

_NEEDED_BYTES = 128 << 10
"""Enough for SQLite's shared memory and log while a few records change."""

_schemas: dict[str, str] = {}


def declare(name: str, schema: str) -> None:
    """Register a room's tables: ``CREATE ... IF NOT EXISTS`` statements, each ended by a semicolon. Idempotent."""
    _schemas[name] = schema


class _Connection(sqlite3.Connection):
    """A connection that can be weakly referenced, so that a finished thread's one is closed with it."""


class Records:
    """The records below ``home``; the file is made when first used.

    Reading needs no transaction: :meth:`rows` and :meth:`row` see the last committed state, or inside a transaction
    of this thread its own. Raises StoreFullError on a full disk and StoreError on anything else that SQLite reports.
    """

    def __init__(self, home: Path, *, busy_seconds: float = 60.0) -> None:
        self.home = home
        self.path = home / "store.db"
        self._busy_seconds = busy_seconds
        self._local = threading.local()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. An inner use joins the outer one: what it did is undone alone if it raises."""
        with _clear_errors(self.path):
            connection = self._connection()
            depth: int = self._local.depth
            begin, end, undo = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
            if depth:
                begin, end, undo = (f"SAVEPOINT s{depth}", f"RELEASE s{depth}", f"ROLLBACK TO s{depth}")
            if not depth and connection.in_transaction:
                connection.execute("ROLLBACK")  # one that an interrupt broke off where nobody could catch it
            waiting = len(self._local.after)
            try:
                connection.execute(begin)
                self._local.depth = depth + 1
                yield connection
                connection.execute(end)
            except BaseException:
                del self._local.after[waiting:]
                # A full disk makes SQLite roll back by itself; then there is nothing left to undo.
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.OperationalError):  # the savepoint was not made yet
                        connection.execute(undo)
                raise
            finally:
                self._local.depth = depth
        if not depth:
            after, self._local.after = self._local.after, []
            for call in after:
                call()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run ``call`` once the outermost transaction of this thread is committed; at once where there is none.

        A transaction that is undone forgets it.
        """
        self._connection()
        if self._local.depth:
            if call not in self._local.after:
                self._local.after.append(call)
        else:
            call()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a SELECT."""
        with _clear_errors(self.path):
            return self._connection().execute(query, parameters).fetchall()

    def row(self, query: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a SELECT."""
        with _clear_errors(self.path):
            found: sqlite3.Row | None = self._connection().execute(query, parameters).fetchone()
            return found

    def close(self) -> None:
        """Close the connections of every thread of this process. A later use opens them again."""
        for connection in list(self._open):
            connection.close()
        self._local = threading.local()
        self._open.clear()

    def _connection(self) -> sqlite3.Connection:
        local = self._local
        if getattr(local, "process", None) != os.getpid():
            # After a fork the parent's connection is left alone, not even closed: closing would drop its locks.
            local.inherited = getattr(local, "connection", None)
            local.connection = self._connect()
            local.process, local.depth, local.after, local.schemas = os.getpid(), 0, [], 0
        connection: sqlite3.Connection = local.connection
        if local.schemas != len(_schemas) and not local.depth:
            self._create_tables(connection)
            local.schemas = len(_schemas)
        return connection

    def _connect(self) -> sqlite3.Connection:
        self.home.mkdir(parents=True, exist_ok=True)
        self._keep_reserve()
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        self._open.add(connection)
        connection.row_factory = sqlite3.Row
        # SQLite's own waiting does not cover a change of the journal's mode, nor a file that its last user is closing.
        end = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._set_up(connection)
                return connection
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
                time.sleep(0.005)

    def _keep_reserve(self) -> None:
        """Keep a little room in a file, given up when the disk is full: what makes room writes records, too."""
        reserve = self.home / "reserve"
        free = _free_bytes(self.home)
        with contextlib.suppress(OSError):
            if free < _NEEDED_BYTES:
                reserve.unlink()
            elif free > 64 * _NEEDED_BYTES and not reserve.exists():
                reserve.write_bytes(bytes(_NEEDED_BYTES))

    def _set_up(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(
                f"{self.path} was made by a newer dockermagic (store version {version}, this one reads {VERSION})",
                hint="Update dockermagic, or set DOCKERMAGIC_HOME to another directory.",
            )
        wanted = "delete" if _on_network(self.home) else "wal"
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
            connection.execute(f"PRAGMA journal_mode = {wanted}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        present = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        missing = [line for schema in _schemas.values() for line in _statements(schema) if _stored(line) not in present]
        if not missing:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in missing:
                connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _free_bytes(directory: Path) -> int:
    if hasattr(os, "statvfs"):  # shutil asks it, too, and brings every kind of archive along
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize
    import shutil

    return shutil.disk_usage(directory).free


def _statements(schema: str) -> Iterator[str]:
    statement = ""
    for piece in schema.split(";")[:-1]:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def _stored(statement: str) -> str:
    """The statement as sqlite_master keeps it."""
    return statement.rstrip(";").replace(" IF NOT EXISTS", "", 1)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of Python's own module."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_for_want_of_room(error: sqlite3.Error, directory: Path) -> bool:
    """Whether the disk is full. SQLite does not say why the memory it shares cannot be had: a try tells."""
    if _code(error) not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return _code(error) == sqlite3.SQLITE_FULL
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_NEEDED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refused:
        return is_full(refused)
    return False


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if _is_for_want_of_room(error, path.parent):
            raise full_disk_error(path.parent) from error
        if _is_busy(error):
            raise StoreError(f"{path} stayed locked by another process", hint="Try again.") from error
        raise StoreError(f"{path}: {error}") from error


def _on_network(directory: Path) -> bool:
    """Whether the directory is on a network file system, where SQLite's shared memory does not work."""
    if not sys.platform.startswith("linux"):
        return False
    best, kind = "", ""
    try:
        target = str(directory.resolve())
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.split()
                mount = fields[4].replace("\\040", " ")
                if len(mount) >= len(best) and f"{target}/".startswith(mount.rstrip("/") + "/"):
                    best, kind = mount, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return False
    return kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse.sshfs")
