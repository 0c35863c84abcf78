"""A session as a file: the chain's Dockerfile, written beside the notebook."""

from __future__ import annotations

import os
from pathlib import Path

from dockermagic.errors import SessionError
from dockermagic.session import Session

__all__ = ["export", "write_atomically"]


def export(session: Session, path: Path, *, force: bool = False) -> Path:
    """Write the session's Dockerfile and return where. The bytes are those that ``show`` prints.

    A file that is there and holds something else is replaced only with ``force``. Raises SessionError.
    """
    text = session.script().text
    if not text:
        raise SessionError("nothing to export: no cell is on the chain", hint="Run a cell that begins with FROM.")
    write_atomically(path, text, force=force)
    return path


def write_atomically(path: Path, text: str, *, force: bool) -> None:
    """Replace a file as a whole or not at all. Raises SessionError, also for other content without ``force``."""
    target = path.resolve()
    data = text.encode("utf-8", "surrogateescape")
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not force and target.read_bytes() != data:
            raise SessionError(f"{path} is there already and holds something else", hint="--force replaces it.")
        try:
            aside.write_bytes(data)
            if target.exists():
                aside.chmod(target.stat().st_mode & 0o7777)
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise SessionError(f"cannot write {path}: {error.strerror}") from None
