"""One RUN seen from outside of its namespaces: start it, wait for it, kill it, and leave the layer clean.

:func:`run` is called in a child of the resident process. It is the parent of pid 1, so its own end kills everything
inside.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
from pathlib import Path
from typing import Any

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox import trees, wire
from dockermagic.sandbox.launch import Setting, Status, start

__all__ = ["run"]


def run(
    *,
    setting: Setting,
    rootfs: dict[str, Any],
    process: dict[str, Any],
    stdin: int,
    stdout: int,
    stderr: int,
    control: int,
) -> dict[str, Any]:
    """Run to the end; ``{"exit_code": n}``. ``control`` becomes readable or broken when the client wants it stopped."""
    root = wire.rootfs_from_json(rootfs)
    wanted = wire.process_from_json(process)
    flags = sys.CLONE_NEWPID | sys.CLONE_NEWIPC | sys.CLONE_NEWUTS
    if wanted.network == "none":
        flags |= sys.CLONE_NEWNET
    sys.unshare(flags)
    try:
        sys.unshare(sys.CLONE_NEWCGROUP)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        ours.close()
        start(setting, root, wanted, Status(theirs.fileno()), {"stdin": stdin, "stdout": stdout, "stderr": stderr})
    theirs.close()
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    try:
        return _supervise(pid, ours, control)
    finally:
        _clean(root.upper, ours)


def _supervise(pid: int, status: socket.socket, control: int) -> dict[str, Any]:
    report = b""
    stopped = False
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(status, select.POLLIN)
    poll.register(control, select.POLLIN)
    poll.register(ended, select.POLLIN)
    code = None
    while code is None:
        for fd, _ in poll.poll():
            if fd == status.fileno():
                piece = status.recv(1 << 16)
                report += piece
                if not piece:
                    poll.unregister(status)
            elif fd == control:
                stopped = True
                poll.unregister(control)
                os.kill(pid, signal.SIGKILL)
            elif fd == ended:
                _, raw = os.waitpid(pid, 0)
                code = os.waitstatus_to_exitcode(raw)
    while piece := status.recv(1 << 16):
        report += piece
    os.close(ended)
    messages = [wire.load(line) for line in report.splitlines()]
    global _stubs
    _stubs = [message["stubs"] for message in messages if "stubs" in message]
    failures = [message["error"] for message in messages if "error" in message]
    if stopped:
        raise BuildInterruptedError("interrupted")
    if failures:
        raise wire.decode_error(failures[0])
    if not _stubs:
        raise SandboxError(f"the process ended before it began (exit code {code})")
    return {"exit_code": 128 - code if code < 0 else code}


_stubs: list[list[list[Any]]] = []


def _clean(upper: Path | None, status: socket.socket) -> None:
    status.close()
    if upper is None:
        return
    for group in _stubs:
        remove_stubs(upper, [(path, directory, ctime, mtime) for path, directory, ctime, mtime in group])
    trees.clear_work(str(upper.parent / "work"))


def _parent(upper: int, path: str) -> int | None:
    """The directory that holds ``path`` inside ``upper``, reached without following any link; None if it is not
    there.
    """
    fd = os.dup(upper)
    for part in os.path.dirname(path).strip("/").split("/"):
        if not part:
            continue
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            os.close(fd)
            return None
        os.close(fd)
        fd = inner
    return fd


def remove_stubs(upper: Path, stubs: list[tuple[str, bool, int, int]]) -> None:
    """Take mount points out of the layer again, and parents that are in it only because of them.

    A stub that the process replaced by something of its own stays. A parent that the process did not touch gets its
    time back.
    """
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        untouched: dict[str, int] = {}
        parents: dict[str, int | None] = {}
        for path, _, ctime, mtime in stubs:
            folder = os.path.dirname(path)
            if folder in parents:
                continue
            parents[folder] = fd = _parent(root, path)
            if fd is not None and os.fstat(fd).st_ctime_ns == ctime:
                untouched[folder] = mtime
        for path, directory, _, _ in reversed(stubs):
            fd = parents[os.path.dirname(path)]
            if fd is None:
                continue
            name = os.path.basename(path)
            try:
                if directory:
                    os.rmdir(name, dir_fd=fd)
                else:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
                        os.unlink(name, dir_fd=fd)
            except OSError:
                continue
        for folder in sorted(untouched, reverse=True):
            _restore(root, folder, untouched[folder], parents)
        for fd in parents.values():
            if fd is not None:
                os.close(fd)
    finally:
        os.close(root)


def _restore(root: int, folder: str, mtime: int, parents: dict[str, int | None]) -> None:
    """An untouched parent that is empty now was only copied up for a stub: it goes, and so do its own parents."""
    fd = parents[folder]
    assert fd is not None
    os.utime(fd, ns=(mtime, mtime))
    while folder != "/":
        parent = _parent(root, folder)
        if parent is None:
            return
        try:
            os.rmdir(os.path.basename(folder), dir_fd=parent)
        except OSError:
            return
        finally:
            os.close(parent)
        folder = os.path.dirname(folder)
