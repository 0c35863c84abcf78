"""Snapshots: one directory for each layer, and how a new one comes to be.

::

    HOME/snapshots/<id>/fs           a committed layer, never changed again
    HOME/snapshots/tmp-<parent>-<x>  one that is being made, or goes away; locked by the process that makes it

A committed snapshot has a row. Commit renames the directory and writes the row in one transaction: a directory without
a row, like one under a name of its own without a living lock, is what a dead process left, and
:meth:`Snapshotter.sweep` clears it. Nothing is written through to the disk at commit; a row remembers the boot in
which it was made until a sync, and does not survive a restart of the machine before that.

This module describes mounts and performs none.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from dockermagic.errors import SandboxError, StoreError
from dockermagic.oci import disk
from dockermagic.oci.lock import BESIDE, claim, open_directory
from dockermagic.records import Records
from dockermagic.sandbox.base import Rootfs, Sandbox
from dockermagic.sandbox.snapshot_index import Snapshot, SnapshotIndex
from dockermagic.values import dataclass, field

__all__ = ["Active", "Leftovers", "Snapshot", "Snapshotter"]

_SYNC_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a sweep cleared: rows by their id, ``gone`` with their directory or ``unsynced`` when the machine went down,
    and the names of directories.
    """

    lost: dict[int, str]
    directories: tuple[str, ...]


@dataclass(slots=True)
class Active:
    """A layer that is being made; ``rootfs`` is what to mount. Commit or discard it, once."""

    directory: Path
    rootfs: Rootfs
    parent: Snapshot | None
    lock: int = field(repr=False)

    @property
    def upper(self) -> Path:
        """The directory that takes the changes."""
        return self.directory / "fs"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _attributes(directory: Path) -> list[str]:
    """The extended attributes of a directory that are not overlayfs's own notes."""
    return [name for name in os.listxattr(directory) if not name.startswith("user.overlay.")]


