"""A command, and all that it starts, watched to its very end: ``python watched.py SPEC``.

This process becomes the reaper of every descendant that loses its parent, so that nothing can get away: when the
command has ended, however it ended, it waits until no process of it is left, and tells which were after ten seconds.
SPEC and the answer are JSON; :func:`run` is the caller's side.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
PATIENCE = 10.0
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Outcome:
    """How it ended: the exit code (negative for a signal), what it wrote, whether it was stopped by us, and what was
    left running of it.
    """

    code: int
    out: str
    err: str
    stopped: bool
    left: tuple[str, ...]
    seconds: float


def run(
    command: Sequence[str],
    *,
    home: Path,
    directory: Path,
    after: float | None = None,
    number: int = signal.SIGKILL,
    target: str = "command",
    ready: bool = False,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> Outcome:
    """Run a command on the store at ``home``.

    After so many seconds the signal is sent to ``target``: the command, its ``group`` as a terminal does, or the
    sandbox's ``worker``. With ``ready`` the seconds count from the moment at which the command handles SIGTERM.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUILDKIT_", "SSH_"))}
    spec = {
        "command": list(command),
        "environment": {
            **inherited,
            "PYTHONPATH": str(REPO),
            "DOCKERMAGIC_HOME": str(home),
            "TMPDIR": str(directory / "tmp"),
            **(environment or {}),
        },
        "directory": str(directory),
        "after": after,
        "number": int(number),
        "target": target,
        "ready": ready,
        "stdin": stdin,
    }
    (directory / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(spec), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    return Outcome(**{**answer, "left": tuple(answer["left"])})


def main() -> None:
    """Read SPEC from standard input, watch, answer."""
    spec = json.load(sys.stdin)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(spec["stdin"].encode())
        given.seek(0)
        begun = time.monotonic()
        process = subprocess.Popen(
            spec["command"],
            env=spec["environment"],
            cwd=spec["directory"],
            stdin=given,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD}) and None,
        )
        stopped = False
        if spec["ready"]:
            _until(lambda: process.poll() is not None or _handles(process.pid, signal.SIGTERM), PATIENCE)
        if spec["after"] is not None and not _until(lambda: process.poll() is not None, spec["after"]):
            stopped = _stop(process, spec["target"], spec["number"])
        process.wait()
        seconds = time.monotonic() - begun
        left = _left()
        out.seek(0)
        err.seek(0)
        answer: dict[str, Any] = {
            "code": process.returncode,
            "out": out.read().decode(errors="replace"),
            "err": err.read().decode(errors="replace"),
            "stopped": stopped,
            "left": left,
            "seconds": seconds,
        }
    print(json.dumps(answer))


def _until(done: Any, seconds: float) -> bool:
    """Wait for a condition, looked at whenever a child ends and else every few milliseconds."""
    end = time.monotonic() + seconds
    while not done():
        rest = end - time.monotonic()
        if rest <= 0:
            return False
        signal.sigtimedwait({signal.SIGCHLD}, min(rest, 0.005))
    return True


def _handles(pid: int, number: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _stop(process: subprocess.Popen[bytes], target: str, number: int) -> bool:
    if target == "command":
        process.send_signal(number)
        return True
    if target == "group":
        os.killpg(process.pid, number)
        return True
    workers = [pid for pid in _descendants(os.getpid()) if b"sandbox.resident" in _words(pid)]
    for pid in workers:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    return bool(workers)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _left() -> list[str]:
    """What has not ended after some patience; it is ended then."""

    def reaped() -> bool:
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return False
            except ChildProcessError:
                return True

    if _until(reaped, PATIENCE):
        return []
    pids = _descendants(os.getpid())
    names = [f"{pid}: {_words(pid).replace(bytes(1), b' ').decode(errors='replace')[:200]}" for pid in pids]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return names


if __name__ == "__main__":
    main()
