"""The end of all processes below another one, where no namespace of process ids takes them along."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection

__all__ = ["below", "children_of", "count_of_user", "end_below"]


def _families() -> dict[int, list[int]]:
    """The living children of every process that is seen here."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in (b"Z", b"X"):
                found.setdefault(int(parent), []).append(int(name))
    return found


def children_of(pid: int) -> list[int]:
    """The living processes that a process started, and those that were left to it."""
    return _families().get(pid, [])


def below(top: int) -> list[int]:
    """The living processes below another one, however far."""
    families = _families()
    found = [top]
    for pid in found:
        found += families.get(pid, [])
    return found[1:]


def count_of_user() -> int:
    """How many tasks this process's user has, as far as they are seen here."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def end_below(top: int, *, except_for: Collection[int] = ()) -> None:
    """Kill every process below ``top`` but those named and what is below them; returns when all are dead.

    What loses its parent has to come to ``top``, or it is not found: see PR_SET_CHILD_SUBREAPER. All are stopped first,
    so that none starts another while it is looked at.
    """
    while True:
        families = _families()
        pending = [pid for pid in families.get(top, []) if pid not in except_for]
        found: list[int] = []
        while pending:
            pid = pending.pop()
            found.append(pid)
            _send(pid, signal.SIGSTOP)
            pending += families.get(pid, [])
        if not found:
            return
        # The deepest first: who traces the others goes when they have gone.
        for pid in reversed(found):
            _send(pid, signal.SIGKILL)
        time.sleep(0.001)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
