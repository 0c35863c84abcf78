"""Sessions on disk: one JSON file each below ``HOME/sessions``, replaced atomically, locked by the operating system.

A file holds the chain, the chains before it (for undo) and whose it is: a list of all their cells, and each chain as
places in it. Locks belong to a process and die with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dockermagic.errors import BuildInterruptedError, SessionError, StoreError, full_disk_error, is_full
from dockermagic.session.chain import Cell, Chain
from dockermagic.values import dataclass, fields, replace
from dockermagic.wholefile import write_whole

__all__ = ["SessionFile", "SessionName", "SessionStore", "State"]

EMPTY = Chain()
VERSION = 2
KEPT_CHAINS = 50
_FIELDS = tuple(field.name for field in fields(Cell))
KEPT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class SessionName:
    """Whose session it is: ``kind`` notebook (``value`` is its path), named (by the person) or kernel (its id)."""

    kind: str
    value: str

    def __str__(self) -> str:
        return Path(self.value).stem if self.kind == "notebook" else self.value

    @property
    def filename(self) -> str:
        """A name for its file: readable, and different for different sessions."""
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", str(self)).strip("-.")[:40] or "session"
        return f"{readable}-{hashlib.sha256(f'{self.kind}:{self.value}'.encode()).hexdigest()[:12]}.json"


@dataclass(frozen=True, slots=True)
class State:
    """A session as it stands: its chain, and the chains that it had before, the newest last."""

    chain: Chain = EMPTY
    past: tuple[Chain, ...] = ()

    def then(self, chain: Chain) -> State:
        """The state with another chain; the one before is kept for undo if the Dockerfile is another now."""
        changed = _dockerfile(chain) != _dockerfile(self.chain)
        return State(chain, (*self.past, self.chain)[-KEPT_CHAINS:] if changed else self.past)

    def undone(self) -> State:
        """The state before the last change; raises SessionError if there is none."""
        if not self.past:
            raise SessionError("nothing to undo", hint="Undo goes back over runs, deletions, replay and reset.")
        return State(self.past[-1], self.past[:-1])


def _dockerfile(chain: Chain) -> list[tuple[object, ...]]:
    return [(cell.text, cell.build_args, cell.context) for cell in chain.on]


class SessionFile:
    """The file of one session. Reading needs no lock; whoever writes holds :meth:`locked` from his read on.

    It is read again only when it has been replaced.
    """

    def __init__(self, path: Path, name: SessionName) -> None:
        self.path = path
        self.name = name
        self._known: tuple[tuple[int, ...], State] = ((), State())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other writers of this session, in any process and thread; Ctrl-C ends the waiting."""
        with _clear_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT
            handle = os.open(self.path.with_suffix(".lock"), flags, 0o644)
        try:
            try:
                _lock(handle)
            except KeyboardInterrupt:
                raise BuildInterruptedError(
                    "interrupted", hint="Another kernel was building in this session; nothing was begun here."
                ) from None
            yield
        finally:
            os.close(handle)

    def read(self) -> State:
        """The session as it stands, an empty one where there is no file; raises SessionError for a damaged one."""
        try:
            if _which(os.stat(self.path)) == self._known[0]:
                return self._known[1]
            with self.path.open("rb") as file:
                which = _which(os.fstat(file.fileno()))
                text = file.read()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise StoreError(f"cannot read the session: {error.strerror}: {self.path}") from None
        try:
            document = json.loads(text)
            if document["version"] > VERSION:
                raise SessionError(
                    f"the session {self.name} was written by a newer dockermagic", hint="Update dockermagic here, too."
                )
            chain, *past = _chains(document)
            self._known = which, State(chain, tuple(past))
            return self._known[1]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise SessionError(
                f"the session {self.name} is damaged: {self.path}", hint="%dockerfile reset begins it anew."
            ) from None

    def is_blank(self) -> bool:
        """Whether nothing was ever built here."""
        try:
            state = self.read()
        except SessionError:
            return False
        return not state.chain.ids and not state.past

    def write(self, state: State) -> None:
        """Replace the session, atomically: another process reads the old one or the new one."""
        with _clear_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(_document(state, self.name), ensure_ascii=False).encode())
            self._known = _which(os.stat(self.path)), state


