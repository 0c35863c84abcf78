"""``%%dockerfile``, ``%dockerfile`` and ``%docker``: thin shells that parse a line, ask a session or a verb, and show.

Registering them costs next to nothing: engine, sessions and displays are imported when the first cell runs.
"""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from IPython.core import magic
from IPython.core import magic_arguments as arguments
from IPython.core.error import UsageError as IPythonUsageError
from IPython.core.interactiveshell import InteractiveShell

from dockermagic.errors import BuildInterruptedError, UsageError, explained

if TYPE_CHECKING:
    from dockermagic.handles import Image
    from dockermagic.notebook.workbench import Workbench

__all__ = ["DockerMagics", "register"]

_VARIABLE = re.compile(r"(?<![{$])\{([^\W\d]\w*)\}(?!\})")
_HELP = re.compile(r"^(\s*help\s+)(?!--\s)")

Function = TypeVar("Function", bound=Callable[..., Any])


class Decorator(Protocol):
    """Gives back what it is given."""

    def __call__(self, function: Function, /) -> Function: ...


class Decorators(Protocol):
    """Makes a decorator. IPython's own have no types."""

    def __call__(self, *words: Any, **options: Any) -> Decorator: ...


magic_arguments: Decorators = arguments.magic_arguments
argument: Decorators = arguments.argument
cell_magic: Decorators = magic.cell_magic
line_magic: Decorators = magic.line_magic
no_var_expand: Decorator = magic.no_var_expand

ACTIONS = (
    *("show", "status", "history", "tree", "diff", "shell", "undo", "reset", "replay"),
    *("export", "load", "verify", "help"),
)


def register(shell: InteractiveShell) -> DockerMagics:
    """Give a shell the magics, with completion and help. Idempotent."""
    known: DockerMagics | None = shell.magics_manager.registry.get("DockerMagics")
    if known is not None:
        return known
    from dockermagic.notebook.assist import attach

    magics = DockerMagics(shell)
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.before_cell)
    attach(magics)
    cards: Any = shell.display_formatter.formatters["text/html"]  # type: ignore[union-attr, unused-ignore]
    cards.for_type_by_name("dockermagic.handles", "Image", _image_card)
    return magics


def _image_card(image: Image) -> str:
    """An image that a cell asks for."""
    from dockermagic.notebook.bundle import html
    from dockermagic.notebook.views import image_view

    return str(html(image_view(image)))


