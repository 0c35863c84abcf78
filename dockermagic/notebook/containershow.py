"""A container in the cell that runs it: its output as it comes, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from dockermagic.errors import BuildInterruptedError, DockermagicError
from dockermagic.events import now
from dockermagic.notebook import containermarkup
from dockermagic.notebook.bundle import bundle, html
from dockermagic.notebook.live import Live, Stop
from dockermagic.notebook.livelog import LiveLog
from dockermagic.notebook.markup import Html
from dockermagic.values import replace
from dockermagic.view import ContainerView

__all__ = ["ContainerDisplay"]

KEPT_OUTPUT = 256 * 1024


class ContainerDisplay(Live):
    """A container that runs. A context manager; hand :meth:`output` to the run and its end to :meth:`finish`."""

    def __init__(self, image: str, command: Sequence[str] = (), *, name: str = "", stop: Stop | None = None) -> None:
        super().__init__(stop)
        self._view = ContainerView(image, tuple(command), started=now(), name=name)
        self._output = bytearray()
        self._dropped = 0
        self._log = LiveLog()

    def output(self, stream: int, data: bytes) -> None:
        """Take output in; both streams are shown as they come."""
        with self._lock:
            self._output += data
            if len(self._output) > 2 * KEPT_OUTPUT:
                cut = len(self._output) - KEPT_OUTPUT
                self._dropped += cut
                del self._output[:cut]
            self._log.add(data)
        self._changed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        stopped = isinstance(error, KeyboardInterrupt | BuildInterruptedError)
        if not self._finished and (stopped or self._output or self.place.shown):
            refused = error.exit_code if isinstance(error, DockermagicError) and not stopped else None
            self.finish(refused, stopped=stopped)

    def view(self) -> ContainerView:
        """The container as it stands."""
        with self._lock:
            return replace(self._view, output=bytes(self._output), output_dropped=self._dropped)

    def finish(self, exit_code: int | None, *, seconds: float | None = None, stopped: bool = False) -> None:
        """Show how it ended."""
        taken = now() - (self._view.started or now()) if seconds is None else seconds
        view = replace(self.view(), exit_code=exit_code, seconds=taken, stopped=stopped)
        self.stay(lambda: html(view), bundle(view))

    def _first(self) -> Html:
        return containermarkup.live_container(self._view, self._button)

    def _still(self) -> dict[str, Any]:
        return bundle(self.view())

    def _message(self, *, everything: bool) -> dict[str, Any] | None:
        if not everything and not self._log.waits:
            return None
        return {"logs": {"output": self._log.take(everything=everything)}}
