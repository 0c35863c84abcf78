"""What processes that died could not take away: unfinished files and directories that no living process holds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dockermagic.build.locks import Lock
from dockermagic.errors import DockermagicError, StoreError
from dockermagic.fsck.findings import Notes
from dockermagic.oci import lock
from dockermagic.sandbox.base import Sandbox

__all__ = ["Leftovers", "Remove", "remove_home"]

_DIED = "left by a process that died"
_KNOWN = {
    *("blobs", "blobs.lock", "index.json", "index.lock", "ingest", "leases", "locks", "oci-layout"),
    *("store.db", "store.db-journal", "store.db-shm", "store.db-wal", "reserve", "steps.lock", "mnt", "snapshots"),
    *("cache-mounts", "containers", "contexts", "downloads", "empty", "git", "sessions", "volumes", "config.json"),
}


def _is_own(name: str) -> bool:
    return name in _KNOWN or name.startswith(("probe-", "steps.lock."))


class Remove:
    """Removes trees whatever ids their files have, through the sandbox where it is needed."""

    def __init__(self, sandbox: Sandbox | None) -> None:
        self.sandbox = sandbox

    def __call__(self, path: Path) -> str:
        """Remove a file or a directory; '' or why it could not be."""
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            elif self.sandbox is not None:
                self.sandbox.call("dockermagic.sandbox.trees:delete", paths=[str(path)])
            else:
                return "its files may have ids that need a sandbox"
        except OSError as error:
            return error.strerror or str(error)
        except DockermagicError as error:
            return error.message
        return ""


def remove_home(home: Path, sandbox: Sandbox | None) -> None:
    """Remove all of a home that is dockermagic's, whatever ids it has, the records last. Raises StoreError.

    What somebody else put there stays.
    """
    remove = Remove(sandbox)
    own = [path for path in sorted(home.iterdir()) if _is_own(path.name)]
    own.sort(key=lambda path: path.name.startswith("store.db"))
    for path in own:
        with contextlib.suppress(OSError):
            path.rmdir()  # an empty one, such as what the sandbox mounts over inside
            continue
        if problem := remove(path):
            raise StoreError(f"cannot remove {path}: {problem}")
    with contextlib.suppress(OSError):
        home.rmdir()


class Leftovers:
    """One look through a home for what nobody living holds."""

    def __init__(self, home: Path, notes: Notes, remove: Remove) -> None:
        self.home = home
        self.notes = notes
        self.remove = remove

    def clear(self) -> None:
        """Take everything away that is left. Layers are not looked at here."""
        for part in ("ingest", "leases"):
            for path in self._in(part):
                self._file(path)
        for path in self._in("downloads"):
            if path.name.startswith("."):
                self._file(path)
            elif re.fullmatch(r"[0-9a-f]{64}", path.name):
                self._download(path)
        for path in (*self._in("git"), *self._in("contexts")):
            if re.fullmatch(r"(checkout|stdin)-[0-9a-f]+(\.d)?", path.name):
                self._file(path, path.with_suffix(""))
        for path in self._in("cache-mounts"):
            making = Lock(path.parent / ".lock", path.name)
            if path.name.endswith(".new") and making.try_acquire():
                self._gone(path)
                making.release()
        self.notes.count("cache mounts", sum(path.is_dir() for path in self._in("cache-mounts")))
        self._containers()
        self._sessions()
        if os.path.isdir(self.home / "mnt") and os.listdir(self.home / "mnt"):
            self.notes.damage("mnt", "is not empty: something is mounted or was written there", hint="Look into it.")
        for path in self._in(""):
            if not _is_own(path.name):
                self.notes.note(path.name, "is nothing of dockermagic's")

    def _in(self, part: str) -> list[Path]:
        folder = self.home / part
        try:
            return sorted(folder / name for name in os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _file(self, path: Path, held_by: Path | None = None) -> None:
        """Remove it unless somebody living holds the lock on it (or on what stands for it)."""
        with _unheld(held_by or path) as free:
            if free:
                self._gone(path)

    def _gone(self, path: Path) -> None:
        place = str(path.relative_to(self.home))
        problem = self.remove(path)
        if problem:
            self.notes.note(place, f"{_DIED}, and cannot be removed: {problem}")
        else:
            self.notes.leftover(place, _DIED)

    def _download(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            self.notes.count("downloads")
            if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
                path.unlink()
                self.notes.damage(
                    f"downloads/{path.name}", "is not what was fetched", mended="removed; it is fetched again"
                )

    def _containers(self) -> None:
        for path in self._in("containers"):
            if not path.is_dir() or path.name == ".names":
                continue
            self.notes.count("containers")
            if path.name.startswith("rm-") or not (path / "state.json").is_file():
                with lock.hold(self.home / "containers/.lock"):
                    self._file(path, path / "lock")
            else:
                for part in path.glob(".*.json.*"):
                    self._file(part, path / "lock")
        with lock.hold(self.home / "containers/.lock") if self._in("containers/.names") else contextlib.nullcontext():
            for name in self._in("containers/.names"):
                if not name.exists():
                    self._gone(name)

    def _sessions(self) -> None:
        for path in self._in("sessions"):
            if path.suffix == ".json":
                self.notes.count("sessions")
                self._session(path)
            elif found := re.fullmatch(r"\.(.+)\.json\.[0-9a-f]{8}", path.name):
                self._file(path, path.with_name(f"{found[1]}.lock"))

    def _session(self, path: Path) -> None:
        try:
            if not isinstance(json.loads(path.read_bytes())["chain"]["cells"], list):
                raise TypeError
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            self.notes.damage(
                f"sessions/{path.name}", "cannot be read", hint="In its notebook, `%dockerfile reset` begins it anew."
            )


@contextlib.contextmanager
def _unheld(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of this file or directory; inside the block nobody can take it."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        yield lock.claim(fd, wait=False)
    finally:
        os.close(fd)
