"""What every path of a working tree looks like: found by a walk, kept in a file."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Row", "read", "row_of", "rows_below", "write"]

Row = tuple[int, ...]
"""What a path looked like: mode, size, mtime, inode, uid, gid, and last its ctime."""

_ROW = struct.Struct("=IqqQIIq")
_COUNT = struct.Struct("=Q")


def row_of(found: os.stat_result) -> Row:
    """What a path looks like."""
    return (
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ino,
        found.st_uid,
        found.st_gid,
        found.st_ctime_ns,
    )


def rows_below(top: str, folder: str = "") -> Iterator[tuple[str, Row]]:
    """Every path below a directory of the tree ``top``, as it looks now. What goes meanwhile may be missing."""
    pending = [folder]
    for folder in pending:
        prefix = f"{folder}/" if folder else ""
        place = f"{top}/{folder}"
        try:
            listed = _listed(place)
        except (FileNotFoundError, NotADirectoryError):  # it went, or gave way to a file
            continue
        except PermissionError:  # closed by its own mode, to an owner without privileges
            mode = stat.S_IMODE(os.lstat(place).st_mode)
            os.chmod(place, 0o700)
            try:
                yield from rows_below(top, folder)
            finally:
                os.chmod(place, mode)
            continue
        for name, row in listed:
            path = prefix + name
            yield path, row
            if stat.S_ISDIR(row[0]):
                pending.append(path)


def _listed(place: str) -> list[tuple[str, Row]]:
    found = []
    # By a descriptor: to look at an entry takes no walk down from the root then.
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, row_of(entry.stat(follow_symlinks=False))))
                except FileNotFoundError:  # somebody works here
                    continue
    finally:
        os.close(folder)
    return found


def write(file: Path, rows: dict[str, Row]) -> None:
    """Keep the rows in a file: their number, all of them, their paths."""
    aside = file.with_suffix(".new")
    with aside.open("wb") as out:
        out.write(_COUNT.pack(len(rows)))
        out.write(b"".join([_ROW.pack(*row) for row in rows.values()]))
        out.write(os.fsencode("\0".join(rows)))
    aside.replace(file)


def read(file: Path) -> dict[str, Row] | None:
    """What was kept in a file; None where there is none, or it is not whole."""
    try:
        data = file.read_bytes()
        (count,) = _COUNT.unpack_from(data)
        start, end = _COUNT.size, _COUNT.size + count * _ROW.size
        paths = os.fsdecode(data[end:]).split("\0")
        return dict(zip(paths, _ROW.iter_unpack(data[start:end]), strict=True))
    except (OSError, ValueError, struct.error):
        return None
