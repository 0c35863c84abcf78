"""The chain of a notebook's cells as a small pure value: which cells it has, in which order, and what a run does to it.

A chain knows every cell that was ever run and not deleted, in one order. Some of them are *on the chain*: read from top
to bottom they are the Dockerfile as it stands. The others left it and are stale, and keep their place for the day when
they are run again. Every operation returns a new chain; nothing here reads a file or asks an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from dockermagic.errors import SessionError
from dockermagic.values import dataclass, replace

__all__ = ["Cell", "Chain", "Outcome", "Plan"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: who it is, what it holds, and what it was built to.

    ``id`` is the front end's, ``name`` the person's own; a name beats an id. ``number`` is the ``[3]`` beside the cell,
    ``above`` counts the lines of the notebook cell that stand above ``text`` (the magic's own line). ``context`` is ''
    where the session's folder is meant. ``built`` holds the cache key of each instruction; it is None where the cell,
    as it stands, was never built.
    """

    id: str
    text: str
    name: str = ""
    number: int | None = None
    above: int = 1
    build_args: tuple[tuple[str, str], ...] = ()
    context: str = ""
    target: str = ""
    tags: tuple[str, ...] = ()
    built: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """What the cell is called in messages."""
        if self.name:
            return f"cell {self.name}"
        return "cell" if self.number is None else f"cell [{self.number}]"

    def answers(self, word: str) -> bool:
        """Whether a person who writes ``word`` means this cell: its name, its number or its id."""
        return word in (self.name, self.id) or (self.number is not None and word.strip("[]") == str(self.number))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation made of a chain; ``left`` are the cells that stood on it before and do so no more."""

    chain: Chain
    left: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """All known cells in their order, and the ids of those on the chain."""

    cells: tuple[Cell, ...] = ()
    ids: frozenset[str] = frozenset()

    @property
    def on(self) -> tuple[Cell, ...]:
        """The cells on the chain, top to bottom."""
        return tuple(cell for cell in self.cells if cell.id in self.ids)

    @property
    def off(self) -> tuple[Cell, ...]:
        """The cells that are known and not on the chain."""
        return tuple(cell for cell in self.cells if cell.id not in self.ids)

    def behind(self, identity: str) -> tuple[Cell, ...]:
        """The cells off the chain that stand below a cell."""
        ids = [cell.id for cell in self.cells]
        return tuple(cell for cell in self.off if identity in ids and ids.index(cell.id) > ids.index(identity))

    @property
    def head(self) -> Cell | None:
        """The last cell on the chain."""
        return self.on[-1] if self.ids else None

    def __contains__(self, cell: Cell) -> bool:
        return cell.id in self.ids

    def find(self, word: str) -> Cell:
        """The cell that a person means by a name, a number or an id; raises SessionError.

        Where several bear one number (kernels count from 1 again), the one on the chain is meant, then the later one.
        """
        named = [cell for cell in self.cells if word == cell.name]
        meant = named or [cell for cell in self.cells if cell.answers(word)]
        if not meant:
            known = ", ".join(cell.label for cell in self.cells) or "none yet"
            raise SessionError(f"no cell {word} in this session", hint=f"The cells of this session: {known}.")
        return max(meant, key=lambda cell: (cell in self, self.cells.index(cell)))

    def get(self, cell: Cell) -> Cell | None:
        """The cell as it was when it was last run: the one of that name, else the one of that id."""
        for known in self.cells:
            if cell.name and known.name == cell.name:
                return known
        return next((known for known in self.cells if known.id == cell.id), None)

    def plan(self, cell: Cell, after: str = "", order: Sequence[str] = ()) -> Plan:
        """Where ``cell`` goes if it is run now: a known one where it stood, another behind all; ``after`` beats both.

        ``order`` are the ids of the notebook's cells from top to bottom, if the front end tells them: then a new cell
        goes behind the nearest known one above it, else before all below it; other notebooks' cells and those of a
        file stay where they are. Of two that bear one name the upper gives it its place. Raises SessionError where
        ``after`` names no cell on the chain.
        """
        old = self.get(cell)
        others = tuple(known for known in self.cells if known.id not in {cell.id, old.id if old else cell.id})
        if old is not None and old.id in order and cell.id in order:
            cell = replace(cell, id=min(old.id, cell.id, key=order.index))
        index = len(others)
        if old is not None:
            earlier = {known.id for known in self.cells[: self.cells.index(old)]}
            index = sum(known.id in earlier for known in others)
        elif cell.id in order:
            above = set(order[: order.index(cell.id)])
            top = min((number for number, known in enumerate(others) if known.id in order), default=len(others))
            index = max((number for number, known in enumerate(others, 1) if known.id in above), default=top)
        if after:
            index = self._behind(after, cell, old, others, index)
        return Plan(self, cell, old, others, index)

    def _behind(self, after: str, cell: Cell, old: Cell | None, others: tuple[Cell, ...], index: int) -> int:
        before = self.find(after)
        if before.id in {cell.id, old.id if old else cell.id}:
            raise SessionError(f"{before.label} cannot stand after itself", hint="--after names another cell.")
        if before not in self:
            on = ", ".join(known.label for known in self.on) or "none"
            raise SessionError(f"{before.label} is not on the chain", hint=f"Run it first. On the chain: {on}.")
        standing = [known for known in others[:index] if known in self] if old is not None else []
        return index if standing and standing[-1].id == before.id else others.index(before) + 1

    def without(self, ids: Iterable[str]) -> Outcome:
        """The chain when cells were deleted: what stood behind the first of them is stale."""
        gone = set(ids)
        kept = tuple(cell for cell in self.cells if cell.id not in gone)
        deleted = [index for index, cell in enumerate(self.cells) if cell.id in gone and cell in self]
        on = self.ids - gone
        if deleted:
            on &= {cell.id for cell in self.cells[: deleted[0]]}
        chain = Chain(kept, frozenset(on))
        return Outcome(chain, tuple(cell for cell in self.on if cell.id not in gone and cell not in chain))

    def joined(self, cells: Iterable[Cell]) -> Chain:
        """The chain with further cells that are not on it."""
        known = {cell.id for cell in self.cells}
        return replace(self, cells=(*self.cells, *(cell for cell in cells if cell.id not in known)))

    def arranged(self, order: Sequence[str]) -> Outcome:
        """The chain when the notebook's cells stand in this order; what stood behind the first that moved is stale.

        A cell that the order does not name stays behind the one that it stood behind.
        """
        place = {one: number for number, one in enumerate(order)}
        keys, last = dict[str, int](), -1
        for cell in self.cells:
            keys[cell.id] = last = place.get(cell.id, last)
        cells = tuple(sorted(self.cells, key=lambda cell: keys[cell.id]))
        on = tuple(cell for cell in cells if cell in self)
        kept = tuple(cell for cell, _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.on, on, strict=True)))
        return Outcome(Chain(cells, frozenset(cell.id for cell in kept)), self.on[len(kept) :])

    def rebuilt(self, keys: Mapping[str, tuple[str, ...]]) -> Chain:
        """The chain with the keys that cells, by id, have been built to."""
        return replace(
            self, cells=tuple(replace(cell, built=keys[cell.id]) if cell.id in keys else cell for cell in self.cells)
        )

    def relabelled(self, ids: Mapping[str, str]) -> Chain:
        """The chain with other ids for some of its cells."""
        cells = tuple(replace(cell, id=ids.get(cell.id, cell.id)) for cell in self.cells)
        return Chain(cells, frozenset(ids.get(one, one) for one in self.ids))


@dataclass(frozen=True, slots=True)
class Plan:
    """A cell on its way into a chain: between the cells that it is built on and those that may have to leave.

    ``old`` is the cell as it was last run, ``others`` are all other known cells, ``index`` is its place among them.
    """

    chain: Chain
    cell: Cell
    old: Cell | None
    others: tuple[Cell, ...]
    index: int

    @property
    def below(self) -> tuple[Cell, ...]:
        """The cells that it is built on, top to bottom."""
        return tuple(cell for cell in self.others[: self.index] if cell in self.chain)

    @property
    def stays(self) -> bool:
        """Whether the cell is on the chain already, at this very place."""
        if self.old is None or self.old not in self.chain:
            return False
        others = tuple(cell for cell in self.chain.on if cell != self.old)
        return others == tuple(cell for cell in self.others if cell in self.chain) and (
            self.below == self.chain.on[: self.chain.on.index(self.old)]
        )

    def built(self, keys: tuple[str, ...], below: Mapping[str, tuple[str, ...]]) -> Outcome:
        """The chain when the build went well: ``keys`` of the cell, and by id those of the cells below it.

        If all are what they were, the later cells stay. Else they leave.
        """
        same = self.stays and self.old is not None and self.old.built == keys
        same = same and all(cell.built == below.get(cell.id, cell.built) for cell in self.below)
        later = self.others[self.index :]
        on = {known.id for known in self.others if known in self.chain and (same or known not in later)}
        cells = (*self.others[: self.index], replace(self.cell, built=keys), *later)
        chain = Chain(cells, frozenset(on | {self.cell.id})).rebuilt(below)
        return Outcome(chain, tuple(known for known in later if known in self.chain and known not in chain))

    def kept(self) -> Outcome:
        """The chain when the build failed although every key is what it was: what was built still holds."""
        return Outcome(self.chain)

    def failed(self, *, remember: bool = True) -> Outcome:
        """The chain when the build failed: the cell is not on it; if it was, neither is what stood behind it.

        ``remember`` keeps the cell and its place for the next try; without an id to know it by there will be none.
        """
        cells = self.others
        if remember:
            cells = (*self.others[: self.index], replace(self.cell, built=None), *self.others[self.index :])
        on = self.chain.ids
        if on - {cell.id for cell in self.others}:
            shared = takewhile(lambda pair: pair[0] == pair[1], zip(self.chain.on, self.below, strict=False))
            on = frozenset(cell.id for cell, _ in shared)
        chain = Chain(cells, on)
        return Outcome(chain, tuple(cell for cell in self.others if cell in self.chain and cell not in chain))
