"""Who a process is: ``USER`` looked up in /etc/passwd and /etc/group of the root filesystem, as Docker's runtime does
it.

The functions read the files through ``root``, "/" once the process stands in its own root. Hostile files are bounded
and never block: anything but a regular file counts as missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator

from dockermagic.errors import SandboxError
from dockermagic.values import dataclass

__all__ = ["Identity", "lookup"]

MAX_ID = (1 << 31) - 1
_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of a process, its supplementary groups and the home directory of its user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _lines(path: str, open_file: Callable[[str, int], int]) -> Iterator[list[str]]:
    try:
        fd = open_file(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        data = b""
        while len(data) < _LIMIT and (piece := os.read(fd, 1 << 16)):
            data += piece
    finally:
        os.close(fd)
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().split(":")


def _number(text: str) -> int | None:
    """Decimal digits as Go's Atoi takes them, with a sign; None for a name."""
    digits = text[1:] if text[:1] in "+-" else text
    return int(text) if digits.isascii() and digits.isdigit() else None


def _field(fields: list[str], index: int) -> str:
    return fields[index] if index < len(fields) else ""


def lookup(
    user: str, *, additional: Iterable[str] = (), root: str = "/", open_file: Callable[[str, int], int] = os.open
) -> Identity:
    """The identity of ``user``: ``""``, ``name``, ``uid``, each with ``:group`` or ``:gid``.

    ``open_file`` opens a path of the root filesystem, where that is not the root of this process.

    An explicit group drops the supplementary groups. A uid that nobody has gets gid 0 and the home "/". Raises
    SandboxError with Docker's words for a name that does not exist and for a number out of range.
    """
    name, _, group = user.partition(":")
    users = list(_lines(os.path.join(root, "etc/passwd"), open_file))
    groups = list(_lines(os.path.join(root, "etc/group"), open_file))
    uid_given, gid_given = _number(name), _number(group)

    entry = None
    for fields in users:
        uid = _number(_field(fields, 2))
        if uid is None:
            continue
        if (not name and uid == 0) or (name and (fields[0] == name or (uid_given is not None and uid == uid_given))):
            entry = fields
            break
    uid, gid, home, matched = 0, 0, "/", ""
    if entry is not None:
        uid, gid = int(entry[2]), _number(_field(entry, 3)) or 0
        home, matched = _field(entry, 5) or "/", entry[0]
    elif name and uid_given is None:
        raise SandboxError(
            f"unable to find user {name}: no matching entries in passwd file",
            hint="Make the user first (RUN adduser -D NAME, or useradd NAME), or give a number: 1000.",
        )
    elif uid_given is not None:
        uid = uid_given
    if not 0 <= uid <= MAX_ID:
        raise SandboxError("uids and gids must be in range 0-2147483647")

    supplementary: list[int] = []
    if group:
        found = next(
            (number for number, fields in _numbered(groups) if fields[0] == group or number == gid_given), gid_given
        )
        if found is None:
            raise SandboxError(f"unable to find group {group}: no matching entries in group file")
        gid = found
    elif matched:
        supplementary = [number for number, fields in _numbered(groups) if matched in _field(fields, 3).split(",")]
    for extra in additional:
        wanted = _number(extra)
        found = next((number for number, fields in _numbered(groups) if fields[0] == extra), wanted)
        if found is None:
            raise SandboxError(f"Unable to find group {extra}: no matching entries in group file")
        supplementary.append(found)
    if not 0 <= gid <= MAX_ID:
        raise SandboxError("uids and gids must be in range 0-2147483647")
    return Identity(uid, gid, tuple(dict.fromkeys([gid, *supplementary])), home)


def _numbered(groups: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for fields in groups:
        number = _number(_field(fields, 2))
        if number is not None:
            yield number, fields
