"""One build from its text to its result: parse, lower, solve, assemble."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dockermagic.build.cache import Cache
from dockermagic.build.context import StatCache
from dockermagic.build.contexts import LAYOUT, Contexts, reads_context
from dockermagic.build.epoch import source_date_epoch
from dockermagic.build.facts import LayerFacts, layer_facts
from dockermagic.build.frontend import LoweredStage, Plan, lower
from dockermagic.build.graph import Copy, Exec, digest_of, walk
from dockermagic.build.images import DEFAULT_PACKING, BaseImage, Images, Packing
from dockermagic.build.internal import Internal
from dockermagic.build.keys import plan_keys
from dockermagic.build.outputs import Built, check_output, export
from dockermagic.build.platforms import labelled, platforms_of
from dockermagic.build.request import BuildRequest, BuildResult, StageResult, Step
from dockermagic.build.review import review, warn
from dockermagic.build.sharedcache import (
    INLINE,
    SharedCache,
    caches_below,
    check_cache_option,
    export_cache,
    inline_records,
)
from dockermagic.build.solver import Solver, place_of
from dockermagic.build.trust import with_certificates
from dockermagic.dockerfile.linter import Report
from dockermagic.dockerfile.stages import Dockerfile, parse_dockerfile
from dockermagic.errors import BuildInterruptedError, SandboxUnavailableError, StoreError
from dockermagic.events import Emit, Event, Status, Warning
from dockermagic.oci import disk
from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.store import Store
from dockermagic.records import Records
from dockermagic.sandbox.base import Cancel, Sandbox
from dockermagic.sandbox.snapshot import Active, Snapshotter
from dockermagic.values import replace

__all__ = ["Builder"]


NO_FACTS = LayerFacts()


class Builder:
    """Builds on one store. Keeps what one build can hand to the next: stat caches, and the last failed layer."""

    def __init__(
        self,
        home: Path,
        records: Records,
        store: Store,
        sandbox: Callable[[], Sandbox],
        snapshotter: Callable[[], Snapshotter],
        images: Callable[[], Images],
    ) -> None:
        self.home = home
        self.records = records
        self.store = store
        self.sandbox = sandbox
        self.snapshotter = snapshotter
        self.images = images
        self.cache = Cache(records)
        self.stat_caches: dict[str, StatCache] = {}
        self.failed: Active | None = None

    # the steps of a build

    def build(self, request: BuildRequest, emit: Emit, cancel: Cancel | None = None) -> BuildResult:
        """See :meth:`dockermagic.engine.Engine.build`."""
        began = time.perf_counter()
        request = with_certificates(request)
        wanted = platforms_of(request)
        for output in request.outputs:
            check_output(output, request.tags, len(wanted))
        for way, options in (("from", request.cache_from), ("to", request.cache_to)):
            for option in options:
                check_cache_option(option, way)
        built: list[Built] = []
        results: list[BuildResult] = []
        for platform in wanted:
            one, tell = replace(request, platform=platform) if request.platform else request, emit
            if len(wanted) > 1:
                tell = labelled(emit, platform, first=not built)
                one = replace(request, platform=platform, trail=f"{trail_name(request)}\0{platform}")
            result, epoch = self._solve(one, tell, cancel or Cancel())
            if any(option.type == "inline" for option in request.cache_to):
                result = self._with_inline_cache(result)
            results.append(result)
            built.append(Built(platform, result.stages[result.target], epoch))
        here = wanted.index(str(Platform.host())) if str(Platform.host()) in wanted else 0
        result = results[here]
        if request.tags or request.outputs or len(built) > 1:
            result = replace(result, image_id=export(self, built, request, Internal(emit)))
        for option in request.cache_to:
            if option.type != "inline":
                export_cache(self.images(), self.cache, result, option, Internal(emit))
        return replace(result, seconds=time.perf_counter() - began)

    def _with_inline_cache(self, result: BuildResult) -> BuildResult:
        """The same result; the config of the target's image speaks of its own layers."""
        stage = result.stages[result.target]
        config = {**stage.config, INLINE: inline_records(self.images(), self.cache, result)}
        return replace(result, stages={**result.stages, result.target: replace(stage, config=config)})

    def _solve(self, request: BuildRequest, emit: Emit, cancel: Cancel) -> tuple[BuildResult, float | None]:
        """One platform's build, and its SOURCE_DATE_EPOCH."""
        internal = Internal(emit)
        with internal.step(f"[internal] load build definition from {request.filename}") as step:
            step.status("transferring dockerfile:", len(request.text.encode("utf-8", "surrogateescape")))
            dockerfile = parse_dockerfile(request.text)
            contexts = self.contexts(request, internal, cancel)
            warn(review(self.store, request, contexts.patterns(), reachable_only=True), request, step)
        with contexts, SharedCache(self.images, self.cache) as shared:
            shared.add([*request.cache_from, *caches_below()], internal)
            return self._solve_in(contexts, shared, dockerfile, request, emit, cancel)

    def _solve_in(
        self,
        contexts: Contexts,
        shared: SharedCache,
        dockerfile: Dockerfile,
        request: BuildRequest,
        emit: Emit,
        cancel: Cancel,
    ) -> tuple[BuildResult, float | None]:
        internal = Internal(emit)
        plan = self.lower(dockerfile, request, contexts, stopping(emit, cancel), internal)
        contexts.load_ignore()
        name = trail_name(request)
        trail = self.cache.trail(name)
        solver = Solver(
            plan,
            request,
            self._sandbox_for(plan, request),
            self.snapshotter(),
            self.cache,
            contexts.get,
            lambda op, report: self.images().unpack(op, report, cancel=solver.cancel),
            self.home,
            emit,
            trail,
            shared.find,
            cancel,
        )
        try:
            load_context(plan, solver, internal)
            solver.solve()
        except BaseException:
            # What ended the build is what counts, also where nothing can be written any more.
            with contextlib.suppress(StoreError):
                self._learn(solver, contexts, name)
            raise
        self._learn(solver, contexts, name)
        epoch = plan.stages[plan.target].config.epoch
        return self._result(dockerfile, request, plan, solver), epoch

    def _sandbox_for(self, plan: Plan, request: BuildRequest) -> Sandbox:
        """The sandbox; where this host has none, or none for a RUN, the error names the first RUN."""
        vertices = walk(*(stage.top for stage in plan.stages.values()))
        run = next((one for one in vertices if isinstance(one.op, Exec)), None)
        try:
            if disk.RECORDED and run is not None:
                from dockermagic.sandbox.elsewhere import nothing_runs

                raise nothing_runs()
            return self.sandbox()
        except SandboxUnavailableError as error:
            error.place = place_of(run, request.filename) if run is not None else None
            raise

    def _learn(self, solver: Solver, contexts: Contexts, trail: str) -> None:
        """Keep what the next build can use."""
        # Whoever only looks builds, too: nothing but the cache answers, and what a failed RUN left stays.
        if solver.failed is not None or any(not record.solved.cached for record in solver.records.values()):
            self.forget_failed()
            self.failed = solver.failed
        contexts.save()
        self._save_trail(trail, solver)

    def lower(
        self, dockerfile: Dockerfile, request: BuildRequest, contexts: Contexts, emit: Emit, internal: Internal
    ) -> Plan:
        """Lower with images from the store, each announced as BuildKit does."""
        seen: dict[tuple[str, str], BaseImage] = {}

        def resolve(name: str, platform: str) -> BaseImage:
            if (name, platform) not in seen:
                is_layout = name.startswith(LAYOUT)
                shown = f"[internal] load metadata for {name if is_layout else Reference.parse(name)}"
                with internal.step(shown):
                    if is_layout:
                        seen[name, platform] = self.images().resolve_layout(name.removeprefix(LAYOUT), platform)
                        return seen[name, platform]
                    seen[name, platform] = self.images().resolve(name, platform, emit, always_pull=request.pull)
            return seen[name, platform]

        epoch = source_date_epoch(dockerfile, request, contexts, self.home)
        return lower(dockerfile, request, resolve, Platform.host(), epoch)

    def contexts(self, request: BuildRequest, internal: Internal, cancel: Cancel | None = None) -> Contexts:
        """The contexts of a build; to be closed."""

        def cache(root: str) -> StatCache:
            if root not in self.stat_caches:
                self.stat_caches[root] = StatCache(self.records, root)
            return self.stat_caches[root]

        return Contexts(request, self.home, cache, internal, cancel)

    def forget_failed(self) -> None:
        """Let go of the last failed layer."""
        if self.failed is not None:
            self.snapshotter().discard(self.failed)
            self.failed = None

    # results

    def _result(self, dockerfile: Dockerfile, request: BuildRequest, plan: Plan, solver: Solver) -> BuildResult:
        snapshotter = self.snapshotter()
        steps: list[Step] = []
        stages: dict[int, StageResult] = {}
        for index, stage in sorted(plan.stages.items()):
            top = solver.solved(stage.top)
            chain = snapshotter.ids(top.snapshot)
            times = snapshotter.created(chain)
            base = stage.base_image.image if stage.base_image is not None else None
            stages[index] = StageResult(index, stage.name, chain, stage.config.finished(times), base)
            wanted = [
                record.solved.snapshot.id
                for (number, index_), record in solver.records.items()
                if number == index and index_ >= request.first and record.solved.snapshot is not None
            ]
            facts = self.facts(chain, wanted)
            steps += self._steps(dockerfile, plan, stage, solver, facts)
        snapshotter.touch({identity for stage in stages.values() for identity in stage.snapshots})
        globals_ = [
            Step(number, argument.range.start_line, -1, argument.original, digest_of({"text": argument.original}))
            for number, argument in enumerate(dockerfile.global_args)
        ]
        return BuildResult(tuple(globals_ + sorted(steps, key=lambda step: step.index)), stages, plan.target)

    def facts(self, chain: Sequence[int], wanted: Sequence[int]) -> dict[int, LayerFacts]:
        """What some layers of a chain do to those below them."""
        directories = [f"{self.home}/snapshots/{identity}/fs" for identity in chain]
        return layer_facts(self.records, self.sandbox(), chain, directories, [one for one in wanted if one in chain])

    def _steps(
        self,
        dockerfile: Dockerfile,
        plan: Plan,
        stage: LoweredStage,
        solver: Solver,
        facts: Mapping[int, LayerFacts],
    ) -> list[Step]:
        found = dockerfile.stages[stage.index]
        first = plan.numbers[stage.index]
        base = solver.solved(stage.base)
        key = base.key
        steps = []
        for offset, instruction in enumerate((found.base, *found.instructions)):
            index = first + offset
            record = solver.records.get((stage.index, index))
            text = instruction.original
            line = instruction.range.start_line
            if record is not None and (offset or stage.base is not None):
                snapshot = record.solved.snapshot
                key = record.solved.key
                made = facts.get(snapshot.id, NO_FACTS) if snapshot is not None and offset else NO_FACTS
                steps.append(
                    Step(
                        index,
                        line,
                        stage.index,
                        text,
                        key,
                        snapshot.id if snapshot is not None else None,
                        record.solved.cached,
                        record.reason,
                        made.bytes,
                        record.seconds,
                        made.added,
                        made.modified,
                        made.removed,
                    )
                )
                continue
            key = digest_of({"below": key, "text": plan.texts.get(index, text)}) if offset else key
            # A FROM without a vertex of its own, of an image that another stage begins with or of a stage, is as cached
            # as what it names.
            below = None if offset or stage.base is None else (stage.base.stage, stage.base.instruction)
            named = solver.records.get(below) if below is not None else None
            steps.append(Step(index, line, stage.index, text, key, cached=named is not None and named.solved.cached))
        return steps

    def keys(self, request: BuildRequest) -> tuple[str, ...]:
        """See :meth:`dockermagic.engine.Engine.keys`."""
        dockerfile = parse_dockerfile(request.text)
        internal = Internal(lambda event: None)
        with self.contexts(request, internal) as contexts:
            plan = self.lower(dockerfile, request, contexts, lambda event: None, internal)
            found = plan_keys(dockerfile, plan, request, self.sandbox(), self.snapshotter(), contexts.get, self.home)
            contexts.save()
        return found

    def check(self, request: BuildRequest) -> Report:
        """See :meth:`dockermagic.engine.Engine.check`."""
        patterns = self.contexts(request, Internal(lambda event: None)).patterns()
        return review(self.store, request, patterns, reachable_only=False)

    def _save_trail(self, name: str, solver: Solver) -> None:
        new, before = solver.trail_entries(), solver.trail
        touched = {(entry.stage, entry.number) for entry in new}
        kept = [entry for entry in before if (entry.stage, entry.number) not in touched]
        entries = sorted(kept + new, key=lambda entry: (entry.stage, entry.number))
        if new and entries != list(before):
            self.cache.save_trail(name, entries)

    # images

    def image(self, stage: StageResult, packing: Packing = DEFAULT_PACKING) -> Image:
        """The image of a stage, its blobs in the store. Call it inside a lease."""
        snapshotter = self.snapshotter()
        snapshots = [snapshot for identity in stage.snapshots if (snapshot := snapshotter.get(identity)) is not None]
        return self.images().assemble(stage.config, snapshots, stage.base, packing)

    def commit_image(self, stage: StageResult, names: tuple[str, ...]) -> str:
        """Make an image of a stage, tag it, and return its id."""
        references = [Reference.parse(name) for name in names]
        with self.store.lease():
            image = self.image(stage)
            descriptor = image.write(self.store)
            self.store.add(descriptor)
            for reference in references:
                self.store.tag(reference, descriptor)
        return image.id


def stopping(emit: Emit, cancel: Cancel) -> Emit:
    """Hand events on; who tells of progress after somebody asked to stop is interrupted."""

    def hand_on(event: Event) -> None:
        if isinstance(event, Status) and cancel.is_set():
            raise BuildInterruptedError("interrupted")
        emit(event)

    return hand_on


def load_context(plan: Plan, solver: Solver, internal: Internal) -> None:
    """Look at what COPY takes of the build context before anything runs, as BuildKit does."""
    tops = [stage.top for stage in plan.stages.values()]
    copies = [vertex for vertex in walk(*tops) if reads_context(vertex)]
    if not copies:
        return
    with internal.step("[internal] load build context") as step:
        total = 0
        for vertex in copies:
            assert isinstance(vertex.op, Copy)
            with solver.at(vertex):
                total += solver.shop.select(vertex.op).transferred
        step.status("transferring context:", total)
        if total and sys.platform == "win32":
            step.emit(
                Warning(step.digest, 1, "Windows has no modes: files of the context are 0755, as Docker has them")
            )


def trail_name(request: BuildRequest) -> str:
    """Under which name the keys of this Dockerfile are remembered."""
    if request.trail:
        return request.trail
    return f"{request.context_from or request.context or ''}\0{request.filename}"
