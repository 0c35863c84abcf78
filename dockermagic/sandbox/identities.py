"""The ids of processes that share a single one: what they set is remembered, and told when they ask.

The rules are those of credentials(7) and of each call's manual page, without capabilities: euid 0 may do everything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from dockermagic.values import dataclass, replace

__all__ = ["ROOT", "Ids", "Processes", "change"]


@dataclass(frozen=True, slots=True)
class Ids:
    """Real, effective and saved ids and the supplementary groups."""

    ruid: int = 0
    euid: int = 0
    suid: int = 0
    rgid: int = 0
    egid: int = 0
    sgid: int = 0
    groups: tuple[int, ...] = ()


ROOT = Ids()


def change(ids: Ids, call: str, wanted: tuple[int | None, ...]) -> Ids:
    """The ids after a call; ``wanted`` are its arguments, None where they mean "leave it". Raises OSError(EPERM)."""
    if call == "setgroups":
        if ids.euid != 0:
            raise OSError(errno.EPERM, "")
        return replace(ids, groups=tuple(number for number in wanted if number is not None))
    group = call.endswith("gid")
    kind = call[:-3]
    real, effective, saved = (ids.rgid, ids.egid, ids.sgid) if group else (ids.ruid, ids.euid, ids.suid)
    allowed = {real, effective, saved}

    def may(value: int | None) -> None:
        if value is not None and ids.euid != 0 and value not in allowed:
            raise OSError(errno.EPERM, "")

    if kind == "set":
        (value,) = wanted
        may(value)
        assert value is not None
        new = (value, value, value) if ids.euid == 0 else (real, value, saved)
    elif kind == "setre":
        first, second = wanted
        may(first)
        may(second)
        new_real = real if first is None else first
        new_effective = effective if second is None else second
        follows = first is not None or (second is not None and second != real)
        new = (new_real, new_effective, new_effective if follows else saved)
    elif kind == "setres":
        for value in wanted:
            may(value)
        first, second, third = wanted
        new = (
            real if first is None else first,
            effective if second is None else second,
            saved if third is None else third,
        )
    else:  # setfsuid and setfsgid only tell what there was
        return ids
    if group:
        return replace(ids, rgid=new[0], egid=new[1], sgid=new[2])
    return replace(ids, ruid=new[0], euid=new[1], suid=new[2])


class Processes:
    """Whose ids are not the ``first`` ones. A process that was never heard of has those of its parent.

    ``stat`` gives thread group, parent and start time of a task, None when it is gone. While every process has the
    first ids, which is nearly always, nothing is looked at.
    """

    def __init__(self, stat: Callable[[int], tuple[int, int, int] | None], first: Ids = ROOT) -> None:
        self._stat = stat
        self._first = first
        self._known: dict[int, tuple[int, Ids]] = {}

    def get(self, pid: int) -> Ids:
        """The ids of a task."""
        if not self._known:
            return self._first
        visited: list[tuple[int, int]] = []
        while pid > 1 and len(visited) < 64:
            found = self._stat(pid)
            if found is None:
                break
            group, parent, started = found
            known = self._known.get(pid)
            if known is not None and known[0] == started:
                for task, start in visited:
                    self._known[task] = (start, known[1])
                return known[1]
            visited.append((pid, started))
            pid = group if group != pid else parent
        # Remembered, so that a later change of the parent does not reach back.
        for task, start in visited:
            self._known[task] = (start, self._first)
        return self._first

    def set(self, pid: int, ids: Ids) -> None:
        """Remember the ids of a task."""
        if ids == self._first and not self._known:
            return
        found = self._stat(pid)
        if found is None:
            return
        if len(self._known) > 512:
            self._known = {task: known for task, known in self._known.items() if self._is_alive(task, known[0])}
        self._known[pid] = (found[2], ids)

    def _is_alive(self, pid: int, started: int) -> bool:
        found = self._stat(pid)
        return found is not None and found[2] == started


def read_stat(proc: int, pid: int) -> tuple[int, int, int] | None:
    """Thread group, parent and start time of a task, from the /proc directory open as ``proc``."""
    try:
        data = _read(proc, f"{pid}/stat").rpartition(b")")[2].split()
        group = next(line for line in _read(proc, f"{pid}/status").splitlines() if line.startswith(b"Tgid:"))
    except (OSError, StopIteration):
        return None
    return (int(group.split()[1]), int(data[1]), int(data[19])) if len(data) > 19 else None


def _read(proc: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
