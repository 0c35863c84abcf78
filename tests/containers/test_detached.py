"""Containers that outlive the command that started them: their state, their log, their end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dockermagic.containers import control
from dockermagic.containers.request import ExecRequest, RunRequest
from dockermagic.containers.supervisor import Supervisor
from dockermagic.engine import Engine
from tests.cli.conftest import Commands
from tests.cli.test_containers import read_until, terminal, wait_for

TALKER = "trap 'echo bye; exit 4' TERM; echo out; echo err >&2; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def status(commands: Commands, name: str) -> str:
    return commands("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Status}}").out.strip()


def until_logged(commands: Commands, name: str, text: str) -> None:
    """Follow the log until there is a line."""
    process = commands.start("logs", "-f", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(process, text.encode())
    process.kill()
    process.communicate()


def test_a_container_from_its_start_to_its_end(busybox: Commands) -> None:
    """run -d, ps, logs, stop, start, restart, kill, rm: each sees what the one before did."""
    identity = busybox("run", "-d", "--name", "web", "busybox", "sh", "-c", TALKER).out.strip()
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert re.search(r"web$", busybox("ps").out.splitlines()[1])
    assert status(busybox, "web").startswith("Up ")
    until_logged(busybox, "web", "err")
    logs = busybox("logs", "web")
    assert (logs.out, logs.err) == ("out\n", "err\n")

    assert busybox("rm", "web", code=1).err.startswith('ERROR: cannot remove container "/web": container is running')
    assert busybox("stop", "web").out == "web\n"
    assert status(busybox, "web").startswith("Exited (4)")
    assert busybox("logs", "--tail", "1", "web").out == "bye\n"
    assert busybox("wait", "web").out == "4\n"

    busybox("start", identity[:12])
    busybox("restart", "web")
    assert status(busybox, "web").startswith("Up ")
    busybox("kill", "web")
    assert status(busybox, "web").startswith("Exited (137)")
    busybox("rename", "web", "old")
    assert busybox("rm", "old").out == "old\n"
    assert busybox("ps", "-aq").out == ""


@pytest.mark.alike
def test_the_keeper_goes_with_its_last_container(busybox: Commands) -> None:
    """No process, no socket and no directory is left of a container that was run with --rm."""
    busybox("run", "-d", "--rm", "--name", "one", "busybox", "sleep", "1000")
    busybox("run", "-d", "--rm", "--name", "two", "busybox", "sleep", "1000")
    containers = busybox.home / "containers"
    assert (containers / ".keeper").is_socket()
    busybox("stop", "one", "two")
    with_deadline(lambda: not (containers / ".keeper").exists())

    assert list(containers.glob("[!.]*")) == []
    assert list((containers / ".names").iterdir()) == []


@pytest.mark.alike
def test_the_keeper_uses_the_sandbox_that_was_asked_for(busybox: Commands) -> None:
    """Layers belong to the sandbox that made them; one keeper has containers of several."""
    plain = "root-plain" if os.geteuid() == 0 else "single-plain"
    busybox("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    assert not (busybox.home / "snapshots/trees").exists()
    busybox("run", "-d", "--name", "two", "--sandbox", plain, "busybox", "sleep", "1000")
    assert (busybox.home / f"snapshots/trees/{plain}-0/used").exists()
    for name in ("one", "two"):
        assert busybox("exec", name, "echo", "here").out == "here\n"


def with_deadline(done: object) -> None:
    deadline = time.monotonic() + 60
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_whose_supervisor_was_killed_is_exited(busybox: Commands) -> None:
    """Its processes die with it, and it can be started again, unless it was to go at its end."""
    busybox("run", "-d", "--name", "orphan", "busybox", "sleep", "1000")
    busybox("run", "-d", "--name", "gone", "--rm", "busybox", "sleep", "1000")
    pid = _state(busybox)["pid"]
    keepers = [entry for entry in Path("/proc").glob("[0-9]*") if _is_keeper(entry, busybox.home)]
    assert len(keepers) == 1
    os.kill(int(keepers[0].name), signal.SIGKILL)
    with_deadline(lambda: not Path(f"/proc/{pid}").exists())

    assert status(busybox, "orphan").startswith("Exited (137)")
    busybox("start", "orphan")
    assert status(busybox, "orphan").startswith("Up ")
    assert busybox("ps", "-a", "--format", "{{.Names}}").out == "orphan\n"
    assert len(list((busybox.home / "containers").glob("rm-*"))) == 0


def _state(commands: Commands) -> dict[str, int]:
    (file,) = commands.home.glob("containers/[!r]*/state.json")
    found: dict[str, int] = json.loads(file.read_text())
    return found


def _is_keeper(entry: Path, home: Path) -> bool:
    try:
        command = (entry / "cmdline").read_bytes()
        return b"containers.keeper" in command and str(home).encode() in command
    except OSError:
        return False


@pytest.mark.alike
def test_a_command_that_is_not_there(busybox: Commands) -> None:
    done = busybox("run", "-d", "--name", "wrong", "busybox", "nosuch", code=127)

    assert 'exec: "nosuch": executable file not found in $PATH' in done.err
    assert status(busybox, "wrong") == "Created"
    assert busybox("run", "-d", "--rm", "busybox", "/etc/passwd", code=126).err


def test_stop_takes_the_signal_that_was_asked_for_and_then_kills(busybox: Commands) -> None:
    script = TALKER.replace("TERM", "USR1")
    busybox("run", "-d", "--name", "usr", "--stop-signal", "USR1", "busybox", "sh", "-c", script)
    busybox("run", "-d", "--name", "deaf", "busybox", "sh", "-c", DEAF)
    until_logged(busybox, "deaf", "ready")
    until_logged(busybox, "usr", "err")
    busybox("stop", "-t", "0", "deaf")
    busybox("stop", "usr")

    assert status(busybox, "usr").startswith("Exited (4)")
    assert status(busybox, "deaf").startswith("Exited (137)")


@pytest.mark.alike
def test_kill_with_a_signal_leaves_it_running(busybox: Commands) -> None:
    busybox(
        "run",
        "-d",
        "--name",
        "it",
        "busybox",
        "sh",
        "-c",
        "trap 'echo got' USR1; echo up; while :; do sleep 0.05; done",
    )
    until_logged(busybox, "it", "up")
    busybox("kill", "-s", "USR1", "it")
    until_logged(busybox, "it", "got")

    assert status(busybox, "it").startswith("Up ")


def test_exec_beside_a_container(busybox: Commands) -> None:
    """The same files, processes and name; its own environment, user, directory, streams and exit code."""
    busybox(
        "run", "-d", "--name", "box", "-e", "A=1", "--hostname", "here", "busybox", "sh", "-c", "echo x > /f; " + DEAF
    )
    until_logged(busybox, "box", "ready")
    script = "cat /f; echo $A $B $(hostname) $(pwd) $(id -u); grep -c trap /proc/1/cmdline; cat; echo e >&2; exit 9"
    done = busybox(
        "exec", "-i", "-e", "B=2", "-w", "/tmp", "-u", "33", "box", "sh", "-c", script, stdin=b"in\n", code=9
    )
    assert (done.out, done.err) == ("x\n1 2 here /tmp 33\n1\nin\n", "e\n")

    assert busybox("exec", "box", "nosuch", code=126).err.startswith('exec: "nosuch"')
    assert "directory /nosuch" in busybox("exec", "-w", "/nosuch", "box", "true", code=126).err
    assert "find user nobodyatall" in busybox("exec", "-u", "nobodyatall", "box", "true", code=126).err
    assert 'exec: "nosuch"' in busybox("exec", "-d", "box", "nosuch", code=1).err
    busybox("exec", "-d", "box", "sh", "-c", "echo detached > /d; exec sleep 1000")
    with_deadline(lambda: busybox("exec", "box", "cat", "/d", code=None).out == "detached\n")
    busybox("rm", "-f", "box")
    assert busybox("rm", "-f", "box").err == "No such container: box\n"
    assert "No such container: box" in busybox("exec", "box", "true", code=1).err


def test_exec_with_a_terminal(busybox: Commands) -> None:
    busybox("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    process, fd = terminal(busybox, "exec", "-it", "box", "sh")
    try:
        read_until(fd, b"# ")
        os.write(fd, b"tty && stty size; exit 3\n")
        assert b"30 100" in read_until(fd, b"30 100")
        assert process.wait(60) == 3
    finally:
        process.kill()
        os.close(fd)


def test_attach_shows_and_types(busybox: Commands) -> None:
    """start -ai and attach carry both directions, and end with the container's exit code."""
    busybox(
        "create",
        "-i",
        "--name",
        "cat",
        "busybox",
        "sh",
        "-c",
        "while read x; do echo got $x; [ $x = end ] && exit 6; done",
    )
    assert status(busybox, "cat") == "Created"
    assert busybox("start", "-ai", "cat", stdin=b"a\nend\n", code=6).out == "got a\ngot end\n"