@magic.magics_class
class DockerMagics(magic.Magics):
    """The magics of one shell, and what its front end says of the cell that runs."""

    actions = ACTIONS

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.shell: InteractiveShell = shell
        self.raw_cell = ""
        self.deleted: set[str] = set()
        self._bench: Workbench | None = None

    @property
    def bench(self) -> Workbench:
        """The engine and the sessions of this kernel, made when first used."""
        if self._bench is None:
            from dockermagic.notebook.workbench import Workbench

            self._bench = Workbench(self.shell)
        return self._bench

    def metadata(self) -> dict[str, Any]:
        """What the front end sent with the request that is being answered."""
        get_parent = getattr(self.shell, "get_parent", None)
        parent = get_parent() if get_parent is not None else {}
        return dict(parent.get("metadata") or {})

    def before_cell(self, info: Any) -> None:
        """IPython's hook before each cell, also those that are none of ours: front ends name deleted cells but once."""
        self.raw_cell = info.raw_cell or ""
        metadata = self.metadata()
        if metadata:
            from dockermagic.notebook.identity import sender

            self.deleted |= sender(metadata).deleted

    @magic_arguments("%dockerfile")
    @argument("-t", "--tag", action="append", default=[], metavar="NAME[:TAG]", help="Give the image this name.")
    @argument("-s", "--session", default="", metavar="SESSION", help="Another session than the notebook's own.")
    @argument("-c", "--context", default="", help="The folder that COPY and ADD read; the notebook's by default.")
    @argument("--build-arg", action="append", default=[], metavar="K=V", help="Set an ARG of the Dockerfile.")
    @argument("--target", default="", metavar="STAGE", help="The stage that becomes the image; the last by default.")
    @argument("--no-cache", action="store_true", help="Build this cell again, even if nothing changed.")
    @argument("--name", default="", metavar="CELL", help="A name for this cell, which beats its id.")
    @argument("--after", default="", metavar="CELL", help="Put this cell behind another one: a name or a number.")
    @cell_magic("dockerfile")
    def dockerfile_cell(self, line: str, body: str) -> Image | None:
        """Add this cell's instructions to the session's Dockerfile and build them: every cell is a cached layer.

        A cell that was run before is built again where it stands. If it changed, the cells behind it are stale until
        `%dockerfile replay`.
        """
        from dockermagic.notebook import actions

        with _clear_errors():
            return actions.run_cell(self, self._parse(self.dockerfile_cell, line, "%%dockerfile"), body)

    @magic_arguments("dockerfile")
    @argument("action", nargs="?", default="status", help=" | ".join(ACTIONS))
    @argument(
        "words", nargs="*", help="PATH for tree, CELL for diff and history, FILE for export and load, WORD for help."
    )
    @argument("-s", "--session", default="", metavar="SESSION", help="Another session than the notebook's own.")
    @argument("--cell", default="", metavar="CELL", help="tree: as it was after this cell.")
    @argument("--image", default="", metavar="NAME", help="tree: of an image.")
    @argument("--failed", action="store_true", help="tree, diff, shell: in what the last failed RUN left.")
    @argument("--force", action="store_true", help="export: replace a file that holds something else.")
    @argument("--markdown", action="store_true", help="export: with the saved notebook's texts as comments.")
    @line_magic("dockerfile")
    def dockerfile_line(self, line: str) -> None:
        """Look at the session's Dockerfile, or change it.

        show: the Dockerfile. status: its cells. history: its layers. tree [PATH]: its files. diff [CELL]: what a cell
        changed. diff A B: how the files of two cells, stages or images differ. shell [CELL]: a terminal on top of it.
        undo: back to the chain before. reset: an empty chain. replay: run what is stale. export FILE: write the
        Dockerfile. load FILE: take one in, in place of the chain. verify: whether a build from nothing gives the same.
        help WORD: what an instruction, a --flag, a $VARIABLE or an image is.
        """
        from dockermagic.notebook import actions

        line = _HELP.sub(r"\1-- ", line)  # what there is help on may look like an option
        arguments = self._parse(self.dockerfile_line, line, "%dockerfile")
        if arguments.action not in ACTIONS:
            raise UsageError(f"unknown action: %dockerfile {arguments.action}", hint=f"There is: {', '.join(ACTIONS)}.")
        with _clear_errors():
            actions.look(self, arguments)

    @magic_arguments("%dockercheck")
    @argument("image", metavar="IMAGE", help="The image that is checked.")
    @argument("-f", "--file", action="append", default=[], help="Checks of a file, beside those of the cell.")
    @argument("--points", type=float, default=None, help="Give back the points that were reached, for nbgrader.")
    @cell_magic("dockercheck")
    def dockercheck(self, line: str, body: str) -> float | None:
        """Check an image, one sentence a line, and say in a friendly way what is not right yet.

        The sentences are those of `%docker expect --help`; an indented line `Hint: ...` below one is shown where it
        fails. A cell may also hold a file of container-structure-test. With `--points` the reached part of the points
        is the cell's value, which nbgrader counts.
        """
        from dockermagic.notebook import actions

        with _clear_errors():
            return actions.check(self, self._parse(self.dockercheck, line, "%%dockercheck"), body)

    @no_var_expand
    @line_magic("docker")
    def docker(self, line: str) -> object:
        """Docker's verbs on dockermagic's engine: `%docker images`, `%docker run IMAGE`; `%docker` alone lists them.

        `{name}` is the Python variable of that name, if there is one. The value of a run has exit_code, stdout, stderr
        and duration.
        """
        from dockermagic.notebook import actions

        with _clear_errors():
            return actions.verb(self, [self._filled(word) for word in _words(line)])

    def _filled(self, word: str) -> str:
        """A word of `%docker` with the values of Python's variables in it.

        IPython's own way would take `$NAME` and `{{.ID}}` too, which are a shell's and Docker's.
        """
        known = self.shell.user_ns
        return _VARIABLE.sub(lambda found: str(known[found[1]]) if found[1] in known else found[0], word)

    def _parse(self, function: Callable[..., object], line: str, name: str) -> Namespace:
        try:
            parsed: Namespace = function.parser.parse_intermixed_args(_words(line))  # type: ignore[attr-defined]  # of its decorator
        except IPythonUsageError as error:
            raise UsageError(f"{name}: {error}", hint=f"{name}? shows what it takes.") from None
        return parsed


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read this line: {error}: {line}") from None


@contextmanager
def _clear_errors() -> Iterator[None]:
    """The stop button and what the system refuses end a cell with an error like any other, without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise BuildInterruptedError("interrupted") from None
    except OSError as error:
        raise explained(error) from None
