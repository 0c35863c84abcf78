"""Root filesystems as plain directories, where no overlay can be mounted: layers put together, changes found by a walk.

::

    BASE/trees/<way>-<n>/fs              a working tree: what a stack of layers makes together
    BASE/trees/<way>-<n>/ownership.json  the owners of what carries no attribute, as beside a layer
    BASE/trees/<way>-<n>/layers.json     the layers that it holds, and the paths that each of them touches
    BASE/trees/<way>-<n>/record          what every path looked like when it was last clean
    BASE/trees/<way>-<n>/used            there while somebody works in it, and after he died: the layer that it is for

A tree is locked while it is in use. To hold another stack it is rewound: only the paths that the layers above the
common ones touch are put back, each from the topmost layer that has it, besides those that differ from the record.
A path differs if its size, times, inode, mode or owner do; one with another ctime alone is compared with the layers.
Nothing is linked to the layers, since a program may write in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dockermagic.errors import SandboxError
from dockermagic.oci.lock import claim
from dockermagic.oci.overlay import Stack, is_opaque, ownership_file
from dockermagic.sandbox import tree_record
from dockermagic.sandbox.base import Rootfs
from dockermagic.sandbox.leftovers import own_files
from dockermagic.sandbox.transplant import Transplant, same
from dockermagic.sandbox.tree_record import Row, row_of, rows_below
from dockermagic.sandbox.trees import NETWORK_FILES, open_up, walk

__all__ = ["WorkTree", "check_out", "copy_changes", "find_used"]

_VERSION = 2
_CLOCK_REALTIME_COARSE = 5  # what file systems tell the time by
_MOST = 6
_SETTLE_SECONDS = 0.05
_KNOWN_TOUCHED = 20_000


def check_out(base: str, way: str, rootfs: Rootfs, check: Callable[[], object] = lambda: None) -> WorkTree:
    """A working tree that holds ``rootfs``, locked for the caller, who releases it.

    ``check`` is called now and then and may raise to give up.
    """
    lowers = [str(lower) for lower in rootfs.lowers]
    if rootfs.upper is not None and any(os.scandir(rootfs.upper)):
        lowers.append(str(rootfs.upper))
    identities = [_identity(lower) for lower in lowers]
    tree = _best(Path(base, "trees"), way, identities)
    try:
        tree.hold(lowers, identities, check)
        tree.stack = [str(lower) for lower in rootfs.lowers]
        tree.upper = str(rootfs.upper) if rootfs.upper is not None else None
        (tree.place / "used").write_text(tree.upper or "")
        return tree
    except BaseException:
        tree.release()
        raise


def copy_changes(root: str, lowers: list[str], upper: str, target: str) -> None:
    """:meth:`WorkTree.copy_changes` of the tree at ``root``, which was checked out by whoever works in it."""
    tree = WorkTree(Path(root).parent, -1)
    tree.stack, tree.upper = lowers, upper
    tree.copy_changes(target)


def find_used(base: str, way: str, rootfs: Rootfs) -> Path | None:
    """The working tree in which somebody runs with this root filesystem right now."""
    for note in Path(base, "trees").glob(f"{way}-*/used"):
        with contextlib.suppress(OSError):
            if note.read_text() == str(rootfs.upper) and _is_locked(note.parent):
                return note.parent / "fs"
    return None


def _is_locked(place: Path) -> bool:
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return not claim(held, shared=True, wait=False)
    finally:
        os.close(held)


def _identity(layer: str) -> str:
    """Tells layers apart: a committed one never changes, and another directory was never changed at the same moment."""
    found = os.stat(layer)
    return f"{found.st_ino}-{found.st_ctime_ns}"


def _best(folder: Path, way: str, identities: list[str]) -> WorkTree:
    """The free tree that takes the least work; a new one where every free one holds something else altogether."""
    folder.mkdir(mode=0o700, exist_ok=True)
    free: list[tuple[int, WorkTree]] = []
    number = 0
    while True:
        place = folder / f"{way}-{number}"
        number += 1
        if not place.exists():
            break
        if (tree := WorkTree.lock(place)) is not None:
            free.append((tree.common(identities), tree))
    best = max(free, key=lambda item: item[0], default=None)
    if best is None or (not best[0] and best[1].layers and number <= _MOST):
        for _, tree in free:
            tree.close()
        while True:
            place.mkdir(mode=0o700, exist_ok=True)
            if (made := WorkTree.lock(place)) is not None:
                return made
            place = folder / f"{way}-{number}"
            number += 1
    for _, tree in free:
        if tree is not best[1]:
            tree.close()
    return best[1]


class WorkTree:
    """A locked working tree. ``path`` is the root filesystem; :meth:`keep` takes what was changed into a layer."""

    def __init__(self, place: Path, lock: int) -> None:
        self.place = place
        self.path = str(place / "fs")
        self._lock = lock
        self.stack: list[str] = []
        self.upper: str | None = None
        self.layers: list[str] = []
        self._touched: dict[str, list[str]] = {}
        self._record: dict[str, Row] = {}
        self._clean = False
        self._directories: list[str] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            head = json.loads((place / "layers.json").read_text())
            if head["version"] == _VERSION:
                self.layers, self._touched = head["layers"], head["touched"]

    @classmethod
    def lock(cls, place: Path) -> WorkTree | None:
        """The tree at a place, if nobody uses it."""
        try:
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if claim(held, wait=False):
            return cls(place, held)
        os.close(held)
        return None

    def close(self) -> None:
        """Let go of a tree that was not used."""
        os.close(self._lock)

    def common(self, identities: Sequence[str]) -> int:
        """How many layers from the bottom up are those wanted."""
        count = 0
        for one, other in zip(self.layers, identities, strict=False):
            if one != other:
                break
            count += 1
        return count

    # --- making it hold a stack

    def hold(self, lowers: Sequence[str], identities: list[str], check: Callable[[], object]) -> None:
        """Make the tree hold these layers, and mark it as used."""
        used = self.place / "used"
        dirty = used.exists()
        used.touch()
        if not self._read_record():
            self.layers = []
        count = self.common(identities)
        touched = self._touched_above(count, identities, lowers)
        if touched is None:
            self._fill(lowers, check)
            self._remember(identities, lowers)
        elif touched or dirty or self.layers != identities:
            if dirty:
                touched |= self._differing(self._walk())
            self._rewind(lowers, touched, check)
            # What was replaced may have given its other names another ctime, which does no harm.
            self._record = (None if dirty else self._looked_again(touched)) or self._walk()
            self._remember(identities, lowers)
        self._settle()

    def _touched_above(self, count: int, identities: list[str], lowers: Sequence[str]) -> set[str] | None:
        """The paths that differ between what is here and what is wanted; None where nobody knows any more."""
        if count == 0 and (self.layers or identities):
            return None
        found: set[str] = set()
        for identity in self.layers[count:]:
            if identity not in self._touched:
                return None
            found.update(self._touched[identity])
        for lower, identity in zip(lowers[count:], identities[count:], strict=True):
            self._touched[identity] = _touched(lower)
            found.update(self._touched[identity])
        return found

    def _rewind(self, lowers: Sequence[str], touched: set[str], check: Callable[[], object]) -> None:
        with contextlib.closing(Stack(lowers)) as stack:
            transplant = Transplant(stack, self.path, ownership_file(self.path), check)
            for path in sorted(touched):
                transplant.put(path)
            transplant.finish()

    def _looked_again(self, touched: set[str]) -> dict[str, Row] | None:
        """The record after these paths of a clean tree were put back; None where a directory came or went with them."""
        names = {""}
        for path in touched:
            path = path.rstrip("/")
            while path not in names:
                names.add(path)
                path = path.rpartition("/")[0]
        rows = dict(self._record)
        for path in sorted(names):
            known = rows.pop(path, None)
            if not path or _is_directory(rows.get(path.rpartition("/")[0])):
                with contextlib.suppress(FileNotFoundError):
                    rows[path] = row_of(os.lstat(f"{self.path}/{path}"))
            is_directory = _is_directory(rows.get(path))
            if is_directory != _is_directory(known) or (is_directory and f"{path}/" in touched):
                return None
        return rows

    def _fill(self, lowers: Sequence[str], check: Callable[[], object]) -> None:
        shutil.rmtree(self.path, onerror=open_up)
        Path(ownership_file(self.path)).unlink(missing_ok=True)
        os.mkdir(self.path, 0o755)
        if lowers:
            with contextlib.closing(Stack(lowers)) as stack:
                transplant = Transplant(stack, self.path, ownership_file(self.path), check)
                transplant.put("")
                transplant.finish()
        self._record = self._walk()

    def _settle(self) -> None:
        """Wait for the clock of the file system to move on: what is changed from now on has a later ctime."""
        newest = max((row[-1] for row in self._record.values()), default=0)
        end = time.monotonic() + _SETTLE_SECONDS
        while _clock() <= newest and time.monotonic() < end:
            time.sleep(0.0005)

    # --- the record

    def _read_record(self) -> bool:
        rows = tree_record.read(self.place / "record")
        self._record = rows or {}
        return rows is not None

    def _remember(self, identities: list[str], lowers: Sequence[str], *, record: bool = True) -> None:
        """Write down what the tree holds, and that it is clean as soon as ``used`` is gone."""
        self.layers = list(identities)
        for identity, lower in zip(identities[1:], lowers[1:], strict=True):
            if identity not in self._touched:
                self._touched[identity] = _touched(lower)
        self._touched = {
            identity: paths
            for identity, paths in self._touched.items()
            if identity in identities and len(paths) <= _KNOWN_TOUCHED
        }
        if record:
            tree_record.write(self.place / "record", self._record)
        _write(self.place / "layers.json", {"version": _VERSION, "layers": self.layers, "touched": self._touched})

    def _walk(self) -> dict[str, Row]:
        return {"": row_of(os.lstat(self.path)), **dict(rows_below(self.path))}

    def _differing(self, now: dict[str, Row]) -> set[str]:
        known = self._record.get
        return {path for path, row in now.items() if known(path) != row} | (self._record.keys() - now.keys())

    # --- taking changes

    def keep(self, own: tuple[int, int] | None = None, except_for: Iterable[str] = ()) -> None:
        """Copy what was changed since the tree was checked out into the upper layer; the tree holds that one then.

        What is new belongs to the ids ``own`` where they are given, but for the paths of ``except_for``.
        """
        assert self.upper is not None
        now = self._walk()
        changed = self._changed(now)
        if own is not None:
            spared = set(except_for)
            own_files(
                self.path, [path for path in changed if self._is_new(path, now) and f"/{path}" not in spared], own
            )
            now = self._walk()
        try:
            self._copy_out(changed, self.upper)
        except PermissionError as error:
            closed = [path for path, row in now.items() if _is_directory(row) and row[0] & 0o700 != 0o700]
            if not closed:
                raise
            raise SandboxError(
                f"/{closed[0]} is a directory that its own mode closes ({stat.S_IMODE(now[closed[0]][0]):03o}): "
                "without privileges it cannot be read for the layer",
                hint="Leave its owner all rights (chmod u+rwx), or use namespaces: 'dockermagic info' says how.",
            ) from error
        is_same = now == self._record
        self._record = now
        identities = self.layers[: len(self.stack)]
        before = self._touched.get(self.layers[-1], []) if len(self.layers) > len(self.stack) else []
        identities.append(_identity(self.upper))
        self._touched[identities[-1]] = sorted({*before, *changed})
        self._remember(identities, [*self.stack, self.upper], record=not is_same)
        self._clean = True

    def copy_changes(self, target: str) -> None:
        """Make ``target`` a layer of what this tree has besides its stack, though somebody works in it.

        What comes and goes meanwhile may be missing there, and what the sandbox itself put there is.
        """
        assert self.upper is not None
        self._read_record()
        os.mkdir(target, 0o755)
        paths = {path.rstrip("/"): path for path in sorted({*self._changed(self._walk()), *_touched(self.upper)})}
        theirs = [
            path for name, path in paths.items() if name.split("/")[0] != "dev" and f"/{name}" not in NETWORK_FILES
        ]
        self._copy_out(sorted(theirs), target)

    def _copy_out(self, paths: Sequence[str], layer: str) -> None:
        with contextlib.closing(Stack(self.stack)) as below, contextlib.closing(Stack([self.path])) as source:
            transplant = Transplant(source, layer, ownership_file(layer), lambda: None, below)
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # somebody works here, and has just removed it
                    transplant.put(path)
            transplant.finish()

    def _changed(self, now: dict[str, Row]) -> list[str]:
        differing = self._differing(now)
        if not differing:
            return []
        layers = [*self.stack, *([self.upper] if self.upper and len(self.layers) > len(self.stack) else [])]
        compared: dict[tuple[int, int], bool] = {}
        with contextlib.closing(Stack(layers)) as before, contextlib.closing(Stack([self.path])) as tree:
            changed = {
                path for path in differing if not (self._is_alike(path, now) and same(before, path, tree, compared))
            }
        return sorted(changed | self._linked(differing - changed, changed, now))

    def _linked(self, alike: set[str], changed: set[str], now: dict[str, Row]) -> set[str]:
        """The paths that are as they were, but got a further name, for which overlayfs copies a file up.

        Of a file that had several before, nobody can tell which of them was linked: none of them is copied.
        """
        linked = {now[path][3] for path in alike} & {now[path][3] for path in changed if path in now}
        if not linked:
            return set()
        names = Counter(row[3] for row in self._record.values() if row[3] in linked)
        return {path for path in alike if names[now[path][3]] == 1}

    def _is_new(self, path: str, now: dict[str, Row]) -> bool:
        before, after = self._record.get(path), now.get(path)
        return after is not None and (before is None or before[3] != after[3])

    def _is_alike(self, path: str, now: dict[str, Row]) -> bool:
        """Whether all that tells a path's state is as it was, but for its ctime."""
        after, known = now.get(path), self._record.get(path)
        if after is None or known is None:
            return False
        if _is_directory(after):  # its size says nothing
            return (after[0], *after[2:-1]) == (known[0], *known[2:-1])
        return after[:-1] == known[:-1]

    def clean(self) -> None:
        """Nothing was changed: promised by a caller who has only read."""
        self._clean = True

    def release(self) -> None:
        """Let go of it. What was not kept is undone by whoever checks it out next."""
        if self._clean:
            (self.place / "used").unlink(missing_ok=True)
        self.close()


def _is_directory(row: Row | None) -> bool:
    return row is not None and stat.S_ISDIR(row[0])


def _clock() -> int:
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def _write(path: Path, value: object) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(value, separators=(",", ":")))
    aside.replace(path)


def _touched(layer: str) -> list[str]:
    """Every path that a layer has or removes; one that hides all below it, as any file does, with a trailing slash."""
    found = [""]
    for path, entry in walk(layer):
        merges = entry.is_dir(follow_symlinks=False) and not is_opaque(entry.path)
        found.append(path if merges else f"{path}/")
    return found