def test_keys_let_go_of_a_terminal(busybox: Commands) -> None:
    """What was run, attached to or exec'ed goes on; a part of the keys is typed as anything else."""
    run = ("run", "-it", "--name", "tty", "busybox", "sh")
    exec_ = ("exec", "-it", "--detach-keys", "ctrl-x,x", "tty", "sh", "-c", "echo he''re; read x; exec sleep 1000")
    for words, seen, keys, code in (
        (run, b"# ", b"\x10\x11", 0),
        (exec_, b"here", b"\x18x", 1),
        (("attach", "tty"), b"ab", b"\x10\x11", 1),
    ):
        process, fd = terminal(busybox, *words)
        try:
            if words[0] == "attach":
                os.write(fd, b"echo a''b\x10\n")
            read_until(fd, seen)
            os.write(fd, keys)
            assert process.wait(60) == code
        finally:
            process.kill()
            os.close(fd)
    assert status(busybox, "tty").startswith("Up ")
    assert len(busybox("top", "tty", "-o", "pid").out.splitlines()) == 3
    busybox("rm", "-f", "tty")


@pytest.mark.plain
def test_a_container_that_runs_is_compared_and_committed(busybox: Commands) -> None:
    script = "echo 1 > /made; rm /etc/group; echo ready; exec sleep 1000"
    busybox("run", "-d", "--name", "busy", "busybox", "sh", "-c", script)
    until_logged(busybox, "busy", "ready")

    assert busybox("diff", "busy").out.splitlines() == ["C /etc", "D /etc/group", "A /made"]
    busybox("commit", "busy", "made")
    assert busybox("run", "--rm", "made", "sh", "-c", "cat /made; test -e /etc/group || echo gone").out == "1\ngone\n"
    assert status(busybox, "busy").startswith("Up ")
    busybox("rm", "-f", "busy")


