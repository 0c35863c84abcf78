"""Cache records: what went into each key, and why a key that was not found differs from the one before it.

Layers are found under their key by the snapshotter. What is kept here is the key's inputs, so that a miss has a reason,
and the *trail* of each Dockerfile (or session): which key each of its instructions had last time.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from dockermagic.records import Records, declare
from dockermagic.values import dataclass

__all__ = ["SCHEMA", "Cache", "TrailEntry", "explain"]

SCHEMA = """
    CREATE TABLE IF NOT EXISTS keys(key TEXT PRIMARY KEY, inputs BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS trails(name TEXT PRIMARY KEY, entries BLOB NOT NULL);
"""
declare("cache", SCHEMA)


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """An instruction of an earlier build: where it stood in its stage, its text and its key."""

    stage: str
    number: int
    text: str
    key: str


class Cache:
    """The records of one store."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def record(self, tx: sqlite3.Connection, key: str, inputs: Mapping[str, Any]) -> None:
        """Remember what went into a key, in the transaction that records its layer."""
        body = zlib.compress(json.dumps(inputs, separators=(",", ":")).encode("utf-8", "surrogatepass"), 1)
        tx.execute("INSERT OR REPLACE INTO keys(key, inputs) VALUES (?, ?)", (key, body))

    def inputs(self, key: str) -> dict[str, Any] | None:
        """What went into a key; None where it was never recorded."""
        row = self.records.row("SELECT inputs FROM keys WHERE key = ?", (key,))
        if row is None:
            return None
        found: dict[str, Any] = json.loads(zlib.decompress(row[0]))
        return found

    def trail(self, name: str) -> list[TrailEntry]:
        """The instructions of the last build under that name, empty where there was none."""
        row = self.records.row("SELECT entries FROM trails WHERE name = ?", (name,)) if name else None
        return [TrailEntry(*entry) for entry in json.loads(zlib.decompress(row[0]))] if row is not None else []

    def save_trail(self, name: str, entries: Sequence[TrailEntry]) -> None:
        """Replace the trail; without a name nothing is kept."""
        if not name:
            return
        rows = [[entry.stage, entry.number, entry.text, entry.key] for entry in entries]
        body = zlib.compress(json.dumps(rows, separators=(",", ":")).encode("utf-8", "surrogatepass"), 1)
        with self.records.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO trails(name, entries) VALUES (?, ?)", (name, body))

    def reason(self, trail: Sequence[TrailEntry], stage: str, number: int, text: str, inputs: Mapping[str, Any]) -> str:
        """Why there is no layer for these inputs, in words; empty for an instruction that was never built before."""
        same_place = [entry for entry in trail if entry.stage == stage and entry.number == number]
        same_text = [entry for entry in trail if entry.stage == stage and entry.text == text]
        same_text.sort(key=lambda entry: abs(entry.number - number))
        if same_text:
            before = self.inputs(same_text[0].key)
            return explain(before, inputs) if before is not None else "its layer is no longer in the store"
        return "the instruction changed" if same_place else ""


def explain(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The difference between the inputs of two keys, in words."""
    reasons = _files(before.get("files") or {}, now.get("files") or {})
    old, new = before.get("op") or {}, now.get("op") or {}
    reasons += _variables(dict(old.get("env") or ()), dict(new.get("env") or ()))
    words = {
        "user": "USER changed",
        "cwd": "WORKDIR changed",
        "args": "the command changed",
        "network": "the network mode changed",
        "mounts": "its mounts changed",
        "chown": "the owner changed",
        "chmod": "the mode changed",
        "destination": "the destination changed",
        "files": "the text of its sources changed",
        "scripts": "the command changed",
    }
    reasons += [
        words.get(name, f"{name} changed") for name in sorted(new) if name != "env" and old.get(name) != new[name]
    ]
    if not reasons and before.get("sources") != now.get("sources"):
        reasons.append("what it copies changed")
    if not reasons and before.get("parent") != now.get("parent"):
        old_base, new_base = before.get("base", ""), now.get("base", "")
        if old_base and new_base and old_base != new_base:
            name = now.get("base_name", "the base image")
            return f"{name} moved from {_short(old_base)} to {_short(new_base)}"
        return "a step before it changed"
    return "; ".join(reasons) or "its layer is no longer in the store"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changed = sorted(path for path in now if path in before and before[path] != now[path])
    added = sorted(path for path in now if path not in before)
    removed = sorted(path for path in before if path not in now)
    out = []
    for paths, word in ((changed, "changed"), (added, "is new"), (removed, "is gone")):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            out.append(f"{paths[0]}{more} {word if not more or word == 'changed' else word.replace('is ', 'are ')}")
    return out


def _variables(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    out = [f"the value of {name} changed" for name in now if name in before and before[name] != now[name]]
    out += [f"the variable {name} is new" for name in now if name not in before]
    out += [f"the variable {name} is gone" for name in before if name not in now]
    return out
