"""A build without an engine: the events of one, at the pace that a test asks for. Imported by kernels of the tests."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

from dockermagic.errors import BuildInterruptedError, Place, RunFailedError
from dockermagic.events import Emit, Log, Status, Vertex
from dockermagic.notebook.display import BuildDisplay, ContainerDisplay
from dockermagic.view import Instruction, TreeEntry, TreeView

CELL = (
    Instruction(0, "FROM busybox", 2),
    Instruction(1, "RUN make\\\n  install", 3),
    Instruction(2, "ENV A=1", 5),
    Instruction(3, "RUN echo done", 6),
)


def events(emit: Emit, *, lines: int, pause: float, fail: bool, stop: threading.Event) -> None:
    began = time.time()
    emit(Vertex("base", "[1/3] FROM busybox", started=began, instruction=0))
    emit(Status("base", "sha256:" + "ab" * 32, "", 10, 20, began, began))
    emit(
        Vertex("base", "[1/3] FROM busybox", started=began, completed=time.time(), instruction=0, layer_size=4_260_000)
    )
    began = time.time()
    emit(Vertex("make", "[2/3] RUN make", started=began, instruction=1, reason="the command changed"))
    for number in range(lines):
        if stop.is_set():
            ended = time.time()
            emit(Vertex("make", "", started=began, completed=ended, instruction=1, error="interrupted"))
            raise BuildInterruptedError("interrupted", hint="Nothing of this step was kept.")
        emit(Log("make", 1, b"\x1b[32mline\x1b[0m %d\n" % number, time.time()))
        if pause:
            stop.wait(pause)
    error = 'process "/bin/sh -c make" did not complete successfully: exit code: 2' if fail else ""
    done = Vertex("make", "", started=began, completed=time.time(), instruction=1, error=error)
    emit(done if fail else replace(done, layer_size=38_214_000, added=312, modified=4, reason="the command changed"))
    if fail:
        place = Place(3, 4, 8, "RUN make", "cell [2]")
        raise RunFailedError(error, command="make", process_exit_code=2, log_tail=("no rule",), place=place)
    began = time.time()
    emit(Vertex("echo", "[3/3] RUN echo done", started=began, instruction=3))
    emit(Log("echo", 1, b"done\n", time.time()))
    emit(Vertex("echo", "", started=began, completed=time.time(), instruction=3, layer_size=0))


def build(lines: int = 3, pause: float = 0.0, fail: bool = False, label: str = "cell [2]") -> BuildDisplay:
    """A cell that is built and shown."""
    stop = threading.Event()
    with BuildDisplay(CELL, cell=label, stop=stop.set) as shown:
        events(shown.emit, lines=lines, pause=pause, fail=fail, stop=stop)
        files = tuple(TreeEntry(f"file-{number:03}", size=number, state="added") for number in range(2))
        shown.finish(replace(shown.view(), images=("demo",), tree=TreeView(files, added=2)))
    return shown


def container(lines: int = 3, pause: float = 0.0) -> int:
    """A container that runs and is shown."""
    stop = threading.Event()
    with ContainerDisplay("demo", ("sh", "-c", "echo"), stop=stop.set) as shown:
        for number in range(lines):
            if stop.is_set():
                shown.finish(137, stopped=True)
                return 137
            shown.output(1, b"out %d\n" % number)
            stop.wait(pause)
        shown.finish(3, seconds=1.25)
    return os.getpid()