class Snapshotter(SnapshotIndex):
    """Makes and removes the snapshots of one store and one id mode. Thread-safe; many processes may share the store."""

    def __init__(self, home: Path, records: Records, sandbox: Sandbox) -> None:
        super().__init__(home / "snapshots", records, sandbox.mode)
        self.sandbox = sandbox
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self.base.mkdir(parents=True, exist_ok=True)

    # --- making

    def prepare(self, parent: Snapshot | None) -> Active:
        """An empty layer on top of ``parent`` (None: on nothing). Raises StoreError if the parent is gone."""
        lowers = self.chain(parent)
        directory, lock = self._new(parent.id if parent else 0)
        try:
            upper = directory / "fs"
            disk.make_root(str(upper))
            if lowers:
                # Looked at only now: a removal either sees the name of this directory, or this look sees it gone.
                self._like(lowers[-1], upper)
            return Active(directory, Rootfs(lowers, upper), parent, lock)
        except BaseException as error:
            self.discard(Active(directory, Rootfs(), parent, lock))
            if isinstance(error, FileNotFoundError):
                raise StoreError(f"snapshot {parent.id if parent else 0} is gone", hint="Run it again.") from error
            raise

    def _new(self, parent: int) -> tuple[Path, int]:
        """A locked directory that names what it stands on."""
        while True:
            directory = self.base / f"tmp-{parent}-{os.urandom(6).hex()}"
            os.mkdir(directory, 0o755)
            with contextlib.suppress(FileNotFoundError):
                lock = open_directory(directory)
                if claim(lock, wait=False) and os.fstat(lock).st_nlink:
                    return directory, lock
                # A sweep found it before it was locked, and is removing it.
                os.close(lock)

    def _like(self, below: Path, upper: Path) -> None:
        """The root directory of an overlay is the upper one: it must look like the one below."""
        found = None if disk.RECORDED else os.stat(below)
        if found is None or found.st_uid != os.geteuid() or found.st_gid != os.getegid() or _attributes(below):
            self.sandbox.call("dockermagic.sandbox.trees:copy_attributes", source=str(below), target=str(upper))
        else:
            os.chmod(upper, stat.S_IMODE(found.st_mode))
            os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))

    def commit(
        self, active: Active, key: str, *, size: int | None = None, replace: bool = False, created: float | None = None
    ) -> Snapshot:
        """Make it a snapshot under ``key``: atomic, and joins a transaction of this thread.

        If another process committed the same key meanwhile, this one is thrown away and that one returned; with
        ``replace`` this one takes the key, and the other stays for what stands on it. ``created`` is when its layer
        was made, where that was not now, in seconds since the epoch.
        """
        parent = active.parent.id if active.parent else None
        with self.records.transaction() as transaction:
            row = transaction.execute("SELECT * FROM snapshots WHERE key = ? AND mode = ?", (key, self.mode)).fetchone()
            if row is not None and replace:
                transaction.execute("UPDATE snapshots SET key = key || '#' || id WHERE id = ?", (row["id"],))
                row = None
            if row is None:
                created = time.time() if created is None else created
                cursor = transaction.execute(
                    "INSERT INTO snapshots (key, mode, parent, size, created, boot) VALUES (?, ?, ?, ?, ?, ?)",
                    (key, self.mode, parent, size, created, _boot()),
                )
                identity = cursor.lastrowid
                assert identity is not None
                target = self.base / str(identity)
                self._make_way(target)
                os.rename(active.directory, target)
                active.directory = target
                self.records.after_commit(lambda: self._committed(active))
                return Snapshot(identity, key, self.mode, parent, size, created, target)
        self.discard(active)
        return self._snapshot(row)

    def _make_way(self, target: Path) -> None:
        """Move a directory aside that a transaction left which never ended: the id is free, and given again."""
        if os.path.lexists(target):
            aside = self._aside(target)
            self.records.after_commit(lambda: self._try_delete([aside]))

    def _aside(self, directory: Path) -> Path:
        """Give a directory a name under which a sweep takes it."""
        place = self.base / f"tmp-0-{os.urandom(6).hex()}"
        os.rename(directory, place)
        return place

    def _committed(self, active: Active) -> None:
        lock, active.lock = active.lock, -1
        os.close(lock)
        self._sync_later()

    def discard(self, active: Active) -> None:
        """Throw a layer away, unless its commit came to its end. Idempotent.

        What cannot be removed now is left to a sweep.
        """
        if active.lock < 0:
            return
        lock, active.lock = active.lock, -1
        try:
            if active.directory.name.isdigit():
                self._undo(active, lock)
            self._try_delete([active.directory])
        finally:
            os.close(lock)

    def _undo(self, active: Active, lock: int) -> None:
        """For a commit whose transaction was undone after the rename: the directory is no snapshot any more."""
        with self.records.transaction() as transaction:
            row = transaction.execute("SELECT 1 FROM snapshots WHERE id = ?", (active.directory.name,)).fetchone()
            with contextlib.suppress(FileNotFoundError):
                # The id may have been given again: then ours was moved aside, and what lies there is another one.
                if row is None and os.path.samestat(os.stat(active.directory), os.fstat(lock)):
                    active.directory = self._aside(active.directory)
                    return
            active.directory = self.base / "tmp-0-gone"

    @contextlib.contextmanager
    def hold(self, snapshot: Snapshot) -> Iterator[None]:
        """Keep a snapshot and what is below it from being removed by anybody, as an Active above it does."""
        directory, lock = self._new(snapshot.id)
        try:
            if not snapshot.fs.is_dir():
                raise StoreError(f"snapshot {snapshot.id} is gone", hint="Run it again.")
            yield
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(directory)
            os.close(lock)

    def size(self, snapshot: Snapshot) -> int:
        """The bytes of a snapshot's own files, measured once."""
        if snapshot.size is not None:
            return snapshot.size
        size = int(self.sandbox.call("dockermagic.sandbox.trees:measure", path=str(snapshot.fs)))
        with self.records.transaction() as transaction:
            transaction.execute("UPDATE snapshots SET size = ? WHERE id = ?", (size, snapshot.id))
        return size

    # --- removing

    def remove(self, ids: Iterable[int]) -> list[int]:
        """Remove snapshots; the ids that went. Those stay that somebody works on, and those that others stand on."""
        wanted = set(ids)
        moved: list[Path] = []
        with self.records.transaction() as transaction:
            rows = transaction.execute("SELECT id, parent FROM snapshots").fetchall()
            parents = {row["id"]: row["parent"] for row in rows}
            wanted &= set(parents)
            kept = self._in_use(parents)
            for i in parents:
                if i not in wanted:
                    _add_line(i, parents, kept)
            wanted -= kept
            # Moved before the second look: see prepare.
            places = {i: self.base / f"tmp-0-{os.urandom(6).hex()}" for i in wanted}
            for i, place in places.items():
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self.base / str(i), place)
            late = self._in_use(parents) & wanted
            for i in late:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(places.pop(i), self.base / str(i))
            wanted -= late
            transaction.executemany("DELETE FROM snapshots WHERE id = ?", [(i,) for i in wanted])
            moved = list(places.values())
        for i in wanted:
            self._chains.pop(i, None)
        self._delete(moved)
        return sorted(wanted)

    def _in_use(self, parents: dict[int, int | None]) -> set[int]:
        """Every snapshot that a living process builds upon."""
        used: set[int] = set()
        for entry in os.listdir(self.base):
            if not entry.startswith("tmp-") or entry.endswith(BESIDE):
                continue
            if (fd := self._take_over(self.base / entry)) is not None:
                os.close(fd)
                continue
            _add_line(int(entry.split("-")[1]), parents, used)
        return used

    @staticmethod
    def _take_over(path: Path) -> int | None:
        """The locked descriptor of a directory that nobody living works in; None if somebody does or it is gone."""
        try:
            fd = open_directory(path)
        except OSError:
            return None
        if claim(fd, wait=False):
            return fd
        os.close(fd)
        return None

    def _delete(self, paths: list[Path]) -> None:
        present = [path for path in paths if os.path.lexists(path)]
        if present:
            self.sandbox.call("dockermagic.sandbox.trees:delete", paths=[str(path) for path in present])

    def _try_delete(self, paths: list[Path]) -> None:
        """Delete what can be deleted; the rest is found again by every sweep, and told by fsck."""
        with contextlib.suppress(SandboxError, StoreError):
            self._delete(paths)

    def sweep(self) -> Leftovers:
        """Clear what dead processes and a restart of the machine left. For the start."""
        if self._is_clean():
            return Leftovers({}, ())
        with self.records.transaction() as transaction:
            rows = transaction.execute("SELECT id, parent, boot FROM snapshots ORDER BY id").fetchall()
            lost: dict[int, str] = {}
            present = set(os.listdir(self.base))
            for row in rows:
                if row["boot"] not in ("", _boot()) or lost.get(row["parent"]) == "unsynced":
                    lost[row["id"]] = "unsynced"
                elif str(row["id"]) not in present or row["parent"] in lost:
                    lost[row["id"]] = "gone"
            transaction.executemany("DELETE FROM snapshots WHERE id = ?", [(i,) for i in lost])
            known = {str(row["id"]) for row in rows if row["id"] not in lost}
            dead, locks = [], []
            for name in present - known:
                if name.endswith(BESIDE):
                    with contextlib.suppress(OSError):  # what somebody holds cannot be removed where there are any
                        os.unlink(self.base / name)
                elif name.isdigit():
                    dead.append(self._aside(self.base / name))
                elif name.startswith("tmp-") and (fd := self._take_over(self.base / name)) is not None:
                    dead.append(self.base / name)
                    locks.append(fd)
        self._chains.clear()
        try:
            self._try_delete(dead)
        finally:
            for fd in locks:
                os.close(fd)
        return Leftovers(lost, tuple(path.name for path in dead))

    def _is_clean(self) -> bool:
        """Whether every row has its directory and every directory its row, as they nearly always have.

        A commit or a removal that comes between the two looks lets one be missing; it never hides that one is.
        """
        if self.records.row("SELECT 1 FROM snapshots WHERE boot NOT IN ('', ?)", (_boot(),)) is not None:
            return False
        ((ids,),) = self.records.rows("SELECT group_concat(id) FROM snapshots")  # thousands of rows take longer
        known = set(ids.split(",")) if ids else set[str]()
        present = set(os.listdir(self.base))
        return known <= present and not any(name.isdigit() or name.startswith("tmp-") for name in present - known)

    # --- the disk

    def _sync_later(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(_SYNC_SECONDS, self.sync)
                self._timer.daemon = True
                self._timer.start()

    def sync(self) -> None:
        """Write every snapshot committed so far through to the disk, so that it survives a crash of the machine."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        rows = self.records.rows("SELECT id FROM snapshots WHERE boot = ?", (_boot(),))
        if not rows:
            return
        try:
            self._sync()
        except FileNotFoundError:
            return  # the whole store has been removed
        # Where it cannot be noted (the disk is full) they count as not written: that is safe, and no build has failed.
        with contextlib.suppress(StoreError), self.records.transaction() as transaction:
            transaction.executemany("UPDATE snapshots SET boot = '' WHERE id = ?", [(row["id"],) for row in rows])

    def _sync(self) -> None:
        if not hasattr(os, "sync"):
            return  # Windows has nothing for a whole disk
        if disk.RECORDED:
            os.sync()
            return
        from dockermagic.sandbox import syscalls

        fd = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Sync what was committed. Idempotent."""
        if self._timer is not None:
            self.sync()


def _add_line(identity: int | None, parents: Mapping[int, int | None], found: set[int]) -> None:
    """Add a snapshot and all below it, 0 being none. Of what is in ``found`` all below is in it, too."""
    while identity and identity not in found:
        found.add(identity)
        identity = parents.get(identity)
