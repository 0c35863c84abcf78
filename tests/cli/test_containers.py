"""``run`` for real, as root and as ordinary users: streams, exit codes, volumes, terminals, interrupts."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Commands

EXIT_CODES = [
    (("busybox", "true"), 0),
    (("busybox", "sh", "-c", "exit 7"), 7),
    (("busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
    (("busybox", "nosuch"), 127),
    (("busybox", "/nosuch"), 127),
    (("busybox", "/etc/passwd"), 126),
    (("--entrypoint", "/etc", "busybox"), 126),
    (("-u", "nobodyatall", "busybox", "true"), 125),
    (("-w", "relative", "busybox", "true"), 125),
]


@pytest.mark.alike
@pytest.mark.parametrize(("words", "code"), EXIT_CODES)
def test_exit_codes(busybox: Commands, words: tuple[str, ...], code: int) -> None:
    done = busybox("run", "--rm", *words, code=code)

    assert bool(done.err) == (code >= 125)


@pytest.mark.alike
def test_streams_are_apart(busybox: Commands) -> None:
    done = busybox("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")

    assert (done.out, done.err) == ("out\n", "err\n")


@pytest.mark.alike
def test_stdin_only_with_i(busybox: Commands) -> None:
    assert busybox("run", "--rm", "-i", "busybox", "cat", stdin=b"typed\n").out == "typed\n"
    assert busybox("run", "--rm", "busybox", "cat", stdin=b"typed\n").out == ""


def test_environment_directory_user_and_name(busybox: Commands) -> None:
    busybox.file("env", "B=2\n# no\nHERE\n")
    busybox.environment["HERE"] = "taken"
    words = ("-e", "A=1", "--env-file", "env", "-w", "/made", "--hostname", "box", "busybox")
    done = busybox("run", "--rm", *words, "sh", "-c", "echo $A $B $HERE $HOSTNAME $(hostname) $(pwd) $(id -u)")

    assert done.out == "1 2 taken box box /made 0\n"


def test_a_user_by_number(busybox: Commands) -> None:
    assert busybox("run", "--rm", "-u", "1000:1000", "busybox", "sh", "-c", "id -u; id -g").out == "1000\n1000\n"


def test_host_directories_and_named_volumes(busybox: Commands) -> None:
    busybox.file("data/in", "in\n")
    busybox("run", "--rm", "-v", "./data:/d", "busybox", "sh", "-c", "cat /d/in; echo out > /d/out")
    assert (busybox.directory / "data/out").read_text() == "out\n"
    assert busybox("run", "--rm", "-v", "./data:/d:ro", "busybox", "touch", "/d/x", code=1).err != ""
    busybox("run", "--rm", "-v", "./new/dir:/d", "busybox", "true")
    assert (busybox.directory / "new/dir").is_dir()

    busybox.build("FROM busybox\nRUN mkdir /v && echo first > /v/f && chmod 700 /v\n", "-q", "-t", "v")
    busybox("run", "--rm", "-v", "vol:/v", "v", "sh", "-c", "echo more >> /v/f")
    assert (
        busybox("run", "--rm", "-v", "vol:/w", "v", "sh", "-c", "cat /w/f; stat -c %a /w").out == "first\nmore\n700\n"
    )


def test_what_a_container_writes_is_its_own(busybox: Commands) -> None:
    busybox(
        "run", "--rm", "busybox", "sh", "-c", "rm /bin/ls; echo x > /etc/passwd; mkdir -m 0 /closed; touch /closed/f"
    )

    assert busybox("run", "--rm", "busybox", "ls", "/").err == ""
    assert list((busybox.home / "containers").glob("[!.]*")) == [], "--rm leaves nothing"


def test_a_read_only_root(busybox: Commands) -> None:
    busybox.build("FROM busybox\nVOLUME /data\n", "-q", "-t", "v")
    done = busybox("run", "--rm", "--read-only", "v", "sh", "-c", "touch /data/x && ls /data; touch /x", code=1)

    assert done.out == "x\n"
    assert "Read-only" in done.err


def test_no_network(busybox: Commands) -> None:
    done = busybox("run", "--rm", "--network", "none", "busybox", "sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1")

    assert done.out.split() == ["lo"]


@pytest.mark.alike
def test_a_name_is_taken_by_a_container_that_stays(busybox: Commands) -> None:
    busybox("run", "--name", "one", "busybox", "true")
    done = busybox("run", "--name", "one", "busybox", "true", code=125)
    assert 'The container name "/one" is already in use' in done.err


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Read what the process writes until ``text`` is in it."""
    assert process.stdout is not None
    seen = b""
    while text not in seen:
        assert select.select([process.stdout], [], [], 60)[0], seen
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, seen
        seen += piece
    return seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_container_and_leaves_nothing(busybox: Commands, number: int, code: int) -> None:
    script = "echo started; sleep 1000"
    process = busybox.start(
        "run", "--rm", "busybox", "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(process, b"started")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert b"Traceback" not in err
    assert list((busybox.home / "containers").glob("[!.]*")) == []


def test_kill_9_leaves_nothing_behind_for_long(busybox: Commands) -> None:
    process = busybox.start("run", "--rm", "busybox", "sh", "-c", "echo started; sleep 1000", stdout=subprocess.PIPE)
    wait_for(process, b"started")
    process.kill()
    process.communicate()
    assert len(list((busybox.home / "containers").glob("rm-*"))) == 1

    busybox("run", "--rm", "busybox", "true")
    assert list((busybox.home / "containers").glob("[!.]*")) == []


@pytest.mark.alike
def test_an_interrupted_build_is_130(busybox: Commands) -> None:
    busybox.file("Dockerfile", "FROM busybox\nRUN echo started; sleep 1000\n")
    process = busybox.start("build", "--progress=plain", ".", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(process, b" started")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert b"Traceback" not in out


@pytest.mark.alike
def test_a_reader_that_goes_away_is_no_error(busybox: Commands) -> None:
    process = busybox.start("save", "busybox", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None

    assert process.wait(60) == 141
    assert process.stderr.read() == b""


def terminal(commands: Commands, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """A command with a terminal of its own; its size is 30 lines of 100 columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

    process = commands.start(*words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    return process, ours


def read_until(fd: int, text: bytes) -> bytes:
    """What appears on a terminal up to ``text``."""
    seen = b""
    while text not in seen:
        assert select.select([fd], [], [], 60)[0], seen
        seen += os.read(fd, 4096)
    return seen


def test_a_terminal_of_its_own(busybox: Commands, tmp_path: Path) -> None:
    """Typed words arrive, job control keys too, and the size of the window."""
    process, fd = terminal(busybox, "run", "--rm", "-it", "busybox", "sh")
    try:
        read_until(fd, b"# ")
        os.write(fd, b"tty >/dev/null && stty size; echo a''b\n")
        assert b"30 100" in read_until(fd, b"ab")
        os.write(fd, b"sh -c 'echo be\"\"gun; exec sleep 1000'\n")
        read_until(fd, b"begun\r\n")
        os.write(fd, b"\x03")
        read_until(fd, b"# ")
        os.write(fd, b"echo still''here $?\n")
        read_until(fd, b"stillhere 130\r\n")
        os.write(fd, b"exit 5\n")
        assert process.wait(60) == 5
    finally:
        process.kill()
        os.close(fd)


@pytest.mark.alike
def test_it_without_a_terminal(busybox: Commands) -> None:
    assert "the input device is not a TTY" in busybox("run", "--rm", "-it", "busybox", "true", code=1).err


@pytest.mark.alike
def test_a_terminal_for_output_alone(busybox: Commands) -> None:
    assert busybox("run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo yes").out == "yes\r\n"


@pytest.mark.alike
def test_save_refuses_a_terminal(busybox: Commands) -> None:
    process, fd = terminal(busybox, "save", "busybox")
    try:
        assert b"cowardly refusing to save to a terminal" in read_until(fd, b"redirect.")
        assert process.wait(60) == 1
    finally:
        os.close(fd)


def test_a_full_disk_is_said_in_words(busybox: Commands) -> None:
    with Path("/dev/full").open("wb") as full:
        process = busybox.start("images", stdout=full.fileno(), stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err.startswith(b"ERROR: the disk is full")


@pytest.mark.alike
def test_a_container_that_stays_is_listed_and_removed(busybox: Commands) -> None:
    """ps shows what ran, rm takes it away and gives its name free."""
    busybox("run", "--name", "kept", "busybox", "true")

    assert "kept" not in busybox("ps").out
    assert re.search(r'busybox +"true" .* Exited \(0\) .* kept', busybox("ps", "-a").out)
    assert busybox("rm", "kept").out == "kept\n"
    assert busybox("ps", "-aq").out == ""


@pytest.mark.alike
def test_create_and_start_fail_as_any_command_does(busybox: Commands) -> None:
    """125 and 127 are ``run``'s own; a container that could not be started is there, and its name taken."""
    assert busybox("create", "--name", "wrong", "busybox", "nosuch").err == ""
    assert 'exec: "nosuch"' in busybox("start", "wrong", code=1).err
    assert "already in use" in busybox("create", "--name", "wrong", "busybox", code=1).err
    assert "no such file" in busybox("run", "--env-file", "none", "busybox", code=125).err
    assert busybox("ps", "-a", "--format", "{{.Names}} {{.Status}}").out == "wrong Created\n"
