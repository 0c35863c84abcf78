"""Which sandbox this host allows, found out by doing each step in a child process; never guessed from a setting.

The answer is kept in the store's directory until the next boot, so that only the first process of a day pays for it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dockermagic.errors import SandboxUnavailableError, full_disk_error, is_full
from dockermagic.oci import disk, lock
from dockermagic.sandbox.ways import WAYS, Way, ways
from dockermagic.values import asdict, dataclass, replace

__all__ = ["Probe", "Trial", "choose", "probe"]

_VERSION = 3
_PATIENCE = 5.0
"""Seconds after which a trial is spoken of; it takes a tenth of one where nothing is slow."""
_MOST = 60
"""Seconds that a trial may take: a machine may be emulated, and its disk cold."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way, tried: the steps that worked, and the first that did not with the kernel's words and what to do."""

    mode: str
    works: bool
    steps: tuple[str, ...] = ()
    failed: str = ""
    reason: str = ""
    hint: str = ""
    fresh_proc: bool = False
    notify: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found. ``mode`` is the one that is ``wanted``, else the best that works; empty where it does not."""

    boot: str
    uid: int
    kernel: str
    trials: tuple[Trial, ...]
    wanted: str = ""

    @property
    def mode(self) -> str:
        if self.wanted:
            trial = self.trial(self.wanted)
            return self.wanted if trial is not None and trial.works else ""
        return next((trial.mode for trial in self.trials if trial.works), "")

    def trial(self, mode: str) -> Trial | None:
        """What came of one mode; None if it was not tried."""
        return next((trial for trial in self.trials if trial.mode == mode), None)

    def not_isolated(self) -> list[str]:
        """What a program in a RUN can reach of the host."""
        chosen = self.trial(self.mode)
        if chosen is None:
            return []
        way = WAYS[self.mode]
        if not way.namespaces:
            return [*_HOST, _ONE_ID if way.ids == "single" else _REAL_ROOT]
        outer = [] if chosen.fresh_proc else [_OUTER_PROC]
        return [*_NOT_ISOLATED[way.ids], *outer]

    def notice(self) -> str:
        """What a person has to know before strangers' programs run here; '' where a RUN is well kept apart."""
        if not self.mode:
            return ""
        if not WAYS[self.mode].namespaces:
            return (
                "A RUN is not isolated here: its programs run as you, and can reach your files and processes. "
                "Run only what you would run in a terminal. 'dockermagic info' says why, and what would help."
            )
        chosen = self.trial(self.mode)
        if chosen is not None and not chosen.fresh_proc:
            return "The programs of a RUN see this machine's processes in /proc here. 'dockermagic info' says more."
        return ""

    def explain(self) -> dict[str, Any]:
        """For ``dockermagic info``: what runs a RUN here, what it does not isolate, what to install or set."""
        chosen = self.trial(self.mode)
        failed = [trial for trial in self.trials if not trial.works and trial.hint and _better(trial, chosen)]
        if any(trial.failed == "user namespace" for trial in failed):  # ids for one would not help
            failed = [trial for trial in failed if trial.failed != "subordinate ids"]
        hints = [trial.hint for trial in failed]
        if disk.RECORDED:
            from dockermagic.sandbox.elsewhere import nothing_runs

            hints = [nothing_runs().hint]
        return {
            "mode": self.mode,
            "runs_with": _runs_with(WAYS[self.mode]) if self.mode else "nothing: a RUN is not possible here",
            "kernel": self.kernel,
            "not_isolated": self.not_isolated(),
            "improve": list(dict.fromkeys(hints)),
            "trials": [asdict(trial) for trial in self.trials],
        }


_IDS = {
    "root": "namespaces, ids mapped through",
    "range": "a user namespace with a range of ids",
    "single": "a user namespace with a single id and recorded ownership",
}
_NETWORK = "the network: a RUN uses the host's unless it asks for none"
_ONE_ID = "ids: every id inside is the same user outside, so permissions between users inside are not checked"
_NOT_ISOLATED = {
    "root": ("ids: root inside is root of the host, held by namespaces, capabilities and a seccomp filter", _NETWORK),
    "range": (_NETWORK,),
    "single": (_NETWORK, _ONE_ID),
}
_OUTER_PROC = "processes: /proc shows those of the host, because a fresh one is refused here"
_HOST = (
    "files: a program can reach every file that you can",
    "processes: those of the host can be signalled",
    "the network: it is always the host's",
)
_REAL_ROOT = "ids: root inside is root of this machine"


def _runs_with(way: Way) -> str:
    if not way.namespaces:
        single = way.ids == "single"
        return "PRoot over a plain directory, with recorded ownership" if single else "chroot into a plain directory"
    return f"{_IDS[way.ids]}, over {'overlayfs' if way.overlay else 'a plain directory'}"


def _better(trial: Trial, chosen: Trial | None) -> bool:
    return chosen is None or _rank(trial) < _rank(chosen)


def _rank(trial: Trial) -> int:
    return ways.index(WAYS[trial.mode])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def probe(home: Path, wanted: str = "", *, fresh: bool = False) -> Probe:
    """What this host allows for a store at ``home``: remembered since the last boot, or tried now.

    The way that is ``wanted`` (by default what DOCKERMAGIC_SANDBOX says) is tried, too. Raises SandboxUnavailableError
    for a name that none has.
    """
    wanted = wanted or os.environ.get("DOCKERMAGIC_SANDBOX", "")
    if wanted and wanted not in WAYS:
        raise SandboxUnavailableError(f"{wanted!r} is not a sandbox", hint=f"There are: {', '.join(WAYS)}.")
    cache = home / f"probe-{disk.geteuid()}.json"
    found = None if fresh else _remembered(cache)
    if found is None or not found.mode:  # what was missing may be there by now
        found = Probe(_boot(), _uid(), _kernel(), tuple(_try_modes(home)))
        _remember(cache, found)
    if disk.RECORDED:
        return found
    if wanted and found.trial(wanted) is None:
        found = replace(found, trials=(*found.trials, trial := _try(wanted, home)))
        if trial.works:  # else what was missing may be there the next time
            _remember(cache, found)
    return replace(found, wanted=wanted)


