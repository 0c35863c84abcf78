"""The resident process: single-threaded, small, inside the namespaces of one id mode; it forks a child for every
request.

It is started by :class:`dockermagic.sandbox.worker.Worker` with a socket, and ends with it: when the socket closes or
the client dies, by whatever means. As the first process of its own pid namespace it takes every child along.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from dockermagic.errors import SandboxError
from dockermagic.sandbox import capabilities, mounts, ownership, seccomp, stage, supervise, syscalls, wire

__all__ = ["enter_user_namespace", "main"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The resident process's command line."""

    mode: str
    base: str
    mount_point: str
    socket: int
    client: int
    fresh_proc: bool = True


def main(arguments: str) -> NoReturn:
    """Enter the namespaces and serve until the client is gone."""
    settings = Settings(**json.loads(arguments))
    channel = socket.socket(fileno=settings.socket)
    try:
        _enter(settings, channel)
    except BaseException as error:
        channel.send(wire.dump({"error": wire.encode_error(error)}))
        os._exit(1)


def _enter(settings: Settings, channel: socket.socket) -> NoReturn:

    def mapped(pid: int) -> None:
        channel.send(wire.dump({"map": pid}))
        if not channel.recv(16):
            os._exit(1)

    enter_user_namespace(settings.mode, mapped)
    syscalls.unshare(syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWPID if settings.fresh_proc else 0))
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    if settings.fresh_proc:
        pid = os.fork()
        if pid:
            channel.close()
            os.close(settings.client)
            _, status = os.waitpid(pid, 0)
            os._exit(0 if status == 0 else 1)
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    else:
        os.setsid()
    os.chdir(settings.base)
    syscalls.mount("tmpfs", settings.mount_point, "tmpfs", 0, "mode=755,size=1m")
    for name in stage.PLACES:
        os.mkdir(f"{settings.mount_point}/{name}")
    Server(settings, channel).serve()


def enter_user_namespace(mode: str, mapped: Callable[[int], None]) -> None:
    """Become id 0 of a user namespace as ``mode`` wants it; root stays where it is.

    ``mapped`` gets the process id and returns when somebody outside has written the map of a range.
    """
    if mode == "root":
        return
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    if mode == "single":
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    else:
        mapped(os.getpid())
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


