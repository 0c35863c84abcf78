"""The walk: a vertex's key is looked up, or its operation is executed and recorded. Stages run side by side.

Layers are shared between processes: who misses takes the key's lock, looks again, and only then builds; so the same
layer wanted by two is built once.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dockermagic.build.cache import Cache, TrailEntry
from dockermagic.build.context import Context
from dockermagic.build.frontend import Plan
from dockermagic.build.graph import ImageSource, Vertex, below, walk
from dockermagic.build.locks import Lock
from dockermagic.build.ops import Inputs, execute, inputs_of
from dockermagic.build.request import BuildRequest, FailedStep
from dockermagic.build.workshop import NOTHING, Solved, Workshop
from dockermagic.errors import BuildInterruptedError, DockermagicError, Place, RunFailedError
from dockermagic.events import Emit, Log, now
from dockermagic.events import Vertex as VertexEvent
from dockermagic.sandbox.base import Cancel, Sandbox
from dockermagic.sandbox.snapshot import Active, Snapshot, Snapshotter
from dockermagic.values import dataclass, field

__all__ = ["Solver", "StepRecord", "place_of"]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How one vertex was solved, for the steps of a build's result."""

    vertex: Vertex
    solved: Solved
    reason: str
    seconds: float


@dataclass(slots=True)
class Solver:
    """Solves one plan. ``unpack`` turns a base image into snapshots; it is asked only where they are missing."""

    plan: Plan
    request: BuildRequest
    sandbox: Sandbox
    snapshotter: Snapshotter
    cache: Cache
    context: Callable[[str], Context]
    unpack: Callable[[ImageSource, Emit], Snapshot]
    home: Path
    emit: Emit
    trail: Sequence[TrailEntry] = ()
    shared: Callable[[str, Snapshot | None, Cancel], Snapshot | None] = lambda key, parent, cancel: None
    cancel: Cancel = field(default_factory=Cancel)
    records: dict[tuple[int, int], StepRecord] = field(default_factory=dict)
    failed: Active | None = None
    shop: Workshop = field(init=False)
    _done: dict[int, Solved | BaseException] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _settled: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.shop = Workshop(
            self.request, self.sandbox, self.snapshotter, self._wait, self.context, self.home, self.cancel
        )

    def solved(self, vertex: Vertex | None) -> Solved:
        """The outcome of a vertex, after :meth:`solve`; None is the empty root."""
        return NOTHING if vertex is None else self._wait(vertex)

    def trail_entries(self) -> list[TrailEntry]:
        """The keys of what was solved, for the next build's reasons."""
        return [
            TrailEntry(
                record.vertex.stage_name, self._numbers[id(record.vertex)], record.vertex.text, record.solved.key
            )
            for record in self.records.values()
            if not isinstance(record.vertex.op, ImageSource)
        ]

    def solve(self) -> None:
        """Solve every stage of the plan; :attr:`records` has the outcome by instruction.

        Raises what the first failing operation raised, after everything that ran beside it was stopped.
        """
        tops = [stage.top for stage in self.plan.stages.values()]
        order = list(walk(*tops))
        threads: dict[int, list[Vertex]] = {}
        for vertex in order:
            line = threads.setdefault(vertex.stage, [])
            self._numbers[id(vertex)] = len(line)
            line.append(vertex)
        if len(threads) <= 1:
            self._chain(order)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(threads), "dockermagic-stage") as pool:
            futures = [pool.submit(self._chain, line) for line in threads.values()]
            try:
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:
                self.cancel.set()
                raise
        if errors:
            raise next((error for error in errors if not isinstance(error, BuildInterruptedError)), errors[0])

    def _wait(self, vertex: Vertex) -> Solved:
        with self._settled:
            self._settled.wait_for(lambda: id(vertex) in self._done)
        outcome = self._done[id(vertex)]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _settle(self, vertex: Vertex, outcome: Solved | BaseException) -> None:
        with self._settled:
            self._done[id(vertex)] = outcome
            self._settled.notify_all()

    def _chain(self, vertices: Sequence[Vertex]) -> None:
        """The vertices of one stage, in their order. The first failure stops the other stages, too."""
        for position, vertex in enumerate(vertices):
            try:
                solved = self._one(vertex)
            except BaseException as error:
                said = error if isinstance(error, DockermagicError) else BuildInterruptedError("interrupted")
                for later in vertices[position:]:
                    self._settle(later, said)
                self.cancel.set()
                raise
            self._settle(vertex, solved)

    def _one(self, vertex: Vertex) -> Solved:
        if self.cancel.is_set():
            raise BuildInterruptedError("interrupted")
        parent = self._wait(vertex.parent) if vertex.parent is not None else NOTHING
        began = time.perf_counter()
        started = now()
        inputs: Inputs | None = None
        try:
            with self.at(vertex):
                inputs = inputs_of(vertex, parent, self.shop)
                digest = self._digests[id(vertex)] = _event_digest(vertex, inputs)
                solved, reason = self._layer(vertex, parent, inputs, digest)
        except DockermagicError as error:
            digest = _event_digest(vertex, inputs)
            self.emit(self._event(vertex, digest, started=started, completed=now(), error=error.message))
            raise
        except KeyboardInterrupt:
            digest = _event_digest(vertex, inputs)
            self.emit(self._event(vertex, digest, started=started, completed=now(), error="interrupted"))
            raise BuildInterruptedError(
                "interrupted", hint="Nothing of this step was kept; the layers before it were."
            ) from None
        self.records[vertex.stage, vertex.instruction] = StepRecord(vertex, solved, reason, time.perf_counter() - began)
        snapshot = solved.snapshot
        self.emit(
            self._event(
                vertex,
                digest,
                started=started,
                completed=now(),
                cached=solved.cached,
                reason=reason,
                layer_size=snapshot.size if snapshot is not None else None,
            )
        )
        return solved

    @contextlib.contextmanager
    def at(self, vertex: Vertex) -> Iterator[None]:
        """Errors that pass through get the place of the vertex's instruction."""
        try:
            yield
        except DockermagicError as error:
            if error.place is None:
                error.place = place_of(vertex, self.request.filename)
            raise

    def _event(self, vertex: Vertex, digest: str, **state: Any) -> VertexEvent:
        event = VertexEvent(
            digest,
            vertex.name,
            tuple(dict.fromkeys(self._digests[id(one)] for one in below(vertex) if id(one) in self._digests)),
            instruction=vertex.instruction,
            line=vertex.line,
            stage=vertex.stage_name,
            **state,
        )
        return event

    def _layer(self, vertex: Vertex, parent: Solved, inputs: Inputs, digest: str) -> tuple[Solved, str]:
        op = vertex.op
        if isinstance(op, ImageSource):
            found = self.snapshotter.find(inputs.key)
            cached = found is not None
            if found is None:
                self.emit(self._event(vertex, digest, started=now()))
                found = self.unpack(op, self.emit)
            return Solved(inputs.key, found, cached, op.manifest, op.name), ""
        skip = self._no_cache(vertex)
        found = None if skip else self.snapshotter.find(inputs.key)
        if found is not None and self._stands_on(found, parent):
            return Solved(inputs.key, found, True, parent.base, parent.base_name), ""
        number, record = self._numbers[id(vertex)], inputs.record
        if skip:
            reason = "--no-cache"
        elif found is not None:
            reason = "a step before it was built again"
        else:
            reason = self.cache.reason(self.trail, vertex.stage_name, number, vertex.text, record)
        self.emit(self._event(vertex, digest, started=now(), reason=reason))
        lock = Lock(self.home / "steps.lock", inputs.key)
        lock.acquire(self.cancel)
        try:
            found = None if skip else self.snapshotter.find(inputs.key)
            if found is not None and self._stands_on(found, parent):  # another build was at it
                return Solved(inputs.key, found, True, parent.base, parent.base_name), ""
            is_replaced = skip or found is not None
            found = None if skip else self.shared(inputs.key, parent.snapshot, self.cancel)
            if found is not None:
                return Solved(inputs.key, found, True, parent.base, parent.base_name), ""
            snapshot = self._build(vertex, parent, inputs.key, record, digest, replace=is_replaced)
        finally:
            lock.release()
        return Solved(inputs.key, snapshot, False, parent.base, parent.base_name), reason

    def _stands_on(self, snapshot: Snapshot, parent: Solved) -> bool:
        """Whether a layer was made on this very parent.

        A key says what was done, not what came of it: a step that ``--no-cache`` built again has its old key and a new
        result, and what was made on the old one must not be used with it. An image's layers are the same by digest.
        """
        below = parent.snapshot.id if parent.snapshot is not None else None
        return snapshot.parent == below or parent.key.startswith("chain:")

    def _no_cache(self, vertex: Vertex) -> bool:
        request = self.request
        return (
            request.no_cache or vertex.stage_name in request.no_cache_stages
        ) and vertex.instruction >= request.first

    def _build(
        self, vertex: Vertex, parent: Solved, key: str, record: Mapping[str, Any], digest: str, *, replace: bool
    ) -> Snapshot:
        active = self.snapshotter.prepare(parent.snapshot)
        try:
            execute(vertex, parent, active, self.shop, lambda stream, data: self.emit(Log(digest, stream, data, now())))
            with self.cache.records.transaction() as tx:
                self.cache.record(tx, key, record)
                return self.snapshotter.commit(active, key, replace=replace)
        except RunFailedError as error:
            self._keep(active, vertex, error)
            raise
        except BaseException:
            self.snapshotter.discard(active)
            raise

    def _keep(self, active: Active, vertex: Vertex, error: RunFailedError) -> None:
        """The first failure's half-made layer stays, for a look into it; the caller discards it."""
        with self._lock:
            if self.failed is not None:
                self.snapshotter.discard(active)
                return
            self.failed = active
        error.failed = FailedStep(vertex.instruction, active.rootfs.lowers, active.upper)


def place_of(vertex: Vertex, filename: str) -> Place:
    """Where the vertex's instruction stands."""
    return Place(vertex.line, 0, None, vertex.text.strip().split("\n", 1)[0], filename)


def _event_digest(vertex: Vertex, inputs: Inputs | None) -> str:
    """The digest that events carry: the same step twice in one build stays two vertices."""
    text = f"{inputs.key if inputs else ''}\0{vertex.name}\0{vertex.instruction}"
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
