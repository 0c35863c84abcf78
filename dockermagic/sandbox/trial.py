"""The probe's child: every step of a RUN once, in the order in which a RUN does them, until one is refused.

A step that does not come back (a PRoot that its tracing stops, a newuidmap that waits for a directory service) counts
as refused when the trial's time is over, and what it started is ended.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from dockermagic.errors import SandboxError, is_full
from dockermagic.oci.overlay import OPAQUE, make_whiteout
from dockermagic.sandbox import proot, seccomp, syscalls, trees
from dockermagic.sandbox.user_namespace import enter_user_namespace
from dockermagic.sandbox.ways import WAYS

__all__ = ["main"]

_HINTS = {
    "user namespace": (
        "User namespaces are refused here, probably by the seccomp profile of the container this runs in: one without"
        " that restriction allows them."
    ),
    "id map": "newuidmap was refused: check the lines of this user in /etc/subuid and /etc/subgid.",
    "mount namespace": "Mounting is refused here, probably by the container this runs in.",
    "PRoot": "Install the package proot; tracing (ptrace) must be allowed where this runs.",
    "chroot": "Root may not even change its root directory here (CAP_SYS_CHROOT).",
    "plain directory": "The store's file system keeps no extended attributes: set DOCKERMAGIC_HOME to another one.",
    "overlay": (
        "The store's file system cannot hold an overlay (NFS, or an overlay itself): set DOCKERMAGIC_HOME to one"
        " on a local disk. It takes Linux 5.11 or later."
    ),
}
_SWITCHES = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor gives user namespaces no privileges here, as on Ubuntu 24.04 and later. As root: a profile with"
        " `userns,` for this Python, or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`.",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "User namespaces are root's alone here. As root: `sysctl kernel.unprivileged_userns_clone=1`.",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "No user namespace may be made here. As root: `sysctl user.max_user_namespaces=10000`.",
    ),
)
"""Switches below /proc/sys that refuse namespaces to ordinary users, the value that does, and what to do."""


def _hint(step: str, ids: str) -> str:
    if step in ("user namespace", "mount namespace") and ids != "root":
        for name, refusing, hint in _SWITCHES:
            try:
                if Path("/proc/sys", name).read_text(encoding="ascii").strip() == refusing:
                    return hint
            except OSError:
                continue
    return _HINTS.get(step, "")


def main(mode: str, place: str, mount_point: str, seconds: str) -> NoReturn:
    """Print one JSON object with the fields of a Trial, after ``seconds`` at the latest."""
    steps: list[str] = []
    result: dict[str, Any] = {"mode": mode, "works": False, "steps": steps}
    step = "user namespace"
    signal.signal(signal.SIGALRM, _too_late)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    try:
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        way = WAYS[mode]
        if not way.namespaces:
            step = "PRoot" if way.ids == "single" else "chroot"
            _proot(place) if way.ids == "single" else os.chroot("/")
            steps.append(step)
            step = "plain directory"
            _plain(place)
            steps.append(step)
            result["works"] = True
            print(json.dumps(result), flush=True)
            os._exit(0)
        enter_user_namespace(way.ids)
        steps.append(step)
        step = "mount namespace"
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
        steps.append(step)
        step = "overlay" if way.overlay else "plain directory"
        _overlay(place, mount_point) if way.overlay else _plain(place)
        steps.append(step)
        step = "pid namespace"
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
        result["fresh_proc"] = _in_child(_mount_proc)
        steps.append(step)
        if result["fresh_proc"]:
            steps.append("fresh /proc")
        result["works"] = True
    except SandboxError as error:
        result |= {"failed": "id map", "reason": error.message, "hint": error.hint}
    except OSError as error:
        result |= {"full": True} if is_full(error) else {}
        result |= {"failed": step, "reason": error.strerror or str(error), "hint": _hint(step, WAYS[mode].ids)}
        proot.end_all()
    print(json.dumps(result), flush=True)
    os._exit(0)


def _too_late(number: int, frame: object) -> NoReturn:
    raise TimeoutError("it did not end in time")


def _overlay(place: str, mount_point: str) -> None:
    """An overlay on the store's own file system that takes a file and hides another."""
    os.chdir(place)
    for name in ("a", "b", "upper", "work"):
        os.mkdir(name)
    with open("a/gone", "w", encoding="ascii"):
        pass
    options = "lowerdir=b:a,upperdir=upper,workdir=work,volatile,userxattr"
    syscalls.mount("overlay", mount_point, "overlay", 0, options)
    os.unlink(f"{mount_point}/gone")
    os.mkdir(f"{mount_point}/made")
    syscalls.umount(mount_point)
    os.stat("upper/gone")
    trees.remove_work("work")


def _plain(place: str) -> None:
    """What a working tree needs of the store's file system: marks for what was removed and hidden."""
    os.makedirs(f"{place}/plain/hiding")
    folder = os.open(f"{place}/plain", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_whiteout("gone", folder)
    finally:
        os.close(folder)
    os.setxattr(f"{place}/plain/hiding", OPAQUE, b"y")


def _proot(place: str) -> None:
    """PRoot at work, under the filters that a RUN has around it."""
    try:
        command = [proot.find_proot(), "-r", "/", "-w", place]
    except SandboxError as error:
        raise OSError(errno.ENOENT, error.message) from None
    work = "import os; os.stat('/'); child = os.fork() or os._exit(0); os.waitpid(child, 0); os._exit(7)"
    command += [sys.executable, "-I", "-S", "-c", work]

    def before_exec() -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if program := seccomp.proot_program():
            seccomp.install(program)

    done = subprocess.run(
        command, env={}, capture_output=True, text=True, errors="replace", preexec_fn=before_exec, check=False
    )
    if done.returncode != 7:
        raise OSError(errno.EPERM, done.stderr.strip().splitlines()[0] if done.stderr.strip() else "it failed")


def _in_child(step: Any) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            step()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _mount_proc() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
