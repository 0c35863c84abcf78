"""What a sandbox is asked for, as frozen values, and the protocol that every sandbox keeps.

Nothing here touches the system: a :class:`Rootfs` describes an overlay, a :class:`Process` what runs in it. The values
travel to the resident process as JSON through :func:`to_json`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dockermagic.values import dataclass, field

if TYPE_CHECKING:
    import socket

    from dockermagic.sandbox.interpreters import Begun
    from dockermagic.sandbox.running import Hooks, Running

__all__ = ["Cancel", "Mount", "Output", "Process", "Rootfs", "Sandbox", "Subpath", "Ulimit", "parse_ulimit"]

_ULIMITS = (
    *("core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)

Output = Callable[[int, bytes], None]
"""Called with the stream (1 stdout, 2 stderr) and what was written to it, in order, from the thread that called
``run``.
"""


class Cancel:
    """A request to stop that wakes whoever waits for it. Setting it twice is harmless; it cannot be taken back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._set = False

    def set(self) -> None:
        """Ask everything that was given this value to stop. Safe from any thread and from a signal handler's thread."""
        with self._lock:
            if self._set:
                return
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Whether somebody asked to stop."""
        return self._set

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` once when it is set (at once, if it is already); the result unsubscribes."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return lambda: self._unsubscribe(callback)
        callback()
        return lambda: None

    def _unsubscribe(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


@dataclass(frozen=True, slots=True)
class Rootfs:
    """A stack of snapshot directories, bottom first, and the directory that takes the changes; read-only without one.

    Beside ``upper`` a directory ``work`` comes and goes, which overlayfs needs for itself.
    """

    lowers: tuple[Path, ...] = ()
    upper: Path | None = None


@dataclass(frozen=True, slots=True)
class Subpath:
    """A path inside another root filesystem; links in it are resolved inside that root."""

    rootfs: Rootfs
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Mount:
    """One more mount of a process. ``target`` is absolute, or relative to the working directory.

    - ``bind``: ``source`` is a path of the host or a :class:`Subpath`; with ``readonly`` false and a Subpath, what is
      written is thrown away.
    - ``tmpfs``: ``size`` in bytes (0: half of memory), ``mode``, ``uid`` and ``gid`` of its root; with ``noexec`` no
      program in it can be run.
    - ``file``: ``content`` as a file in memory, with ``mode``, ``uid`` and ``gid``: a secret.
    - ``socket``: ``source`` is a unix socket of the host, which gets ``uid`` and ``gid``.

    Mount points that do not exist are made for the time of the run and are not in the layer.
    """

    type: str
    target: str
    source: Path | Subpath | None = None
    readonly: bool = False
    size: int = 0
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    content: bytes = field(default=b"", repr=False)
    noexec: bool = False


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit by its Docker name (``nofile``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


def parse_ulimit(text: str) -> Ulimit:
    """``NAME=SOFT[:HARD]``; raises ValueError with Docker's reason."""
    match = re.fullmatch(r"([a-z]+)=(-?\d+)(?::(-?\d+))?", text)
    if not match:
        raise ValueError(f"invalid ulimit argument: {text}")
    if match[1] not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {match[1]}; there are {', '.join(_ULIMITS)}")
    soft, hard = int(match[2]), int(match[3] or match[2])
    if hard != -1 and (soft > hard or soft == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(match[1], soft, hard)


@dataclass(frozen=True, slots=True)
class Process:
    """What to run in a root filesystem, and with what around it.

    ``args`` is the exec form. ``env`` is all that the process sees; HOME comes from the user's entry in /etc/passwd
    where it is not set. ``user`` is ``name|uid[:group|gid]``, looked up inside the rootfs; empty is root. ``cwd``
    is made if missing, but for a process beside another one. ``network`` is ``host``, ``none`` or ``own``: one that is
    set up from outside before the command begins. ``window`` is the size of its terminal in rows and columns. With
    ``init`` its parent is a small first process that passes signals on and reaps. ``security`` ``insecure`` keeps every
    capability and no seccomp filter. ``stdin`` is a file descriptor; without it the process reads end of file.
    Its own /etc/hosts, /etc/hostname and /etc/resolv.conf can be written to with ``writable_hosts``.
    ``ports`` is a directory in which its ports stand where no namespace keeps them apart (:mod:`.moved_ports`).
    """

    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: str = "host"
    mounts: tuple[Mount, ...] = ()
    umask: int = 0o022
    tty: bool = False
    stdin: int | None = None
    security: str = "sandbox"
    shm_size: int = 64 << 20
    ulimits: tuple[Ulimit, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    readonly_root: bool = False
    writable_hosts: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    window: tuple[int, int] = (0, 0)
    init: bool = False
    ports: str = ""


class Sandbox(Protocol):
    """Where processes run. Every method may be called from many threads at once.

    ``mode`` is the name of a way (:mod:`.ways`), or ``recorded`` where nothing can be run (:mod:`.elsewhere`).
    """

    @property
    def mode(self) -> str:
        """The id mode, which is part of every snapshot's key."""
        ...

    def begin(self, begun: Begun | None = None) -> None:
        """Start what runs things, if none has ``begun``, and do not wait for it: there will be something to run."""
        ...

    def close(self) -> None:
        """End everything that runs in it. Idempotent."""
        ...

    def run(
        self, rootfs: Rootfs, process: Process, *, output: Output | None = None, cancel: Cancel | None = None
    ) -> int:
        """Run to the end and return the exit code, 128+n for signal n, 127 and 126 where the command could not be run.

        When it returns no process of it is left and nothing is mounted. Raises BuildInterruptedError if ``cancel`` was
        set, and SandboxError where the process could not be started for another reason than its command.
        """
        ...

    def start(
        self,
        rootfs: Rootfs,
        process: Process,
        *,
        output: Output | None = None,
        cancel: Cancel | None = None,
        hooks: Hooks | None = None,
    ) -> Running:
        """The same, begun: the caller waits for it, and may signal it meanwhile. With a hook ``prepare`` it is held."""
        ...

    def beside(
        self, running: int, rootfs: Rootfs, process: Process, fds: Mapping[str, int], *, held: bool = False
    ) -> socket.socket:
        """Run one more process in the namespaces of one that runs (a pidfd); ``rootfs`` is the one it was started with.

        Gives the socket that a :class:`dockermagic.sandbox.running.Running` speaks on, here or in another process. When
        its last holder closes it, the process is killed.
        """
        ...

    def call(
        self,
        function: str,
        *,
        mounts: Mapping[str, Rootfs] | None = None,
        fds: Mapping[str, int] | None = None,
        cancel: Cancel | None = None,
        output: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Run ``"dockermagic.module:function"`` beside the root filesystems; see
        :class:`dockermagic.sandbox.worker.Worker`.
        """
        ...
