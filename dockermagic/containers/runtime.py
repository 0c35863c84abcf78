"""What can be asked of the containers of a store: to run, to end, to be looked at, to go."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dockermagic.containers import control, logs
from dockermagic.containers.container import Container, ContainerResult, Usage
from dockermagic.containers.limits import enter_groups
from dockermagic.containers.processes import pids, usage
from dockermagic.containers.request import ExecRequest, RunRequest
from dockermagic.containers.shelf import Place, Shelf, clear
from dockermagic.errors import ContainerError, ContainerNotFoundError, SandboxError
from dockermagic.oci import disk
from dockermagic.oci.rooted import remove_tree
from dockermagic.sandbox.base import Cancel, Output, Rootfs, Sandbox
from dockermagic.sandbox.running import Hooks, Running
from dockermagic.sandbox.terminal import LetGoError, Terminal
from dockermagic.sandbox.ways import WAYS
from dockermagic.values import replace

__all__ = ["Containers"]

Began = Callable[[Running], None]


_MOMENT = 0.01
_LEAVING = 10.0
_NOT_BEGUN = 126


def _nothing(value: object) -> None:
    """Nobody wants to know."""


class Containers:
    """The containers of one store. Safe for many processes at once."""

    def __init__(self, shelf: Shelf, sandbox: Sandbox) -> None:
        self.home = shelf.home
        self.sandbox = sandbox
        self.shelf = shelf
        self.volumes = shelf.volumes

    def delete(self, path: Path) -> None:
        """Delete a directory of a container or a volume, whoever its files belong to."""
        try:
            above = disk.open(path.parent, os.O_RDONLY)
            try:
                remove_tree(path.name, above)
            finally:
                disk.close(above)
        except OSError:  # it has files of other ids, or somebody else removes it, too
            self.sandbox.call("dockermagic.containers.writable:remove", path=str(path))

    # -- running -------------------------------------------------------------------------------------------------------

    def run(
        self,
        request: RunRequest,
        config: Mapping[str, Any],
        lowers: tuple[Path, ...],
        *,
        image_id: str = "",
        output: Output,
        cancel: Cancel | None = None,
        began: Began = _nothing,
    ) -> ContainerResult:
        """Run a container to its end. ``config`` is the image's ``config`` object, ``lowers`` its layers, bottom first.

        ``cancel`` has it end as Ctrl-C does, and so does an interrupt of this process while this call runs in its main
        thread. Raises ContainerError, with Docker's exit code, for what cannot be done.
        """
        from dockermagic.containers.supervisor import Supervisor

        place, container, held = self.shelf.create(request, config, lowers, image_id)
        supervisor = Supervisor(self.shelf, place, container, self.sandbox)
        with _signals_to(supervisor.interrupt):
            state = supervisor.run(held=held, stdin=request.stdin, output=output, cancel=cancel, began=began)
        code = state.exit_code if state.exit_code is not None else 137
        seconds = (state.finished or 0.0) - (state.started or 0.0)
        identity = "" if request.remove else container.id
        return ContainerResult(code, identity, container.name, seconds, supervisor.interrupted, state.notes)

    def create(
        self, request: RunRequest, config: Mapping[str, Any], lowers: tuple[Path, ...], *, image_id: str = ""
    ) -> str:
        """Make a container that is not started, and return its id."""
        place, container, held = self.shelf.create(request, config, lowers, image_id)
        try:
            place.waits.touch()
        finally:
            os.close(held)
        return container.id

    def detach(
        self, request: RunRequest, config: Mapping[str, Any], lowers: tuple[Path, ...], *, image_id: str = ""
    ) -> str:
        """Run a container that outlives this process, and return its id when its process has begun."""
        from dockermagic.containers.keeper import delegate

        place, container, held = self.shelf.create(request, config, lowers, image_id)
        try:
            line, _ = delegate(self.home, self.sandbox.mode, place, held)
            line.channel.close()
        finally:
            os.close(held)
        return container.id

    def start(self, name: str) -> None:
        """Start a container that does not run; nothing happens to one that does."""
        if (begun := self._start(self._find(name)[0])) is not None:
            begun[0].channel.close()

    def _start(self, place: Place, reader: logs.Reader | None = None) -> tuple[control.Line, int | None] | None:
        """Start a container: what keeper.delegate gives; None where it runs. Of several who want to, one starts it.

        ``reader`` will read what it writes from its start on.
        """
        from dockermagic.containers.keeper import delegate

        with place.unchanged() as container:
            while not container.is_running:
                held = place.try_to_hold()
                if held is None:  # it is about to begin, or has just ended
                    time.sleep(_MOMENT)
                    _, container = self._find(container.id)
                    continue
                try:
                    place.waits.unlink(missing_ok=True)
                    if reader is not None:
                        reader.skip()
                    return delegate(self.home, self.sandbox.mode, place, held, attach=reader is not None)
                finally:
                    os.close(held)
        return None

    def attach(
        self,
        name: str,
        *,
        output: Output,
        stdin: int | None = None,
        start: bool = False,
        keys: bytes = b"",
        passes_signals: bool = True,
        opened: Callable[[Terminal], None] = _nothing,
    ) -> int:
        """Show a container's output from now on until it ends, and return its exit code.

        What comes from ``stdin`` goes to it; ``opened`` is told of its terminal. With ``start`` it is started first.
        Signals are for the container, or without ``passes_signals`` for this process, which they end. Raises LetGoError
        when ``keys`` were typed at its terminal.
        """
        place, container = self._find(name)
        away = Cancel()
        with logs.Reader(place.path) as reader, place.end() as ended:
            begun = self._start(place, reader) if start else None
            line, given = begun or self._attached(place, container, reader)
            at_terminal = given is not None and stdin is not None and container.request.tty
            ends = at_terminal or not passes_signals
            with line, _signals_to(_end_here if ends else partial(self._pass_on, name)):
                unsubscribe = away.subscribe(lambda: line.channel.shutdown(2))
                try:
                    if given is not None and stdin is not None:
                        terminal = Terminal(given, stdin, keys) if container.request.tty else None
                        if terminal is not None:
                            opened(terminal)
                        copying = (stdin, given, terminal, away)
                        threading.Thread(target=_copy, args=copying, daemon=True).start()
                    elif given is not None:
                        os.close(given)
                    for piece in reader.coming(lambda: bool(line.bytes())):
                        output(piece.stream, piece.data)
                finally:
                    unsubscribe()
            if away.is_set():
                raise LetGoError
            return self._code(place, ended)

    def _attached(self, place: Place, container: Container, reader: logs.Reader) -> tuple[control.Line, int | None]:
        """The line and the input of a container that runs; ``reader`` reads what it writes from now on."""
        if (place.read() or container).status != "running":
            raise ContainerError("You cannot attach to a stopped container, start it first", exit_code=1)
        line, _, fds = control.ask(place.path / "control", {"do": "attach"})
        reader.start_at(fds.pop(0))
        return line, fds[0] if fds else None

    def _code(self, place: Place, ended: Callable[[], int | None] | None = None) -> int:
        if (code := (ended or place.wait)()) is not None:
            return code
        found = place.read()
        return 137 if found is None else found.state.exit_code or 0

    def execute(
        self,
        name: str,
        request: ExecRequest,
        *,
        output: Output | None,
        cancel: Cancel | None = None,
        began: Began = _nothing,
        keys: bytes = b"",
    ) -> int:
        """Run one more command in a container, and return its exit code.

        It is 126 for a command that cannot be started, whatever the reason, and the error says so for one whose user or
        directory is not there. Raises LetGoError when ``keys`` were typed at its terminal; then it goes on.
        """
        place, container = self._find(name)
        self._must_run(container)

        def send(given: Mapping[str, int]) -> Any:
            import socket

            question = {"do": "exec", "request": replace(request, stdin=None)}
            line, _, fds = control.ask(place.path / "control", question, list(given.values()))
            line.channel.close()
            return socket.socket(fileno=fds[0])

        groups = container.state.groups
        prepare = (lambda process: enter_groups(groups, process)) if groups else None
        hooks = Hooks(prepare=prepare, opened=lambda terminal: began(running))
        running = Running(
            send, tty=request.tty, stdin=request.stdin, output=output, cancel=cancel, hooks=hooks, keys=keys
        )
        try:
            code = running.wait()
        except LetGoError:
            running.hand_over(lambda fds: control.ask(place.path / "control", {"do": "hold"}, fds)[0].channel.close())
            raise
        except SandboxError as refused:
            raise ContainerError(refused.message, exit_code=_NOT_BEGUN, hint=refused.hint) from refused
        finally:
            running.close()
        return _NOT_BEGUN if running.refused else code

    def execute_detached(self, name: str, request: ExecRequest) -> None:
        """Start one more command in a container and let it run. Raises ContainerError where it cannot be started."""
        place, container = self._find(name)
        self._must_run(container)
        line, _, _ = control.ask(place.path / "control", {"do": "exec", "request": request, "detached": True})
        line.channel.close()

    # -- ending --------------------------------------------------------------------------------------------------------

    def stop(self, name: str, *, timeout: float | None = None, number: int = 0, again: bool = False) -> None:
        """Ask a container to end, and kill it if it does not within ``timeout`` seconds (its own; -1: wait for ever).

        With ``again`` it is started anew. One that does not run stays as it is, or is started.
        """
        place, container = self._find(name)
        begun = False
        if container.is_running:
            question = {"do": "stop", "timeout": timeout, "signal": number, "again": again}
            try:
                line, answer, _ = control.ask(place.path / "control", question)
                line.channel.close()
                begun = bool(answer.get("begun"))
            except ContainerError:
                if not place.is_over(_LEAVING):
                    raise
            if not again:
                place.wait()
        if again and not begun:  # it had ended by itself, and nobody was there to start it anew
            self.start(name)

    def _pass_on(self, name: str, number: int) -> None:
        """A signal that came while a container was shown; one that pauses between two runs does not hear it."""
        with contextlib.suppress(ContainerError):
            self.kill(name, number)

    def kill(self, name: str, number: int = 9) -> None:
        """Send a signal to the first process of a container that runs."""
        place, container = self._find(name)
        if container.status != "restarting":  # that ends its pause
            self._must_run(container, "cannot kill container")
        line, _, _ = control.ask(place.path / "control", {"do": "kill", "signal": number})
        line.channel.close()
        if number == signal.SIGKILL and container.request.restart == "no":
            place.wait()

    def wait(self, name: str) -> int:
        """Return the exit code of a container when it does not run any more."""
        return self._code(self._find(name)[0])

    def remove(self, name: str, *, force: bool = False) -> str:
        """Delete a container with its anonymous volumes, and return its id.

        Raises ContainerError where there is none, where several begin like that, or while it runs unless ``force``.
        """
        place, _ = self._find(name)
        with place.unchanged() as container:
            if container.is_running:
                if not force:
                    raise ContainerError(
                        f'cannot remove container "/{container.name}": container is running: stop the container before '
                        "removing or force remove",
                        exit_code=1,
                    )
                with contextlib.suppress(ContainerError):
                    self.stop(container.id, timeout=0, number=signal.SIGKILL)
                place.wait()
            self.shelf.remove(place)
            return container.id

    # -- looking -------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Container:
        """A container by name, id or the beginning of its id. Raises ContainerError."""
        return self._find(name)[1]

    def _follow(self, place: Place, tail: int, by_line: bool) -> Iterator[logs.Piece]:
        """Ask to be told before anything is read: then nothing is missed."""
        try:
            line, _, _ = control.ask(place.path / "control", {"do": "follow"})
        except ContainerError:  # it has ended meanwhile
            yield from logs.read(place.path, tail=tail, by_line=by_line)
            return
        with line:
            yield from logs.read(place.path, tail=tail, by_line=by_line, more=lambda: bool(line.bytes()))

    def logs(self, name: str, *, follow: bool = False, tail: int = -1, by_line: bool = False) -> Iterator[logs.Piece]:
        """What a container wrote, or its last lines; with ``follow`` also what it writes until it ends."""
        place, container = self._find(name)
        if not (follow and container.is_running):
            return logs.read(place.path, tail=tail, by_line=by_line)
        return self._follow(place, tail, by_line)

    def size(self, name: str) -> int:
        """The bytes of what a container changed."""
        return self.bytes_below(self._find(name)[0].fs)

    def bytes_below(self, path: Path) -> int:
        """The bytes of a directory, whoever its files belong to."""
        return int(self.sandbox.call("dockermagic.sandbox.trees:measure", path=str(path)))

    def rename(self, name: str, new: str) -> None:
        """Give a container another name."""
        self.shelf.rename(self._find(name)[0], new)

    # -- files and processes -------------------------------------------------------------------------------------------

    def processes(self, name: str) -> list[int]:
        """The processes of a container that runs, by their ids on the host."""
        _, container = self._find(name)
        self._must_run(container)
        return pids(container.state.pid)

    def usage(self, container: Container) -> Usage | None:
        """What its processes use now; None where it does not run."""
        state = container.state
        found = usage(state.pid, state.groups, state.network) if state.pid else Usage()
        return found if found.processes else None

    @contextlib.contextmanager
    def _layer(self, name: str) -> Iterator[tuple[str, list[str]]]:
        """What a container changed, as a layer, and those below it.

        Where no overlay can be mounted one that runs has it in its working tree, from which it is copied here.
        """
        import tempfile

        place, container = self._find(name)
        lowers, layer = list(map(str, container.lowers)), str(place.fs)
        if WAYS[self.sandbox.mode].overlay or container.status != "running":
            yield layer, lowers
            return
        with tempfile.TemporaryDirectory(dir=place.path, prefix="seen-") as folder:
            seen = f"{folder}/fs"
            try:
                function, mounts = (
                    "dockermagic.sandbox.worktree:copy_changes",
                    {"root": Rootfs(container.lowers, place.fs)},
                )
                self.sandbox.call(function, mounts=mounts, lowers=lowers, upper=layer, target=seen)
                yield seen, lowers
            finally:
                self.delete(Path(seen))

    def changes(self, name: str) -> list[dict[str, Any]]:
        """What a container changed: ``path`` and ``state`` (added, modified, removed), sorted by path."""
        with self._layer(name) as (layer, lowers):
            found = self.sandbox.call("dockermagic.oci.filetree:changes", layers=[*lowers, layer], base=len(lowers))
        paths: list[dict[str, Any]] = found["paths"]
        return paths

    def pack(self, name: str, out: int) -> dict[str, Any]:
        """Write what a container changed to ``out`` as a layer; what :func:`dockermagic.oci.pack.pack` says of it."""
        with self._layer(name) as (layer, lowers):
            done: dict[str, Any] = self.sandbox.call(
                "dockermagic.oci.pack:pack", fds={"out": out}, directory=layer, lowers=lowers, compression="gzip"
            )
        return done

    def _inside(self, function: str, name: str, fds: Mapping[str, int], **arguments: Any) -> Any:
        """Call a function of :mod:`.files` in a container's root, whether it runs or not."""
        place, container = self._find(name)
        whole = f"dockermagic.containers.files:{function}"
        if container.status == "running":
            # Its namespaces belong to those of its supervisor's sandbox: only from there can they be entered.
            question = {"do": "files", "function": whole, "arguments": arguments, "names": list(fds)}
            line, answer, _ = control.ask(place.path / "control", question, list(fds.values()))
            line.channel.close()
            return answer["value"]
        held = place.hold()
        try:
            clear(self.sandbox, place)
            mounts = {"root": Rootfs(container.lowers, place.fs)}
            return self.sandbox.call(whole, fds=fds, mounts=mounts, **arguments)
        finally:
            os.close(held)

    def export(self, name: str, path: str, out: int, *, follow: bool = False) -> dict[str, Any]:
        """Write a path of a container as a tar to ``out``; whether it is a ``directory``, and its ``name``."""
        found: dict[str, Any] = self._inside("export", name, {"out": out}, path=path, follow=follow)
        return found

    @staticmethod
    def unpack(stream: BinaryIO, folder: Path, name: str) -> None:
        """Make what :meth:`export` wrote at ``folder/name``, where '' is the folder itself."""
        from dockermagic.containers.copied import unpack

        unpack(stream, folder, name)

    def extract(self, name: str, path: str, source: int, *, rename: str = "", owners: bool = False) -> None:
        """Unpack a tar from ``source`` in a directory of a container."""
        self._inside("extract", name, {"source": source}, path=path, rename=rename, owners=owners)

    def look(self, name: str, path: str, *, follow: bool = True) -> tuple[str, str]:
        """What is at a path of a container: ``directory``, ``file``, ``link`` or ''; and where its links lead to."""
        found = self._inside("look", name, {}, path=path, follow=follow)
        return str(found["kind"]), str(found["path"])

    def _find(self, name: str) -> tuple[Place, Container]:
        place = self.shelf.find(name)
        container = place.read()
        if container is None:
            raise ContainerNotFoundError(name)
        return place, container

    def _must_run(self, container: Container, what: str = "") -> None:
        if container.status == "restarting":
            said = f"container {container.id} is restarting, wait until the container is running"
            raise ContainerError(said, exit_code=1)
        if container.status != "running":
            said = f"container {container.id} is not running"
            raise ContainerError(f"{what}: {container.name}: {said}" if what else said, exit_code=1)


def _end_here(number: int) -> None:
    """At a terminal the keys are the container's, a signal is for who shows it: a shell would not hear it."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _copy(source: int, target: int, terminal: Terminal | None, away: Cancel) -> None:
    """Hand input on until it or the process ends. The window of a terminal follows that of its source.

    ``away`` is set when the keys that let go of the terminal were typed.
    """
    try:
        while data := os.read(source, 1 << 14):
            if terminal is not None:
                terminal.resize()
                terminal.type(data)
                continue
            while data:
                data = data[os.write(target, data) :]
    except LetGoError:
        away.set()
    except OSError:
        pass
    finally:
        if terminal is not None:
            terminal.fd = -1
        os.close(target)


@contextlib.contextmanager
def _signals_to(heard: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to a container while the main thread waits for it; other threads hear no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda number, frame: heard(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
