"""What the card of a container takes in; the card itself is pressed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from dockermagic.containers.logs import Piece
from dockermagic.errors import ContainerError
from dockermagic.notebook.containercard import ContainerCard


class Running:
    """A container that runs twice, and is gone then; its log is as it stands at the end of each run."""

    def __init__(self, *runs: list[Piece]) -> None:
        self.runs = runs
        self.run = 0
        self.reads = 0

    def get(self, name: str) -> Any:
        if self.run > len(self.runs):
            raise ContainerError("gone")
        # It has ended; the next run begins and ends between two looks.
        return SimpleNamespace(id=name, is_running=False, state=SimpleNamespace(started=float(self.run)))

    def logs(self, name: str, *, follow: bool = False) -> Iterator[Piece]:
        self.reads += 1
        self.run += 1
        yield from (piece for run in self.runs[: self.run] for piece in run)


def test_each_piece_of_a_log_is_taken_in_once() -> None:
    """Two streams may be written in another order than that of their times."""
    first = [Piece(1.0, 1, b"a"), Piece(2.5, 2, b"b"), Piece(2.0, 1, b"c"), Piece(2.0, 2, b"d")]
    running = Running(first, [Piece(3.0, 1, b"e"), Piece(3.0, 1, b"f")])
    card = ContainerCard(SimpleNamespace(running=running), SimpleNamespace(id="x", is_running=True))  # type: ignore[arg-type]
    card._hurry.set()
    card._follow()

    assert bytes(card._tail) == b"abcdef"
    assert running.reads <= 3
