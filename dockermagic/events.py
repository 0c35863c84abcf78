"""What happens during a build, as frozen values with the fields of BuildKit's SolveStatus.

Events go up through one function, ``emit``; nothing else does. :func:`solve_status` gives an event as BuildKit's
``--progress=rawjson`` prints it; :class:`Progress` folds events into the state that a terminal, a page or a widget
shows.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dockermagic.errors import Place
from dockermagic.values import dataclass, field, replace

__all__ = [
    "Emit",
    "Event",
    "Log",
    "Progress",
    "Row",
    "Status",
    "Vertex",
    "Warning",
    "now",
    "solve_status",
    "warning_text",
]


def now() -> float:
    """Seconds since the epoch, the clock of every event."""
    import time

    return time.time()


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of the build changed its state. The same ``digest`` comes again with more fields set.

    ``started`` and ``completed`` are seconds since the epoch. ``instruction`` is the 0-based index of the instruction
    in the text that is built, None for the engine's own steps. ``reason`` says why the cache had no answer;
    ``layer_size`` is in bytes and None where the step makes no layer.
    """

    digest: str
    name: str
    inputs: tuple[str, ...] = ()
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str = ""
    instruction: int | None = None
    line: int | None = None
    stage: str = ""
    reason: str = ""
    layer_size: int | None = None
    added: int = 0
    modified: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """Progress inside a step: bytes of a download, files of a context. ``total`` 0 means unknown."""

    vertex: str
    id: str
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp: float = 0.0
    started: float | None = None
    completed: float | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Output of a step's process: ``stream`` 1 is stdout, 2 is stderr."""

    vertex: str
    stream: int
    data: bytes
    timestamp: float


@dataclass(frozen=True, slots=True)
class Warning:
    """A lint warning: ``short`` is the message, ``detail`` why it matters, ``line`` its 1-based line.

    ``rule`` is BuildKit's name for it, ``place`` what is to be underlined.
    """

    vertex: str
    level: int
    short: str
    detail: tuple[str, ...] = ()
    url: str = ""
    line: int | None = None
    rule: str = ""
    place: Place | None = None


def warning_text(warning: Warning) -> str:
    """The message without what is said beside it: the rule before it and the line behind it."""
    text = warning.short.removeprefix(f"{warning.rule}: ") if warning.rule else warning.short
    return re.sub(r"\s*\(line \d+\)$", "", text) if warning.line else text


Event = Vertex | Status | Log | Warning
Emit = Callable[[Event], None]


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _drop_empty(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item not in (None, "", [], False)}


def solve_status(event: Event) -> dict[str, Any]:
    """The event as one SolveStatus message of BuildKit's ``rawjson`` progress."""
    match event:
        case Vertex():
            vertex = _drop_empty(
                {
                    "digest": event.digest,
                    "inputs": list(event.inputs),
                    "name": event.name,
                    "started": _time(event.started),
                    "completed": _time(event.completed),
                    "cached": event.cached,
                    "error": event.error,
                }
            )
            return {"vertexes": [vertex]}
        case Status():
            status = _drop_empty(
                {
                    "id": event.id,
                    "vertex": event.vertex,
                    "name": event.name,
                    "total": event.total or None,
                    "timestamp": _time(event.timestamp),
                    "started": _time(event.started),
                    "completed": _time(event.completed),
                }
            )
            return {"statuses": [{**status, "current": event.current}]}
        case Log():
            data = base64.b64encode(event.data).decode("ascii")
            return {
                "logs": [
                    {"vertex": event.vertex, "stream": event.stream, "data": data, "timestamp": _time(event.timestamp)}
                ]
            }
        case Warning():
            detail = [base64.b64encode(line.encode()).decode("ascii") for line in event.detail]
            short = base64.b64encode(event.short.encode()).decode("ascii")
            span = [{"start": {"line": event.line, "character": 0}, "end": {"line": event.line, "character": 0}}]
            warning = {"vertex": event.vertex, "level": event.level, "short": short, "detail": detail, "url": event.url}
            return {"warnings": [{**warning, "range": span} if event.line else warning]}


@dataclass(frozen=True, slots=True)
class Row:
    """A step as it stands now: its last vertex, its statuses, the tail of its output and how much was cut before it."""

    vertex: Vertex
    statuses: tuple[Status, ...] = ()
    log: bytes = b""
    log_dropped: int = 0


@dataclass(slots=True)
class Progress:
    """The fold of events into rows, in the order in which the steps were first heard of.

    It holds at most ``log_limit`` bytes of each step's output, the newest.
    """

    log_limit: int = 64 * 1024
    rows: dict[str, Row] = field(default_factory=dict)
    warnings: list[Warning] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take one more event in."""
        if isinstance(event, Warning):
            self.warnings.append(event)
            return
        digest = event.digest if isinstance(event, Vertex) else event.vertex
        row = self.rows.get(digest) or Row(Vertex(digest, ""))
        match event:
            case Vertex():
                row = replace(row, vertex=event)
            case Status():
                kept = {status.id: status for status in row.statuses}
                kept[event.id] = event
                row = replace(row, statuses=tuple(kept.values()))
            case Log():
                log = row.log + event.data
                cut = max(0, len(log) - self.log_limit)
                row = replace(row, log=log[cut:], log_dropped=row.log_dropped + cut)
        self.rows[digest] = row