@pytest.mark.alike
def test_who_waits_hears_the_exit_code_of_one_that_goes(busybox: Commands) -> None:
    script = "while [ ! -e /go ]; do echo here; sleep 0.05; done; echo bye; exit 3"
    busybox("run", "-d", "--rm", "--name", "gone", "busybox", "sh", "-c", script)
    watching = [busybox.start(*words, "gone", stdout=subprocess.PIPE) for words in (("attach",), ("logs", "-f"))]
    for process in watching:
        wait_for(process, b"here")
    busybox("exec", "gone", "touch", "/go")
    for process, code in zip(watching, (3, 0), strict=True):
        assert process.communicate(timeout=60)[0].endswith(b"bye\n")
        assert process.returncode == code


@pytest.mark.alike
def test_one_at_a_terminal_is_gone_before_all_is_shown(busybox: Commands) -> None:
    """A terminal that takes its time: everything comes, and the exit code is the container's."""
    process, fd = terminal(busybox, "run", "-it", "--rm", "busybox", "sh", "-c", "seq 20000; exit 3")
    try:
        read_until(fd, b"1\r\n")
        with_deadline(lambda: busybox("ps", "-aq").out == "")
        read_until(fd, b"\n20000\r\n")
        assert process.wait(60) == 3
    finally:
        process.kill()
        os.close(fd)


@pytest.mark.alike
def test_one_that_goes_at_its_end_stays_until_it_was_started(busybox: Commands) -> None:
    busybox("create", "--rm", "--name", "made", "busybox", "sh", "-c", "exit 3")
    busybox("run", "--rm", "busybox", "true")

    busybox("start", "-a", "made", code=3)
    assert busybox("ps", "-aq").out == ""


def test_a_signal_ends_who_shows_a_terminal(busybox: Commands) -> None:
    """A shell that is the first process of its namespace would not hear it."""
    process, fd = terminal(busybox, "run", "-it", "--name", "kept", "busybox", "sh")
    try:
        read_until(fd, b"# ")
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        os.close(fd)
    assert status(busybox, "kept").startswith("Up ")
    busybox("rm", "-f", "kept")


@pytest.mark.alike
def test_of_several_who_start_it_one_does(busybox: Commands) -> None:
    """The others find it running, and do not wait for its end."""
    busybox("create", "--name", "one", "busybox", "sh", "-c", "echo begun; exec sleep 1000")
    starting = [busybox.start("start", "one") for _ in range(4)]
    assert [process.wait(60) for process in starting] == [0] * 4
    until_logged(busybox, "one", "begun")
    assert busybox("logs", "one").out == "begun\n"


@pytest.mark.alike
def test_restart_policies(busybox: Commands) -> None:
    """on-failure counts; what ends well or is stopped is not started again."""
    busybox("run", "-d", "--name", "bad", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3")
    busybox("run", "-d", "--name", "good", "--restart", "on-failure", "busybox", "true")
    busybox("run", "-d", "--name", "ever", "--restart", "always", "busybox", "sh", "-c", "echo again")
    assert busybox("wait", "bad").out == "3\n"
    assert busybox("logs", "bad").out == "try\n" * 3
    busybox("wait", "good")
    until_logged(busybox, "ever", "again\nagain\n")
    busybox("stop", "ever")
    assert status(busybox, "ever").startswith("Exited (")


@pytest.mark.alike
@pytest.mark.parametrize("bad", [False, True], ids=["runs", "waits"])
def test_restart_returns_when_it_has_begun(engine: Engine, bad: bool) -> None:
    """Also where it had just failed and waited for its policy's next start."""
    line = "[ -e /twice ] && exec sleep 1000; [ -e /once ] && touch /twice; touch /once; exit 1"
    command = ("sh", "-c", line) if bad else ("sleep", "1000")
    containers = engine.running
    identity = engine.run_detached(RunRequest("busybox", command, restart="always" if bad else "no"))
    if bad:
        with_deadline(lambda: containers.get(identity).state.restarts == 2)
    containers.stop(identity, timeout=0, again=True)

    assert containers.get(identity).status == "running"
    assert containers.execute(identity, ExecRequest(("true",)), output=None) == 0


@pytest.mark.plain
def test_one_that_is_killed_while_it_is_started_anew(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would end it. Each of its runs begins once."""
    begun, killing, restarts = Supervisor._has_begun, list[threading.Thread](), list[int]()

    def late(supervisor: Supervisor) -> None:
        restarts.append(supervisor.state.restarts)
        if restarts[-1]:
            killing.append(threading.Thread(target=engine.running.kill, args=(supervisor.container.id,)))
            killing[-1].start()
            with_deadline(lambda: supervisor._stopped)
        begun(supervisor)

    monkeypatch.setattr(Supervisor, "_has_begun", late)
    command = ("sh", "-c", "[ -e /once ] && exec sleep 1000; touch /once; exit 1")
    result = engine.run(RunRequest("busybox", command, restart="always"), output=lambda stream, data: None)
    assert (result.exit_code, restarts) == (137, [0, 1])
    for thread in killing:
        thread.join()


@pytest.mark.alike
@pytest.mark.parametrize("again", [False, True], ids=["stop", "restart"])
def test_one_that_ends_while_it_is_asked_to(engine: Engine, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """It is stopped then, or started anew, and not an error."""
    containers = engine.running
    identity = engine.run_detached(RunRequest("busybox", ("sleep", "1000")))
    ask = control.ask

    def late(path: Path, question: dict[str, object], *fds: object) -> object:
        if question["do"] == "stop":
            containers.kill(identity)
            assert containers.wait(identity) == 137
        return ask(path, question)

    monkeypatch.setattr(control, "ask", late)
    containers.stop(identity, again=again)
    assert containers.get(identity).status == ("running" if again else "exited")


@pytest.mark.alike
def test_logs_by_time_and_line(busybox: Commands) -> None:
    busybox("run", "--name", "log", "busybox", "sh", "-c", "echo one; echo two; printf three")
    stamped = busybox("logs", "-t", "log").out.splitlines()
    assert [line.split(" ")[1] for line in stamped] == ["one", "two", "three"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamped[0].split(" ")[0])
    assert busybox("logs", "--tail", "2", "log").out == "two\nthree"
    assert busybox("logs", "--details", "log").out == " one\n two\n three"
    assert busybox("logs", "--since", "1h", "log").out == "one\ntwo\nthree"
    assert busybox("logs", "--until", "1h", "log").out == ""
    assert "invalid argument" in busybox("logs", "--tail", "x", "log", code=125).err


@pytest.mark.alike
@pytest.mark.parametrize("detached", [True, False])
def test_a_foreground_container_can_be_reached_too(busybox: Commands, detached: bool) -> None:
    """ps, exec, logs and stop do not care who runs it."""
    words = ("run", *(["-d"] if detached else []), "--rm", "--name", "fore", "busybox", "sh", "-c", TALKER)
    process = busybox.start(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for(process, b"\n")
    assert busybox("exec", "fore", "echo", "hi").out == "hi\n"
    until_logged(busybox, "fore", "err")
    busybox("stop", "-t", "60", "fore")

    assert process.wait(60) == (0 if detached else 4)
    assert busybox("ps", "-aq").out == ""


def test_below_an_init_a_signal_without_a_handler_ends_the_process(busybox: Commands) -> None:
    """It is not the first of its namespace, for which such a signal would do nothing."""
    busybox("run", "-d", "--init", "--name", "below", "busybox", "sleep", "1000")
    assert [line.split()[-1] for line in busybox("top", "below", "-o", "pid,comm").out.splitlines()] == [
        *("COMMAND", "docker-init", "sleep")
    ]
    busybox("stop", "below")

    assert status(busybox, "below").startswith("Exited (143)")
