"""``fsck``: is every blob, image, layer and record what it should be, and what did processes that died leave behind.

Leftovers are taken away, and what is derived is derived again; nothing that holds content goes. With ``repair`` damaged
layers and records go, too, as far as they can be made again. Safe beside other processes: what they work on is theirs,
and what they change while it is looked at is looked at again.
"""

from __future__ import annotations

from pathlib import Path

from dockermagic.errors import DockermagicError
from dockermagic.fsck.content import Content
from dockermagic.fsck.findings import Finding, Notes, Report
from dockermagic.fsck.layers import Layers
from dockermagic.fsck.leftovers import Leftovers, Remove
from dockermagic.oci.store import Store
from dockermagic.records import Records
from dockermagic.sandbox.base import Sandbox
from dockermagic.settings import settings

__all__ = ["Finding", "Report", "check"]


def check(
    home: Path,
    records: Records,
    sandbox: Sandbox | None,
    *,
    repair: bool = False,
    quick: bool = False,
    why_not: str = "",
) -> Report:
    """Look through the store at ``home``. Never raises for what it finds.

    ``sandbox`` may be None where there is none (``why_not`` says why): then layers are not looked into. ``quick``
    leaves out everything that reads whole files.
    """
    notes = Notes()
    if not _records(records, notes):
        return notes.report()
    remove = Remove(sandbox)
    Leftovers(home, notes, remove).clear()
    store = Store(home, records, settings().shared)
    Content(store, notes, quick=quick).check()
    Layers(home, records, sandbox, notes, remove, repair=repair, quick=quick).check()
    if sandbox is None:
        notes.note("snapshots", f"not looked into: {why_not}")
    return notes.report()


def _records(records: Records, notes: Notes) -> bool:
    """SQLite's own look at its file; False where nothing more can be learnt from it."""
    hint = (
        f"Move {records.path} away (with its -wal and -shm): images are found again with `load`, from archives or as"
        f" the image layout that {records.home} is."
    )
    try:
        problems = [str(row[0]) for row in records.rows("PRAGMA integrity_check(20)") if row[0] != "ok"]
        strays = records.rows("PRAGMA foreign_key_check")
    except DockermagicError as error:
        notes.damage(records.path.name, error.message, hint=hint)
        return False
    for problem in problems:
        notes.damage(records.path.name, problem, hint=hint)
    for row in strays:
        notes.damage(records.path.name, f"a row of {row[0]} refers to one of {row[2]} that is not there", hint=hint)
    return not problems
