"""Locks held by the operating system: they end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dockermagic.oci.rooted import remove_tree

__all__ = ["claim", "hold", "is_alive", "new_file", "temporary_directory"]

try:
    import fcntl
except ImportError:  # Windows: no flock; there an open file cannot be removed, which is what the locks are for here
    fcntl = None  # type: ignore[assignment]


def claim(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed; False if another holds it and ``wait`` is off."""
    if fcntl is None:
        return True
    flags = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, flags)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def hold(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Wait for the lock on a file, which is made if need be; gives its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        claim(descriptor, shared=shared)
        yield descriptor
    finally:
        os.close(descriptor)


def new_file(directory: Path, prefix: str = "") -> tuple[int, Path]:
    """Make a file under a fresh name and lock it; :func:`is_alive` says so until the descriptor is closed."""
    while True:
        path = directory / f"{prefix}{os.urandom(8).hex()}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        # A sweep may have seen the file before it was locked: then it is gone or about to go, and another is made.
        if claim(descriptor, wait=False) and os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)


@contextlib.contextmanager
def temporary_directory(folder: Path, prefix: str) -> Iterator[Path]:
    """A directory below ``folder`` that is gone afterwards, whatever the modes of what is in it.

    What killed processes left there goes, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{prefix}*.d"):
        if not is_alive(left.with_suffix("")):
            _remove(left)
    descriptor, note = new_file(folder, prefix)
    directory = note.with_suffix(".d")
    try:
        directory.mkdir(0o755)
        directory.chmod(0o755)
        yield directory
    finally:
        _remove(directory)
        note.unlink(missing_ok=True)
        os.close(descriptor)


def _remove(directory: Path) -> None:
    with contextlib.suppress(OSError):
        above = os.open(directory.parent, os.O_RDONLY)
        try:
            remove_tree(directory.name, above)
        finally:
            os.close(above)


def is_alive(path: Path) -> bool:
    """Whether some process holds the lock of the file. If none does, the file is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's: not ours to judge
        return True
    try:
        if not claim(descriptor, wait=False):
            return True
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)
