"""A file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dockermagic.errors import StoreFullError, UsageError

__all__ = ["cannot_write", "replacing"]


def cannot_write(path: Path | str, error: OSError) -> UsageError | StoreFullError:
    """What to tell a person when a file that they named cannot be written."""
    if _is_full(error):
        return StoreFullError(f"the disk is full: cannot write {path}", hint="Make room, or write to another place.")
    return UsageError(f"cannot write {path}: {os.strerror(error.errno or 0)}")


def _is_full(error: OSError) -> bool:
    import errno

    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside ``path`` that takes its place at the end; it goes away where the block fails.

    A device or a pipe is written as it is. Raises UsageError where the place cannot be written, StoreFullError where
    the disk is full.
    """
    import tempfile

    plain = not path.exists() or path.is_file()
    try:
        if plain:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        else:
            handle, name = os.open(path, os.O_WRONLY), ""
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        if name:
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_full(error):
            raise cannot_write(path, error) from None
        raise
