"""The companion of a RUN with a single id: it answers the filter's notifications, and writes owners down at the end.

It waits for one message of pid 1, and ends when pid 1 has ended. Its mode of work depends on who runs: for root it is
the listener of :mod:`.listener`; for another user, who owns all that is made, it records that owner afterwards.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from pathlib import Path
from typing import NoReturn

from dockermagic.sandbox import leftovers, syscalls, wire
from dockermagic.sandbox.listener import Listener

__all__ = ["serve"]


def serve(channel: socket.socket, pid: int) -> NoReturn:
    """Do the work for the process ``pid`` and exit: 0 if every owner is recorded."""
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        data, fds = syscalls.receive(channel)
        channel.close()
        if data:
            job = wire.load(data)
            ended = _open(pid)
            if fds:
                _listen(fds[0], Path(job["upper"]) if job["upper"] else None, pid, ended)
            elif ended is not None and job["upper"]:
                select.select([ended], [], [])
                uid, gid = job["owner"]
                leftovers.own_new_files(wire.rootfs_from_json(job), uid, gid, set(job["except"]))
        code = 0
    finally:
        os._exit(code)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _listen(fd: int, upper: Path | None, pid: int, ended: int | None) -> None:
    listener = Listener(fd, upper)
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return  # it has ended meanwhile
        raise
    listener.enter(namespace)
    os.close(namespace)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if ended is not None:
        poll.register(ended, select.POLLIN)
    running = True
    while running:
        for ready, events in poll.poll():
            if ready == fd and events & select.POLLIN:
                listener.answer()
            else:  # pid 1 has ended, or nobody is left whom the filter holds
                running = False
    listener.leave()
    listener.write_special()
