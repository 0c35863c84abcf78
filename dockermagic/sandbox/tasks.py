"""How many processes a RUN may have: enough for any build, too few for a fork bomb to take the machine along."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import ClassVar

__all__ = ["MOST", "Group", "limit_tasks"]

MOST = 4096
_PARENTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
"""Where the controller of processes is, in version 1 and 2."""
_PREFIX = "dockermagic-run-"
_OLD_SECONDS = 60


def limit_tasks(others: int = 0) -> None:
    """Bound the processes of this process's user, who has ``others`` already where they count, from here on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = MOST + others
    if hard == resource.RLIM_INFINITY or hard > wanted:
        hard = wanted
    resource.setrlimit(resource.RLIMIT_NPROC, (hard if soft == resource.RLIM_INFINITY else min(soft, hard), hard))


class Group:
    """A control group for one process and all that it starts, for root, whom no limit of a user holds.

    The process makes it and enters it by itself; who waits for its end removes it. Where this host lets us make none,
    there is no bound.
    """

    mine: ClassVar[set[Group]] = set()
    """Those that this process waits for."""

    def __init__(self) -> None:
        self.mine.add(self)
        self.places = [parent / f"{_PREFIX}{os.urandom(6).hex()}" for parent in _PARENTS]

    def enter(self) -> None:
        """Make it, and put this process into it, which has but one thread."""
        for place in self.places:
            with contextlib.suppress(OSError):
                place.mkdir()
                _write(place / "pids.max", str(MOST))
                try:
                    # Who moves himself alone (version 1) need not wait until every processor has noticed.
                    _write(place / "tasks", "0")
                except FileNotFoundError:
                    _write(place / "cgroup.procs", "0")
                return
            with contextlib.suppress(OSError):
                place.rmdir()

    def remove(self) -> None:
        """Take it away when all in it have ended. Idempotent."""
        self.mine.discard(self)
        for place in self.places:
            with contextlib.suppress(OSError):
                place.rmdir()

    @staticmethod
    def sweep() -> None:
        """Take away the groups of processes that were killed before they could; one that is in use stays."""
        for parent in _PARENTS:
            for place in parent.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):
                    if place.stat().st_mtime < time.time() - _OLD_SECONDS:
                        os.rmdir(place)


def _write(path: Path, text: str) -> None:
    """Write to a file of the kernel's; where there is none, none is made."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
