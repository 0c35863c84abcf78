"""Limits of memory, processors and processes: control groups where this user may make them, else resource limits.

A group is made beside that of this process: with version 2 where its subtree was delegated, with version 1 where its
directories can be written. What can be had neither way is said in a note.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dockermagic.sandbox.base import Ulimit
from dockermagic.sandbox.running import pid_of
from dockermagic.values import dataclass, field

__all__ = ["Limits", "enter_groups"]

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000


def enter_groups(groups: Sequence[str], process: int) -> None:
    """Put a process (a pidfd) into control groups."""
    for group in groups:
        Path(group, "cgroup.procs").write_text(str(pid_of(process)))


@dataclass(slots=True)
class Limits:
    """The limits of one container. :meth:`prepare` before its process, :meth:`join` with it, :meth:`close` after it.

    ``ulimits`` stand in for what no group can hold; ``notes`` say so.
    """

    name: str
    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    groups: list[Path] = field(default_factory=list)
    ulimits: list[Ulimit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the groups that are wanted and can be had."""
        wanted = {"memory": self.memory, "cpu": self.cpus, "pids": self.pids}
        for controller, value in wanted.items():
            if value and not self._version_2(controller) and not self._version_1(controller):
                self._instead(controller)

    def _instead(self, controller: str) -> None:
        if controller == "memory":
            self.ulimits.append(Ulimit("as", self.memory, self.memory))
            self.notes.append("--memory holds for each process alone (a limit of its address space): no control group")
        elif controller == "pids":
            self.ulimits.append(Ulimit("nproc", self.pids, self.pids))
            self.notes.append("--pids-limit counts all of this user's processes in containers: no control group")
        else:
            self.notes.append("--cpus has no effect: no control group can be made here")

    def _own_group(self, controller: str) -> str | None:
        try:
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                _, names, path = line.split(":", 2)
                if controller in names.split(","):
                    return path.lstrip("/")
        except OSError:
            pass
        return None

    def _version_2(self, controller: str) -> bool:
        own = self._own_group("")
        if own is None or not (_ROOT / "cgroup.controllers").exists():
            return False
        # Processes live in leaves: a group beside that of this process is one.
        parent = (_ROOT / own).parent if own else _ROOT
        group = parent / self.name
        try:
            if controller not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            group.mkdir(exist_ok=True)
            if controller == "memory":
                (group / "memory.max").write_text(str(self.memory))
                with contextlib.suppress(OSError):
                    (group / "memory.swap.max").write_text("0")
            elif controller == "cpu":
                (group / "cpu.max").write_text(f"{int(self.cpus * _PERIOD)} {_PERIOD}")
            else:
                (group / "pids.max").write_text(str(self.pids))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            return False
        if group not in self.groups:
            self.groups.append(group)
        return True

    def _version_1(self, controller: str) -> bool:
        own = self._own_group(controller)
        if own is None:
            return False
        group = _ROOT / controller / own / self.name
        try:
            group.mkdir(exist_ok=True)
            if controller == "memory":
                (group / "memory.limit_in_bytes").write_text(str(self.memory))
            elif controller == "cpu":
                (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(int(self.cpus * _PERIOD)))
            else:
                (group / "pids.max").write_text(str(self.pids))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            return False
        self.groups.append(group)
        return True

    def join(self, process: int) -> None:
        """Put a process (a pidfd), and all that it will start, into the groups."""
        enter_groups(list(map(str, self.groups)), process)

    def close(self) -> None:
        """Take the groups away; all their processes are gone."""
        for group in self.groups:
            for wait in self._waits():
                try:
                    group.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(wait)
        self.groups.clear()

    def _waits(self) -> Iterator[float]:
        """A group is busy for a moment after its last process."""
        yield from (0.001, 0.005, 0.02, 0.1, 0.5)