class SessionStore:
    """All sessions below one home."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "sessions"

    def open(self, name: SessionName) -> SessionFile:
        """The session of that name, whether or not there is one yet."""
        return SessionFile(self.directory / name.filename, name)

    def adopt(self, name: SessionName, cells: Callable[[], Mapping[str, str]]) -> None:
        """Let a renamed notebook have its session back: where nothing was ever built under its new path.

        ``cells`` gives its cells' ids with their texts. Its session is one whose old path is gone and that knows one of
        the ids; where ids were none of a notebook's, one whose whole chain is among the texts.
        """
        file = self.open(name)
        if not file.is_blank():
            return
        orphans = [
            (path, document)
            for path, document in self._documents()
            if document.get("kind") == "notebook" and not Path(str(document.get("name"))).exists()
        ]
        known = cells() if orphans else {}
        texts = [text.strip() for text in known.values()]
        for path, document in orphans:
            with contextlib.suppress(LookupError, TypeError, AttributeError, OSError):
                chain = next(_chains(document))
                same = [cell for cell in chain.on if any(text.endswith(cell.text.strip()) for text in texts)]
                if any(cell.id in known for cell in chain.cells) or (chain.on and len(same) == len(chain.on)):
                    os.replace(path, file.path)
                    return

    def named(self) -> list[str]:
        """The names of the sessions that ``-s`` has made."""
        return [str(document.get("name")) for _, document in self._documents() if document.get("kind") == "named"]

    def snapshots(self) -> frozenset[int]:
        """The layers that the cells of all sessions stand on, as they were built last."""
        found = set()
        for _, document in self._documents():
            with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):
                for cell in next(_chains(document)).cells:
                    lines = "\n".join(cell.built or ()).split("\n")
                    found |= {int(line.rpartition(" ")[2]) for line in lines if re.fullmatch(r"[^=].* \d+", line)}
        return frozenset(found)

    def sweep(self, now: float | None = None) -> None:
        """Forget the sessions of kernels that nobody has used for a month, and what killed writers left. Idempotent."""
        limit = (time.time() if now is None else now) - KEPT_SECONDS
        for path in self.directory.glob(".*.json.*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit:
                    path.unlink()
        for path, document in self._documents():
            with contextlib.suppress(OSError):
                if document.get("kind") == "kernel" and path.stat().st_mtime < limit:
                    path.unlink()
                    path.with_suffix(".lock").unlink(missing_ok=True)

    def _documents(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self.directory.glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                document = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(document, dict):
                    yield path, document


def _which(found: os.stat_result) -> tuple[int, ...]:
    """A file that is replaced and never changed is told by this."""
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _document(state: State, name: SessionName) -> dict[str, Any]:
    places: dict[Cell, int] = {}
    chains = [
        {
            "cells": [places.setdefault(cell, len(places)) for cell in chain.cells],
            "on": [places[cell] for cell in chain.on],
        }
        for chain in (state.chain, *state.past)
    ]
    cells = [{field: getattr(cell, field) for field in _FIELDS} for cell in places]
    return {
        "version": VERSION,
        "kind": name.kind,
        "name": name.value,
        "cells": cells,
        "chain": chains[0],
        "past": chains[1:],
    }


def _chains(document: Mapping[str, Any]) -> Iterator[Chain]:
    """The chain, then those before it. In version 1 each had its cells in itself."""
    is_old = document["version"] < 2
    cells = [] if is_old else [_cell(fields) for fields in document["cells"]]
    for chain in (document["chain"], *document["past"]):
        own = tuple(_cell(one) if is_old else cells[one] for one in chain["cells"])
        yield Chain(own, frozenset(one if is_old else cells[one].id for one in chain["on"]))


def _cell(fields: Mapping[str, Any]) -> Cell:
    cell = Cell(**fields)
    built = None if cell.built is None else tuple(cell.built)
    pairs = tuple((str(name), str(value)) for name, value in cell.build_args)
    return replace(cell, build_args=pairs, tags=tuple(cell.tags), built=built)


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: the file is replaced as a whole all the same
        return
    fcntl.flock(handle, fcntl.LOCK_EX)


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk_error(path) from None
        raise StoreError(f"cannot write the session: {error.strerror}: {path}") from None
