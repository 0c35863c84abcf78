"""Limits of memory, processors and processes: control groups where this user may have them, else resource limits.

With version 2 systemd is asked for a group; where there is none, one is made beside that of this process, if its
subtree was delegated. With version 1 it is made where its directories can be written. What can be had no way is said in
a note.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dockermagic.containers.scopes import Scope, attach
from dockermagic.sandbox.base import Ulimit
from dockermagic.sandbox.running import pid_of
from dockermagic.values import dataclass, field

__all__ = ["Limits", "enter_groups", "not_held", "out_of_memory"]

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000
_OLD_SECONDS = 60
_FILES = {"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max"}
"""The file of each controller's limit, in version 2."""
_INSTEAD = {
    "memory": "--memory holds for each process alone (a limit of its address space): no control group",
    "cpu": "--cpus has no effect: no control group can be made here",
    "pids": "--pids-limit counts all of this user's processes in containers: no control group",
}
_OF_ROOT = "--pids-limit has no effect on processes of root: no control group can be made here"


def enter_groups(groups: Sequence[str], process: int) -> None:
    """Put a process (a pidfd) into control groups. Raises OSError."""
    for group in groups:
        try:
            Path(group, "cgroup.procs").write_text(str(pid_of(process)))
        except PermissionError:
            if not attach(group, pid_of(process)):
                raise


def out_of_memory(groups: Sequence[str]) -> bool:
    """Whether the kernel killed a process in one of these groups because its memory was used up."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in Path(group, name).read_text().splitlines())
                if int(counts.get("oom_kill", 0)):
                    return True
    return False


def _sweep(folder: Path) -> None:
    """Take away the groups of containers whose supervisor was killed before it could; one that is in use stays."""
    for place in folder.glob(f"dockermagic-{'[0-9a-f]' * 12}"):
        with contextlib.suppress(OSError):
            if place.stat().st_mtime < time.time() - _OLD_SECONDS:
                place.rmdir()


def not_held() -> tuple[list[str], str]:
    """For ``dockermagic info``: which limits no control group would hold here, and what would help."""
    trial = Limits("dockermagic-trial", memory=1 << 30, cpus=1.0, pids=100)
    trial.prepare()
    try:
        if trial.scope is not None:
            return trial.notes, "An administrator can have them delegated: `Delegate=cpu memory pids` of user@.service."
        if (_ROOT / "cgroup.controllers").exists():
            return trial.notes, "No systemd of this user answers: `loginctl enable-linger`, or a login of its own."
        return trial.notes, "Control groups of version 1 are root's alone."
    finally:
        trial.close()


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
    scope: Scope | None = None

    def prepare(self) -> None:
        """Make the groups that are wanted and can be had."""
        wanted = {name: value for name, value in self._values().items() if value}
        if wanted and (_ROOT / "cgroup.controllers").exists():
            # One of this name may still be on its way out.
            self.scope = Scope.make(f"{self.name}-{os.urandom(3).hex()}", self._properties())
        if self.scope is not None:
            self.groups.append(_ROOT / self.scope.group.lstrip("/"))
        for controller in wanted:
            if self.scope is not None:
                held = (self.groups[0] / _FILES[controller]).exists()  # else it was not delegated to this user
            else:
                held = self._version_2(controller) or self._version_1(controller)
            if not held:
                self._instead(controller)
        if self.scope is None:
            for group in self.groups:
                _sweep(group.parent)

    def _values(self) -> dict[str, float]:
        return {"memory": self.memory, "cpu": self.cpus, "pids": self.pids}

    def _properties(self) -> dict[str, str]:
        """The limits as systemd calls them."""
        found = {"MemoryMax": str(self.memory), "MemorySwapMax": "0"} if self.memory else {}
        found |= {"CPUQuota": f"{self.cpus * 100:.2f}%"} if self.cpus else {}
        found |= {"TasksMax": str(self.pids + 1)} if self.pids else {}  # one keeps the scope
        return found

    def _instead(self, controller: str) -> None:
        if controller == "memory":
            self.ulimits.append(Ulimit("as", self.memory, self.memory))
        elif controller == "pids":
            self.ulimits.append(Ulimit("nproc", self.pids, self.pids))
        self.notes.append(_OF_ROOT if controller == "pids" and os.geteuid() == 0 else _INSTEAD[controller])

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
        if self.scope is not None:
            self.scope.close()
            self.groups.clear()
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
