"""Snapshots: each with its directory, its row, its parent and what is recorded of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockermagic.build.cache import SCHEMA as CACHE
from dockermagic.build.facts import SCHEMA as FACTS
from dockermagic.errors import DockermagicError
from dockermagic.fsck.findings import Notes
from dockermagic.fsck.leftovers import Remove
from dockermagic.oci.record import RECORD
from dockermagic.oci.spec import chain_ids
from dockermagic.records import Records, declare
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.snapshot import Snapshotter

__all__ = ["Layers"]

# Looked through below, also where nothing was ever built.
declare("cache", CACHE)
declare("layer_facts", FACTS)

_AT_ONCE = 50
_REPAIR = "`fsck --repair` forgets it and what stands on it; both are built again when they are wanted."
_BESIDE = {"fs", "ownership.json", f"fs{RECORD}"}


class Layers:
    """One look through the snapshots of a store."""

    def __init__(
        self,
        home: Path,
        records: Records,
        sandbox: Sandbox | None,
        notes: Notes,
        remove: Remove,
        *,
        repair: bool,
        quick: bool,
    ) -> None:
        self.base = home / "snapshots"
        self.records = records
        self.sandbox = sandbox
        self.notes = notes
        self.remove = remove
        self.repair = repair
        self.quick = quick

    def check(self) -> None:
        """Look at every layer and every record of one; what is left of others goes."""
        if self.sandbox is not None:
            self._sweep(Snapshotter(self.base.parent, self.records, self.sandbox))
        rows = {row["id"]: row for row in self.records.rows("SELECT * FROM snapshots ORDER BY id")}
        self.notes.count("snapshots", len(rows))
        problems = self._places(rows)
        if self.sandbox is not None:
            own = [i for i, row in rows.items() if i not in problems and row["mode"] == self.sandbox.mode]
            if others := sum(row["mode"] != self.sandbox.mode for row in rows.values()):
                self.notes.note("snapshots", f"{others} are of another id mode and were not looked into")
            for start in range(0, len(own), _AT_ONCE):
                problems |= self._look_into(rows, own[start : start + _AT_ONCE])
        self._tell(problems)
        self._aliases(rows, problems)
        self._orphans()

    def _sweep(self, snapshotter: Snapshotter) -> None:
        swept = snapshotter.sweep()
        for identity, reason in swept.lost.items():
            if reason == "unsynced":
                self.notes.leftover(
                    f"snapshot {identity}", "was not on the disk yet when the machine went down", "forgotten"
                )
            else:
                self.notes.damage(
                    f"snapshot {identity}", "its directory is gone", mended="forgotten; it is built again"
                )
        for name in swept.directories:
            if (self.base / name).exists():
                self.notes.note(
                    f"snapshots/{name}", "left by a process that died, and cannot be removed in this id mode"
                )
            else:
                self.notes.leftover(f"snapshots/{name}", "left by a process that died")

    def _places(self, rows: Mapping[int, Any]) -> dict[int, str]:
        """What is wrong with where layers lie and stand."""
        problems = {}
        for identity, row in rows.items():
            directory = self.base / str(identity)
            below = rows.get(row["parent"]) if row["parent"] is not None else row
            if not (directory / "fs").is_dir():
                problems[identity] = "its directory is gone"
            elif below is None:
                problems[identity] = f"what it stands on, snapshot {row['parent']}, is gone"
            elif below["mode"] != row["mode"]:
                problems[identity] = f"stands on snapshot {row['parent']} of another id mode"
            else:
                for path in sorted(path for path in directory.iterdir() if path.name not in _BESIDE):
                    self._stray(path)
        return problems

    def _stray(self, path: Path) -> None:
        place = str(path.relative_to(self.base.parent))
        if path.name == "work" and not self.remove(path):
            self.notes.leftover(place, "what a mount worked in")
        else:
            self.notes.note(place, "does not belong there")

    def _look_into(self, rows: Mapping[int, Any], ids: list[int]) -> dict[int, str]:
        """What is wrong with the files of layers, which only the worker may read."""
        assert self.sandbox is not None
        # A layer that came from elsewhere has the digest that it came with; it need not pack to the same bytes.
        made = {
            row["id"]: row["diff_id"]
            for row in self.records.rows("SELECT d.* FROM snapshot_diff_ids d JOIN snapshots s USING (id)")
            if not rows.get(row["id"], {"key": "chain:"})["key"].startswith("chain:")
        }
        try:
            found = self.sandbox.call(
                "dockermagic.fsck.inside:look",
                stacks=[self._stack(rows, identity) for identity in ids],
                whole=[identity in made and not self.quick for identity in ids],
            )
        except DockermagicError as error:
            self.notes.note("snapshots", f"could not be looked into: {error.message}", hint=error.hint)
            return {}
        problems = {}
        for identity, one in zip(ids, found, strict=True):
            size, diff_id = rows[identity]["size"], made.get(identity)
            if one.get("gone"):
                problems[identity] = "files of it went away while it was read"
            elif one.get("problem"):
                problems[identity] = f"cannot be read: {one['problem']}"
            elif size is not None and one["bytes"] != size:
                problems[identity] = f"has {one['bytes']} bytes, and had {size}"
            elif one.get("diff_id", diff_id) != diff_id:
                problems[identity] = f"packs to {one['diff_id']}, and did to {diff_id}"
        return problems

    def _stack(self, rows: Mapping[int, Any], identity: int | None) -> list[str]:
        """The directories of a layer and of those below it, bottom first."""
        stack: list[str] = []
        while identity is not None and identity in rows:
            stack.insert(0, str(self.base / str(identity) / "fs"))
            identity = rows[identity]["parent"]
        return stack

    def _tell(self, problems: dict[int, str]) -> None:
        """Note the problems of what nobody has removed meanwhile; forget it where a repair is wanted."""
        rows = {row["id"]: row for row in self.records.rows("SELECT id, parent, mode FROM snapshots")}
        bad = {identity for identity in problems if identity in rows}
        above = set(bad)
        for identity, row in rows.items():  # a parent is older than what stands on it
            if row["parent"] in above:
                above.add(identity)
        gone: set[int] = set()
        if self.repair and bad and self.sandbox is not None:
            gone = set(Snapshotter(self.base.parent, self.records, self.sandbox).remove(above))
        for identity in sorted(bad):
            if identity in gone:
                more = len([one for one in gone if one not in bad])
                mended = f"forgotten{f' with {more} that stood on such' if more else ''}; it is built again"
                self.notes.damage(f"snapshot {identity}", problems[identity], mended=mended)
            else:
                self.notes.damage(f"snapshot {identity}", problems[identity], hint=_REPAIR)

    def _aliases(self, rows: Mapping[int, Any], problems: Mapping[int, str]) -> None:
        """A layer that is found under a chain id must be the top of that chain."""
        diff_ids = {row["id"]: row["diff_id"] for row in self.records.rows("SELECT * FROM snapshot_diff_ids")}
        wrong = []
        for row in self.records.rows("SELECT * FROM snapshot_aliases WHERE key LIKE 'chain:%'"):
            chain: list[str] = []
            identity: int | None = row["id"]
            while identity is not None and identity in rows and identity not in problems:
                chain.insert(0, diff_ids.get(identity, ""))
                identity = rows[identity]["parent"]
            if identity is None and all(chain) and row["key"] != f"chain:{chain_ids(chain)[-1]}":
                wrong.append((row["key"], row["mode"]))
                self.notes.damage(
                    f"snapshot {row['id']}", f"was taken for {row['key'].removeprefix('chain:')}", mended="forgotten"
                )
        with self.records.transaction() as tx:
            tx.executemany("DELETE FROM snapshot_aliases WHERE key = ? AND mode = ?", wrong)

    def _orphans(self) -> None:
        """Records of layers that are gone, and of keys that neither a layer nor a Dockerfile remembers."""
        with self.records.transaction() as tx:
            trails, kept = [], set()
            for row in tx.execute("SELECT name, entries FROM trails").fetchall():
                try:
                    kept |= {entry[3] for entry in json.loads(zlib.decompress(row["entries"]))}
                except (ValueError, zlib.error, IndexError, TypeError):
                    trails.append((row["name"],))
            kept |= {row["key"].partition("#")[0] for row in tx.execute("SELECT key FROM snapshots")}
            keys = [(row["key"],) for row in tx.execute("SELECT key FROM keys") if row["key"] not in kept]
            tx.executemany("DELETE FROM trails WHERE name = ?", trails)
            tx.executemany("DELETE FROM keys WHERE key = ?", keys)
            gone = len(keys)
            for table in ("snapshot_aliases", "snapshot_diff_ids", "layer_facts"):
                gone += tx.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM snapshots)").rowcount
        if trails:
            self.notes.damage("store.db", f"{len(trails)} records of earlier builds cannot be read", mended="forgotten")
        if gone:
            self.notes.leftover("store.db", f"{gone} records of layers that are gone")
