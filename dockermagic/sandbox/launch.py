"""The first process of a RUN, from its fork to exec: namespaces, mounts, root, identity, privileges.

:func:`start` runs in the child that becomes pid 1 of its own pid namespace. It never returns: it ends in exec, in
exit code 126 or 127 for a command that cannot be run, or in an error sent through the status channel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import termios
from collections.abc import Sequence
from pathlib import Path
from sys import meta_path
from typing import Any, NoReturn

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox import users, wire
from dockermagic.sandbox.base import Process, Rootfs
from dockermagic.sandbox.channels import Records, Status
from dockermagic.sandbox.command import CannotRunError, find_command, not_executed
from dockermagic.sandbox.leftovers import Stub
from dockermagic.sandbox.mounts import Stubs, mount_rootfs
from dockermagic.sandbox.privileges import bound, drop_privileges
from dockermagic.sandbox.profile import Profile
from dockermagic.sandbox.stage import Setting, Stage
from dockermagic.sandbox.surroundings import Surroundings
from dockermagic.sandbox.tasks import Group, limit_tasks
from dockermagic.sandbox.trees import MOUNT_POINTS
from dockermagic.values import dataclass

__all__ = ["limit", "start"]

_ALL_IDS = 0xFFFFFFFF


def start(
    setting: Setting,
    profile: Profile,
    status: Status,
    records: socket.socket | None,
    number: int,
    group: Group | None = None,
    beside: int | None = None,
) -> NoReturn:
    """Build the stage, wait for the job on ``status``, and become its process; ``status`` closes itself with exec.

    The job is two lines of JSON: one that is the resident process's own, and ``{"rootfs": ..., "process": ...,
    "held": ...}``; the latter comes through the client's socket if it is long. With it come that socket, stdin, stdout
    and stderr. One that is held waits for a word on ``status`` before its command begins. ``records`` leads to the
    companion where there is a single id, which knows the run by its ``number``. ``group`` is entered first.
    ``beside`` is a process (a pidfd) whose namespaces are entered instead of new ones.
    """
    meta_path.clear()  # a module that is not imported by now would be the container's
    try:
        known = Records(records, number) if records else None
        if beside is None:
            if group is not None:
                group.enter()
            stage = _stage(setting, profile)
            _become(stage, _job(status), status, known)
        else:
            _join(beside, profile, _job(status), status, known)
    except BaseException as error:
        status.send(wire.dump({"error": wire.encode_error(error)}))
    finally:  # a copy of the resident process must never return to its loop
        os._exit(125)


@dataclass(frozen=True, slots=True)
class _Job:
    rootfs: Rootfs
    process: Process
    held: bool
    fds: list[int]


def _begin(profile: Profile) -> int:
    """Live no longer than the parent, lead a session, and tell the namespaces that the process shall have."""
    sys.prctl(sys.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    flags = sys.CLONE_NEWNS | sys.CLONE_NEWIPC | sys.CLONE_NEWUTS
    return flags | (sys.CLONE_NEWNET if profile.network != "host" else 0)


def _stage(setting: Setting, profile: Profile) -> Stage:
    flags = _begin(profile)
    try:
        sys.unshare(flags | sys.CLONE_NEWCGROUP)
    except OSError:
        sys.unshare(flags)
    sys.make_private()
    if profile.network != "host":
        sys.set_loopback_up()
    stage = Stage(setting, profile)
    stage.build()
    bound(profile.capabilities)
    sys.join_new_session_keyring()
    # A job read in advance: its pages of memory are this process's own when the true one comes.
    wire.process_from_json(wire.load(wire.dump(Process(()))))
    return stage


def _job(status: Status) -> _Job:
    data, fds = status.receive()
    if not data:
        os._exit(0)  # nothing to do any more
    _, _, payload = data.partition(b"\n")
    with socket.socket(fileno=fds[0]) as client:
        while not payload.endswith(b"\n"):
            piece = client.recv(1 << 20)
            if not piece:
                os._exit(0)
            payload += piece
    job = wire.load(payload)
    rootfs, process = wire.rootfs_from_json(job["rootfs"]), wire.process_from_json(job["process"])
    return _Job(rootfs, process, job.get("held", False), fds[1:])


def _become(stage: Stage, job: _Job, status: Status, records: Records | None) -> None:
    setting, rootfs, process = stage.setting, job.rootfs, job.process
    if process.hostname:
        sys.sethostname(process.hostname)
    surroundings = Surroundings(setting, process)
    surroundings.collect()
    root = stage.place("root")
    lowers = (Path(setting.base, MOUNT_POINTS), *rootfs.lowers) if rootfs.lowers else ()
    mount_rootfs(Rootfs(lowers, rootfs.upper), root, setting.base)
    # Afterwards the old root lies over the new one, where no path reaches it.
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(root)
    sys.pivot_root(".", ".")
    os.chdir("/")

    stubs = Stubs(os.stat("/").st_dev)
    stage.move_in(old, stubs, process.shm_size)
    surroundings.attach(stubs)
    os.fchdir(old)
    sys.umount(".", sys.MNT_DETACH)
    os.close(old)
    os.chdir("/")
    identity = users.lookup(process.user, additional=process.groups)
    made = _enter_directory(process.cwd)
    if process.readonly_root:
        sys.mount_setattr("/", sys.MOUNT_ATTR_RDONLY)
    made_for_us = stubs.list()
    not_theirs = [*made, *(stub.path for stub in made_for_us), "/proc", "/sys", "/dev"]
    theirs = {"owner": [identity.uid, identity.gid], "except": not_theirs}
    _wait_until_released(status, job, made_for_us, theirs)
    if job.held:
        with contextlib.suppress(OSError):  # the control groups that it was put into are the top of what it sees
            sys.unshare(sys.CLONE_NEWCGROUP)
    if records is not None and identity.uid and setting.overlay:
        records.tell({**theirs, **wire.to_json(rootfs)})
    _run(job, identity, status, records, stage.profile.capabilities, console=True)


def _join(beside: int, profile: Profile, job: _Job, status: Status, records: Records | None) -> None:
    """Become one more process beside another one; the pid namespace is that of this process already."""
    flags = _begin(profile)
    try:
        sys.setns(beside, flags | sys.CLONE_NEWCGROUP)
    except PermissionError:  # the cgroup namespace is that of the host
        sys.setns(beside, flags)
    os.close(beside)
    bound(profile.capabilities)
    sys.join_new_session_keyring()
    identity = users.lookup(job.process.user, additional=job.process.groups)
    try:
        os.chdir(job.process.cwd)
    except OSError as error:
        raise SandboxError(f"working directory {job.process.cwd}: {error.strerror}") from error
    _wait_until_released(status, job, ())
    _run(job, identity, status, records, profile.capabilities, console=False)


def _wait_until_released(
    status: Status, job: _Job, stubs: Sequence[Stub], theirs: dict[str, Any] | None = None
) -> None:
    """Say that all is in its place, and who this process is; one that is held waits until it may go on."""
    process = os.pidfd_open(os.getpid())
    message = {"process": True, "held": job.held, "stubs": stubs, **(theirs or {})}
    status.send(wire.dump(message), [process])
    os.close(process)
    if job.held and not status.receive()[0]:
        os._exit(125)


def _run(
    job: _Job, identity: users.Identity, status: Status, records: Records | None, keep: int, *, console: bool
) -> NoReturn:
    """Streams, limits, privileges, exec."""
    process, fds = job.process, job.fds
    environment = dict(process.env)
    environment.setdefault("HOME", identity.home)
    if process.tty:
        fds = _terminal(status, identity, process.window, console)
    for number, fd in enumerate(fds):
        os.dup2(fd, number, inheritable=True)
    sys.close_all_but({0, 1, 2, status.fd, *([records.fd] if records else [])})
    limit(process, others=0 if records is not None or _is_mapped() else None)
    upper = str(job.rootfs.upper) if job.rootfs.upper else None
    drop_privileges(process, identity, records, upper, keep)
    if process.init:
        _fork_below_init(status)
    _execute(process.args, environment, status)


def _terminal(status: Status, identity: users.Identity, window: tuple[int, int], console: bool) -> list[int]:
    """A terminal of the root's /dev/pts as the controlling one; its other side goes out through ``status``."""
    master, slave = os.openpty()
    if any(window):
        termios.tcsetwinsize(slave, window)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    try:
        os.fchown(slave, identity.uid, -1)
    except OSError:
        pass  # the single id mode has no other
    if console:
        os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        sys.mount(os.ttyname(slave), "/dev/console", "", sys.MS_BIND)
    status.send(wire.dump({"terminal": True}), [master])
    os.close(master)
    return [slave, slave, slave]


