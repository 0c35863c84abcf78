"""What the processes of a container use, as Linux tells it of a process and all below it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu`` is processor time in seconds since the start, ``memory`` resident bytes, ``processes`` their number."""

    cpu: float
    memory: int
    processes: int


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """What a process and those below it use now; None where there is no such process."""
    found: dict[int, tuple[int, float, int]] = {}
    below: dict[int, list[int]] = {}
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in proc.glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        own, parent = int(entry.parent.name), int(fields[1])
        found[own] = parent, (int(fields[11]) + int(fields[12])) / tick, int(fields[21]) * page
        below.setdefault(parent, []).append(own)
    if pid not in found:
        return None
    waiting, cpu, memory, count = [pid], 0.0, 0, 0
    while waiting:
        one = waiting.pop()
        cpu, memory, count = cpu + found[one][1], memory + found[one][2], count + 1
        waiting += below.get(one, [])
    return Usage(cpu, memory, count)
