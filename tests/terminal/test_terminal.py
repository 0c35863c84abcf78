"""A build's progress in a terminal: the lines that a Docker course explains."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

import pytest

from dockermagic.errors import UsageError
from dockermagic.events import Event, Log, Status, Vertex, Warning
from dockermagic.terminal import MODES, printer
from dockermagic.terminal.plain import clock, data_size


def log(digest: str, data: bytes, at: float) -> Log:
    return Log(digest, 1, data, at)


def begin(digest: str, name: str, at: float) -> Vertex:
    return Vertex(digest, name, started=at)


def end(digest: str, name: str, at: float, to: float, **state: object) -> Vertex:
    return Vertex(digest, name, started=at, completed=to, **state)  # type: ignore[arg-type]


DEFINITION = "[internal] load build definition from Dockerfile"

CASES: dict[str, tuple[list[Event], str]] = {
    "the engine's own step": (
        [
            begin("a", DEFINITION, 0),
            Status("a", "transferring dockerfile:", "", 154, 0, 0.001, 0, 0.001),
            end("a", DEFINITION, 0, 0.04),
        ],
        f"#1 {DEFINITION}\n#1 transferring dockerfile: 154B done\n#1 DONE 0.0s\n",
    ),
    "a download": (
        [
            begin("a", "[1/2] FROM busybox", 0),
            Status("a", "sha256:ab", "", 1_460, 2_200_000, 0.5, 0),
            Status("a", "sha256:ab", "", 2_200_000, 2_200_000, 0.8, 0, 0.8),
            end("a", "[1/2] FROM busybox", 0, 1.26),
        ],
        "#1 [1/2] FROM busybox\n#1 sha256:ab 2.20MB / 2.20MB 0.8s done\n#1 DONE 1.3s\n",
    ),
    "cached": (
        [end("a", "[1/2] FROM busybox", 0, 0, cached=True), end("b", "[2/2] RUN make", 0, 0, cached=True)],
        "#1 [1/2] FROM busybox\n#1 CACHED\n\n#2 [2/2] RUN make\n#2 CACHED\n",
    ),
    "output with clocks, in pieces, with a line that has no end": (
        [
            begin("a", "[2/2] RUN make", 10),
            log("a", b"one\ntw", 10.1234),
            log("a", b"o\n", 10.9),
            log("a", b"three\r\n\n", 22.345),
            log("a", b"last", 133.44),
            end("a", "[2/2] RUN make", 10, 134),
        ],
        "#1 [2/2] RUN make\n#1 0.123 one\n#1 0.123 two\n#1 12.34 three\n#1 12.34 \n#1 123.4 last\n#1 DONE 124.0s\n",
    ),
    "a failure with the end of its output": (
        [
            begin("a", "[2/2] RUN false", 0),
            log("a", b"oh no\n", 0.2),
            end("a", "[2/2] RUN false", 0, 0.3, error="process did not complete successfully: exit code: 1"),
        ],
        "#1 [2/2] RUN false\n#1 0.200 oh no\n#1 ERROR: process did not complete successfully: exit code: 1\n"
        "------\n > [2/2] RUN false:\n0.200 oh no\n------\n",
    ),
    "a stop": (
        [begin("a", "[2/2] RUN sleep", 0), end("a", "[2/2] RUN sleep", 0, 1, error="interrupted")],
        "#1 [2/2] RUN sleep\n#1 CANCELED\n",
    ),
    "steps side by side take turns": (
        [
            begin("a", "[one 2/2] RUN slow", 0),
            begin("b", "[two 2/2] RUN fast", 0),
            log("b", b"fast\n", 0.1),
            log("a", b"slow\n", 0.2),
            end("b", "[two 2/2] RUN fast", 0, 0.3),
            end("a", "[one 2/2] RUN slow", 0, 0.4),
        ],
        "#1 [one 2/2] RUN slow\n#1 0.200 slow\n#1 ...\n\n#2 [two 2/2] RUN fast\n#2 0.100 fast\n#2 DONE 0.3s\n\n"
        "#1 [one 2/2] RUN slow\n#1 DONE 0.4s\n",
    ),
    "who is silent hands over": (
        [
            begin("a", "[one 2/2] RUN slow", 0),
            begin("b", "[two 2/2] RUN fast", 0),
            log("b", b"early\n", 1),
            log("b", b"late\n", 6),
            end("a", "[one 2/2] RUN slow", 0, 7),
            end("b", "[two 2/2] RUN fast", 0, 8),
        ],
        "#1 [one 2/2] RUN slow\n#1 ...\n\n#2 [two 2/2] RUN fast\n#2 1.000 early\n#2 6.000 late\n#2 ...\n\n"
        "#1 [one 2/2] RUN slow\n#1 DONE 7.0s\n\n#2 [two 2/2] RUN fast\n#2 DONE 8.0s\n",
    ),
    "warnings": (
        [Warning("a", 1, "StageNameCasing: Stage name 'A' should be lowercase", line=2, rule="StageNameCasing")],
        "\n 1 warning found:\n - StageNameCasing: Stage name 'A' should be lowercase (line 2)\n",
    ),
    "what never ended": (
        [begin("a", "[2/2] RUN x", 0), log("a", b"half", 1)],
        "#1 [2/2] RUN x\n#1 1.000 half\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_plain_lines(name: str) -> None:
    events, expected = CASES[name]
    stream = io.StringIO()
    with printer("plain", stream) as emit:
        for event in events:
            emit(event)

    assert stream.getvalue() == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.000"), (0.00004, "0.000"), (0.1234, "0.123"), (9.9994, "9.999"), (10.126, "10.13"), (1234.5, "1234.")],
)
def test_the_clock_has_five_characters(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (154, "154B"), (1_460, "1.46kB"), (222_550_000, "222.55MB"), (999, "999B")]
)
def test_bytes_on_progress_lines(size: int, text: str) -> None:
    assert data_size(size) == text


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    with printer("quiet", stream) as emit:
        emit(begin("a", "x", 0))

    assert stream.getvalue() == ""


def test_rawjson_is_a_json_value_a_line() -> None:
    stream = io.StringIO()
    with printer("rawjson", stream) as emit:
        emit(begin("a", "x", 0))
        emit(log("a", b"hi\n", 1))
    first, second = map(json.loads, stream.getvalue().splitlines())

    assert first["vertexes"][0]["name"] == "x"
    assert second["logs"][0]["data"] == "aGkK"


def test_auto_is_plain_where_no_terminal_is() -> None:
    plain, auto = io.StringIO(), io.StringIO()
    for mode, stream in (("plain", plain), ("auto", auto)):
        with printer(mode, stream) as emit:
            emit(end("a", "x", 0, 1))

    assert auto.getvalue() == plain.getvalue() != ""


def test_a_live_terminal_ends_with_every_step() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with printer("tty", stream) as emit:
        emit(end("a", "[1/2] FROM busybox", 0, 0, cached=True))
        emit(end("b", "[2/2] RUN make", 0, 1.5))
    last = stream.getvalue().rpartition("[+]")[2]

    assert "(2/2) FINISHED" in last
    assert "=> CACHED [1/2] FROM busybox" in last
    assert "=> [2/2] RUN make" in last and "1.5s" in last


def test_an_unknown_mode_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="rawjson"):
        printer("loud", io.StringIO())

    assert "auto" in MODES


def test_threads_do_not_break_lines() -> None:
    stream = io.StringIO()

    def build(emit: Callable[[Event], None], digest: str) -> None:
        emit(begin(digest, digest, 0))
        for number in range(200):
            emit(log(digest, f"{digest} {number}\n".encode(), number / 1000))
        emit(end(digest, digest, 0, 1))

    with printer("plain", stream) as emit:
        threads = [threading.Thread(target=build, args=(emit, name)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = stream.getvalue().splitlines()

    assert sum(" one 1" in line for line in lines) == sum(" two 1" in line for line in lines) == 111
    assert all(not line or line.startswith("#") for line in lines)
    assert sum("DONE" in line for line in lines) == 3
