"""What the magics do, once their line is parsed."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.build.request import FailedStep
from dockermagic.conversion import pieces
from dockermagic.errors import SessionError, UsageError
from dockermagic.expect import examine
from dockermagic.export import docker_command, export
from dockermagic.handles import Image
from dockermagic.notebook import views
from dockermagic.notebook.advice import KNOWN
from dockermagic.notebook.answers import result_view
from dockermagic.notebook.assist import help_word
from dockermagic.notebook.cellshow import CellShow, show_replay
from dockermagic.notebook.console import CellConsole, InTerminal
from dockermagic.notebook.display import show
from dockermagic.notebook.identity import Sender, sender, texts_above
from dockermagic.notebook.sources import (
    compared_explorer,
    failed_explorer,
    image_explorer,
    run_explorer,
    states_meant,
)
from dockermagic.notebook.stage import in_kernel
from dockermagic.notebook.terminals import show_terminal
from dockermagic.oci.reference import Reference
from dockermagic.sandbox.base import Cancel
from dockermagic.session import Cell, Chain, Session, labels
from dockermagic.values import replace
from dockermagic.verbs import SUMMARIES
from dockermagic.verbs import run as run_verb
from dockermagic.verbs.expect import checks_of, checks_of_file
from dockermagic.verbs.values import with_environment
from dockermagic.verification import verify
from dockermagic.view import MessageView

if TYPE_CHECKING:
    from dockermagic.handles import Ran
    from dockermagic.notebook.magics import DockerMagics

__all__ = ["check", "look", "run_cell", "verb"]

INTERACTIVE = frozenset({"-i", "-it", "-ti", "--interactive"})


def run_cell(magics: DockerMagics, arguments: Namespace, body: str) -> Image | None:
    """``%%dockerfile``: build the cell, show what it made and return it; None where nothing is built yet."""
    if any(line.strip().startswith("raise NotImplementedError") for line in body.split("\n")):
        raise SessionError("not answered yet", hint="Put your instructions in place of `raise NotImplementedError()`.")
    for tag in arguments.tag:
        Reference.parse(tag)
    who, session = _session(magics, arguments.session)
    folder = session.folder or Path.cwd()
    options = {
        "name": arguments.name,
        "build_args": tuple(with_environment(arguments.build_arg, os.environ).items()),
        "context": str(folder / Path(arguments.context).expanduser()) if arguments.context else "",
        "target": arguments.target,
        "tags": tuple(arguments.tag),
    }
    cell = magics.bench.cell(session, body, who, magics.raw_cell, options)
    with ExitStack() as afterwards:
        afterwards.callback(magics.bench.tell_stale)
        shown = afterwards.enter_context(CellShow(magics.bench.cards(session)))
        run = session.run(
            cell,
            shown.watch,
            after=arguments.after,
            no_cache=arguments.no_cache,
            remember=bool(arguments.name or who.cell_id),
            cancel=shown.cancel,
        )
        shown.done(run)
    if run.stage is None or not in_kernel():
        return None
    return Image(magics.bench.engine, arguments.tag[0] if arguments.tag else "", stage=run.stage, shown=True)


def look(magics: DockerMagics, arguments: Namespace) -> None:
    """``%dockerfile ACTION``."""
    _, session = _session(magics, arguments.session)
    action = {
        "show": _show,
        "status": _status,
        "history": _history,
        "tree": _tree,
        "diff": _diff,
        "shell": _shell,
        "undo": _undo,
        "reset": _reset,
        "replay": _replay,
        "export": _export,
        "load": _load,
        "verify": _verify,
        "help": _help,
    }[arguments.action]
    try:
        action(magics, session, arguments)
    finally:
        magics.bench.tell_stale()


def verb(magics: DockerMagics, words: Sequence[str]) -> Ran | InTerminal | None:
    """``%docker VERB ...``; the exit code is left in ``_exit_code``, as it is for ``!command``.

    A container that was run is the value. One with a terminal in the page has no exit code yet: None.
    """
    keys = words[:1] == ["run"] and any(word in INTERACTIVE for word in words)
    console = CellConsole(magics.bench.engine, keys=keys)
    if not words or words[0] in ("help", "--help", "-h"):
        lines = "".join(f"  {name:<9} {summary}\n" for name, summary in SUMMARIES.items())
        console.write(f"Usage:  {console.program} COMMAND\n\nCommands:\n{lines}")
        return None
    code, ran = run_verb(words, console), console.runs.ran
    magics.bench.shell.user_ns["_exit_code"] = code if ran is None else ran.exit_code
    return ran


def check(magics: DockerMagics, arguments: Namespace, body: str) -> float | None:
    """``%%dockercheck``: show how an image stands up to the checks; the points that it reaches, where they count."""
    checks = checks_of(body, "the cell")
    for name in arguments.file:
        checks += checks_of_file(Path(name).expanduser())
    result = examine(magics.bench.engine, arguments.image, checks)
    show(result_view(result))
    return None if arguments.points is None else round(arguments.points * result.share, 2)


def _session(magics: DockerMagics, name: str) -> tuple[Sender, Session]:
    who = sender(magics.metadata())
    deleted, magics.deleted = frozenset(magics.deleted), set()
    session = magics.bench.session(name, who, deleted)
    if deleted:
        magics.bench.cards(session).refresh("a cell before it was deleted")
    return who, session


def _show(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    show(views.dockerfile_view(magics.bench.engine, session))


def _status(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    show(views.session_view(session))


def _history(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    run = session.build(" ".join(arguments.words))
    if run.stage is None:
        raise SessionError(f"{run.cell.label} builds nothing", hint="A history begins with FROM.")
    engine = magics.bench.engine
    shown = views.history_view(engine.stage_history(run.stage), run, f"History of {run.cell.label}")
    shown = magics.bench.cards(session).as_made(shown)
    suspects = [path for path, _ in KNOWN if path not in ("/tmp", "/var/tmp", "/root/.cache", "/var/log")]
    show(replace(shown, waste=engine.files.wasted(run.stage.snapshots, suspects=suspects)))


def _tree(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    engine, path = magics.bench.engine, " ".join(arguments.words) or "/"
    if arguments.failed:
        failed = _failure(session)
        show(views.failed_tree(engine, failed, path), explorer=failed_explorer(engine, failed))
    elif arguments.image:
        show(views.image_tree(engine, arguments.image, path), explorer=image_explorer(engine, arguments.image, session))
    else:
        run = session.build(arguments.cell)
        explorer = run_explorer(engine, session, run) if run.stage else None
        show(views.tree_view(engine, run, path), explorer=explorer)


def _shell(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    engine, word = magics.bench.engine, " ".join(arguments.words) or arguments.cell
    if arguments.failed:
        begin = partial(engine.shell, _failure(session), magics.bench.cards(session).config)
        show_terminal("Shell in what the failed RUN left", begin, instead="dockermagic run -it IMAGE sh")
        return
    run = session.build(word)
    if run.stage is None:
        raise SessionError(f"{run.cell.label} builds nothing", hint="A shell needs files: a FROM comes first.")
    begin = partial(engine.shell, run.stage.snapshots, run.stage.config.get("config") or {})
    show_terminal(f"Shell after {run.cell.label}", begin, instead="dockermagic run -it IMAGE sh")


def _diff(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    engine = magics.bench.engine
    if arguments.failed:
        show(views.failed_changes(engine, _failure(session)))
        return
    name = " ".join(arguments.words)
    is_cell = any(cell.name == name for cell in session.chain.cells)
    states = [] if is_cell or len(arguments.words) < 2 else states_meant(engine, session, arguments.words)
    if len(states) == 2:
        show(views.compared_view(engine, *states), explorer=compared_explorer(engine, session, *states), changed=True)
        return
    if len(states) > 2:
        raise UsageError("%dockerfile diff compares two", hint="For example: %dockerfile diff 2 4")
    show(views.changes_view(engine, session.build(name or arguments.cell)))


def _failure(session: Session) -> FailedStep:
    if session.failed is None:
        raise SessionError("no RUN of this session has failed since the last build", hint="--failed looks at that.")
    return session.failed


def _undo(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    before = session.chain
    _moved("Undone.", before, session.undo())
    magics.bench.cards(session).refresh("the chain was taken back to what it was before")


def _reset(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    before = session.reset()
    magics.bench.cards(session).refresh("the session was reset")
    gone = f"{labels(before.on)} left it." if before.ids else "It was empty already."
    show(MessageView("The chain is empty.", (gone,), "%dockerfile undo brings it back." if before.ids else ""))


def _moved(what: str, before: Chain, now: Chain) -> None:
    back = [cell for cell in now.on if cell not in before.on]
    gone = [cell for cell in before.on if cell not in now.on]
    lines = [f"On the chain again: {labels(back)}."] if back else []
    lines += [f"Not on it any more: {labels(gone)}."] if gone else []
    lines.append(f"The chain is now: {labels(now.on)}." if now.ids else "The chain is empty now.")
    show(MessageView(what, tuple(lines)))


def _replay(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    if not show_replay(magics.bench.cards(session), mirrored=True):
        show(MessageView("Nothing is stale: every cell is built as it stands.", state="good"))


def _export(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    if len(arguments.words) != 1:
        raise UsageError(
            "%dockerfile export needs the name of one file", hint="For example: %dockerfile export Dockerfile"
        )
    notes = None
    if arguments.markdown:
        if session.name.kind != "notebook":
            raise SessionError(
                "it is not known which notebook this is",
                hint="In a terminal: dockermagic convert NOTEBOOK.ipynb Dockerfile",
            )
        notes = texts_above(Path(session.name.value))
    path = export(session, Path(arguments.words[0]).expanduser(), force=arguments.force, notes=notes)
    hint = f"Docker builds it with: {docker_command(session, path)}"
    show(MessageView(f"The Dockerfile is in {path}.", hint=hint, state="good"))


def _load(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    """Each instruction becomes a cell that is called after its line, so that a changed file can be loaded again."""
    if len(arguments.words) != 1:
        raise UsageError("%dockerfile load needs the name of one file", hint="For example: %dockerfile load Dockerfile")
    path = Path(arguments.words[0]).expanduser()
    try:
        found = pieces(path.read_text("utf-8", "surrogateescape"))
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror}") from None
    session.reset()
    magics.bench.claimed.setdefault(session.name, set())  # this kernel's first cell goes on with what is loaded
    cards = magics.bench.cards(session)
    cancel = Cancel()
    for piece in found:
        if not piece.text:
            continue
        name = f"{path.name}:{piece.line}"
        cell = Cell(name, piece.text, name=name, above=piece.line - 1, context=str(path.resolve().parent))
        with CellShow(cards, cancel=cancel) as shown:
            shown.done(session.run(cell, shown.watch, cancel=cancel))


def _verify(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    with CellConsole(magics.bench.engine).progress("auto", "replay from nothing") as emit:
        verdict = verify(magics.bench.engine, session, emit)
    show(views.verdict_view(verdict))


def _help(magics: DockerMagics, session: Session, arguments: Namespace) -> None:
    if len(arguments.words) != 1:
        raise UsageError("%dockerfile help needs one word", hint="For example: %dockerfile help RUN")
    found = help_word(magics, arguments.words[0])
    if found is None:
        raise UsageError(
            f"no help on {arguments.words[0]}", hint="There is help on instructions, --flags, $VARIABLES and images."
        )
    from IPython.core.display_functions import display

    display(found.bundle(), raw=True)
