"""The root filesystems of a session's cells, as what a card's page can look through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from dockermagic.build.request import FailedStep, StageResult
from dockermagic.engine import Engine
from dockermagic.errors import ImageNotFoundError, SessionError, UsageError
from dockermagic.files import Layers
from dockermagic.notebook.explorer import Explorer, Source, State
from dockermagic.notebook.listings import created_by_words
from dockermagic.session import Run, Session
from dockermagic.tables import clip

__all__ = [
    "State",
    "compared_explorer",
    "failed_explorer",
    "image_explorer",
    "run_explorer",
    "snapshots_before",
    "state_meant",
    "states_meant",
]

MOST_IMAGES = 50
LABEL = 80


def run_explorer(engine: Engine, session: Session, run: Run) -> Explorer:
    """The files of a run, layer by layer, and against other cells, stages and images."""

    def source() -> Source:
        stage = run.stage
        assert stage is not None and run.result is not None
        made = {step.snapshot: step.text for step in run.result.steps}
        states = []
        for number, snapshot in enumerate(stage.snapshots):
            text = made.get(snapshot, "")
            label = " ".join(text.split()) if text else "a layer of the base image"
            states.append(State(clip(label, LABEL), stage.snapshots[: number + 1]))
        return Source(tuple(states) or (State("nothing yet", ()),), len(run.base) - 1)

    def stages() -> dict[str, Callable[[], Layers]]:
        found = run.result.stages if run.result else {}
        here = run.stage.index if run.stage else -1
        return {
            f"stage {one.name or one.index}": partial(_files_of, one) for one in found.values() if one.index != here
        }

    return Explorer(
        lambda: engine.files,
        {"cell": source, "tree": source},
        lambda: {**_cells(session, run.cell.id), **stages(), **_images(engine)},
    )


def failed_explorer(engine: Engine, failed: FailedStep) -> Explorer:
    """What a failed RUN left, against what was there before it."""
    source = Source(
        (State("before the failed RUN", snapshots_before(failed)), State("what the failed RUN left", failed)), 0
    )
    return Explorer(lambda: engine.files, {"failed": lambda: source, "tree": lambda: source})


def snapshots_before(failed: FailedStep) -> tuple[int, ...]:
    """The layers that a failed RUN stood on."""
    return tuple(int(directory.parent.name) for directory in failed.parents)


def image_explorer(engine: Engine, name: str, session: Session | None = None) -> Explorer:
    """The files of an image, layer by layer, and against other images and what a session has."""

    def source() -> Source:
        layers = engine.snapshots_of(name)
        steps = [created_by_words(row.created_by) for row in reversed(engine.history(name)) if not row.empty_layer]
        words = [" ".join(text.split()) for text in steps] + [""] * len(layers)
        states = [State(clip(words[at] or "a layer", LABEL), layers[: at + 1]) for at in range(len(layers))]
        return Source(tuple(states) or (State("an empty image", ()),))

    return Explorer(lambda: engine.files, {"tree": source}, lambda: _others(engine, session))


def compared_explorer(engine: Engine, session: Session, before: State, after: State) -> Explorer:
    """Two trees, the one against the other."""
    source = Source((before, after), 0, before.label)
    return Explorer(lambda: engine.files, {"tree": lambda: source}, lambda: _others(engine, session))


def states_meant(engine: Engine, session: Session, words: Sequence[str]) -> list[State]:
    """The files that each word means, see :func:`state_meant`; ``cell [3]`` and the like are one word."""
    out, left = [], list(words)
    while left:
        word = left.pop(0)
        if word in _KINDS and left:
            word = f"{word} {left.pop(0)}"
        out.append(state_meant(engine, session, word))
    return out


def state_meant(engine: Engine, session: Session, word: str) -> State:
    """The files that a person means: after a cell, of a stage or of an image, tried in this order where the word does
    not begin with which of them it is. Raises :class:`UsageError` where there is nothing of that name."""
    kind, _, name = word.partition(" ")
    name = name if kind in _KINDS else word
    if kind != "stage" and kind != "image":
        try:
            cell = session.chain.find(name)
        except SessionError:
            if kind == "cell":
                raise
        else:
            return State(cell.label, _layers_after(session, cell.id))
    stages = _stages(session) if kind != "image" else {}
    if name in stages:
        return State(f"stage {name}", stages[name].snapshots)
    if kind != "stage":
        with suppress(ImageNotFoundError):
            return State(f"image {name}", engine.snapshots_of(name))
    found = ", ".join([*(cell.label for cell in session.chain.on), *(f"stage {one}" for one in stages)])
    raise UsageError(f"no cell, stage or image is called {name}", hint=f"There is {found}." if found else "")


_KINDS = ("cell", "stage", "image")


def _stages(session: Session) -> Mapping[str, StageResult]:
    """The stages of the chain as it stands, by their names."""
    run = session.build() if session.chain.ids else None
    found = run.result.stages.values() if run is not None and run.result is not None else ()
    return {one.name or str(one.index): one for one in found}


def _layers_after(session: Session, word: str) -> Layers:
    stage = session.build(word).stage
    if stage is None:
        raise SessionError("this cell has no files: a FROM comes first")
    return stage.snapshots


def _cells(session: Session, own: str) -> Mapping[str, Callable[[], Layers]]:
    return {
        f"after {cell.label}": partial(_layers_after, session, cell.id) for cell in session.chain.on if cell.id != own
    }


def _others(engine: Engine, session: Session | None) -> Mapping[str, Callable[[], Layers]]:
    """All that a tree can be compared with."""
    if session is None:
        return _images(engine)
    # Who only looks builds nothing.
    is_built = all(one.state == "built" for one in session.status() if one.cell in session.chain)
    stages = _stages(session) if is_built else {}
    named = {f"stage {name}": partial(_files_of, one) for name, one in stages.items()}
    return {**_cells(session, ""), **named, **_images(engine)}


def _files_of(stage: StageResult) -> Layers:
    return stage.snapshots


def _images(engine: Engine) -> Mapping[str, Callable[[], Layers]]:
    names = [f"{one.repository}:{one.tag}" for one in engine.images() if one.repository != "<none>"]
    return {f"image {name}": partial(engine.snapshots_of, name) for name in names[:MOST_IMAGES]}
