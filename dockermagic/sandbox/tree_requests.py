"""Requests where root filesystems are working trees: check them out, do what was asked, keep what it changed.

A RUN has such a process around it from the request to the answer. In namespaces it is the parent of pid 1, as the
resident process is for overlays; else PRoot is started below it (:mod:`.proot`),
or chroot takes its place (:mod:`.chrooted`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from dockermagic.errors import BuildInterruptedError, DockermagicError
from dockermagic.sandbox import chrooted, leftovers, ownership, proot, syscalls, wire
from dockermagic.sandbox.base import Mount, Rootfs, Subpath
from dockermagic.sandbox.profile import Profile
from dockermagic.sandbox.stage import Setting
from dockermagic.sandbox.supervise import Loop, Run
from dockermagic.sandbox.ways import Way
from dockermagic.sandbox.worktree import WorkTree, check_out, find_used
from dockermagic.values import replace

__all__ = ["call", "serve"]


class Home(Loop, Protocol):
    """The loop that is this process's own."""

    def start_companion(self) -> None:
        """Have one beside this process, where there is a single id."""
        ...


def call(
    setting: Setting, function: Callable[..., Any], mounts: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Any:
    """Call a function with working trees in the place of mounts; what it does to one with an upper layer is kept.

    One in which somebody runs is taken as it is: what is changed there is kept at his end.
    """
    with contextlib.ExitStack() as stack:
        trees: dict[str, WorkTree] = {}
        places: dict[str, str] = {}
        for name, value in mounts.items():
            rootfs = wire.rootfs_from_json(value)
            alone = find_used(setting.base, setting.way, rootfs) if rootfs.upper else None
            alone = alone or _alone(rootfs)
            if alone is None:
                tree = trees[name] = check_out(setting.base, setting.way, rootfs)
                stack.callback(tree.release)
                alone = Path(tree.path)
            places[name] = str(alone)
            ownership.mounted(str(alone), Rootfs((), alone))
        result = function(**arguments, **places)
        for tree in trees.values():
            tree.keep() if tree.upper is not None else tree.clean()
        return result


def _alone(rootfs: Rootfs) -> Path | None:
    """The directory that is the root filesystem as it stands; None where there are layers to put together."""
    if not rootfs.lowers:
        return rootfs.upper
    return rootfs.lowers[0] if len(rootfs.lowers) == 1 and rootfs.upper is None else None


def serve(loop: Home, way: Way, profile: Profile, payload: bytes, fds: list[int], *, beside: bool = False) -> NoReturn:
    """In a child of the resident process: run the process of a request, answer, and end. ``fds`` as for a ``run``.

    ``beside``: in the working tree that somebody runs in already; what is changed there is kept at his end.
    """
    code = 1
    try:
        _end_with_parent(way)
        gc.enable()
        control = socket.socket(fileno=fds[0])
        try:
            job = wire.load(payload or wire.line(control))
            answer = _run(loop, way, profile, job, control, fds[1:], beside)
        except BaseException as error:
            if not isinstance(error, (DockermagicError, OSError)):
                traceback.print_exc()
            answer = {"error": wire.encode_error(error)}
        control.sendall(wire.dump(answer))
        code = 0
    finally:
        os._exit(code)


def _end_with_parent(way: Way) -> None:
    """What PRoot traces must not outlive it where no namespace takes all along: untraced, it has the host's paths."""

    def end(*_: object) -> None:
        proot.end_all()
        os._exit(1)

    if not way.namespaces:
        signal.signal(signal.SIGTERM, end)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL if way.namespaces else signal.SIGTERM)


def _run(
    loop: Home,
    way: Way,
    profile: Profile,
    job: dict[str, Any],
    control: socket.socket,
    streams: list[int],
    beside: bool,
) -> dict[str, Any]:
    rootfs, process = wire.rootfs_from_json(job["rootfs"]), wire.process_from_json(job["process"])

    def check() -> None:
        if _is_stopped(control):
            raise BuildInterruptedError("interrupted")

    with contextlib.ExitStack() as stack:
        tree: WorkTree | None = None
        used = find_used(loop.setting.base, loop.setting.way, rootfs) if beside else None
        if used is not None:
            rootfs = Rootfs((), used)
        if rootfs.lowers:
            tree = check_out(loop.setting.base, loop.setting.way, rootfs, check)
            stack.callback(tree.release)
        root = Path(tree.path) if tree is not None else rootfs.upper
        process = replace(process, mounts=tuple(_with_tree(mount, loop, stack, check) for mount in process.mounts))
        if not way.namespaces:
            kind = chrooted.Chrooted if way.ids == "root" else proot.Traced
            ran: InTree | proot.Traced = kind(loop, root, process, control, streams, held=job["held"], beside=beside)
        else:
            loop.start_companion()
            ran = InTree(loop, profile, root, {**job, "process": process}, control, streams)
        while ran.answer is None:
            loop.turn()
        if tree is not None and tree.upper is not None and "result" in ran.answer:
            tree.keep(*ran.owner)
        return ran.answer


def _is_stopped(control: socket.socket) -> bool:
    poll = select.poll()
    poll.register(control, select.POLLRDHUP)
    return bool(poll.poll(0))


def _with_tree(mount: Mount, loop: Home, stack: contextlib.ExitStack, check: Callable[[], object]) -> Mount:
    """A mount of another root filesystem as one of a directory that holds it; what is written there is undone."""
    source = mount.source
    if not isinstance(source, Subpath):
        return mount
    rootfs = source.rootfs
    if not rootfs.lowers and rootfs.upper is not None:
        return mount
    tree = check_out(loop.setting.base, loop.setting.way, Rootfs(rootfs.lowers), check)
    stack.callback(tree.release)
    return replace(mount, source=Subpath(Rootfs((), Path(tree.path)), source.path))


class InTree(Run):
    """A process in namespaces whose root filesystem is a working tree; ``answer`` is there when it is over."""

    def __init__(
        self,
        loop: Loop,
        profile: Profile,
        root: Path | None,
        job: dict[str, Any],
        control: socket.socket,
        fds: list[int],
    ) -> None:
        super().__init__(loop, profile, lambda run: None)
        self.answer: dict[str, Any] | None = None
        data = wire.dump({}) + wire.dump({**job, "rootfs": Rootfs((), root)})
        self.assign(str(root) if root is not None else None, data, [os.dup(control.fileno()), *fds])

    @property
    def owner(self) -> tuple[tuple[int, int] | None, list[str]]:
        """Whose everything is that was made, where no other id could make it; and what was not."""
        uid, gid = self.messages.get("owner", (0, 0))
        single = self.loop.setting.mode == "single"
        return ((uid, gid) if single and uid else None), self.messages.get("except", [])

    def _answer(self, control: socket.socket) -> None:
        try:
            if self.upper is not None:
                leftovers.remove_stubs(self.upper, self._stubs(), is_layer=False)
            self.answer = self._result()
        except (DockermagicError, OSError) as error:
            self.answer = {"error": wire.encode_error(error)}
