"""A file that a person named, written whole or not at all, and what to tell where it cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dockermagic.errors import StoreFullError, UsageError, full_disk_error, is_full
from dockermagic.wholefile import whole_file

__all__ = ["cannot_write", "replacing"]


def cannot_write(path: Path | str, error: OSError) -> UsageError | StoreFullError:
    """What to tell a person when a file that they named cannot be written."""
    if is_full(error):
        return full_disk_error(path, "Make room there, or write to another place.")
    return UsageError(f"cannot write {path}: {os.strerror(error.errno or 0)}")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """See :func:`dockermagic.wholefile.whole_file`. Raises UsageError where the place cannot be written, StoreFullError
    where the disk is full.
    """
    begun = False
    try:
        with whole_file(path) as file:
            begun = True
            yield file
    except OSError as error:
        if begun and not is_full(error):
            raise
        raise cannot_write(path, error) from None