class Server:
    """The loop, and what it knows: which child serves which request, and the one that is ready for the next RUN.

    A spare is a child with its namespaces made and its stage built. It waits for a job, which saves the time from a
    request to its first system call.
    """

    def __init__(self, settings: Settings, channel: socket.socket) -> None:
        self.settings = settings
        self.channel = channel
        self.setting = stage.Setting(settings.mode, settings.base, settings.mount_point, settings.fresh_proc)
        self.children: dict[int, int] = {}
        self.spare: tuple[int, socket.socket] | None = None
        self.wake, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> NoReturn:
        """Answer requests until the client is gone."""
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for fd in (self.channel.fileno(), self.settings.client, self.wake):
            poll.register(fd, select.POLLIN)
        self.channel.send(wire.dump({"ready": os.getpid()}))
        # Done once here, not in every child.
        seccomp.default_profile(capabilities.DEFAULT)
        seccomp.notify_program()
        gc.collect()
        gc.freeze()
        gc.disable()
        while True:
            for fd, _ in poll.poll():
                if fd == self.settings.client:
                    self._end()
                elif fd == self.wake:
                    self._reap()
                else:
                    data, fds = syscalls.receive(self.channel)
                    if not data:
                        self._end()
                    self._take(data, fds)

    def _end(self) -> NoReturn:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    def _reap(self) -> None:
        try:
            os.read(self.wake, 512)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.spare is not None and pid == self.spare[0]:
                self.spare[1].close()
                self.spare = None
            if self.children.pop(pid, None) is not None and status:
                self._kill_orphans()

    def _kill_orphans(self) -> None:
        """A child that was killed left its own children to us: they go too."""
        try:
            with open("/proc/self/task/self/children", encoding="ascii") as listing:
                pids = [int(pid) for pid in listing.read().split()]
        except OSError:
            return
        for pid in pids:
            if pid not in self.children and (self.spare is None or pid != self.spare[0]):
                os.kill(pid, signal.SIGKILL)

    def _take(self, data: bytes, fds: list[int]) -> None:
        head, _, payload = data.partition(b"\n")
        request = wire.load(head)
        if "cancel" in request:
            for pid, number in self.children.items():
                if number == request["cancel"]:
                    os.kill(pid, signal.SIGTERM)
            return
        running = request["function"] == "run"
        if running and self.spare is not None and request["profile"] == [_USUAL.network, _USUAL.masked]:
            pid, channel = self.spare
            self.spare = None
            with channel:
                try:
                    syscalls.send(channel, data, fds)
                except OSError:  # it has died
                    pid = 0
            if pid:
                self._serves(pid, request, fds)
                self._make_spare()
                return
        if not running:
            try:
                _load(request["function"])
            except Exception:
                pass  # the child runs into it again, and reports it
        pid = os.fork()
        if pid == 0:
            self._child(lambda: _Request(request, payload, fds), None)
        self._serves(pid, request, fds)
        if running and self.spare is None:
            self._make_spare()

    def _serves(self, pid: int, request: dict[str, Any], fds: list[int]) -> None:
        self.children[pid] = request["id"]
        for fd in fds:
            os.close(fd)

    def _make_spare(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid:
            theirs.close()
            self.spare = (pid, ours)
            return
        ours.close()
        self._child(lambda: _wait_for_job(theirs), _USUAL)

    def _child(self, get: Callable[[], _Request], profile: stage.Profile | None) -> NoReturn:
        """Serve one request and end. With ``profile`` it is a RUN, and is made ready before it is there."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            self.channel.close()
            for fd in (self.settings.client, self.wake, self.waker):
                os.close(fd)
            supervisor = supervise.Supervisor(self.setting, profile) if profile is not None else None
            request = get()
            control = socket.socket(fileno=request.fds[0])
            try:
                answer = {"result": self._answer(request, control, supervisor)}
            except BaseException as error:
                answer = {"error": wire.encode_error(error)}
            control.sendall(wire.dump(answer))
            code = 0
        finally:
            os._exit(code)

    def _answer(self, request: _Request, control: socket.socket, supervisor: supervise.Supervisor | None) -> Any:
        head = request.head
        payload = request.payload if head["inline"] else _line(control)
        given = request.fds[1:]
        if head["function"] == "run":
            if supervisor is None:
                supervisor = supervise.Supervisor(self.setting, stage.Profile(*head["profile"]))
            return supervisor.run(payload, control, given)
        gc.enable()
        arguments = wire.load(payload)
        arguments.update(self._mount(head["mounts"]))
        arguments.update(zip(head["fds"], given, strict=True))
        if head["output"]:
            arguments["emit"] = lambda value: control.sendall(wire.dump({"output": value}))
        result = _load(head["function"])(**arguments)
        ownership.save()
        return result

    def _mount(self, wanted: dict[str, Any]) -> dict[str, str]:
        if not wanted:
            return {}
        syscalls.unshare(syscalls.CLONE_NEWNS)
        places = {}
        for name, value in wanted.items():
            place = f"{self.settings.mount_point}/call-{name}"
            os.makedirs(place, exist_ok=True)
            rootfs = wire.rootfs_from_json(value)
            mounts.mount_rootfs(rootfs, place, self.settings.base)
            ownership.mounted(place, rootfs)
            places[name] = place
        return places


_USUAL = stage.Profile()


@dataclass(frozen=True, slots=True)
class _Request:
    head: dict[str, Any]
    payload: bytes
    fds: list[int]


def _wait_for_job(channel: socket.socket) -> _Request:
    data, fds = syscalls.receive(channel)
    channel.close()
    if not data:
        os._exit(0)
    head, _, payload = data.partition(b"\n")
    return _Request(wire.load(head), payload, fds)


def _load(name: str) -> Callable[..., Any]:
    """The function of this name; its module is imported once in the resident process, so that children have it."""
    module, _, attribute = name.partition(":")
    if not module.startswith("dockermagic."):
        raise SandboxError(f"not a function of dockermagic: {name}")
    if module not in sys.modules:
        importlib.import_module(module)
        gc.freeze()
    found: Callable[..., Any] = getattr(sys.modules[module], attribute)
    return found


def _line(control: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = control.recv(1 << 20)
        if not piece:
            raise SandboxError("the request ended early")
        data += piece
    return bytes(data)
