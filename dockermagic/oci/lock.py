"""Locks held by the operating system: they end with the process that holds them, however it ends.

Windows has no shared ones for us: there only whoever must be alone is. And an open file can be neither renamed nor
removed there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dockermagic.oci import disk
from dockermagic.oci.rooted import remove_tree

__all__ = [
    "BESIDE",
    "claim",
    "discard",
    "hold",
    "is_alive",
    "new_file",
    "open_directory",
    "publish",
    "temporary_directory",
]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BESIDE = ".lock"
"""Behind the name of a directory: what is locked in its place on Windows, which opens none."""
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_FAR = 1 << 40
"""Where a byte is locked on Windows: what is locked there cannot be read."""


def claim(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed; False if another holds it and ``wait`` is off."""
    if fcntl is None:
        return shared or _claim_byte(descriptor, wait)
    flags = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, flags)
    except BlockingIOError:
        return False
    return True


def _claim_byte(descriptor: int, wait: bool) -> bool:
    import msvcrt

    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    try:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(0.01)
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def open_directory(path: Path) -> int:
    """A descriptor to :func:`claim` a directory by. Raises FileNotFoundError where it is gone."""
    if fcntl is not None:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.stat(path)
    return os.open(f"{path}{BESIDE}", _FLAGS)


@contextlib.contextmanager
def hold(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Wait for the lock on a file, which is made if need be; gives its descriptor."""
    descriptor = os.open(path, _FLAGS, 0o666)
    try:
        claim(descriptor, shared=shared)
        yield descriptor
    finally:
        os.close(descriptor)


def new_file(directory: Path, prefix: str = "") -> tuple[int, Path]:
    """Make a file under a fresh name and lock it; :func:`is_alive` says so until the descriptor is closed."""
    while True:
        path = directory / f"{prefix}{os.urandom(8).hex()}"
        descriptor = os.open(path, _FLAGS | os.O_EXCL, 0o666)
        # A sweep may have seen the file before it was locked: then it is gone or about to go, and another is made.
        if claim(descriptor, wait=False) and os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)


def publish(descriptor: int, path: Path, target: Path) -> None:
    """Let a file of :func:`new_file` take the place of ``target``. It stays locked where that is possible."""
    if fcntl is None:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, descriptor)  # the number stays the caller's to close
        os.close(nothing)
    path.replace(target)


def discard(descriptor: int, path: Path) -> None:
    """Close a file of :func:`new_file`, and remove it if it was not published."""
    if fcntl is None:
        os.close(descriptor)
        with contextlib.suppress(PermissionError):  # who has opened it meanwhile, to look or to wait, removes it
            path.unlink(missing_ok=True)
        return
    path.unlink(missing_ok=True)
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
        discard(descriptor, note)


def _remove(directory: Path) -> None:
    with contextlib.suppress(OSError):
        above = disk.open(directory.parent, os.O_RDONLY)
        try:
            remove_tree(directory.name, above)
        finally:
            disk.close(above)


def is_alive(path: Path) -> bool:
    """Whether some process holds the lock of the file. If none does, the file is removed."""
    try:
        descriptor = os.open(path, _FLAGS & ~os.O_CREAT)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's: not ours to judge
        return True
    try:
        if not claim(descriptor, wait=False):
            return True
        if fcntl is not None:  # while it is locked: see new_file
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(descriptor)
    if fcntl is None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return False
