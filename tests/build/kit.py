"""What the build tests share: an engine with a busybox base, and a context written from a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockermagic.build.request import BuildRequest, BuildResult, Step
from dockermagic.engine import Engine
from dockermagic.events import Event, Log, Vertex


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """A context: paths ending in a slash are directories, values beginning with ``->`` are links."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
    return directory


@dataclass
class Bench:
    """An engine over one home, and what the last build said."""

    engine: Engine
    context: Path
    events: list[Event] = field(default_factory=list)

    def build(self, text: str, **options: Any) -> BuildResult:
        """Build; the events are kept."""
        self.events = []
        options.setdefault("context", self.context)
        return self.engine.build(BuildRequest(text, **options), self.events.append)

    def output(self) -> str:
        """All that the processes of the last build printed."""
        return b"".join(event.data for event in self.events if isinstance(event, Log)).decode()

    def printed(self, text: str, **options: Any) -> str:
        """What the build prints."""
        self.build(text, **options)
        return self.output()

    def names(self) -> list[str]:
        """The names of the steps, in their order."""
        return list(dict.fromkeys(event.name for event in self.events if isinstance(event, Vertex)))


def layered(result: BuildResult) -> list[Step]:
    """The steps that have a layer of their own, without FROM."""
    return [step for step in result.steps if step.snapshot is not None and not step.text.upper().startswith("FROM")]


def cached(result: BuildResult) -> str:
    """C for each layered step from the cache, x for each that was built."""
    return "".join("C" if step.cached else "x" for step in layered(result))
