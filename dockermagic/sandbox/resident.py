"""The resident process: single-threaded, small, inside the namespaces of one id mode; it forks a child for every
request.

It is started by :class:`dockermagic.sandbox.worker.Worker` with a socket, and ends with it: when the socket closes or
the client dies, by whatever means. As the first process of its own pid namespace it takes every child along.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from dockermagic.errors import SandboxError
from dockermagic.sandbox import (
    calls,
    capabilities,
    descendants,
    packets,
    seccomp,
    stage,
    supervise,
    syscalls,
    tasks,
    wire,
)
from dockermagic.sandbox.profile import Profile
from dockermagic.sandbox.user_namespace import enter_user_namespace
from dockermagic.sandbox.ways import WAYS, Way
from dockermagic.values import dataclass

__all__ = ["main"]


_USUAL = Profile()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the client says first; ``mode`` is the name of a :class:`~dockermagic.sandbox.ways.Way`."""

    mode: str
    base: str
    mount_point: str
    fresh_proc: bool = True


def main(socket_fd: str, client_fd: str) -> NoReturn:
    """Wait for the settings, enter the namespaces and serve until the client is gone, of which there is a pidfd."""
    gc.disable()
    client = int(client_fd)
    syscalls.close_all_but({0, 1, 2, int(socket_fd), client})
    os.chdir("/")
    channel = socket.socket(fileno=int(socket_fd))
    try:
        # Done once here, not in every child, and before it is known what for.
        seccomp.default_profile(capabilities.DEFAULT)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        poll.register(client, select.POLLIN)
        said = channel.recv(1 << 16) if channel.fileno() in dict(poll.poll()) else b""
        if not said:
            os._exit(0)
        _enter(Settings(**wire.load(said)), channel, client)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        channel.send(wire.dump({"error": wire.encode_error(error)}))
        os._exit(1)


def _enter(settings: Settings, channel: socket.socket, client: int) -> NoReturn:
    way = WAYS[settings.mode]
    _import_for(way)
    if not way.namespaces:
        from dockermagic.sandbox import proot_calls

        # What is left of a RUN that was killed comes to us, and ends with us.
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        os.chdir(settings.base)
        proot_calls.listens()  # tried once here, not in every child
        Server(settings, way, channel, client).serve()

    enter_user_namespace(way.ids)
    syscalls.unshare(syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWPID if settings.fresh_proc else 0))
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    if settings.fresh_proc:
        pid = os.fork()
        if pid:
            channel.close()
            os.close(client)
            _, status = os.waitpid(pid, 0)
            os._exit(0 if status == 0 else 1)
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    os.chdir(settings.base)
    syscalls.mount("tmpfs", settings.mount_point, "tmpfs", 0, "mode=755,size=1m")
    for name in stage.PLACES:
        os.mkdir(f"{settings.mount_point}/{name}")
    Server(settings, way, channel, client).serve()


def _import_for(way: Way) -> None:
    """Import now what only some ways need. A child that stands in a container's root must not: it would be its file."""
    if not way.overlay:
        from dockermagic.sandbox import tree_requests  # noqa: F401
    if way.ids == "single":
        from dockermagic.sandbox import companion  # noqa: F401


