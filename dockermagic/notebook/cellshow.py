"""A cell of a session on display: from when it is known what it builds to the card that stays."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dockermagic.engine import Engine
from dockermagic.events import Emit, Progress
from dockermagic.notebook import views
from dockermagic.notebook.display import BuildDisplay
from dockermagic.sandbox.base import Cancel
from dockermagic.session import Run, Script, Session
from dockermagic.view import build_view

__all__ = ["CellShow"]


class CellShow:
    """Shows one run of a session's cell. A context manager: leaving it by an error shows what failed.

    Hand :attr:`watch` and :attr:`cancel` to the session and the outcome to :meth:`done`.
    """

    def __init__(self, session: Session, engine: Engine) -> None:
        self.session = session
        self.engine = engine
        self.cancel = Cancel()
        self._display: BuildDisplay | None = None

    def watch(self, script: Script) -> Emit:
        """Begin to show the script's last cell."""
        instructions = views.instructions_of(script)
        self._display = BuildDisplay(instructions, cell=script.parts[-1].cell.label, stop=self.cancel.set)
        self._display.start()
        return self._display.emit

    def done(self, run: Run) -> None:
        """Show the card that stays."""
        display = self._display or BuildDisplay()
        begun = build_view(Progress(), views.instructions_of(run.script), cell=run.cell.label, finished=True)
        view = views.card(display.view() if self._display else begun, run, self.engine)
        display.finish(view, entries=views.lister(self.engine, run) if run.stage else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None and error is not None:
            self._display.failed(stale=[cell.label for cell in self.session.left])
            self._display.__exit__(kind, error, trace)
