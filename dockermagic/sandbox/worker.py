"""The client's side of the resident process: start it, send requests from any thread, stop them, close it.

A request carries its own socket, so answers need no dispatcher: each caller waits on its own. The resident process is
started when it is first needed and again if it died; :meth:`Worker.close` runs at the end of the interpreter.
"""

from __future__ import annotations

import atexit
import itertools
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from dockermagic.errors import BuildInterruptedError, SandboxError, SandboxUnavailableError
from dockermagic.sandbox import packets, wire
from dockermagic.sandbox.base import Cancel, Rootfs
from dockermagic.sandbox.interpreters import Begun, begin_resident
from dockermagic.sandbox.trees import make_mount_points

__all__ = ["Worker"]

# Requests up to this size travel in the packet that announces them.
_INLINE = 32 << 10
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class Worker:
    """One resident process for one store and one id mode. Thread-safe; the process belongs to this client alone.

    ``base`` is the directory of the snapshots, ``mount_point`` an empty directory on which root filesystems are mounted
    where nobody else sees it. Both are made if missing.
    """

    def __init__(self, mode: str, base: Path, mount_point: Path, *, fresh_proc: bool = True) -> None:
        self.mode = mode
        self.base = base
        self.mount_point = mount_point
        self.fresh_proc = fresh_proc
        self._lock = threading.Lock()
        self._begun: Begun | None = None
        self._ready = False
        self._numbers = itertools.count(1)
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """The process id of what was started, None before it was needed."""
        return None if self._begun is None else self._begun.pid

    def begin(self, begun: Begun | None = None) -> None:
        """Start the resident process if it does not run, and do not wait for it. What goes wrong, a request says.

        One that has ``begun`` already becomes that.
        """
        with self._lock:
            if self._begun is None:
                self._begun = self._start(begun)
            elif begun is not None:
                begun.close()

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
        """Run ``"dockermagic.module:function"`` in a child inside the namespaces and return its JSON value.

        ``mounts`` are mounted first, in the child's own mount namespace, and arrive as path arguments of the same
        names; ``fds`` arrive as ints and stay open here. With ``output`` the function gets an argument ``emit``,
        whose values ``output`` is called with here. Raises what the function raised, SandboxError if the child died,
        and BuildInterruptedError if ``cancel`` was set: then the child is dead.
        """
        with ExitStack() as stack:
            control, number = self.send(function, mounts=mounts, fds=fds, output=bool(output), arguments=arguments)
            stack.callback(control.close)
            if cancel is not None:
                stack.callback(cancel.subscribe(lambda: self._cancel(control, number)))
            buffer = bytearray()
            try:
                while True:
                    piece = control.recv(1 << 18)
                    if not piece:
                        if cancel is not None and cancel.is_set():
                            raise BuildInterruptedError("interrupted")
                        raise SandboxError("the sandbox's process died", hint="It may have run out of memory.")
                    buffer += piece
                    while (end := buffer.find(b"\n")) >= 0:
                        answer = wire.load(bytes(buffer[:end]))
                        del buffer[: end + 1]
                        if "output" in answer:
                            assert output is not None
                            output(answer["output"])
                            continue
                        return result(answer)
            except ConnectionResetError as error:
                raise SandboxError("the sandbox's process died") from error
            except BaseException:
                # A KeyboardInterrupt, or an error of ``output``: nobody waits for the child any more.
                self._cancel(control, number)
                wait_for_end(control)
                raise

    def send(
        self,
        function: str,
        *,
        mounts: Mapping[str, Rootfs] | None = None,
        fds: Mapping[str, int] | None = None,
        output: bool = False,
        run: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any],
    ) -> tuple[socket.socket, int]:
        """Send a request; the socket on which its answer comes, and its number. The caller closes the socket.

        Closing or shutting it down stops a ``run``. ``run`` has what the resident process itself must know of one.
        """
        given = dict(fds or {})
        payload = wire.dump(arguments)
        inline = len(payload) <= _INLINE
        number = next(self._numbers)
        head = {
            "id": number,
            "function": function,
            "fds": list(given),
            "mounts": dict(mounts or {}),
            "output": output,
            **(run or {}),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            packet = wire.dump(head)
            self._send(packet + payload if inline else packet, [theirs.fileno(), *given.values()])
            theirs.close()
            if not inline:
                ours.sendall(payload)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, number

    def _send(self, packet: bytes, fds: list[int]) -> None:
        with self._lock:
            for attempt in (1, 2):
                if self._begun is None:
                    self._begun = self._start()
                if not self._ready:
                    self._await(self._begun)
                try:
                    packets.send(self._begun.channel, packet, fds)
                    return
                except (BrokenPipeError, ConnectionResetError):
                    self._forget()
                    if attempt == 2:
                        raise SandboxError("the sandbox's process ends as soon as it is started") from None

    def _cancel(self, control: socket.socket, number: int) -> None:
        try:
            control.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        with self._lock:
            if self._begun is not None:
                try:
                    self._begun.channel.send(wire.dump({"cancel": number}))
                except OSError:
                    pass

    def _start(self, begun: Begun | None = None) -> Begun:
        if os.getpid() != self._owner:
            # A fork of the client starts its own: the parent's socket is not ours to use.
            self._begun, self._owner = None, os.getpid()
        make_mount_points(self.base)
        # Set-id programs and device nodes of images are for nobody outside.
        self.base.chmod(0o700)
        self.mount_point.mkdir(parents=True, exist_ok=True)
        begun = begun or begin_resident()
        settings = {
            "mode": self.mode,
            "base": str(self.base),
            "mount_point": str(self.mount_point),
            "fresh_proc": self.fresh_proc,
        }
        with suppress(BrokenPipeError, ConnectionResetError):  # who waits for it hears that it has ended
            begun.channel.send(wire.dump(settings))
        self._ready = False
        atexit.register(self.close)
        return begun

    def _await(self, begun: Begun) -> None:
        try:
            self._handshake(begun)
        except BaseException:
            self._forget()
            raise
        self._ready = True

    def _handshake(self, begun: Begun) -> None:
        if not select.select([begun.channel], [], [], _START_SECONDS)[0]:
            raise SandboxUnavailableError("the sandbox's process does not start")
        data, _ = packets.receive(begun.channel)
        if not data:
            raise SandboxUnavailableError("the sandbox's process ended at its start", hint=begun.last_words())
        message = wire.load(data)
        if "error" in message:
            raise wire.decode_error(message["error"])

    def _forget(self) -> None:
        if self._begun is not None:
            self._begun.close()
            self._begun = None
        atexit.unregister(self.close)

    def close(self) -> None:
        """End the resident process and everything it runs. Idempotent; the next request starts a new one."""
        with self._lock:
            if os.getpid() == self._owner:
                self._forget()


def wait_for_end(control: socket.socket) -> None:
    """Wait, not for ever, until nothing of a stopped request is left to touch its files."""
    control.settimeout(_STOP_SECONDS)
    try:
        while control.recv(1 << 16):
            pass
    except OSError:
        pass


def result(answer: dict[str, Any]) -> Any:
    """The value of an answer, or its error raised."""
    if "error" in answer:
        raise wire.decode_error(answer["error"])
    return answer["result"]
