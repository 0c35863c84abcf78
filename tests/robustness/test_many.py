"""Many processes on one store: no error, no loss, and what all want is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dockermagic.containers.request import RunRequest
from dockermagic.engine import Engine
from dockermagic.session import Cell, Session, SessionName

pytestmark = pytest.mark.alike

HERE = Path(__file__).parent
REPO = Path(__file__).parents[2]
# What the slow test does; DOCKERMAGIC_SOAK makes it as many times more.
ROUNDS = 3 * int(os.environ.get("DOCKERMAGIC_SOAK", "1"))


def together(program: str, words: Sequence[Sequence[object]]) -> list[Any]:
    """Start the program once for each line of words, let all begin at once, and give what each says at its end."""
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    running = [
        subprocess.Popen([sys.executable, str(HERE / program), *map(str, line)], env=environment, text=True, **streams)
        for line in words
    ]
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, said, strict=True):
        assert (process.returncode, errors) == (0, ""), errors
    return [json.loads(out) for out, _ in said]


def side_by_side(home: Path, processes: int, rounds: int) -> None:
    """Start so many at once on a store that does not even exist yet, and look at everything when they are done."""
    said = together("neighbour.py", [(home, number, rounds) for number in range(processes)])

    built = Counter(word for words in said for word in words)
    images = {name for name in built if name.startswith("own")}
    keys = {name: count for name, count in built.items() if name not in images}
    assert set(keys.values()) == {1}, "a layer was built twice"
    assert len(keys) == 4 * rounds
    with Engine(home) as engine:
        # Blobs of an image that was removed while another process was at work stay until the next removal.
        assert {(one.kind, one.place) for one in engine.fsck().findings} <= {("leftover", "blobs")}
        assert engine.fsck().findings == ()
        there = {f"{image.repository}:{image.tag}" for image in engine.images()}
        assert images <= there
        assert {f"shared:{number}" for number in range(rounds)} <= there
        assert not any(name.startswith("mine") for name in there)
        (log,) = (path / "log" for path in (home / "cache-mounts").iterdir() if (path / "log").exists())
        assert sorted(log.read_text().splitlines()) == sorted(
            f"{what} {number}" for what in ("shared", "two") for number in range(rounds)
        )


def test_two_processes(id_mode: str, engine_home: Path) -> None:
    side_by_side(engine_home, 2, 2)


def test_eight_processes(id_mode: str, engine_home: Path) -> None:
    side_by_side(engine_home, 8, 1)


def printed(engine: Engine, request: RunRequest) -> str:
    """What a container prints."""
    pieces: list[bytes] = []
    engine.run(request, output=lambda stream, data: pieces.append(data))
    return b"".join(pieces).decode()


def test_two_kernels_sessions(id_mode: str, engine_home: Path) -> None:
    """Each in its own session and both in one: every chain is right, and nobody's cell is lost."""
    with Engine(engine_home) as engine:
        engine.base("busybox")
        shared = Session(SessionName("named", "shared"), engine)
        shared.run(Cell("base", "FROM busybox"))
        said = together("pupil.py", [(engine_home, who) for who in ("ann", "bob")])

        for who, one in zip(("ann", "bob"), said, strict=True):
            assert one["stale"] == ["built", "built", "stale"]
            assert one["states"] == ["built"] * 3
            assert f"\nRUN echo {who} end > /a\n" in one["text"]
            assert printed(engine, RunRequest(who, remove=True)) == f"{who} end\n" * 2
        assert shared.chain.ids == {"base", *(f"{who}{number}" for who in ("ann", "bob") for number in range(3))}
        assert {standing.state for standing in shared.status()} == {"built"}
        result = shared.build().result
        assert result is not None
        engine.commit_image(result.stages[result.target], ("shared",))
        request = RunRequest("shared", ("cat", "/ann", "/bob"), remove=True)
        assert printed(engine, request) == "ann\n" * 3 + "bob\n" * 3
        assert engine.fsck().findings == ()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_eight_processes_for_a_while(id_mode: str, engine_home: Path) -> None:
    side_by_side(engine_home, 8, ROUNDS)
