"""A program: ``elsewhere.py darwin|win32`` reads lines of words and is dockermagic for each, where Linux is not.

What the system does not have is taken out of Python's modules, and what Windows refuses is refused: directory
descriptors, symbolic links, a new name for an open file. It is still Linux below: ``os.name``, the file system's own
rules and the system's own calls are not those of a Mac or a PC. Other people's packages have ways of their own there,
so they are imported first.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import platform
import shlex
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import traceback
import types
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich.live
import urllib3

READY = (rich.live, subprocess, urllib3, urllib.request)
REPO = Path(__file__).parents[1]

LINUX = "O_PATH O_TMPFILE memfd_create pidfd_open setns unshare splice getxattr setxattr listxattr removexattr"
UNIX = (
    "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG chown fchdir fchmod fchown fork getegid geteuid getgid "
    "getpgid getsid getuid killpg lchown major makedev minor mkfifo mknod posix_spawn pread pwrite readv setsid sync "
    "uname waitpid"
)
REFUSING = "chmod listdir mkdir open readlink remove rename replace rmdir scandir stat unlink utime"
UNIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")


def hide(system: str) -> None:
    """Make Python look like that platform's, from here on."""
    platform.uname()  # which is remembered
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    names = LINUX.split() + (UNIX.split() if system == "win32" else [])
    for name in names:
        if hasattr(os, name):
            delattr(os, name)
    for module in ("_posixshmem", "syslog", *(UNIX_MODULES if system == "win32" else ())):
        sys.modules[module] = None  # type: ignore[assignment]
    if system == "win32":
        ssl.enum_certificates = lambda store: []
        sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=_locking)  # type: ignore[assignment]
        refuse()
    sys.platform = system


def _locking(descriptor: int, how: int, length: int) -> None:
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, at, length, 0))
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


def refuse() -> None:
    """Let the functions of os do no more than they do on Windows."""

    def closed(path: Any) -> None:
        wanted = os.path.realpath(path)
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found = readlink(f"/proc/self/fd/{descriptor}")
                if found == wanted or found.startswith(f"{wanted}/"):
                    raise PermissionError(13, "the file is being used", str(path))

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *words: Any, **options: Any) -> Any:
            if any(options.get(word) is not None for word in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
                raise NotImplementedError(f"{name}: dir_fd unavailable on this platform")
            if isinstance(path, int) and name not in ("open",):
                raise NotImplementedError(f"{name} of a descriptor")
            if name == "open" and os.path.isdir(path):
                raise PermissionError(13, "Permission denied", str(path))
            if name in ("rename", "replace", "unlink", "remove", "rmdir"):
                closed(path)
            if name == "replace":
                closed(words[0])
            if name == "rename" and os.path.lexists(words[0]):
                raise FileExistsError(17, "File exists", str(words[0]))
            return function(path, *words, **options)

        return call

    def symlink(*words: Any, **options: Any) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    readlink = os.readlink
    for name in REFUSING.split():
        setattr(os, name, wrapped(name, getattr(os, name)))
    os.symlink = symlink


def main() -> None:
    hide(sys.argv[1])
    sys.path.insert(0, str(REPO))
    from dockermagic.cli import main as dockermagic

    for line in sys.stdin:
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = dockermagic(shlex.split(line))
            except BaseException:
                code = -1
                err.write(traceback.format_exc())
        out.flush()
        said = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
        sys.__stdout__.write(json.dumps([code, said, err.getvalue()]) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
