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
from dockermagic.sandbox import mounts, ownership, stage, syscalls, tree_requests, trees, wire

__all__ = ["load", "serve"]


def serve(setting: stage.Setting, request: dict[str, Any], payload: bytes, fds: list[int]) -> NoReturn:
    """In a child of the resident process: call the function, answer, and end.

    ``fds`` are the request's socket and the descriptors that were given with it.
    """
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        gc.enable()
        control = socket.socket(fileno=fds[0])
        try:
            answer = {"result": _result(setting, request, payload, control, fds[1:])}
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
