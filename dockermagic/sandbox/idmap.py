"""Subordinate ids: which ranges a user has, and how they are mapped into a user namespace with newuidmap and
newgidmap.
"""

from __future__ import annotations

import os
from pathlib import Path

from dockermagic.errors import SandboxUnavailableError

__all__ = ["mapping", "problem", "ranges", "write_ranges"]


def ranges(file: str) -> list[tuple[int, int]]:
    """The (start, count) pairs of this user in /etc/subuid or /etc/subgid."""
    import pwd

    uid = os.getuid()
    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if name in names and start.isdigit() and count.isdigit() and int(count):
            found.append((int(start), int(count)))
    return found


def mapping(own: int, file: str) -> list[tuple[int, int, int]]:
    """The lines (inside, outside, count) of a map: the own id is 0, the subordinate ones follow from 1 on."""
    lines, inside = [(0, own, 1)], 1
    for start, count in ranges(file):
        lines.append((inside, start, count))
        inside += count
    return lines


def problem() -> tuple[str, str] | None:
    """Why this user cannot have a range of ids, and what to do about it; None if nothing is missing."""
    for tool in ("newuidmap", "newgidmap"):
        if _tool(tool) is None:
            return f"{tool} is not installed", "Install the package uidmap (shadow-utils on Fedora) for full ownership."
    for file in ("/etc/subuid", "/etc/subgid"):
        if not ranges(file):
            return (
                f"{file} has no line for this user",
                f"As root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_name()}",
            )
    return None


def _name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _tool(name: str) -> str | None:
    paths = (f"{folder}/{name}" for folder in (*os.get_exec_path(), "/usr/bin", "/usr/sbin", "/bin"))
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def write_ranges(pid: int) -> None:
    """Map the ids of the user namespace of ``pid``. Raises SandboxUnavailableError with the tool's own words."""
    for tool, own, file in (
        ("newuidmap", os.getuid(), "/etc/subuid"),
        ("newgidmap", os.getgid(), "/etc/subgid"),
    ):
        path = _tool(tool)
        if path is None:
            raise SandboxUnavailableError(f"{tool} is not installed", hint="Install the package uidmap.")
        words = [str(number) for line in mapping(own, file) for number in line]
        said = _refused([path, str(pid), *words])
        if said is not None:
            raise SandboxUnavailableError(f"{tool} refused: {said}", hint=f"Check the line of this user in {file}.")


def _refused(words: list[str]) -> str | None:
    """Run a program; what it says where it fails. The module subprocess takes longer to import than these run."""
    read, write = os.pipe()
    with open(read, encoding="utf-8", errors="replace") as errors:
        try:
            pid = os.posix_spawn(words[0], words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 2)])
        finally:
            os.close(write)
        said = errors.read().strip()
    return said if os.waitpid(pid, 0)[1] else None
