"""Ctrl-C and SIGTERM at many moments: a few words, the right exit code, nothing left, and the next build is right."""

from __future__ import annotations

import os
import random
import shlex
import signal
import sys
from collections.abc import Sequence

import pytest

from tests.robustness import watched
from tests.robustness.kit import Store

pytestmark = pytest.mark.alike

SEED = 11
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
KILLED = 137
COMMANDS = (
    "build --progress=plain --build-arg SALT={salt} -t work --output=type=oci,dest=out.tar context",
    "build -q --no-cache --build-arg SALT={salt} -t work context",
    "save -o saved.tar kept",
    "run --rm kept sh -c 'sleep 0.2'",
    "base -q busybox",
)


def interrupted(store: Store, commands: Sequence[str], moments: int, seed: int) -> None:
    """Stop each command so many times, spread over the time that it takes, and look at everything afterwards."""
    dice = random.Random(seed)
    expected = store.tree("measured")
    hits = 0
    for number, command in enumerate(commands):
        for moment in range(moments):

            def line(salt: str, command: str = command) -> list[str]:
                return [sys.executable, "-m", "dockermagic", *shlex.split(command.format(salt=salt))]

            salt = f"{number}-{moment}"
            whole = watched.run(line(f"timed{salt}"), home=store.home, directory=store.directory).seconds
            after = whole * (moment + dice.random()) / moments
            how = dice.choice(list(CODES))
            target = "group" if how == signal.SIGINT else "command"
            print(f"{command}: {how.name} after {after:.3f} s of {whole:.3f} s")
            done = watched.run(
                line(f"salt{salt}"),
                home=store.home, directory=store.directory, after=after, number=how, target=target, ready=True,
            )  # fmt: skip
            assert done.left == ()
            assert "Traceback" not in done.err, done.err
            # As in Docker, the exit code of `run` is its container's, and there is nothing more to say.
            codes = {CODES[how], KILLED} if command.startswith("run") else {CODES[how]}
            assert done.code in {0, *codes}, done.err
            if done.code:
                hits += 1
                said = done.err.splitlines()[-1:]
                assert said == ["ERROR: interrupted"] or (command.startswith("run") and not said), done.err
            assert os.listdir(store.directory / "tmp") == []
            store.check()
    assert store.tree("after") == expected
    assert hits > len(commands) * moments / 2, "most had ended before their moment came"


def test_interrupted_at_some_moments(store: Store) -> None:
    interrupted(store, COMMANDS[::2], 1, SEED)


@pytest.mark.slow
def test_interrupted_at_many_moments(store: Store) -> None:
    interrupted(store, COMMANDS, 2 * int(os.environ.get("DOCKERMAGIC_SOAK", "1")), SEED + 1)
