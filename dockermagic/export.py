"""A session as a file: the chain's Dockerfile, written beside the notebook."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dockermagic.build.request import BuildRequest
from dockermagic.conversion import with_comments
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.model import Add, Copy
from dockermagic.dockerfile.parser import parse
from dockermagic.errors import SessionError
from dockermagic.session import Session
from dockermagic.wholefile import write_whole

__all__ = ["docker_command", "export", "write_atomically"]


def export(
    session: Session, path: Path, *, force: bool = False, notes: Mapping[str, Sequence[str]] | None = None
) -> Path:
    """Write the session's Dockerfile and return where. The bytes are those that ``show`` prints.

    With ``notes``, texts by the id of the cell that they stand above, those are comments in it. ``NAME.dockerignore``
    goes beside it where a build of the file would see other files than the cells did. A file that is there and holds
    something else is replaced only with ``force``. Raises SessionError.
    """
    script = session.script()
    text = script.text
    if not text:
        raise SessionError("nothing to export: no cell is on the chain", hint="Run a cell that begins with FROM.")
    if notes:
        cells = [part.cell for part in script.parts]
        bodies = (
            with_comments(cell.text.strip("\n"), notes.get(cell.id, ()), first=not number)
            for number, cell in enumerate(cells)
        )
        text = "".join(bodies) + "\n"
    write_atomically(path, text, force=force)
    if ignored := _ignored(session.request(), path):
        write_atomically(path.with_name(f"{path.name}.dockerignore"), ignored, force=force)
    return path


def _ignored(request: BuildRequest, path: Path) -> str:
    """What keeps from a build of the file what no cell saw; '' where nothing has to.

    That is the context's own .dockerignore for a Dockerfile that is written elsewhere, and, where a step copies the
    whole folder of the notebook, the notebook and the files that are written here.
    """
    if request.context is None:
        return ""
    context = Path(request.context).resolve()
    folder, own = path.resolve().parent, context / ".dockerignore"
    text = own.read_text("utf-8") if own.is_file() else ""
    if request.left_out and _copies_everything(request.text):
        name = (folder / path.name).relative_to(context).as_posix() if folder.is_relative_to(context) else ""
        written = (name, f"{name}.dockerignore") if name else ()
        return "\n".join([*request.left_out, *written, text])
    return text if folder != context else ""


def _copies_everything(text: str) -> bool:
    """Whether a COPY or ADD takes all that is in the build context."""
    steps = [instruction(node) for node in parse(text).nodes if node.keyword in ("add", "copy")]
    own = [step for step in steps if isinstance(step, Add) or (isinstance(step, Copy) and not step.from_)]
    return any(source.strip("./") in ("", "*") for step in own for source in step.sources)


def docker_command(session: Session, path: Path) -> str:
    """The command line that builds an exported Dockerfile with Docker."""
    request = session.request()
    words = ["docker", "build", "-f", str(path)]
    for tag in dict.fromkeys(tag for cell in session.chain.on for tag in cell.tags):
        words += ["-t", tag]
    for name, value in request.build_args.items():
        words += ["--build-arg", f"{name}={value}"]
    here = request.context is None or Path(request.context) == Path.cwd()
    return shlex.join([*words, "." if here else str(request.context)])


def write_atomically(path: Path, text: str, *, force: bool) -> None:
    """Replace a file as a whole or not at all. Raises SessionError, also for other content without ``force``."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        if path.exists() and not force and path.read_bytes() != data:
            raise SessionError(f"{path} is there already and holds something else", hint="--force replaces it.")
        write_whole(path, data)
    except OSError as error:
        raise SessionError(f"cannot write {path}: {error.strerror}") from None
