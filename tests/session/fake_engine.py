"""An engine that builds nothing: it knows keys, remembers what it ran, and fails when it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dockermagic.build.request import BuildRequest, BuildResult, FailedStep, StageResult, Step
from dockermagic.dockerfile.parser import Node, parse
from dockermagic.errors import ContextError, RunFailedError
from dockermagic.events import Emit, Event, Vertex, Warning


def ignore(event: Event) -> None:
    return None


class FakeEngine:
    """``RUN false`` fails, ``RUN interrupt`` is interrupted, COPY reads one file, ``$NAME`` reads a build arg."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.layers: dict[str, int] = {}
        self.ran: list[str] = []
        self.requests: list[BuildRequest] = []

    def build(self, request: BuildRequest, emit: Emit = ignore, *, cancel: object = None) -> BuildResult:
        self.requests.append(request)
        steps: list[Step] = []
        stages: dict[int, StageResult] = {}
        nodes, target = self._nodes(request)
        for index, stage, node, key in self._walk(request, nodes, target):
            makes = node.keyword in ("from", "run", "copy")
            cached = key in self.layers and not (request.no_cache and index >= request.first)
            if makes and not cached:
                self._execute(node, index, stages.get(stage))
                self.layers[key] = len(self.layers) + 1
            snapshot = self.layers[key] if makes else None
            line = node.range.start_line
            emit(Vertex(key, node.original, cached=cached, instruction=index, line=line))
            if "odd" in node.original:
                emit(Warning(key, 1, "odd", line=line))
            steps.append(Step(index, line, stage, node.original, key, snapshot, cached))
            below = stages[stage].snapshots if stage in stages else ()
            stages[stage] = StageResult(stage, "", below + ((snapshot,) if snapshot else ()), {})
        return BuildResult(tuple(steps), stages, target)

    def keys(self, request: BuildRequest) -> tuple[str, ...]:
        nodes, target = self._nodes(request)
        found = [""] * len(nodes)
        for index, _, node, key in self._walk(request, nodes, target):
            found[index] = key
            if node.keyword in ("from", "run", "copy") and key not in self.layers:
                break
        return tuple(found)

    def _nodes(self, request: BuildRequest) -> tuple[tuple[Node, ...], int]:
        nodes = parse(request.text).nodes
        return nodes, sum(node.keyword == "from" for node in nodes) - 1

    def _walk(
        self, request: BuildRequest, nodes: tuple[Node, ...], target: int
    ) -> Iterator[tuple[int, int, Node, str]]:
        stage, key = -1, ""
        for index, node in enumerate(nodes):
            if node.keyword == "from":
                stage, key = stage + 1, ""
            if stage < 0 or stage not in {*request.stages, target}:
                continue
            text = node.original
            for name, value in request.build_args.items():
                text = text.replace(f"${name}", value)
            if node.keyword == "copy" and not node.heredocs:
                file = (request.context or Path("/nowhere")) / node.words[0]
                if not file.exists():
                    place = node.place()
                    raise ContextError(f'"/{node.words[0]}": not found, asked for on line {place.line}', place=place)
                text += file.read_text()
            key = hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()[:12]
            yield index, stage, node, key

    def _execute(self, node: Node, index: int, below: StageResult | None) -> None:
        self.ran.append(node.original)
        if node.words == ("false",):
            error = RunFailedError("exit code: 1", command="false", process_exit_code=1, place=node.place())
            error.failed = FailedStep(index, below.snapshots if below else (), Path("/half/made"))
            raise error
        if node.words == ("interrupt",):
            raise KeyboardInterrupt
