"""kill -9 at random moments: no process stays, no mount, nothing is lost, and the next build is right."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.robustness.kit import Store

pytestmark = pytest.mark.alike

SEED = 20260
# The slow tests do it for so many seeds more.
SEEDS = int(os.environ.get("DOCKERMAGIC_SOAK", "1"))


def killed(store: Store, seed: int, times: int) -> None:
    """Kill so many times, look after each, and let everything run to its end now and then."""
    expected = store.tree("measured")
    whole = store.start(store.loop("timed")).seconds
    store.start(store.loop("counted"), count="count")
    calls = int((store.directory / "count").read_text())
    dice = random.Random(seed)
    stopped = 0
    for number in range(times):
        salt = f"salt{number}"
        way = ("calls", "time", "worker", "calls")[number % 4]
        at, after = dice.randrange(1, calls), dice.uniform(0, whole)
        print(f"{number}: {way}, at call {at} of {calls} or after {after:.3f} s of {whole:.3f} s")
        if way == "calls":
            done = store.start(store.loop(salt), die_at=at)
            stopped += done.code == -signal.SIGKILL
        else:
            target = "worker" if way == "worker" else "command"
            done = store.start(store.loop(salt), after=after, target=target)
            stopped += done.stopped
            assert "Traceback" not in done.err, done.err
            assert way == "time" or done.code in (0, 1, 125), done.err
        store.check()
        if number % 4 == 3 or number == times - 1:
            assert store.tree(salt) == expected
            store.check()
    assert stopped > times / 2, "most had ended before their moment came"


def test_killed_at_random_moments(store: Store) -> None:
    killed(store, SEED, 4)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, SEEDS + 1))
def test_killed_at_very_many_random_moments(store: Store, number: int) -> None:
    killed(store, SEED + number, 7)
