"""The companion of all RUNs with a single id: it answers their filters' notifications and writes owners down.

One process for each resident one, beside it and as long-lived. Pid 1 of a run tells it what to do; the resident process
tells it that the run is over and hears when everything is on disk. Both speak through the same socket, so that what
comes last was said last.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import traceback
from pathlib import Path
from typing import Any, NoReturn

from dockermagic.sandbox import leftovers, packets, syscalls, wire
from dockermagic.sandbox.listener import Listener
from dockermagic.values import dataclass

__all__ = ["serve"]


@dataclass(slots=True)
class _Run:
    job: dict[str, Any]
    listener: Listener | None = None
    namespace: int = -1


def serve(channel: socket.socket, answers: socket.socket) -> NoReturn:
    """Serve until the resident process is gone.

    ``channel`` brings ``{"run": n, ...}`` of pid 1, with the filter's listener and its mount namespace, or with the
    owner of all that is made, or both one after the other, and ``{"over": n}``; ``answers`` takes ``{"over": n,
    "recorded": bool}``.
    """
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _Companion(channel, answers).serve()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


class _Companion:
    def __init__(self, channel: socket.socket, answers: socket.socket) -> None:
        self.channel = channel
        self.answers = answers
        self.home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.inside: _Run | None = None
        self.runs: dict[int, _Run] = {}
        self.listening: dict[int, _Run] = {}
        self.writers: dict[int, tuple[int, int]] = {}
        self.poll = select.poll()
        self.poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for something to happen, and see to it. What the first of it closed is looked at no more."""
        for fd, events in self.poll.poll():
            if fd == self.channel.fileno():
                self._take()
            elif fd in self.writers:
                self._written(fd)
            elif run := self.listening.get(fd):
                self._answer(run, events)

    def _answer(self, run: _Run, events: int) -> None:
        assert run.listener is not None
        if not events & select.POLLIN:  # nobody is left whom the filter holds
            self.poll.unregister(run.listener.fd)
            return
        if self.inside is not run:
            run.listener.enter(run.namespace)
            self.inside = run
        run.listener.answer()

    def _take(self) -> None:
        data, fds = packets.receive(self.channel)
        if not data:
            os._exit(0)
        message = wire.load(data)
        if "over" in message:
            self._over(message["over"])
            return
        run = self.runs.setdefault(message["run"], _Run({}))
        run.job |= message
        if not fds:
            return
        self._go_home()
        run.namespace = fds[1]
        upper = Path(message["upper"]) if message.get("upper") else None
        run.listener = Listener(fds[0], upper, message["groups"])
        run.listener.hurry()
        self.listening[fds[0]] = run
        self.poll.register(fds[0], select.POLLIN)

    def _go_home(self) -> None:
        if self.inside is not None:
            syscalls.setns(self.home, syscalls.CLONE_NEWNS)
            self.inside = None

    def _over(self, number: int) -> None:
        """Nothing of the run is left: let go of its mounts, write what there is to write, and say so."""
        run = self.runs.pop(number, _Run({}))
        well = run.listener is None or self._dismissed(run, run.listener)
        if run.job.get("owner") and run.job["upper"]:
            self._write_owner(number, run.job)
        else:
            self._say(number, well)

    def _dismissed(self, run: _Run, listener: Listener) -> bool:
        """Let go of a listener; whether all that it knew is written down."""
        self._go_home()
        os.close(run.namespace)
        del self.listening[listener.fd]
        try:
            self.poll.unregister(listener.fd)
        except KeyError:
            pass
        os.close(listener.fd)
        listener.close()
        try:
            listener.write_special()
        except OSError:
            traceback.print_exc()
            return False
        return True

    def _write_owner(self, number: int, job: dict[str, Any]) -> None:
        """In a child: a layer may be large, and others wait for their answers."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                uid, gid = job["owner"]
                leftovers.own_new_files(wire.rootfs_from_json(job), uid, gid, set(job["except"]))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        fd = os.pidfd_open(pid)
        self.writers[fd] = (number, pid)
        self.poll.register(fd, select.POLLIN)

    def _written(self, fd: int) -> None:
        number, pid = self.writers.pop(fd)
        self.poll.unregister(fd)
        os.close(fd)
        self._say(number, os.waitpid(pid, 0)[1] == 0)

    def _say(self, number: int, recorded: bool) -> None:
        self.answers.send(wire.dump({"over": number, "recorded": recorded}))