def _enter_directory(path: str) -> list[str]:
    """The working directory, made as far as it is missing; this one stays in the layer. Gives what was made."""
    try:
        os.chdir(path)
        return []
    except FileNotFoundError:
        made = []
        place = "/"
        for part in path.strip("/").split("/"):
            place = os.path.join(place, part)
            if not os.path.isdir(place):
                os.mkdir(place, 0o755)
                made.append(os.path.realpath(place))
        os.chdir(path)
        return made
    except OSError as error:
        raise SandboxError(f"working directory {path}: {error.strerror}") from error


def _is_mapped() -> bool:
    """Whether this is root of a user namespace of its own, in which processes are counted apart."""
    table = os.open("/proc/self/uid_map", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(table, 4096).split()[2]) != _ALL_IDS
    finally:
        os.close(table)


def limit(process: Process, *, others: int | None = 0) -> None:
    """Set the limits of a process, and a bound of how many it becomes, unless ``others`` (see limit_tasks) is None."""
    if others is not None and not any(limit.name == "nproc" for limit in process.ulimits):
        limit_tasks(others)
    for limit in process.ulimits:
        kind = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        if kind is None:
            raise SandboxError(f"invalid ulimit type: {limit.name}")
        try:
            resource.setrlimit(kind, (limit.soft, limit.hard))
        except (ValueError, OSError) as error:
            raise SandboxError(f"the ulimit {limit.name}={limit.soft}:{limit.hard} was refused: {error}") from error


