"""The client's side of one process in the sandbox: its streams, its terminal, its signals, its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable, Mapping

from dockermagic.errors import BuildInterruptedError, SandboxError
from dockermagic.sandbox import packets, wire
from dockermagic.sandbox.base import Cancel, Output
from dockermagic.sandbox.terminal import Terminal
from dockermagic.sandbox.worker import result, wait_for_end
from dockermagic.values import dataclass

__all__ = ["NO_HOOKS", "Hooks", "Running", "Send", "pid_of"]

_PIECE = 1 << 18
Send = Callable[[Mapping[str, int]], socket.socket]
"""Asks for the process with these descriptors (stdin, stdout, stderr) and gives the socket on which it is spoken of."""


def _nothing(value: object = None) -> None:
    """No one wants to know."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a client wants to be told, in the thread that waits.

    ``prepare`` gets a pidfd of the process before its command begins, and the command waits for its end: networks and
    control groups are set up there. It is called only where the process was asked to be held. ``began`` is called when
    the command runs, ``opened`` with our side of its terminal.
    """

    prepare: Callable[[int], None] | None = None
    began: Callable[[], None] = _nothing
    opened: Callable[[int], None] = _nothing


NO_HOOKS = Hooks()


def pid_of(process: int) -> int:
    """The process id behind a pidfd as it is called here; -1 after its end."""
    with open(f"/proc/self/fdinfo/{process}", encoding="ascii") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)


_MASKS = ("Cgt", "Blk", "Ign")


def _status(process: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid_of(process)}/status", encoding="utf-8", errors="replace") as lines:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    except OSError:
        return {}


def _through_pipe(source: int) -> int:
    """What reads a descriptor, and is nothing but a pipe.

    Through that of a file a process could open it anew, for writing; through that of a terminal it could steer it.
    """
    if stat.S_ISFIFO(os.fstat(source).st_mode):
        return os.dup(source)
    read, write = os.pipe()
    threading.Thread(target=_feed, args=(os.dup(source), write), name="dockermagic-stdin", daemon=True).start()
    return read


def _feed(source: int, target: int) -> None:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(target, 0)  # what happens there is that it is read no more: the rest is somebody else's
    try:
        while target not in dict(poll.poll()) and (data := os.read(source, _PIECE)):
            while data:
                data = data[os.write(target, data) :]
    except OSError:  # it reads no more; or that is how a terminal ends
        pass
    finally:
        os.close(source)
        os.close(target)


class Running:
    """One process. Exactly one thread calls :meth:`wait`, then :meth:`close`; the rest may be called from any.

    ``stdin`` is a descriptor that is read here, or None for end of file. ``output`` gets what comes, where
    somebody wants it. With ``tty`` there is a terminal that ``stdin`` is copied to, until ``keys`` are typed.
    """

    def __init__(
        self,
        send: Send,
        *,
        tty: bool = False,
        stdin: int | None = None,
        output: Output | None = None,
        cancel: Cancel | None = None,
        hooks: Hooks = NO_HOOKS,
        keys: bytes = b"",
    ) -> None:
        self.stdin = stdin
        self.keys = keys
        self.output = output
        self.cancel = cancel
        self.hooks = hooks
        self.terminal: Terminal | None = None
        self.process: int | None = None
        self.refused = ""
        self.streams: dict[int, int] = {}
        self.answer = b""
        self.begun = self.listens = False
        self.is_ours = True
        self._lock = threading.Lock()
        import fcntl

        given: dict[str, int] = {}
        try:
            given["stdin"] = os.open(os.devnull, os.O_RDONLY) if tty or stdin is None else _through_pipe(stdin)
            for stream, name in ((1, "stdout"), (2, "stderr")):
                if output is None or tty:
                    given[name] = os.open(os.devnull, os.O_WRONLY)
                else:
                    ours, given[name] = os.pipe()
                    with contextlib.suppress(OSError):  # a user has only so many pages for pipes
                        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIECE)
                    self.streams[ours] = stream
            self.control = send(given)
        except BaseException:
            for fd in self.streams:
                os.close(fd)
            raise
        finally:
            for fd in given.values():
                os.close(fd)
        self.unsubscribe = cancel.subscribe(self.stop) if cancel is not None else lambda: None

    def stop(self) -> None:
        """Have it killed with everything inside."""
        try:
            self.control.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def signal(self, number: int) -> bool:
        """Send a signal to the process; False where it has ended or has not begun."""
        with self._lock:
            if self.process is None:
                return False
            try:
                signal.pidfd_send_signal(self.process, number)
            except ProcessLookupError:
                return False
            return True

    def hears(self, number: int) -> bool:
        """Whether a signal would do anything: the first process of a namespace hears only what it has a handler for.

        That of ``--init`` is not the first: a signal without a handler ends it.
        """
        with self._lock:
            if self.process is None:
                return False
            masks = _status(self.process)
        caught, blocked, ignored = (int(masks.get(f"Sig{kind}", "0"), 16) >> (number - 1) & 1 for kind in _MASKS)
        if number in (signal.SIGKILL, signal.SIGSTOP) or caught or blocked:
            return True
        numbers = masks.get("NSpid", "").split()
        is_first = len(numbers) < 2 or numbers[-1] == "1"
        harmless = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
        return not (is_first or ignored or number in harmless)

    def duplicate(self) -> int | None:
        """A pidfd of the process for the caller to close; None before it is there and after its end."""
        with self._lock:
            return None if self.process is None else os.dup(self.process)

    def wait(self) -> int:
        """Pass the output on until every stream has ended and the answer is here; the exit code.

        What the process writes is passed on when it is known to have begun, or why not: who reads it can rely on that.
        Raises BuildInterruptedError if it was cancelled, SandboxError where it could not be started, and LetGoError
        when the terminal's ``keys`` were typed.
        """
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        control: int | None = self.control.fileno()
        while control is not None or self.streams:
            for fd, _ in poll.poll():
                if fd == control:
                    if not self._hear():
                        poll.unregister(fd)
                        control = None
                    if not self.listens and (self.begun or control is None):
                        self._listen(poll)
                elif fd in self.streams:
                    self._pass_on(fd, poll)
                elif self.terminal is not None:
                    self.terminal.feed(poll)
        if not self.answer:
            if self.cancel is not None and self.cancel.is_set():
                raise BuildInterruptedError("interrupted")
            raise SandboxError("the sandbox's process died", hint="It may have run out of memory.")
        found = result(wire.load(self.answer))
        self.refused = str(found.get("refused", ""))
        return int(found["exit_code"])

    def _listen(self, poll: select.poll) -> None:
        self.listens = True
        for fd in self.streams:
            poll.register(fd, select.POLLIN)
        if self.terminal is not None:
            self.terminal.listen(poll)

    def _hear(self) -> bool:
        """Take in what the supervisor says; False after the last of it."""
        try:
            piece, fds = packets.receive(self.control)
        except ConnectionResetError:
            piece, fds = b"", []
        *lines, self.answer = (self.answer + piece).split(b"\n")
        for number, line in enumerate(lines):
            message = wire.load(line)
            own = fds if number == len(lines) - 1 else []  # they come with the last line of a piece
            if "terminal" in message and own:
                self._open_terminal(own.pop())
            elif "process" in message and own:
                with self._lock:
                    if self.process is not None:  # what began it stood in its place
                        os.close(self.process)
                    self.process = own.pop()
                if message.get("held"):
                    self._prepare()
            elif "began" in message:
                self.begun = True
                self.hooks.began()
            else:
                self.answer = line
                return False
        for fd in fds:
            os.close(fd)
        return bool(piece)

    def _prepare(self) -> None:
        if self.hooks.prepare is not None and self.process is not None:
            self.hooks.prepare(self.process)
        try:
            self.control.sendall(b"go\n")
        except OSError:
            pass  # it was stopped meanwhile

    def _open_terminal(self, fd: int) -> None:
        self.terminal = Terminal(fd, self.stdin, self.keys)
        self.streams[fd] = 1
        self.hooks.opened(fd)

    def _pass_on(self, fd: int, poll: select.poll) -> None:
        try:
            data = os.read(fd, _PIECE)
        except OSError as error:
            import errno

            if error.errno != errno.EIO:  # that is how a terminal ends
                raise
            data = b""
        if data:
            if self.output is not None:
                self.output(self.streams[fd], data)
            return
        poll.unregister(fd)
        del self.streams[fd]
        if self.terminal is not None and fd == self.terminal.fd:
            self.terminal.stop(poll)
            self.terminal.fd = -1
        os.close(fd)

    def hand_over(self, take: Callable[[list[int]], None]) -> None:
        """Give it to somebody who spends its output and holds its socket: it goes on after :meth:`close`."""
        take([*self.streams, self.control.fileno()])
        self.is_ours = False

    def close(self) -> None:
        """Give everything back; a process that still runs (an interrupt came) is killed."""
        self.unsubscribe()
        if self.is_ours and not self.answer:
            self.stop()
            wait_for_end(self.control)
        self.control.close()
        for fd in self.streams:
            os.close(fd)
        with self._lock:
            if self.process is not None:
                os.close(self.process)
                self.process = None
