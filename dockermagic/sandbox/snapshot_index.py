"""What is known of the snapshots of one store and one id mode: their rows, and the chains that they stand in."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dockermagic.errors import StoreError
from dockermagic.records import Records, declare
from dockermagic.sandbox.base import Rootfs
from dockermagic.values import dataclass

__all__ = ["SCHEMA", "Snapshot", "SnapshotIndex"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    mode TEXT NOT NULL,
    parent INTEGER,
    size INTEGER,
    created REAL NOT NULL,
    boot TEXT NOT NULL,
    UNIQUE (key, mode)
);
CREATE INDEX IF NOT EXISTS snapshots_parent ON snapshots (parent);
CREATE TABLE IF NOT EXISTS snapshot_aliases (
    key TEXT NOT NULL, mode TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (key, mode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot_diff_ids (id INTEGER PRIMARY KEY, diff_id TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS snapshot_gone AFTER DELETE ON snapshots BEGIN
    DELETE FROM snapshot_aliases WHERE id = OLD.id;
    DELETE FROM snapshot_diff_ids WHERE id = OLD.id;
END;
"""
declare("snapshots", SCHEMA)

_USE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A committed layer on top of its parent. ``size`` is in bytes, None where nobody has measured it yet."""

    id: int
    key: str
    mode: str
    parent: int | None
    size: int | None
    created: float
    directory: Path

    @property
    def fs(self) -> Path:
        """The layer itself, in overlay form: whiteouts are 0:0 devices."""
        return self.directory / "fs"


class SnapshotIndex:
    """The committed snapshots below ``base`` that belong to ``mode``. Thread-safe."""

    def __init__(self, base: Path, records: Records, mode: str) -> None:
        self.base = base
        self.records = records
        self.mode = mode
        self._chains: dict[int, tuple[int, ...]] = {}

    def find(self, key: str) -> Snapshot | None:
        """The committed snapshot of this key in this id mode."""
        row = self.records.row("SELECT * FROM snapshots WHERE key = ? AND mode = ?", (key, self.mode))
        if row is None:
            row = self.records.row(
                "SELECT snapshots.* FROM snapshot_aliases a JOIN snapshots USING (id) WHERE a.key = ? AND a.mode = ?",
                (key, self.mode),
            )
        return self._snapshot(row) if row is not None else None

    def alias(self, key: str, snapshot: Snapshot) -> None:
        """Let a snapshot be found under a further key. Idempotent; the last one counts."""
        wanted = (key, self.mode, snapshot.id)
        if self.records.row("SELECT 1 FROM snapshot_aliases WHERE key = ? AND mode = ? AND id = ?", wanted) is None:
            with self.records.transaction() as transaction:
                transaction.execute("INSERT OR REPLACE INTO snapshot_aliases VALUES (?, ?, ?)", wanted)

    def diff_id(self, snapshot: Snapshot) -> str:
        """The digest of the snapshot as an uncompressed layer, '' where it was never packed."""
        row = self.records.row("SELECT diff_id FROM snapshot_diff_ids WHERE id = ?", (snapshot.id,))
        return str(row["diff_id"]) if row is not None else ""

    def set_diff_id(self, snapshot: Snapshot, diff_id: str) -> None:
        """Remember what a snapshot packs to."""
        with self.records.transaction() as transaction:
            transaction.execute("INSERT OR REPLACE INTO snapshot_diff_ids VALUES (?, ?)", (snapshot.id, diff_id))

    def get(self, identity: int) -> Snapshot | None:
        """The committed snapshot of this id."""
        row = self.records.row("SELECT * FROM snapshots WHERE id = ?", (identity,))
        return self._snapshot(row) if row is not None else None

    def created(self, ids: Sequence[int]) -> list[float]:
        """When these were made, in seconds since the epoch; 0 for one that is gone."""
        marks = ",".join("?" * len(ids))
        rows = self.records.rows(f"SELECT id, created FROM snapshots WHERE id IN ({marks})", ids)
        found = {row["id"]: float(row["created"]) for row in rows}
        return [found.get(identity, 0.0) for identity in ids]

    def all(self) -> list[Snapshot]:
        """Every committed snapshot of this id mode, oldest first."""
        rows = self.records.rows("SELECT * FROM snapshots WHERE mode = ? ORDER BY id", (self.mode,))
        return [self._snapshot(row) for row in rows]

    def touch(self, ids: Iterable[int]) -> None:
        """Remember that these are used now, to the minute: who looks for room takes others first.

        Their directories' times say it. A record would be written to the disk when the command ends.
        """
        stale = time.time() - _USE_SECONDS
        for identity in ids:
            place = f"{self.base}/{identity}"
            with contextlib.suppress(OSError):  # it is gone meanwhile
                if os.stat(place).st_mtime < stale:
                    os.utime(place)

    def last_used(self) -> dict[int, float]:
        """When each snapshot was used last, or made, in seconds since the epoch."""
        return {row["id"]: self._used(row) for row in self.records.rows("SELECT id, created FROM snapshots")}

    def _used(self, row: sqlite3.Row) -> float:
        created = float(row["created"])
        try:
            return max(created, os.stat(self.base / str(row["id"])).st_mtime)
        except OSError:
            return created

    def _snapshot(self, row: sqlite3.Row) -> Snapshot:
        identity = row["id"]
        return Snapshot(
            identity, row["key"], row["mode"], row["parent"], row["size"], row["created"], self.base / str(identity)
        )

    def chain(self, snapshot: Snapshot | None) -> tuple[Path, ...]:
        """The directories of a snapshot and all below it, bottom first."""
        return tuple(Path(f"{self.base}/{identity}/fs") for identity in self.ids(snapshot))

    def ids(self, snapshot: Snapshot | None) -> tuple[int, ...]:
        """The ids of a snapshot and all below it, bottom first."""
        if snapshot is None:
            return ()
        known = self._chains.get(snapshot.id)
        if known is None:
            below: tuple[int, ...] = ()
            if snapshot.parent is not None:
                below = self._chains.get(snapshot.parent) or self._walk(snapshot.parent)
            known = self._chains[snapshot.id] = (*below, snapshot.id)
        return known

    def _walk(self, identity: int) -> tuple[int, ...]:
        rows = self.records.rows(
            "WITH RECURSIVE line(id, parent, depth) AS ("
            " SELECT id, parent, 0 FROM snapshots WHERE id = ?"
            " UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshots s JOIN line ON s.id = line.parent)"
            " SELECT id FROM line ORDER BY depth DESC",
            (identity,),
        )
        found = tuple(row["id"] for row in rows)
        if not found:
            raise StoreError(f"snapshot {identity} is gone", hint="It was removed by another process; run it again.")
        self._chains[identity] = found
        return found

    def rootfs(self, snapshot: Snapshot | None) -> Rootfs:
        """A read-only description of a snapshot."""
        return Rootfs(self.chain(snapshot))
