"""Where a verb of ``%docker`` runs: a cell. It has no standard input, and nothing of it goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, TextIO, cast

from dockermagic.containers.container import ContainerResult
from dockermagic.containers.request import RunRequest
from dockermagic.engine import Engine
from dockermagic.errors import BuildInterruptedError, UsageError
from dockermagic.events import Emit
from dockermagic.handles import Ran
from dockermagic.notebook.answers import view_of
from dockermagic.notebook.containercard import ContainerCard
from dockermagic.notebook.display import BuildDisplay, ContainerDisplay, show
from dockermagic.notebook.stage import widgets_possible
from dockermagic.notebook.terminals import Begin, show_terminal
from dockermagic.sandbox.base import Cancel
from dockermagic.terminal import printer
from dockermagic.verbs.base import Shown

__all__ = ["CellConsole", "InTerminal"]


KEPT = 8 << 20
"""How much of each stream's end the value of a run holds."""


class ShownRan(Ran):
    """The value of a run that the cell has shown already: it is there to be used, not to be displayed once more."""

    __slots__ = ()
    __qualname__ = "Ran"  # what it is for who prints it

    def _ipython_display_(self) -> None:
        """Nothing."""


class InTerminal:
    """The value of a run that somebody types into: it begins when the page opens its terminal.

    ``exit_code`` is None until it has ended.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.exit_code: int | None = None

    def __repr__(self) -> str:
        state = "not ended" if self.exit_code is None else f"exit code {self.exit_code}"
        return f"<{self.title}: {state}>"

    def _ipython_display_(self) -> None:
        """Nothing: its terminal stands above."""

    def ending(self, begin: Begin) -> Begin:
        """``begin``, with the exit code of what it began kept here."""

        def begun(*, output: Callable[[bytes], None], ended: Callable[[int], None], rows: int, columns: int) -> Any:
            def over(code: int) -> None:
                self.exit_code = code
                ended(code)

            self.exit_code = None
            return begin(output=output, ended=over, rows=rows, columns=columns)

        return begun


class ShownRuns:
    """An engine whose containers are shown while they run. ``ran`` is the value of the last one."""

    def __init__(self, engine: Engine, keys: bool) -> None:
        self.engine = engine
        self.keys = keys
        self.ran: Ran | InTerminal | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, request: RunRequest, *, output: Callable[[int, bytes], None]) -> ContainerResult:
        """Run a container on display; one with a terminal of its own writes to the cell's stdout."""
        if request.tty and self.keys and widgets_possible():
            title = " ".join(["run", request.image, *request.command])
            self.ran = value = InTerminal(title)
            begin = value.ending(partial(self.engine.run_in_terminal, request))
            show_terminal(title, begin, instead=f"dockermagic run -it {request.image}")
            return ContainerResult(0, "", request.name)
        written = (bytearray(), bytearray())

        def kept(stream: int, data: bytes, show: Callable[[int, bytes], None]) -> None:
            own = written[stream - 1]
            own += data
            if len(own) > 2 * KEPT:
                del own[:-KEPT]
            show(stream, data)

        if request.tty:
            result = self.engine.run(request, output=partial(kept, show=output))
        else:
            cancel = Cancel()
            with ContainerDisplay(request.image, request.command, name=request.name, stop=cancel.set) as shown:
                result = self.engine.run(request, output=partial(kept, show=shown.output), cancel=cancel)
                shown.finish(result.exit_code, seconds=result.seconds, stopped=bool(result.interrupted))
        if result.interrupted:
            raise BuildInterruptedError("interrupted")
        out, err = (bytes(own[-KEPT:]).decode("utf-8", "replace") for own in written)
        self.ran = ShownRan(result.exit_code, out, err, result.seconds)
        return result


class CellConsole:
    """A verb's console in a cell: its answers are displays and the cell's stdout.

    ``keys``: somebody wants to type (``-i``), so that a container with a terminal gets one in the page.
    """

    program = "%docker"
    width = 0
    stdin: BinaryIO | None = None
    stdin_is_terminal = False
    stdout_is_terminal = True

    def __init__(self, engine: Engine, *, keys: bool = False) -> None:
        self.runs = ShownRuns(engine, keys)
        self.engine = cast(Engine, self.runs)

    def stdout(self) -> BinaryIO:
        raise UsageError("a cell has no standard output for bytes", hint="Write to a file: -o FILE.")

    def ask(self, question: str, *, secret: bool = False) -> str:
        from getpass import getpass

        try:
            return getpass(question) if secret else input(question)  # both are the kernel's, which ask in the notebook
        except (EOFError, RuntimeError) as error:
            raise UsageError(
                f"nobody can be asked here: {question.strip()}", hint="This frontend takes no input."
            ) from error

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    @property
    def beside(self) -> TextIO:
        return sys.stdout

    def note(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")

    def output(self, stream: int, data: bytes) -> None:
        sys.stdout.write(data.decode("utf-8", "replace"))

    def show(self, answer: Shown) -> None:
        if answer.kind == "started":
            ContainerCard(self.engine, answer.value).show()
            return
        view = view_of(answer)
        if view is None:
            self.write(answer.text)
        else:
            show(view)

    @contextmanager
    def progress(self, mode: str, name: str = "") -> Iterator[Emit]:
        if mode not in ("auto", "tty"):
            with printer(mode, sys.stdout) as emit:
                yield emit
            return
        with BuildDisplay(cell=name) as shown:
            yield shown.emit
