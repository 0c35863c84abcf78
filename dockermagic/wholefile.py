"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["whole_file", "write_whole"]


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Let ``data`` take the place of what a file holds; see :func:`whole_file`."""
    with whole_file(path, mode) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """What is written takes the place of ``path`` when the block ends; where it fails, nothing has changed.

    A symbolic link stays, and the file that it names is replaced. The new file has this ``mode``, by default that of
    the one before it, else what the umask leaves. Where the system knows files without a name the new one has none
    until then, so that nothing is left of it even if this process is killed; a file that is in its place already can
    leave ``.NAME.`` and eight hex digits for a moment. A device or pipe is written as it is. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    if mode is None and path.exists():
        mode = path.stat().st_mode & 0o777
    nameless, handle = _open(path.parent, aside, 0o666 if mode is None else mode & 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(handle, mode)
            file.flush()
            if nameless:
                try:
                    _name(file.fileno(), path)
                    return
                except FileExistsError:
                    _name(file.fileno(), aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _open(folder: Path, aside: Path, mode: int) -> tuple[bool, int]:
    """A new file, and whether it has no name; else it is ``aside``."""
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless and os.path.isdir("/proc/self/fd"):
        try:
            return True, os.open(folder, nameless | os.O_RDWR | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    return False, os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)


def _name(file: int, path: Path) -> None:
    """Give an open file without a name one. Raises FileExistsError where it is taken."""
    # Only with a directory's descriptor does Python ask linkat to follow the link that stands for the file.
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.link(str(file), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
