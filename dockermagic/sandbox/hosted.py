"""A program of the host that fills a root filesystem, as root of the namespaces it is started in.

Runs inside the worker. It sees the host's files, unlike a RUN; where there is a single id, it is given the same faked
privilege, and the owners that it sets below the root filesystem are recorded there.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dockermagic.sandbox import seccomp, syscalls
from dockermagic.sandbox.listener import Listener

__all__ = ["run_hosted"]


def run_hosted(
    command: Sequence[str],
    *,
    root: Path,
    environment: Mapping[str, str],
    text: str,
    output: Callable[[bytes], None],
) -> int:
    """Run ``command`` to its end in a mount namespace of its own and return its exit code.

    ``text`` is its standard input; both of its output streams go to ``output`` in pieces. It dies with the caller.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    fake = _single_id()
    ours, theirs = socket.socketpair()
    read, write = os.pipe()

    def before_exec() -> None:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if not fake:
            return
        try:
            listener = seccomp.install(seccomp.notify_program(), listen=True)
        except OSError:
            seccomp.install(seccomp.succeed_program())
            return
        socket.send_fds(theirs, [b"."], [listener])
        os.close(listener)

    with (
        ours,
        theirs,
        subprocess.Popen(
            command,
            env=dict(environment),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=write,
            preexec_fn=before_exec,
            pass_fds=(theirs.fileno(),),
        ) as process,
    ):
        os.close(write)
        listener = _receive(ours, root) if fake else None
        assert process.stdin
        process.stdin.write(text.encode())
        process.stdin.close()
        try:
            _serve(read, listener, output)
            code = process.wait()
        finally:
            os.close(read)
            if listener:
                listener.leave()
        if listener:
            listener.write_special()
    return code


class _Listener(Listener):
    """Records what happens on the device that holds the root filesystem, which need not be that of ``/``."""

    def __init__(self, fd: int, root: Path) -> None:
        super().__init__(fd, root)
        self.prefix = f"{os.path.realpath(root)}/"

    def enter(self, namespace: int) -> None:
        super().enter(namespace)
        assert self.upper is not None
        self.device = os.stat(self.upper).st_dev


def _single_id() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as table:
        return sum(int(line.split()[2]) for line in table) == 1


def _receive(ours: socket.socket, root: Path) -> Listener | None:
    ours.setblocking(False)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except BlockingIOError:  # a kernel without listeners
        return None
    listener = _Listener(descriptors[0], root)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        listener.enter(namespace)
    finally:
        os.close(namespace)
    return listener


def _serve(read: int, listener: Listener | None, output: Callable[[bytes], None]) -> None:
    """Pass output on and answer the filter, until every holder of the output's other end is gone."""
    poll = select.poll()
    poll.register(read, select.POLLIN)
    if listener:
        poll.register(listener.fd, select.POLLIN)
    while True:
        for fd, events in poll.poll():
            if fd == read:
                piece = os.read(read, 1 << 16)
                if not piece:
                    return
                output(piece)
            elif listener and events & select.POLLIN:
                listener.answer()
            else:  # the last process under the filter is gone
                poll.unregister(fd)
