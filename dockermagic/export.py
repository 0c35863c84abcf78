"""A session as a file: the chain's Dockerfile, written beside the notebook."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dockermagic.conversion import with_comments
from dockermagic.errors import SessionError
from dockermagic.session import Session
from dockermagic.wholefile import write_whole

__all__ = ["docker_command", "export", "write_atomically"]


def export(
    session: Session, path: Path, *, force: bool = False, notes: Mapping[str, Sequence[str]] | None = None
) -> Path:
    """Write the session's Dockerfile and return where. The bytes are those that ``show`` prints.

    With ``notes``, texts by the id of the cell that they stand above, those are comments in it. A .dockerignore of the
    context goes beside a Dockerfile that is written elsewhere, as ``NAME.dockerignore``. A file that is there and holds
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
        text = "\n".join(bodies) + "\n"
    write_atomically(path, text, force=force)
    context = session.request().context
    ignore = context / ".dockerignore" if context else None
    if ignore and ignore.is_file() and path.resolve().parent != ignore.resolve().parent:
        write_atomically(path.with_name(f"{path.name}.dockerignore"), ignore.read_text("utf-8"), force=force)
    return path


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
