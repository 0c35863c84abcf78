"""Requests that are functions: called in a child of the resident process, beside the root filesystems they name."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from dockermagic.errors import SandboxError
from dockermagic.sandbox import mounts, ownership, packets, stage, syscalls, trees, wire

__all__ = ["Caller", "load"]


class Caller:
    """A child of the resident process that serves one request. It can be forked before there is one."""

    def __init__(self, setting: stage.Setting, fork: Callable[[], int]) -> None:
        self.number = 0
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = fork()
        if self.pid == 0:
            self.channel.close()
            _serve(setting, theirs)
        theirs.close()

    def assign(self, number: int, data: bytes, fds: list[int]) -> None:
        """Give it its request; the first descriptor is that of the client. ``fds`` are closed."""
        self.number = number
        try:
            packets.send(self.channel, data, fds)
        except OSError:
            pass  # it was killed; the client sees its socket close
        for fd in fds:
            os.close(fd)


def _serve(setting: stage.Setting, channel: socket.socket) -> NoReturn:
    """Wait for a request, call its function, answer, and end."""
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        gc.enable()
        data, fds = packets.receive(channel)
        channel.close()
        if data:
            head, _, payload = data.partition(b"\n")
            control = socket.socket(fileno=fds[0])
            try:
                answer = {"result": _result(setting, wire.load(head), payload, control, fds[1:])}
            except BaseException as error:
                answer = {"error": wire.encode_error(error)}
            control.sendall(wire.dump(answer))
        code = 0
    finally:
        os._exit(code)


def _result(
    setting: stage.Setting, request: dict[str, Any], payload: bytes, control: socket.socket, given: list[int]
) -> Any:
    arguments = wire.load(payload or wire.line(control))
    arguments.update(zip(request["fds"], given, strict=True))
    if request["output"]:
        arguments["emit"] = lambda value: control.sendall(wire.dump({"output": value}))
    function = load(request["function"])
    if not setting.overlay:
        from dockermagic.sandbox import tree_requests

        return tree_requests.call(setting, function, request["mounts"], arguments)
    places = {name: f"{setting.mount_point}/call-{name}" for name in request["mounts"]}
    if places:
        syscalls.unshare(syscalls.CLONE_NEWNS)
    for name, place in places.items():
        os.makedirs(place, exist_ok=True)
        rootfs = wire.rootfs_from_json(request["mounts"][name])
        mounts.mount_rootfs(rootfs, place, setting.base)
        ownership.mounted(place, rootfs)
    arguments.update(places)
    try:
        return function(**arguments)
    finally:
        # Before the answer: a commit renames what is mounted here, and the next mount stands on it.
        for name, place in places.items():
            _unmount(place)
            if upper := request["mounts"][name]["upper"]:
                trees.remove_work(os.path.join(os.path.dirname(upper), "work"))


def _unmount(place: str) -> None:
    try:
        syscalls.umount(place)
    except OSError:  # the function left something open
        syscalls.umount(place, syscalls.MNT_DETACH)


def load(name: str) -> Callable[..., Any]:
    """The function of this name; its module is imported once in the resident process, so that children have it."""
    module, _, attribute = name.partition(":")
    if not module.startswith("dockermagic."):
        raise SandboxError(f"not a function of dockermagic: {name}")
    if module not in sys.modules:
        importlib.import_module(module)
        gc.freeze()
    found: Callable[..., Any] = getattr(sys.modules[module], attribute)
    return found
