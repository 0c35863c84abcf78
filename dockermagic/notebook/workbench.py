"""What a kernel keeps between its cells: the engine, the sessions that it opened, and whom it has seen."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.handles import shared_engine
from dockermagic.notebook.identity import Sender, cells_of, kernel_name, lines_above, notebook_path
from dockermagic.notebook.marks import tell_stale
from dockermagic.session import Cell, Run, Session, SessionName, SessionStore

if TYPE_CHECKING:
    from dockermagic.notebook.cellshow import Cards

__all__ = ["Shell", "Workbench"]

KEPT_LISTINGS = 100


class Shell(Protocol):
    """The part of an IPython shell that is asked here."""

    user_ns: dict[str, Any]
    history_manager: Any


class Workbench:
    """One kernel's engine and sessions.

    ``seen`` are the ids that front ends have sent in this kernel's life, ``claimed`` those that each session has taken
    in. Sessions are opened when first used. ``marks`` tells whether the front end has the extension that marks cells.
    """

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.seen: set[str] = set()
        self.sessions: dict[SessionName, Session] = {}
        self.claimed: dict[SessionName, set[str]] = {}
        self.latest: SessionName | None = None
        self.marks = False
        self._unpacking: set[str] = set()
        self._names: dict[tuple[tuple[int, ...], str], tuple[str, ...]] = {}
        self._heads: dict[SessionName, tuple[object, Run | None]] = {}
        self._cards: dict[SessionName, Cards] = {}

    @cached_property
    def engine(self) -> Engine:
        """The engine, closed with the kernel."""
        return shared_engine()

    @cached_property
    def kernel(self) -> str:
        """This kernel's name, the same after a restart."""
        kernel = getattr(self.shell, "kernel", None)
        return kernel_name(str(getattr(getattr(kernel, "parent", None), "connection_file", "")))

    @cached_property
    def store(self) -> SessionStore:
        """All sessions of this engine's home."""
        store = SessionStore(self.engine.home)
        store.sweep()
        return store

    def session(self, name: str, sender: Sender, deleted: frozenset[str] = frozenset()) -> Session:
        """The session that a cell means: the one that ``-s`` names, else the notebook's, else the kernel's own.

        A notebook has a session of its own only where its cells have ids: nbclient may well run in the environment of
        another notebook's kernel. Cells in ``deleted`` leave their chains first.
        """
        if sender.cell_id:
            self.seen.add(sender.cell_id)
        path = notebook_path(os.environ, self.shell.user_ns) if self.seen else None
        if name:
            key = SessionName("named", name)
        elif path is not None:
            key = SessionName("notebook", str(path))
        else:
            key = SessionName("kernel", self.kernel)
        cell_id = sender.cell_id if sender.lasting else ""
        if key not in self.sessions:
            here = path is not None and path.parent.is_dir()
            folder, notebook = (path.parent, path.name) if path is not None and here else (Path.cwd(), "")
            self.sessions[key] = Session(key, self.engine, folder=folder, notebook=notebook, store=self.store)
        if key.kind == "notebook" and path is not None:
            self.store.adopt(key, lambda: cells_of(path) | {cell_id: ""})
        self.latest, self.marks = key, sender.order is not None
        for session in self.sessions.values():
            session.forget(deleted - {sender.cell_id})
            if session.arrange(sender.order or ()).left:
                self.cards(session).refresh("the cells above it were moved")
        return self.sessions[key]

    def latest_session(self) -> Session | None:
        """The session that was used last; before the first use the notebook's own, if it has one."""
        if self.latest is not None:
            return self.sessions[self.latest]
        path = notebook_path(os.environ, self.shell.user_ns)
        if path is None:
            return None
        return Session(SessionName("notebook", str(path)), self.engine, folder=path.parent, store=self.store)

    def head(self, session: Session) -> Run | None:
        """The last cell on a session's chain as it is built; None where something of the chain would have to be built.

        Asked again and again while somebody writes: the answer is kept until the chain changes.
        """
        chain = session.chain
        known = tuple((cell.id, cell.built) for cell in chain.on)
        if session.name not in self._heads or self._heads[session.name][0] != known:
            standings = {standing.cell.id: standing.state for standing in session.status()} if known else {}
            built = known and all(standings[one] == "built" for one in chain.ids)
            self._heads[session.name] = (known, session.build() if built else None)
        return self._heads[session.name][1]

    def at_hand(self, image: str) -> bool:
        """Whether an image's files can be looked at now. Those that are not unpacked yet will be, a while later: who
        writes does not wait. Raises ImageNotFoundError.
        """
        if self.engine.is_unpacked(image):
            return True
        if image not in self._unpacking:
            self._unpacking.add(image)
            threading.Thread(target=self._unpack, args=(image,), name="dockermagic-unpack", daemon=True).start()
        return False

    def _unpack(self, image: str) -> None:
        try:
            with suppress(DockermagicError):  # who builds on it is told
                self.engine.snapshots_of(image)
        finally:
            self._unpacking.discard(image)  # the name may come to mean another one

    def names(self, snapshots: tuple[int, ...], path: str) -> tuple[str, ...]:
        """The names in a directory of a root filesystem, directories with a slash behind. Layers never change."""
        key = (snapshots, path)
        if key not in self._names:
            if len(self._names) >= KEPT_LISTINGS:
                self._names.clear()
            try:
                entries = self.engine.tree(snapshots, path)
            except DockermagicError:
                entries = []
            self._names[key] = tuple(f"{one.name}/" if one.kind == "directory" else one.name for one in entries)
        return self._names[key]

    def cards(self, session: Session) -> Cards:
        """The cards of a session's cells that this kernel has shown."""
        from dockermagic.notebook.cellshow import Cards

        return self._cards.setdefault(session.name, Cards(session, self.engine, changed=self.tell_stale))

    def tell_stale(self) -> None:
        """Tell a front end that marks stale cells which ones they are now."""
        if self.marks:
            tell_stale(self.sessions.values())

    def cell(self, session: Session, text: str, sender: Sender, raw: str, options: Mapping[str, Any]) -> Cell:
        """The cell that is about to run in a session.

        Where the front end sends no ids, a kernel's first cell begins a fresh chain: a notebook that is run from top to
        bottom is always right. Where its ids do not last, earlier kernels' cells are found by their text.
        """
        cell = Cell(
            sender.cell_id or uuid.uuid4().hex,
            text,
            number=self._number(),
            above=lines_above(raw, text),
            **options,
        )
        if session.name not in self.claimed:
            self.claimed[session.name] = set()
            if not sender.cell_id and session.chain.cells:
                session.reset()
        claimed = self.claimed[session.name]
        if sender.cell_id and not sender.lasting and sender.cell_id not in claimed:
            session.claim(cell, claimed)
        claimed.add(cell.id)
        return cell

    def _number(self) -> int | None:
        """The ``[3]`` of the cell that runs. IPython 9.18 counts ``execution_count`` up before a cell, not after it."""
        return len(self.shell.history_manager.input_hist_raw) - 1 or None