class Server:
    """The loop, and what it knows: whom to call for which descriptor and which child.

    For a RUN it is the parent of pid 1, see :class:`dockermagic.sandbox.supervise.Run`. Other requests are served by a
    child each, see :class:`dockermagic.sandbox.calls.Caller`. One of both kinds is ready before it is asked for, and
    another one for a RUN when there were two: a command that runs one container need not wait for more.
    """

    def __init__(self, settings: Settings, way: Way, channel: socket.socket, client: int) -> None:
        self.way = way
        self.channel = channel
        self.client = client
        self.setting = stage.Setting(
            way.ids, settings.base, settings.mount_point, settings.fresh_proc, way.overlay, way.name
        )
        # A namespace that is not ours cannot be come back to.
        has_own = settings.fresh_proc and way.namespaces
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if has_own else None
        self.poll = select.poll()
        self.watched: dict[int, Callable[[], object]] = {}
        self.children: dict[int, Callable[[int], None]] = {}
        self.calls: dict[int, int] = {}
        self.records: socket.socket | None = None
        self.recording: dict[int, Callable[[bool], None]] = {}
        self.spare: supervise.Run | None = None
        self.caller: calls.Caller | None = None
        self.wanted: list[Callable[[], None]] = [self._have_spare] if way.overlay else []
        self.runs = 0

    def serve(self) -> NoReturn:
        """Answer requests until the client is gone."""
        self.watch(self.channel.fileno(), self._take)
        self.watch(self.client, self._end)
        self.channel.send(wire.dump({"ready": os.getpid()}))
        if self.setting.mode == "root":
            tasks.Group.sweep()
        if self.setting.mode == "single":
            from dockermagic.sandbox import listener

            seccomp.notify_program()
            listener.known_calls()
        gc.freeze()
        while True:
            if not self.turn(0 if self.wanted else None):
                try:
                    self.wanted.pop(0)()
                except OSError:
                    pass  # no room for one more process: it is made when it is needed

    def turn(self, timeout: int | None = None) -> bool:
        """Wait for something to happen, and see to it; False if nothing did in that many milliseconds."""
        events = self.poll.poll(timeout)
        for fd, _ in events:
            happened = self.watched.get(fd)
            if happened is not None:
                happened()
        return bool(events)

    def start_anew(self) -> None:
        """In a child that becomes a loop of its own: nothing of the parent's is watched any more."""
        self.poll = select.poll()
        self.watched, self.children = {}, {}
        self.wanted = []

    def want(self, make: Callable[[], None]) -> None:
        """Have something made as soon as there is nothing else to do."""
        if make not in self.wanted:
            self.wanted.append(make)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL if self.own_pids is not None else signal.SIGTERM)

    def watch(self, fd: int, happened: Callable[[], object], events: int = select.POLLIN) -> None:
        self.watched[fd] = happened
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.watched.pop(fd, None) is not None:
            with contextlib.suppress(KeyError):  # one that is kept
                self.poll.unregister(fd)

    def keep(self, fd: int) -> None:
        """Wait for it no more, and go on keeping it from other children: who waits for its end waits for theirs."""
        self.poll.unregister(fd)

    def fork(self, ended: Callable[[int], None], *, first: bool = False, into: int | None = None) -> int:
        apart = first or into is not None
        if apart and self.own_pids is not None:
            _change_pid_namespace(into)
        try:
            pid = os.fork()
        except OSError:  # no room, or the first process of that namespace has just ended
            if apart and self.own_pids is not None:
                syscalls.setns(self.own_pids, syscalls.CLONE_NEWPID)
            raise
        if pid == 0:
            for fd in self.watched:
                os.close(fd)
            return _relay(into) if apart and self.own_pids is None else 0
        if apart and self.own_pids is not None:
            syscalls.setns(self.own_pids, syscalls.CLONE_NEWPID)
        self.children[pid] = ended
        gone = os.pidfd_open(pid)

        def reap() -> None:
            self.unwatch(gone)
            os.close(gone)
            self._reap()

        self.watch(gone, reap)
        return pid

    def _reap(self) -> None:
        """Take leave of every child that has ended; as the first process we may inherit others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self.children.pop(pid, None)
            if ended is not None:
                ended(status)

    def _end(self) -> NoReturn:
        if not self.way.namespaces:
            from dockermagic.sandbox import proot

            proot.end_all()
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        if tasks.Group.mine:
            for pid in self.children:
                os.waitpid(pid, 0)
            for group in list(tasks.Group.mine):
                group.remove()
        os._exit(0)

    def _have_spare(self) -> None:
        if self.spare is None:
            self.spare = self._run(_USUAL)

    def _spare_is_over(self, run: supervise.Run) -> None:
        if self.spare is run:
            self.spare = None

    def _take(self) -> None:
        data, fds = packets.receive(self.channel)
        if not data:
            self._end()
        head, _, payload = data.partition(b"\n")
        request = wire.load(head)
        if "cancel" in request:
            if request["cancel"] in self.calls:
                os.kill(self.calls[request["cancel"]], signal.SIGTERM)
        elif request["function"] == "run" and not self.way.overlay:
            self._keep(Profile(**request["profile"]), payload, fds)
        elif request["function"] == "run":
            profile = Profile(**request["profile"])
            run = self.spare if profile == _USUAL else None
            if run is not None:
                self.spare = None
            else:
                try:
                    run = self._run(profile)
                except OSError as error:
                    _refuse(fds, _no_process(error))
                    return
            self.runs += 1
            if self.runs > 1:
                self.want(self._have_spare)
            elif self._have_spare in self.wanted:  # it came before there was one
                self.wanted.remove(self._have_spare)
            run.assign(request["upper"], data, fds)
        elif request["function"] == "exec" and not self.way.namespaces:
            os.close(fds.pop())
            self._keep(Profile(**request["profile"]), payload, fds, beside=True)
        elif request["function"] == "exec":
            beside = fds.pop()
            try:
                run = self._run(Profile(**request["profile"]), beside)
            except OSError as error:  # it has ended, or lets nobody in
                os.close(beside)
                _refuse(fds, SandboxError(f"the container cannot be joined: {error.strerror}"))
                return
            run.assign(None, data, fds)
        else:
            self._call(request, data, fds)

    def _run(self, profile: Profile, beside: int | None = None) -> supervise.Run:
        self.start_companion()
        return supervise.Run(self, profile, self._spare_is_over, beside=beside)

    def _keep(self, profile: Profile, payload: bytes, fds: list[int], *, beside: bool = False) -> None:
        """A RUN in a working tree has a process of its own around it, since a tree takes its time."""

        def ended(status: int) -> None:
            if status:
                self._kill_orphans()

        try:
            pid = self.fork(ended)
        except OSError as error:
            _refuse(fds, _no_process(error))
            return
        if pid == 0:
            self.start_anew()
            from dockermagic.sandbox import tree_requests

            tree_requests.serve(self, self.way, profile, payload, fds, beside=beside)
        for fd in fds:
            os.close(fd)

    def start_companion(self) -> None:
        """Have one beside this process, where there is a single id."""
        if self.setting.mode == "single" and self.records is None:
            self._start_companion()

    def _start_companion(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        answers, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def lost(status: int) -> None:
            """It has died, and with it what it had to write down."""
            self.unwatch(answers.fileno())
            answers.close()
            ours.close()
            self.records = None
            waiting, self.recording = self.recording, {}
            for recorded in waiting.values():
                recorded(False)

        def hear() -> None:
            data = answers.recv(1 << 12)
            if data:
                message = wire.load(data)
                self.recording.pop(message["over"])(message["recorded"])
            else:
                self.unwatch(answers.fileno())

        if self.fork(lost) == 0:
            # Not a descriptor of the request that is being looked at may live on in it.
            syscalls.close_all_but({0, 1, 2, theirs.fileno(), answering.fileno()})
            from dockermagic.sandbox import companion

            companion.serve(theirs, answering)
        theirs.close()
        answering.close()
        self.records = ours
        self.watch(answers.fileno(), hear)

    def is_over(self, number: int, recorded: Callable[[bool], None]) -> None:
        try:
            assert self.records is not None
            self.records.send(wire.dump({"over": number}))
            self.recording[number] = recorded
        except (AssertionError, OSError):
            recorded(False)

    def _call(self, request: dict[str, Any], data: bytes, fds: list[int]) -> None:
        try:
            calls.load(request["function"])
        except Exception:
            pass  # the child runs into it again, and reports it
        try:
            self._have_caller()
        except OSError as error:
            _refuse(fds, _no_process(error))
            return
        assert self.caller is not None
        caller, self.caller = self.caller, None
        self.unwatch(caller.channel.fileno())
        self.calls[request["id"]] = caller.pid
        caller.assign(request["id"], data, fds)
        caller.channel.close()
        self.want(self._have_caller)

    def _have_caller(self) -> None:
        if self.caller is not None:
            return

        def ended(status: int) -> None:
            self.calls.pop(caller.number, None)
            if self.caller is caller:
                self.unwatch(caller.channel.fileno())
                caller.channel.close()
                self.caller = None
            if status:
                self._kill_orphans()

        self.caller = caller = calls.Caller(self.setting, lambda: self.fork(ended))
        self.watch(caller.channel.fileno(), lambda: None)  # so that no other child has it

    def _kill_orphans(self) -> None:
        """A child that was killed left its own children to us: they go too."""
        descendants.end_below(os.getpid(), except_for=set(self.children))


def _no_process(error: OSError) -> SandboxError:
    return SandboxError(f"no process can be started: {error.strerror}", hint="There may be too many, or no memory.")


def _refuse(fds: list[int], error: SandboxError) -> None:
    """Answer a request that nothing came of; the first descriptor is that of the client."""
    with socket.socket(fileno=fds[0]) as control:
        try:
            control.sendall(wire.dump({"error": wire.encode_error(error)}))
        except OSError:
            pass  # it is gone
    for fd in fds[1:]:
        os.close(fd)


def _change_pid_namespace(process: int | None) -> None:
    """Have the next child be the first of a new namespace, or one in that of a process (a pidfd)."""
    if process is None:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    else:
        syscalls.setns(process, syscalls.CLONE_NEWPID)


def _relay(process: int | None) -> int:
    """Fork a child into the other namespace, and in between live and die with it."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    _change_pid_namespace(process)
    # Waited for, not handled: Python would run no handler in a wait for the child that has just begun.
    awaited = {signal.SIGTERM, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return 0
    syscalls.close_all_but({0, 1, 2})  # that the command has begun is seen by the end of a channel
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if signal.sigwait(awaited) == signal.SIGTERM:
            os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(ended[1])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code)
