"""Live lines of a build on a tty, drawn with rich: a line per step with its clock, and the last output of what runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TextIO

from dockermagic.events import Event, Progress, Row, now
from dockermagic.terminal.plain import failure_lines, is_stopped, status_text, warning_lines

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

__all__ = ["LivePrinter"]

TAIL = 6
REFRESH = 10


class LivePrinter:
    """A context manager that draws a build while it runs and leaves its last state on the screen.

    A ``transient`` one leaves nothing: who uses it says himself what became of the build.
    """

    def __init__(self, stream: TextIO, *, transient: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self.progress = Progress()
        self.started = now()
        self.finished = False
        self.transient = transient
        self._lock = threading.Lock()
        self._live = Live(
            self,
            console=self.console,
            refresh_per_second=REFRESH,
            transient=transient,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def emit(self, event: Event) -> None:
        """Take one event; the picture follows by itself."""
        with self._lock:
            self.progress.add(event)

    def __enter__(self) -> LivePrinter:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finished = True
        self._live.stop()
        if self.transient:
            return
        for row in self.progress.rows.values():
            if row.vertex.error and not is_stopped(row.vertex):
                self._print(failure_lines(row.vertex.name, self._tail(row, 10)))
        self._print(warning_lines(self.progress.warnings))

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self.console.print(line, soft_wrap=True)

    def _tail(self, row: Row, count: int) -> list[str]:
        return row.log.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n").split("\n")[-count:]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        with self._lock:
            rows = list(self.progress.rows.values())
        done = sum(row.vertex.completed is not None for row in rows)
        failed = any(row.vertex.error for row in rows)
        end = " FINISHED" if self.finished and not failed else ""
        width = max(20, options.max_width)
        yield Text(f"[+] Building {now() - self.started:.1f}s ({done}/{len(rows)}){end}", style="bold", no_wrap=True)
        lines = [line for row in rows if row.vertex.name for line in self._row(row, width)]
        room = console.size.height - 3
        if not self.finished and len(lines) > room > 0:
            yield Text(f" => ... {len(lines) - room + 1} lines above", style="dim", no_wrap=True)
            lines = lines[-(room - 1) :]
        yield from lines

    def _row(self, row: Row, width: int) -> list[Text]:

        vertex = row.vertex
        open_ = vertex.completed is None and vertex.started is not None
        style = "red" if vertex.error else "" if open_ else "blue" if vertex.completed is not None else "dim"
        word = ""
        if vertex.error:
            word = "CANCELED " if is_stopped(vertex) else "ERROR "
        elif vertex.cached:
            word = "CACHED "
        seconds = 0.0
        if vertex.started is not None:
            seconds = max(0.0, (now() if vertex.completed is None else vertex.completed) - vertex.started)
        name = " ".join(vertex.name.split())
        lines = [self._line(f" => {word}{name}", f"{seconds:.1f}s" if vertex.started is not None else "", width, style)]
        lines += [self._line(f" => => {status_text(status)}", "", width, style) for status in row.statuses]
        if open_ and row.log and not self.finished:
            lines += [self._log_line(line, width) for line in self._tail(row, TAIL)]
        return lines

    def _line(self, left: str, right: str, width: int, style: str) -> Text:
        from rich.text import Text

        text = Text(left, style=style, no_wrap=True, end="")
        text.truncate(max(4, width - len(right) - 1), overflow="ellipsis", pad=True)
        text.append(" " + right)
        text.end = "\n"
        return text

    def _log_line(self, line: str, width: int) -> Text:
        from rich.text import Text

        text = Text.from_ansi(line.rpartition("\r")[2])
        text.style = "dim"
        text = Text(" => => # ", style="dim", no_wrap=True).append_text(text)
        text.truncate(width, overflow="ellipsis")
        return text
