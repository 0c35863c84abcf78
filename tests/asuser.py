"""Run a command as an ordinary user: ``python asuser.py UID GID NAME REPO -- COMMAND...``, started by root.

The user must be able to read this interpreter, its packages and the repository, wherever they are. What lies below a
directory that is closed to others (``/root``, say) is bound into an empty one laid over it, in a mount namespace of the
command's own, so that nothing on the machine changes. A small disk is mounted there where DOCKERMAGIC_SMALL_DISK says.
The command dies with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import sysconfig
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = source.encode(), target.encode(), kind.encode(), flags, data.encode()
    check(libc.mount(*arguments), f"mount {target}")


def closed_ancestor(path: Path) -> Path | None:
    """The topmost directory above ``path`` that others cannot pass through."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def needed(repository: str) -> list[Path]:
    paths = {repository, sys.prefix, sys.base_prefix, os.path.realpath(sys.executable)}
    paths |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib")}
    paths |= {path for path in sys.path if path and Path(path).exists()}
    resolved = {Path(path) for path in paths} | {Path(path).resolve() for path in paths}
    return [path for path in sorted(resolved) if not any(parent in resolved for parent in path.parents)]


def open_the_way(paths: list[Path]) -> None:
    covered: dict[Path, list[Path]] = {}
    for path in paths:
        if closed := closed_ancestor(path):
            covered.setdefault(closed, []).append(path)
    for closed, inside in covered.items():
        descriptors = [os.open(path, os.O_PATH) for path in inside]
        mount("tmpfs", str(closed), "tmpfs", 0, "mode=755")
        for path, descriptor in zip(inside, descriptors, strict=True):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            mount(f"/proc/self/fd/{descriptor}", str(path), "", MS_BIND | MS_REC)
            os.close(descriptor)


def main() -> None:
    uid, gid, name, repository, _, *command = sys.argv[1:]
    parent = os.getppid()
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    open_the_way(needed(repository))
    if small := os.environ.get("DOCKERMAGIC_SMALL_DISK"):
        mount("tmpfs", small, "tmpfs", 0, f"size=24m,mode=755,uid={uid},gid={gid}")
    os.umask(0o022)
    os.initgroups(name, int(gid))
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        sys.exit(1)
    os.chdir(os.environ["HOME"])
    if not os.access(repository, os.R_OK | os.X_OK) or not os.access(Path(repository, "pyproject.toml"), os.R_OK):
        sys.exit(f"{repository} is not readable for the user {name}; chmod -R o+rX it")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
