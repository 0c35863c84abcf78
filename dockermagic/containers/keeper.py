"""The process that runs a store's detached containers: one for all of them, there as long as there is one.

It is started by whoever first needs it and belongs to nobody: neither the end of a cell nor that of its kernel ends it.
It holds ``containers/.keeper``, the socket at which it is told what to run. If it dies, its containers die with it and
are seen as exited.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from dockermagic.containers.control import Door, Line, connect
from dockermagic.containers.shelf import Place, Shelf
from dockermagic.containers.supervisor import Supervisor
from dockermagic.errors import ContainerError, ContainerNotFoundError, DockermagicError
from dockermagic.oci import lock
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.interpreters import python

__all__ = ["delegate", "main"]

_OPEN_FILES = 65536
_REFUSED = {
    127: "The command was not found in the image: check its spelling.",
    126: "The file was found, but it cannot be executed: check its mode and its first line.",
}
_REMOVE = "dockermagic.containers.writable:remove"
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR")


def delegate(home: Path, mode: str, place: Place, held: int, *, attach: bool = False) -> tuple[Line, int | None]:
    """Have the keeper of the store at ``home`` run a container, and return when its process has begun.

    ``mode`` is that of the caller's sandbox, which made the layers.
    ``held`` is the descriptor that holds it. With ``attach`` the line has a byte whenever the log may have grown and
    ends with the container, and the descriptor is where its input goes. The caller closes both. Raises what kept it
    from being started.
    """
    for _attempt in range(5):
        with lock.hold(home / "containers" / ".keeper-lock"):
            line = _reach(home)
        try:
            line.send({"run": place.path.name, "mode": mode, "attach": attach}, [held])
            answer, fds = line.receive()
        except (BrokenPipeError, ConnectionResetError):
            answer, fds = {}, []
        except BaseException:
            line.channel.close()
            raise
        if answer.get("refused"):
            line.channel.close()
            raise ContainerError(answer["refused"], exit_code=answer["ended"], hint=_REFUSED.get(answer["ended"], ""))
        if answer:
            return line, fds[0] if fds else None
        line.channel.close()  # it was about to end: there was nothing left to run
    raise ContainerError("the process that runs detached containers ends as soon as it is started")


def _reach(home: Path) -> Line:
    socket = home / "containers" / ".keeper"
    try:
        return connect(socket)
    except OSError:
        pass
    read, write = os.pipe()
    try:
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("DOCKERMAGIC_")}
        with (home / "containers" / ".keeper-log").open("wb") as log:
            process = subprocess.Popen(
                [*python("dockermagic.containers.keeper"), str(home), str(write)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(write,),
                env={**environment, "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        os.close(write)
        write = -1
        ready = os.read(read, 1)
        process.wait()  # it has left a child behind
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)
    if not ready:
        said = (home / "containers" / ".keeper-log").read_text(errors="replace").strip().splitlines()
        raise ContainerError(
            "the process that runs detached containers could not be started", hint=said[-1] if said else ""
        )
    return connect(socket)


def main(home: str, ready: str) -> NoReturn:
    """Listen, and run what is asked for, until there is nothing left."""
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_open_files()
    threading.stack_size(256 << 10)
    keeper = Keeper(Path(home))
    with Door(keeper.root / ".keeper", keeper.answer):
        os.write(int(ready), b".")
        os.close(int(ready))
        keeper.wait()
    keeper.finish()
    sys.stdout.flush()
    os._exit(0)


def _raise_open_files() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Keeper:
    """The containers of this process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "containers"
        self._sandboxes: dict[str, Sandbox] = {}
        self._opening = threading.Lock()
        self._changed = threading.Condition()
        self._count = 0
        self._used = False

    def _sandbox(self, mode: str) -> Sandbox:
        from dockermagic.sandbox.namespaces import open_sandbox

        with self._opening:
            if mode not in self._sandboxes:
                self._sandboxes[mode] = open_sandbox(self.home, mode)
            return self._sandboxes[mode]

    def wait(self) -> None:
        """Return when there was something to run and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._used or self._count, timeout=10)
            self._changed.wait_for(lambda: not self._count)

    def finish(self) -> None:
        """What came while the door was closing is run to its end, too."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count)

    def answer(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        """Run a container; the line goes on to tell of its log where that is asked for."""
        with self._changed:
            self._count += 1
            self._used = True
        try:
            self._run(line, question, fds)
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def _run(self, line: Line, question: Mapping[str, Any], fds: list[int]) -> None:
        place = Place(self.root / question["run"])
        container = place.read()
        if container is None:
            raise ContainerNotFoundError(place.id[:12])
        sandbox = self._sandbox(question["mode"])
        shelf = Shelf(self.home, lambda path: sandbox.call(_REMOVE, path=str(path)))
        supervisor = Supervisor(shelf, place, container, sandbox)
        attach = bool(question.get("attach"))
        told = threading.Event()

        def began(running: object) -> None:
            if not told.is_set():
                told.set()
                supervisor.tell(line, attached=attach)
                if attach:
                    supervisor.follow(line.channel.dup())
                line.channel.close()

        try:
            held, fds[:] = fds[0], []
            state = supervisor.run(held=held, began=began)
        except DockermagicError as error:
            if not told.is_set():
                raise
            print(error, flush=True)
            return
        if not told.is_set():
            with contextlib.suppress(OSError):
                line.send({"ended": state.exit_code, "refused": state.error})
