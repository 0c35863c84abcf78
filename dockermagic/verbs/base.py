"""What a verb is, and what it may ask of the place where it runs: a terminal or a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from dockermagic.errors import DockermagicError
from dockermagic.values import dataclass
from dockermagic.verbs.options import Arguments, Option

if TYPE_CHECKING:
    from dockermagic.engine import Engine
    from dockermagic.events import Emit

__all__ = ["Console", "Shown", "Verb", "each", "raise_last"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A verb's answer with more than one form: ``text`` as a terminal prints it, and the ``value`` behind it.

    ``kind`` says what the value is: ``images``, ``history``, ``inspect``, ``info``, ``usage``, ``image diff``.
    """

    kind: str
    value: Any
    text: str


class Console(Protocol):
    """The place where a verb runs. The terminal's is in ``cli.py``, the notebook's beside the magics."""

    @property
    def program(self) -> str:
        """How this command line is called here: ``dockermagic``, or ``%docker`` in a cell."""

    @property
    def engine(self) -> Engine:
        """The engine, opened at the first use."""

    @property
    def width(self) -> int:
        """Columns of text, 0 where there is no edge."""

    @property
    def stdin(self) -> BinaryIO | None:
        """Standard input as bytes; None in a cell, which has none."""

    @property
    def stdin_is_terminal(self) -> bool: ...

    @property
    def stdout_is_terminal(self) -> bool:
        """Whether a person reads stdout; a cell counts as one."""

    def stdout(self) -> BinaryIO:
        """Standard output for bytes of an archive; raises UsageError in a cell."""

    def ask(self, question: str, *, secret: bool = False) -> str:
        """What a person types; a ``secret`` is not shown. Raises UsageError where nobody can be asked."""

    def write(self, text: str) -> None:
        """The verb's answer, as text with its line ends."""

    @property
    def beside(self) -> TextIO:
        """Where lines beside the answer go: stderr in a terminal, the cell's output in a cell."""

    def note(self, text: str) -> None:
        """A line beside the answer: stderr in a terminal."""

    def output(self, stream: int, data: bytes) -> None:
        """Live output of a process: stream 1 or 2."""

    def show(self, answer: Shown) -> None:
        """Write the text in a terminal, display the value in a cell."""

    def progress(self, mode: str, name: str = "") -> AbstractContextManager[Emit]:
        """Show a build while it runs; ``mode`` is auto, plain, quiet, rawjson or tty, ``name`` names the Dockerfile."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line. ``words`` is the least and the greatest number of words beside the options.

    One that ``watches`` may go on until Ctrl-C, which is its proper end in a terminal: nothing is said of it.
    """

    name: str
    usage: str
    summary: str
    function: Callable[[Console, Arguments], int]
    options: tuple[Option, ...] = ()
    words: tuple[int, int | None] = (0, 0)
    interspersed: bool = True
    more: str = ""
    watches: bool = False


def each(console: Console, names: Sequence[str], do: Callable[[str], object]) -> int:
    """Do something to one name after the other and print the name, or what ``do`` gives instead; '' is nothing.

    One that fails does not keep the others.
    """
    errors: list[DockermagicError] = []
    for name in names:
        try:
            answer = do(name)
            if answer != "":
                console.write(f"{name if answer is None else answer}\n")
        except DockermagicError as refused:
            errors.append(refused)
    raise_last(console, errors)
    return 0


def raise_last(console: Console, errors: Sequence[DockermagicError]) -> None:
    """Say all errors, of which the last becomes the verb's own; nothing where there is none."""
    for error in errors[:-1]:
        console.note(f"ERROR: {error.render()}")
    if errors:
        raise errors[-1]
