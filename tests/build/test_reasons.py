"""Why a step is built again, said from the inputs of two keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockermagic.build.cache import Cache, TrailEntry, explain
from dockermagic.records import Records

OP = {
    "env": [["A", "1"]],
    "user": "",
    "cwd": "/",
    "args": ["sh", "-c", "x"],
    "destination": "/a",
    "chown": "",
    "chmod": "",
}
BEFORE: dict[str, Any] = {
    "op": OP,
    "files": {"a": "1", "b": "2", "c": "3"},
    "sources": ["s"],
    "parent": "p",
    "base": "sha256:aa",
}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({}, "its layer is no longer in the store"),
        ({"files": {"a": "9", "b": "2", "c": "3"}}, "a changed"),
        ({"files": {"a": "9", "b": "9", "c": "3"}}, "a and 1 more changed"),
        ({"files": {"a": "1"}}, "b and 1 more are gone"),
        ({"files": {"a": "1", "b": "2", "c": "3", "d": "4"}}, "d is new"),
        ({"files": {"a": "9", "b": "2", "d": "4"}}, "a changed; d is new; c is gone"),
        ({"sources": ["t"]}, "what it copies changed"),
        ({"parent": "q"}, "a step before it changed"),
        ({"parent": "q", "base": "sha256:bb", "base_name": "debian"}, "debian moved from aa to bb"),
        ({"op": OP | {"env": [["A", "2"]]}}, "the value of A changed"),
        ({"op": OP | {"env": [["A", "1"], ["B", "2"]]}}, "the variable B is new"),
        ({"op": OP | {"env": []}}, "the variable A is gone"),
        ({"op": OP | {"user": "app"}}, "USER changed"),
        ({"op": OP | {"cwd": "/w"}}, "WORKDIR changed"),
        ({"op": OP | {"args": ["y"]}, "parent": "q"}, "the command changed"),
        ({"op": OP | {"chown": "1"}}, "the owner changed"),
        ({"op": OP | {"chmod": "7"}}, "the mode changed"),
        ({"op": OP | {"destination": "/b"}}, "the destination changed"),
    ],
)  # fmt: skip
def test_what_changed(now: dict[str, Any], reason: str) -> None:
    assert explain(BEFORE, BEFORE | now) == reason


def test_the_nearest_instruction_of_the_last_build_is_compared(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.db")
    cache = Cache(records)
    trail = [
        TrailEntry("s", 1, "RUN x", "near"),
        TrailEntry("s", 5, "RUN x", "far"),
        TrailEntry("t", 2, "RUN y", "other"),
    ]
    with records.transaction() as tx:
        cache.record(tx, "near", BEFORE | {"parent": "q"})
        cache.record(tx, "far", BEFORE)
    cache.save_trail("name", trail)
    trail = cache.trail("name")

    assert cache.reason(trail, "s", 2, "RUN x", BEFORE) == "a step before it changed"
    assert cache.reason(trail, "s", 1, "RUN z", BEFORE) == "the instruction changed"
    assert cache.reason(trail, "s", 9, "RUN z", BEFORE) == ""
    assert cache.reason(trail, "t", 2, "RUN y", BEFORE) == "its layer is no longer in the store"
    assert cache.trail("another") == []
    records.close()
