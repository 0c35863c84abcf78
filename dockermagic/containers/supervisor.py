"""Runs one container, from its start to its end, and answers for it meanwhile.

A supervisor lives in the process that runs the container: that of a foreground run, or the keeper of the store's
detached ones. It writes the state, keeps the log, and listens at the container's control socket. Whoever is attached
reads the log: nobody who is slow holds the container up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dockermagic.containers.container import Container, State
from dockermagic.containers.control import Door, Line
from dockermagic.containers.health import watch_health
from dockermagic.containers.limits import enter_groups, out_of_memory
from dockermagic.containers.logs import Log
from dockermagic.containers.process import exec_process, process_of
from dockermagic.containers.request import ExecRequest
from dockermagic.containers.shelf import Place, Shelf, clear, decode
from dockermagic.errors import BuildInterruptedError, ContainerError, DockermagicError, SandboxError
from dockermagic.sandbox.base import Cancel, Output, Process, Rootfs, Sandbox
from dockermagic.sandbox.running import NO_HOOKS, Hooks, Running, pid_of
from dockermagic.sandbox.ways import WAYS
from dockermagic.values import replace

__all__ = ["Supervisor"]

_PATIENCE = 3.0
_SETTLED = 2.0
_LONGEST_PAUSE = 60.0
_OUT_OF_MEMORY = "a process was killed: the container used all of its --memory"


class Supervisor:
    """One container at work. :meth:`run` is called once; the rest may be called from any thread meanwhile."""

    def __init__(self, shelf: Shelf, place: Place, container: Container, sandbox: Sandbox) -> None:
        self.shelf = shelf
        self.place = place
        self.container = container
        self.sandbox = sandbox
        self.state = container.state
        self.interrupted = 0
        self.over = threading.Event()
        self._lock = threading.RLock()  # a signal's handler may interrupt the thread that has it
        self._running: Running | None = None
        self._input: int | None = None
        self._followers: list[socket.socket] = []
        self._restart = False
        self._stopped = False
        self._hurried = False
        self._leaving = False
        self._changed = threading.Condition(self._lock)
        self.once_over = threading.Event()
        self._began: Callable[[Running], None] = lambda running: None
        self._output: Output | None = None

    # -- its life ------------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        held: int,
        stdin: int | None = None,
        output: Output | None = None,
        cancel: Cancel | None = None,
        began: Callable[[Running], None] = lambda running: None,
    ) -> State:
        """Run it to its end, with as many restarts as its policy wants, and give its last state.

        ``held`` is the descriptor that holds the container's place; it is closed. ``cancel`` asks it to end, as
        :meth:`interrupt` does. ``began`` is called whenever its process has begun. Raises DockermagicError, with
        Docker's exit code, where the process could not be started; then, too, the state is written and one that does
        not stay is gone.
        """
        self._output, self._began = output, began
        unsubscribe = cancel.subscribe(lambda: self.interrupt(signal.SIGINT)) if cancel is not None else None
        try:
            self.place.say_code(held, None)
            with contextlib.closing(Log(self.place.path)) as self._log, Door(self.place.path / "control", self._answer):
                try:
                    self._again_and_again(stdin)
                finally:
                    try:
                        if not self.container.request.remove:
                            self.update()
                    finally:  # whoever waits for its end is told, whatever the disk says
                        self._leaving = True
                        self._wake()
            return self.state
        finally:
            if unsubscribe is not None:
                unsubscribe()
            self._leave()
            if self.state.exit_code is not None:
                self.place.say_code(held, self.state.exit_code)
            if self.container.request.remove:
                self.shelf.remove(self.place)
            os.close(held)
            self.over.set()

    def _again_and_again(self, stdin: int | None) -> None:
        pause = 0.1
        while True:
            started = time.monotonic()
            failure = self._once(stdin)
            if failure is not None and not self.state.restarts:
                raise failure
            asked = self._asked_again()
            if not asked and not self._goes_on():
                break
            self.update(status="restarting")  # never seen as ended: whoever wants to stop it must find it
            if asked:
                continue
            pause = 0.1 if time.monotonic() - started > 10 else min(pause * 2, _LONGEST_PAUSE)
            if self._rest(pause):
                break

    def _leave(self) -> None:
        with self._lock:
            followers, self._followers = self._followers, []
        for channel in followers:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
            channel.close()

    def _rest(self, seconds: float) -> bool:
        """Wait before the next start; whether it was stopped meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._hurried, seconds)
        if self._asked_again():
            return False
        if self._stopped:
            self.note(status="exited")
        return self._stopped

    def _asked_again(self) -> bool:
        """Whether somebody wants it started anew, whom this answers."""
        with self._lock:
            again, self._restart = self._restart, False
            self._stopped = self._stopped and not again
            return again

    def _goes_on(self) -> bool:
        """Whether its policy wants it started once more."""
        policy, most = self.container.request.restart, self.container.request.restart_max
        if self._stopped or policy == "no" or (policy == "on-failure" and not self.state.exit_code):
            return False
        if most and self.state.restarts >= most:
            return False
        self.note(restarts=self.state.restarts + 1)
        return True

    def _once(self, stdin: int | None) -> DockermagicError | None:
        """Run it once and note how it ended; what kept it from being started."""
        if self.once_over.is_set():  # who waits for the last end has the last event, however late it looks
            self.once_over = threading.Event()
        self._hurried = False
        self.note(started=time.time(), finished=None, exit_code=None, error="", pid=0, probes=(), failing=0)
        code, error = 137, ""
        failure: DockermagicError | None = None
        with contextlib.ExitStack() as stack:
            try:
                clear(self.sandbox, self.place)
                process, prepare = process_of(self, stack)
                source = stdin if stdin is not None else self._own_input(process, stack)
                process = replace(process, stdin=source)
                hooks = Hooks(prepare=prepare, began=self._has_begun, opened=self._opened)
                running = self.sandbox.start(self.rootfs, process, output=self._write, hooks=hooks)
                with self._lock:
                    self._running = running
                if self._stopped:
                    running.stop()
                try:
                    code = running.wait()
                    error = running.refused
                finally:
                    with self._lock:
                        self._running = None
                    running.close()
                if out_of_memory(self.state.groups):
                    self.note(out_of_memory=True, notes=(*self.state.notes, _OUT_OF_MEMORY))
            except BuildInterruptedError:
                pass
            except SandboxError as refused:
                if not self._stopped:  # else it was killed before it could say how it ended
                    failure = ContainerError(refused.message, place=refused.place, hint=refused.hint)
                    failure.__cause__ = refused
            except DockermagicError as refused:
                refused.exit_code = 125
                failure = refused
            finally:
                self.once_over.set()
                self._wake()
                code, error = (125, failure.message) if failure else (code, error)
                began = self.state.status == "running"
                ended = {"finished": time.time(), "exit_code": code, "pid": 0, "ports": (), "address": ""}
                health = "" if not self.state.health else "unhealthy"
                self.note(status="exited" if began or not error else "created", error=error, health=health, **ended)
        return failure

    @property
    def rootfs(self) -> Rootfs:
        """Its root filesystem."""
        return Rootfs(self.container.lowers, self.place.fs)

    def _own_input(self, process: Process, stack: contextlib.ExitStack) -> int | None:
        """A pipe that whoever attaches may write to; a terminal brings its own."""
        if process.tty or not self.container.request.open_stdin:
            return None
        read, write = os.pipe()
        self._input = write
        stack.callback(self._close_input)
        stack.callback(os.close, read)
        return read

    def _close_input(self) -> None:
        with self._lock:
            if self._input is not None:
                os.close(self._input)
                self._input = None

    def _opened(self, terminal: int) -> None:
        self._close_input()
        with self._lock:
            self._input = os.dup(terminal)

    def _has_begun(self) -> None:
        with self._lock:
            running = self._running
        assert running is not None
        assert running.process is not None
        self.update(status="running", pid=pid_of(running.process))
        self._wake()
        if (health := self.container.health) is not None:
            threading.Thread(target=watch_health, args=(self, health), name="dockermagic-health", daemon=True).start()
        self._began(running)

    def note(self, **changes: Any) -> None:
        """Change the state; it is written with the next :meth:`update`, since each costs the disk a flush."""
        with self._lock:
            self.state = replace(self.state, **changes)

    def update(self, **changes: Any) -> None:
        """Change the state and write it."""
        with self._lock:
            self.state = replace(self.state, **changes)
            self.place.write_state(self.state)

    # -- output --------------------------------------------------------------------------------------------------------

    def _write(self, stream: int, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk stops the log, not the container
            self._log.write(stream, data)
        if self._output is not None:
            self._output(stream, data)
        if self._followers:
            self._tell_followers()

    def _tell_followers(self) -> None:
        with self._lock:
            for channel in self._followers[:]:
                try:
                    channel.send(b".", socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass  # it has yet to look at what it was told before
                except OSError:
                    self._followers.remove(channel)
                    channel.close()

    def tell(self, line: Line, *, attached: bool, fds: Sequence[int] = ()) -> None:
        """Say that it runs; with descriptors, and that of its input for one who is attached."""
        with self._lock:
            given = os.dup(self._input) if attached and self._input is not None else None
        try:
            with contextlib.suppress(OSError):
                line.send({"running": True}, [*fds, *([given] if given is not None else [])])
        finally:
            if given is not None:
                os.close(given)

    def follow(self, channel: socket.socket) -> None:
        """Send a byte to a socket whenever the log may have grown, the first at once; it is closed at the end."""
        with self._lock:
            self._followers.append(channel)
        self._tell_followers()

    # -- its end -------------------------------------------------------------------------------------------------------

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Have it end as Ctrl-C does: that signal, its stop signal, SIGKILL. Each further call takes the next step."""
        if self.interrupted:
            self._wake(hurried=True)
            return
        self.interrupted = number
        steps: list[tuple[int, float]] = [(self.container.stop_signal, float(self.container.request.stop_timeout))]
        if number != signal.SIGTERM:
            steps.insert(0, (number, _PATIENCE))
        threading.Thread(target=self._end, args=(steps,), name="dockermagic-end", daemon=True).start()

    def _end(self, steps: Sequence[tuple[int, float]]) -> None:
        """Take the steps until it is over, and at last kill it. A signal that would do nothing costs no time."""
        with self._lock:
            self._stopped, over = True, self.once_over
        self._go_through(steps, over)

    def _go_through(self, steps: Sequence[tuple[int, float]], over: threading.Event) -> None:
        """Take the steps until the run that ``over`` is of has ended: what is started after it is not meant."""
        for number, seconds in steps:
            with self._lock:
                running = None if over.is_set() else self._running
            if running is None or not self._heard(running, number, seconds) or not running.signal(number):
                continue
            with self._changed:
                self._hurried = False
                self._changed.wait_for(lambda: over.is_set() or self._hurried, seconds if seconds >= 0 else None)
            if over.is_set():
                return
        self._wake(hurried=True)
        with self._lock:
            running = None if over.is_set() else self._running
        if running is not None and not running.signal(signal.SIGKILL):
            running.stop()

    def _heard(self, running: Running, number: int, seconds: float) -> bool:
        """Whether the process listens to a signal; a young one is given a moment to install its handler."""
        started = self.state.started or 0.0
        deadline = time.monotonic() + min(seconds if seconds >= 0 else _SETTLED, started + _SETTLED - time.time())
        while not (heard := running.hears(number)) and time.monotonic() < deadline:
            if self.once_over.wait(0.02) or self._hurried:
                break
        return heard

    def _wake(self, *, hurried: bool = False) -> None:
        """Have who waits for the end of a step look again."""
        with self._changed:
            self._hurried = self._hurried or hurried
            self._changed.notify_all()

    # -- the control socket --------------------------------------------------------------------------------------------

    def _answer(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        answers: dict[str, Callable[[Line, Mapping[str, Any], list[int]], None]] = {
            "files": self._files,
            "kill": self._kill,
            "stop": self._stop,
            "attach": self._attach,
            "follow": self._follow,
            "exec": self._exec,
            "hold": self._hold,
        }
        answers[question["do"]](line, question, fds)

    def pidfd(self) -> int:
        """A descriptor of the container's first process, for the caller to close. Raises ContainerError."""
        with self._lock:
            running = self._running
        process = running.duplicate() if running is not None else None
        if process is None:
            raise ContainerError(f"container {self.container.id} is not running", exit_code=1)
        return process

    def _files(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        """Call a function of :mod:`.files` on the container that runs."""
        name = str(question["function"])
        if not name.startswith("dockermagic.containers.files:"):
            raise ContainerError(f"not a function for files: {name}", exit_code=1)
        process = self.pidfd()
        try:
            given, mounts = dict(zip(question["names"], fds, strict=True)), {}
            if WAYS[self.sandbox.mode].namespaces:
                given["process"] = process
            else:
                mounts["root"] = self.rootfs
            line.send({"value": self.sandbox.call(name, fds=given, mounts=mounts, **question["arguments"])})
        finally:
            os.close(process)

    def _kill(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        number = int(question["signal"])
        with self._lock:  # what is started from here on sees that it is not to run
            over, running = self.once_over, self._running
            self._stopped = self._stopped or number in (signal.SIGKILL, self.container.stop_signal)
        if running is None or not running.signal(number):
            if self.state.status != "restarting":
                raise ContainerError(f"container {self.container.id} is not running", exit_code=1)
            if running is not None and self._stopped:  # it is about to begin
                running.stop()
            self._wake(hurried=self._stopped)
        if number == signal.SIGKILL:
            with self._changed:
                self._changed.wait_for(lambda: self._leaving or self.once_over is not over)
        line.send({"killed": True})

    def _stop(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        """Stop it, and with ``again`` start it anew; answered when it has ended, or begun again."""
        seconds, again = question.get("timeout"), bool(question.get("again"))
        with self._lock:  # both or neither: between them its run may end
            over, self._restart, self._stopped = self.once_over, again, True
        wanted = float(self.container.request.stop_timeout if seconds is None else seconds)
        self._go_through([(int(question.get("signal") or self.container.stop_signal), wanted)], over)
        over.wait()

        def is_begun() -> bool:
            return self.once_over is not over and (self.state.pid != 0 or self.once_over.is_set())

        if again:
            with self._changed:
                self._changed.wait_for(lambda: is_begun() or self._leaving)
        line.send({"stopped": True, "begun": is_begun()})

    def _attach(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        """Give the log from here on, and the input."""
        log = self._log.here()
        try:
            self.tell(line, attached=True, fds=[log])
        finally:
            os.close(log)
        self.follow(line.channel.dup())

    def _follow(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        self.tell(line, attached=False)
        self.follow(line.channel.dup())

    def _exec(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        process = exec_process(self, decode(ExecRequest, question["request"]))
        target = self.pidfd()
        try:
            if question.get("detached"):
                self._run_beside(target, process)
                line.send({"started": True})
                return
            names = dict(zip(("stdin", "stdout", "stderr"), fds, strict=True))
            held = bool(self.state.groups)
            with self.sandbox.beside(target, self.rootfs, process, names, held=held) as control:
                line.send({"started": True}, [control.fileno()])
        finally:
            os.close(target)

    def _hold(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        """Spend what an exec writes whose client has let go of it, and hold its socket: it would end with that."""
        line.send({"held": True})
        for fd in fds:
            with contextlib.suppress(OSError):  # that is how a terminal ends
                while os.read(fd, 1 << 16):
                    pass

    def _run_beside(self, target: int, process: Process) -> None:
        """One more process, which nobody waits for once it has begun; it ends with the container."""
        begun = threading.Event()
        running = self.beside(target, process, began=begun.set)
        refused: list[str] = []

        def run() -> None:
            try:
                running.wait()
                refused.append(running.refused)
            except DockermagicError as error:
                refused.append(error.message)
            finally:
                running.close()
                begun.set()

        threading.Thread(target=run, name="dockermagic-beside", daemon=True).start()
        begun.wait()
        if any(refused):
            raise ContainerError(refused[0], exit_code=1)

    def beside(
        self, target: int, process: Process, output: Output | None = None, began: Callable[[], None] = NO_HOOKS.began
    ) -> Running:
        """One more process in the namespaces of the container's own (a pidfd), which the caller waits for."""
        groups = self.state.groups

        def send(given: Mapping[str, int]) -> socket.socket:
            return self.sandbox.beside(target, self.rootfs, process, given, held=bool(groups))

        hooks = Hooks(prepare=(lambda begun: enter_groups(groups, begun)) if groups else None, began=began)
        return Running(send, tty=process.tty, output=output, hooks=hooks)
