"""What runs in a container, seen from the host: its processes and what they use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dockermagic.containers.container import Usage
from dockermagic.sandbox import descendants

__all__ = ["pids", "usage"]


def pids(first: int) -> list[int]:
    """A container's processes by their ids on the host: those in the pid namespace of its first one, or below it."""
    try:
        wanted = os.readlink(f"/proc/{first}/ns/pid")
    except OSError:
        return []
    if wanted == os.readlink("/proc/self/ns/pid"):
        return sorted([first, *descendants.below(first)])
    found = set(_init_of(first))
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == wanted:
                    found.add(int(name))
            except OSError:
                continue
    return sorted(found)


def _init_of(process: int) -> list[int]:
    """The process of ``--init`` above a container's first one, into which nobody looks; none where there is none."""
    status = dict(_entries(process))
    parent = dict(_entries(int(status.get("PPid", "0"))))
    own, above = status.get("NSpid", "").split(), parent.get("NSpid", "").split()
    is_init = len(own) == len(above) and own[-1:] != ["1"] and above[-1:] == ["1"]
    return [int(parent["Pid"])] if is_init else []


def usage(first: int, groups: tuple[str, ...], network: str) -> Usage:
    """What the processes of a container use together."""
    running = pids(first)
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu = memory = read = written = 0
    for pid in running:
        fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(fields) > 21:
            cpu += sum(map(int, fields[11:15]))  # its own, and that of its children which have ended
            memory += int(fields[21]) * page
        for name, value in _pairs(_text(f"/proc/{pid}/io")):
            read += value if name == "read_bytes" else 0
            written += value if name == "write_bytes" else 0
    limit = 0
    for group in groups:
        limit = _number(group, "memory.max") or _number(group, "memory.limit_in_bytes") or limit
        if held := _number(group, "memory.current") or _number(group, "memory.usage_in_bytes"):
            # What processes share counts once, and so do files; not those that are only kept in case, as with Docker.
            counts = dict(line.split() for line in _text(f"{group}/memory.stat").splitlines())
            memory = held - int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
        used = dict(line.split() for line in _text(f"{group}/cpu.stat").splitlines())
        if "usage_usec" in used:  # those that have ended have used it, too
            cpu = int(used["usage_usec"]) * ticks // 10**6
    received, sent = _network(first) if network == "own" else (0, 0)
    return Usage(cpu / ticks, memory, limit, received, sent, read, written, len(running))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _entries(pid: int) -> Iterator[tuple[str, str]]:
    for line in _text(f"/proc/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()


def _number(group: str, name: str) -> int:
    text = _text(f"{group}/{name}").strip()
    return int(text) if text.isdigit() else 0


def _pairs(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdigit():
            yield name, int(value)


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    for line in _text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) > 8:
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent
