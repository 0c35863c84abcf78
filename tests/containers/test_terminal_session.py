"""The terminal's protocol as a widget uses it: keys, size, acknowledgement, hanging up, exit code."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.containers import terminal
from dockermagic.containers.request import RunRequest
from dockermagic.containers.terminal import WINDOW
from dockermagic.engine import Engine

SECONDS = 60


class Screen:
    """What a session wrote, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen = b""
        self.codes: list[int] = []
        self.changed = threading.Condition()

    def show(self, data: bytes) -> None:
        with self.changed:
            self.seen += data
            self.changed.notify_all()

    def until(self, text: bytes) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.seen, SECONDS), self.seen[-2000:]
            self.seen = self.seen.partition(text)[2]

    def options(self) -> dict[str, Any]:
        return {"output": self.show, "ended": self.codes.append}


def test_keys_size_and_exit_code(engine: Engine) -> None:
    screen = Screen()
    session = engine.run_in_terminal(
        RunRequest("busybox", ("sh",), remove=True), **screen.options(), rows=30, columns=100
    )
    session.write(b"stty size\r")
    screen.until(b"30 100")
    session.resize(50, 120)
    session.write(b"stty size\r")
    screen.until(b"50 120")
    session.write(b"exit 7\r")

    assert session.wait(SECONDS) == 7
    assert screen.codes == [7]


def test_a_screen_that_does_not_acknowledge_holds_the_process_up(engine: Engine) -> None:
    """Not a byte more than the window comes before it is asked for, and none is lost."""
    screen, size = Screen(), 4 * WINDOW
    command = ("sh", "-c", f"stty -opost; head -c {size} /dev/zero | tr '\\0' x; exec cat")
    session = engine.run_in_terminal(RunRequest("busybox", command, remove=True), **screen.options())
    came = 0
    while came < size:
        with screen.changed:
            assert screen.changed.wait_for(lambda: screen.seen, SECONDS)
            new, screen.seen = len(screen.seen), b""
        came += new
        assert session._on_its_way <= WINDOW + (1 << 16)
        session.acknowledge(new)
    assert came == size

    session.close()
    assert session.wait(SECONDS) == 137


def test_hanging_up_ends_what_does_not_listen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    for trap, code, patience in (("'exit 5'", 5, SECONDS), ("''", 137, 0.2), ("'echo deaf'", 137, 0.2)):
        monkeypatch.setattr(terminal, "_PATIENCE", patience)
        command = ("sh", "-c", f"trap {trap} HUP; echo ready; while :; do sleep 0.1; done")
        session = engine.run_in_terminal(RunRequest("busybox", command, remove=True), **screen.options())
        screen.until(b"ready")
        session.write(b"typed\r")
        screen.until(b"typed")  # what is typed before it has begun waits until then
        session.close()
        assert session.wait(SECONDS) == code

    assert screen.codes == [5, 137, 137]
    assert engine.containers() == []


def test_an_error_is_written_to_the_screen(engine: Engine) -> None:
    screen = Screen()
    session = engine.run_in_terminal(RunRequest("nosuch", ("sh",), pull="never"), **screen.options())

    assert session.wait(SECONDS) == 125
    screen.until(b"No such image: nosuch\r\n")


def test_a_shell_on_layers_changes_nothing(engine: Engine) -> None:
    """The shell sees the stage's environment and files; what it writes is gone with it."""
    built = engine.build(BuildRequest("FROM busybox\nENV COLOUR=blue\nRUN echo in > /file\n"))
    stage = built.stages[built.target]
    for _ in range(2):
        screen = Screen()
        session = engine.shell(stage.snapshots, stage.config["config"], ("sh",), **screen.options())
        session.write(b"cat /file; echo $COLOUR; ls /mine; echo > /mine; exit 3\r")
        screen.until(b"in\r\nblue\r\n")
        screen.until(b"/mine: No such file")
        assert session.wait(SECONDS) == 3