def _rename(name: str) -> None:
    """Show this name as the command line; that of the resident process and its environment are the host's business."""
    import ctypes

    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    sys.set_name(name)
    for first, text in ((45, name.encode()), (47, b"")):
        start, end = int(fields[first]), int(fields[first + 1])
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, min(len(text), end - start - 1))


def _fork_below_init(status: Status) -> None:
    """Go on in a child; this process passes signals on, reaps what loses its parent, and ends as the child does.

    Nobody looks into this one, which stays a copy of the resident process: who asks for the process gets the child.
    """
    # Before the fork: the child may look at its parent at once, and signals may come at once.
    _rename("docker-init")
    passed = set(signal.Signals) - {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU}
    waited = passed | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if os.isatty(0):
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        return
    process = os.pidfd_open(child)
    status.send(wire.dump({"process": True, "held": False}), [process])
    sys.close_all_but(set())
    while True:
        while True:
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(ended)
                os._exit(128 - code if code < 0 else code)
            if pid == 0:
                break
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass


def _execute(args: tuple[str, ...], environment: dict[str, str], status: Status) -> NoReturn:
    """Find the command as Docker's runtime does and become it."""
    try:
        path = find_command(args, environment)
        try:
            os.execve(path, args, environment)
        except OSError as error:
            raise not_executed(path, error) from None
    except CannotRunError as problem:
        status.send(wire.dump({"refused": problem.message}))
        os.write(2, problem.message.encode("utf-8", "surrogateescape") + b"\n")
        os._exit(problem.code)
