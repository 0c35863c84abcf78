"""A build's progress as lines, in the form that BuildKit gives them."""

from __future__ import annotations

import threading
from typing import TextIO

from dockermagic.events import Event, Log, Status, Vertex, Warning, warning_text
from dockermagic.values import dataclass, field

__all__ = ["PlainPrinter", "clock", "failure_lines", "is_stopped", "status_text", "warning_lines"]

PATIENCE = 5.0
"""For how many seconds a step may keep the output to itself while another one has something to say."""

STATUS_INTERVAL = 5.0
TAIL = 10


def clock(seconds: float) -> str:
    """The time before a line of output: five characters, ``0.123``, ``12.34``, ``123.4``."""
    seconds = max(0.0, seconds)
    digits = 4 - len(str(int(seconds)))
    return f"{seconds:.{digits}f}"[:5] if digits > 0 else f"{seconds:.0f}."


def data_size(size: int) -> str:
    """Bytes as progress lines show them: ``154B``, ``1.46kB``, ``222.55MB``."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{size}B" if unit == "B" else f"{value:.2f}{unit}"


def status_text(status: Status) -> str:
    """``transferring context: 2B 0.1s done``, ``sha256:... 1.46kB / 2.20MB``."""
    text = f"extracting {status.id}" if status.name == "extracting" else status.id
    if status.total:
        text += f" {data_size(status.current)} / {data_size(status.total)}"
    elif status.current:
        text += f" {data_size(status.current)}"
    end = status.timestamp if status.completed is None else status.completed
    if status.started is not None and end - status.started > 0.01:
        text += f" {end - status.started:.1f}s"
    return text if status.completed is None else f"{text} done"


def is_stopped(vertex: Vertex) -> bool:
    """Whether it ended because somebody wanted it to."""
    return vertex.error.endswith(("canceled", "interrupted"))


def failure_lines(row_name: str, tail: list[str]) -> list[str]:
    """The end of a failed step's output, framed."""
    return ["------", f" > {row_name}:", *tail, "------"] if tail else []


def warning_lines(warnings: list[Warning]) -> list[str]:
    """What ``docker build`` says about lint warnings when it is done."""
    if not warnings:
        return []
    noun = "warning" if len(warnings) == 1 else "warnings"
    lines = ["", f" {len(warnings)} {noun} found:"]
    for warning in warnings:
        name = f"{warning.rule}: " if warning.rule else ""
        lines.append(f" - {name}{warning_text(warning)}" + (f" (line {warning.line})" if warning.line else ""))
    return lines


@dataclass(slots=True)
class _Step:
    """What the plain printer knows of a step; ``waiting`` are the lines that it could not print yet."""

    vertex: Vertex
    number: int = 0
    waiting: list[str] = field(default_factory=list)
    partial: bytes = b""
    partial_time: float = 0.0
    tail: list[str] = field(default_factory=list)
    reported: dict[str, float] = field(default_factory=dict)


class PlainPrinter:
    """Prints events as lines: ``#5 [2/5] RUN make``, ``#5 0.123 some output``, ``#5 DONE 0.1s``.

    One open step speaks at a time; what others say waits until it is done, until they are, or until it has held the
    output for some seconds. A step that comes back has its header printed again.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.steps: dict[str, _Step] = {}
        self.current = ""
        self.since = 0.0
        self.warnings: list[Warning] = []
        self._count = 0
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Take one event and print what can be printed by now."""
        with self._lock:
            self._add(event)
            self.stream.flush()

    def close(self) -> None:
        """Print what is still held back, the output of what failed, and the warnings."""
        with self._lock:
            for digest, step in self.steps.items():
                self._end_partial(step)
                if step.waiting:
                    self._show(digest)
            for step in self.steps.values():
                if step.vertex.error and not is_stopped(step.vertex):
                    self._lines(failure_lines(step.vertex.name, step.tail))
            self._lines(warning_lines(self.warnings))
            self.stream.flush()

    def _lines(self, lines: list[str]) -> None:
        self.stream.write("".join(f"{line}\n" for line in lines))

    def _add(self, event: Event) -> None:
        match event:
            case Warning():
                self.warnings.append(event)
            case Vertex():
                self._vertex(event)
            case Status() if event.vertex in self.steps and event.name != "unpacked":  # it was told as extracted
                step = self.steps[event.vertex]
                last = step.reported.setdefault(event.id, event.started or event.timestamp)
                if event.completed is not None or event.timestamp - last >= STATUS_INTERVAL:
                    step.reported[event.id] = event.timestamp
                    step.waiting.append(status_text(event))
                    self._offer(event.vertex, event.timestamp)
            case Log() if event.vertex in self.steps:
                step = self.steps[event.vertex]
                self._log(step, event)
                if step.waiting:
                    self._offer(event.vertex, event.timestamp)

    def _vertex(self, vertex: Vertex) -> None:
        known = self.steps.get(vertex.digest)
        if known is None:
            known = self.steps[vertex.digest] = _Step(vertex)
        elif known.vertex.completed is not None:
            return
        known.vertex = vertex
        if vertex.completed is not None:
            self._end_partial(known)
            self._show(vertex.digest)
            self._next()
        elif vertex.started is not None:
            self._offer(vertex.digest, vertex.started)

    def _offer(self, digest: str, moment: float) -> None:
        """Print the step's waiting lines, if it may speak now."""
        if self.current in ("", digest) or moment - self.since > PATIENCE:
            if self.current != digest:
                self.since = moment
            self._show(digest)

    def _next(self) -> None:
        """Hand the output to the open step that waits longest."""
        if self.current:
            return
        for digest, step in self.steps.items():
            if step.vertex.completed is None and step.vertex.started is not None:
                self.since = step.vertex.started
                self._show(digest)
                return

    def _show(self, digest: str) -> None:
        step = self.steps[digest]
        if not step.number:
            self._count += 1
            step.number = self._count
        lines = []
        if self.current != digest:
            if self.current:
                lines.append(f"#{self.steps[self.current].number} ...")
            if self._count > 1 or lines:
                lines.append("")
            lines.append(f"#{step.number} {step.vertex.name}")
            self.current = digest
        lines += [f"#{step.number} {line}" for line in step.waiting]
        step.waiting.clear()
        if step.vertex.completed is not None:
            lines.append(f"#{step.number} {self._outcome(step.vertex)}")
            self.current = ""
        self._lines(lines)

    def _outcome(self, vertex: Vertex) -> str:
        if vertex.error:
            return "CANCELED" if is_stopped(vertex) else f"ERROR: {vertex.error}"
        if vertex.cached:
            return "CACHED"
        if vertex.started is None or vertex.completed is None:
            return "DONE"
        return f"DONE {max(0.0, vertex.completed - vertex.started):.1f}s"

    def _log(self, step: _Step, event: Log) -> None:
        *whole, rest = event.data.split(b"\n")
        for line in whole:
            self._line(step, step.partial + line, step.partial_time if step.partial else event.timestamp)
            step.partial = b""
        if rest and not step.partial:
            step.partial_time = event.timestamp
        step.partial += rest

    def _end_partial(self, step: _Step) -> None:
        if step.partial:
            self._line(step, step.partial, step.partial_time)
            step.partial = b""

    def _line(self, step: _Step, data: bytes, moment: float) -> None:
        text = data.removesuffix(b"\r").decode("utf-8", "replace")
        began = step.vertex.started if step.vertex.started is not None else moment
        line = f"{clock(moment - began)} {text}"
        step.waiting.append(line)
        step.tail = [*step.tail[-(TAIL - 1) :], line]
