"""What a layer does to those below it: bytes, and files added, modified and removed. Counted once, then remembered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dockermagic.oci.filetree import changes
from dockermagic.records import Records, declare
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.snapshot_index import SCHEMA as SNAPSHOTS
from dockermagic.values import dataclass

__all__ = ["SCHEMA", "LayerFacts", "layer_facts", "sizes_by_diff_id"]

declare("snapshots", SNAPSHOTS)  # joined below, also where no snapshotter was ever opened
SCHEMA = """
    CREATE TABLE IF NOT EXISTS layer_facts (
        id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, added INTEGER NOT NULL, modified INTEGER NOT NULL,
        removed INTEGER NOT NULL
    );
    CREATE TRIGGER IF NOT EXISTS layer_facts_gone AFTER DELETE ON snapshots BEGIN
        DELETE FROM layer_facts WHERE id = OLD.id;
    END;
"""
declare("layer_facts", SCHEMA)


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """Bytes of the files in a layer, and how many paths it adds, modifies and removes."""

    bytes: int = 0
    added: int = 0
    modified: int = 0
    removed: int = 0


def layer_facts(
    records: Records, sandbox: Sandbox, chain: Sequence[int], directories: Sequence[str], wanted: Sequence[int]
) -> dict[int, LayerFacts]:
    """The facts of some snapshots of one chain (bottom first). What was never counted is counted in one go."""
    marks = ",".join("?" * len(wanted))
    rows = records.rows(f"SELECT * FROM layer_facts WHERE id IN ({marks})", list(wanted)) if wanted else []
    found = {row["id"]: LayerFacts(row["bytes"], row["added"], row["modified"], row["removed"]) for row in rows}
    places = {identity: chain.index(identity) for identity in wanted if identity not in found}
    if places:
        made = {identity: LayerFacts() for identity, place in places.items() if _is_empty(directories[place])}
        unknown = {identity: place for identity, place in places.items() if identity not in made}
        if unknown:
            asked = list(unknown.values())
            counted = sandbox.call("dockermagic.build.facts:count", directories=list(directories), places=asked)
            made |= {identity: LayerFacts(**one) for identity, one in zip(unknown, counted, strict=True)}
        with records.transaction() as tx:
            tx.executemany(
                "INSERT OR REPLACE INTO layer_facts VALUES (?, ?, ?, ?, ?)",
                [(identity, one.bytes, one.added, one.modified, one.removed) for identity, one in made.items()],
            )
        found |= made
    return found


def _is_empty(layer: str) -> bool:
    """Whether nothing is in it, as after a RUN that only looks; one that may not be read is asked about."""
    try:
        with os.scandir(layer) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def count(directories: list[str], places: list[int]) -> list[dict[str, Any]]:
    """The facts of the layers at these places of a chain; runs in the worker."""
    names = ("bytes", "added", "modified", "removed")
    out = []
    for place in places:
        one = changes(directories[: place + 1], base=place, limit=0, sizes=True)
        out.append({name: one[name] for name in names})
    return out


def sizes_by_diff_id(records: Records) -> dict[str, int]:
    """The bytes of the files in each layer that was counted, by the digest of its tar."""
    rows = records.rows("SELECT diff_id, bytes FROM snapshot_diff_ids JOIN layer_facts USING (id)")
    return {row["diff_id"]: row["bytes"] for row in rows}
