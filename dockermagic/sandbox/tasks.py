"""How many processes a RUN may have: enough for any build, too few for a fork bomb to take the machine along."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import time
from pathlib import Path
from typing import ClassVar

__all__ = ["MOST", "Group", "limit_tasks"]

MOST = 4096
_CGROUPS = Path("/sys/fs/cgroup")
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
    """A control group with one process and all that it starts, for root, whom no limit of a user holds.

    Where this host lets us make none, there is no bound; :meth:`remove` takes it away when all in it have ended.
    """

    mine: ClassVar[set[Group]] = set()
    """Those that this process has made and not removed."""

    def __init__(self, pid: int) -> None:
        self.path: Path | None = None
        self.mine.add(self)
        for parent in (_CGROUPS / "pids", _CGROUPS):
            if not (parent / "cgroup.procs").exists():
                continue
            place = parent / f"{_PREFIX}{secrets.token_hex(6)}"
            with contextlib.suppress(OSError):
                place.mkdir()
                self.path = place
                (place / "pids.max").write_text(str(MOST))
                (place / "cgroup.procs").write_text(str(pid))
                return
            self.remove()

    def remove(self) -> None:
        """Take the group away. Idempotent."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            self.path = None
        self.mine.discard(self)

    @staticmethod
    def sweep() -> None:
        """Take away the groups of processes that were killed before they could; one that is in use stays."""
        for parent in (_CGROUPS / "pids", _CGROUPS):
            for place in parent.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):
                    if place.stat().st_mtime < time.time() - _OLD_SECONDS:
                        os.rmdir(place)