def _remembered(cache: Path) -> Probe | None:
    boot = _boot()
    try:
        value = json.loads(cache.read_text())
        if value["version"] == _VERSION and boot and value["boot"] == boot:
            trials = tuple(Trial(**{**item, "steps": tuple(item["steps"])}) for item in value["trials"])
            return Probe(boot, value["uid"], value["kernel"], trials)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _remember(cache: Path, found: Probe) -> None:
    """Write the answer, atomically; what a killed process leaves is swept with the store's unfinished files."""
    with contextlib.suppress(OSError):  # the trials say what is wrong with the store
        (cache.parent / "ingest").mkdir(parents=True, exist_ok=True)
        descriptor, aside = lock.new_file(cache.parent / "ingest")
        try:
            os.write(descriptor, json.dumps({"version": _VERSION, **asdict(found)}).encode())
            lock.publish(descriptor, aside, cache)
        finally:
            lock.discard(descriptor, aside)


def _uid() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else -1


def _kernel() -> str:
    return os.uname().release if hasattr(os, "uname") else sys.platform


def _try_modes(home: Path) -> Iterable[Trial]:
    if disk.RECORDED:
        return
    failed: dict[str, str] = {}
    for way in ways:
        # Without an overlay it is the same again; where something else was refused, it would be so again.
        if way.namespaces and not way.overlay and failed.get(way.ids) != "overlay":
            continue
        trial = _try(way.name, home)
        yield trial
        if trial.works:
            return
        failed[way.ids] = trial.failed


_ON_LINUX = "Run dockermagic where namespaces or PRoot are allowed."


def _try(mode: str, home: Path) -> Trial:
    from dockermagic.sandbox import idmap

    way = WAYS[mode]
    if way.ids == "root" and os.geteuid() != 0:
        return Trial(mode, False, failed="uid 0", reason="not root")
    if way.ids == "range":
        if os.geteuid() == 0:
            return Trial(mode, False, failed="ordinary user", reason="root needs no range of ids")
        problem = idmap.problem()
        if problem:
            return Trial(mode, False, failed="subordinate ids", reason=problem[0], hint=problem[1])
    held = -1
    place = home / "snapshots" / f"tmp-0-probe-{os.urandom(4).hex()}"
    try:
        (home / "mnt").mkdir(parents=True, exist_ok=True)
        held = _make_place(place)
        import subprocess
        import threading
        import warnings

        from dockermagic.sandbox.interpreters import python

        told = f"it takes long to find out whether the sandbox {mode} works here; after {_MOST} s it counts as refused"
        slow = threading.Timer(_PATIENCE, warnings.warn, [told])
        slow.start()
        try:
            done = subprocess.run(
                [*python("dockermagic.sandbox.trial"), mode, str(place), str(home / "mnt"), str(_MOST)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                check=False,
            )
        finally:
            slow.cancel()
        answer = json.loads(done.stdout or b"{}")
        if answer.pop("full", False):
            raise OSError(errno.ENOSPC, "No space left on device")
        if not answer:
            return Trial(mode, False, failed="start", reason=f"the trial ended with {done.returncode}")
        return Trial(**{**answer, "steps": tuple(answer["steps"])})
    except OSError as error:
        if is_full(error):
            # It says nothing of what the host allows, and must not be remembered.
            raise full_disk_error(home) from error
        return Trial(
            mode, False, failed="store", reason=str(error), hint=f"Make {home} writable, or set DOCKERMAGIC_HOME."
        )
    finally:
        import shutil

        shutil.rmtree(place, ignore_errors=True)
        if held >= 0:
            os.close(held)


def told(home: Path) -> bool:
    """Whether the notice was given in this session (of a terminal, of a kernel); it counts as given from now on."""
    session = f"{_boot()} {os.getsid(0)}"
    file = home / "told"
    try:
        before = file.read_text().splitlines()
    except OSError:
        before = []
    if session in before:
        return True
    with contextlib.suppress(OSError):
        file.write_text("\n".join([*before[-20:], session]) + "\n")
    return False


def _make_place(place: Path) -> int:
    """Make a directory to try things in, locked, or the sweep of a process that starts beside this one takes it."""
    while True:
        place.mkdir(parents=True, exist_ok=True)
        try:
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if lock.claim(held, wait=False) and os.fstat(held).st_nlink:
            return held
        os.close(held)


def choose(home: Path, wanted: str = "") -> Trial:
    """The way to use: the one that is wanted (see :func:`probe`), else the best that works.

    Raises SandboxUnavailableError that says what was refused and what would help.
    """
    found = probe(home, wanted)
    # Where none works, the last that something would help is the easiest to have.
    helped = [trial for trial in found.trials if trial.hint] or found.trials
    trial = found.trial(found.mode or found.wanted) or helped[-1]
    if not trial.works:
        others = "" if found.wanted else _ON_LINUX
        raise SandboxUnavailableError(
            f"this host does not let dockermagic isolate a RUN: {trial.failed}: {trial.reason}",
            hint=trial.hint or others or f"The sandbox {wanted} was asked for: dockermagic info says which ones work.",
        )
    return trial
