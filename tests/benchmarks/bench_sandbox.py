"""The sandbox alone: one ``RUN true`` on top of a chain, from prepare to commit, and a bare request.

``python -m tests.benchmarks.bench_sandbox [-n 200] [--depth 20] [--mode root|range|single]`` prints milliseconds.
An ordinary user measures ``range`` or ``single``; what else the machine does is in the numbers, so look at the minimum,
too.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dockermagic.sandbox.base import Process, Rootfs
from dockermagic.sandbox.probe import choose
from tests.sandbox.kit import PATH, Room


def measure(times: int, step: Callable[[], None]) -> str:
    """Median, 90th percentile and minimum."""
    taken = []
    for _ in range(times):
        before = time.perf_counter()
        step()
        taken.append((time.perf_counter() - before) * 1e3)
    taken.sort()
    return f"{statistics.median(taken):6.2f} {taken[len(taken) * 9 // 10]:6.2f} {taken[0]:6.2f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-n", type=int, default=200)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--mode", default="")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="dockermagic-bench-", dir="/var/tmp") as home:
        mode = given.mode or choose(Path(home)).mode
        with Room(Path(home), mode) as room:
            for number in range(given.depth):
                room.step(f"echo {number} > /file{number}")
            base = room.top
            process = Process(("/bin/true",), PATH)

            def run() -> None:
                active = room.snapshots.prepare(base)
                room.sandbox.run(active.rootfs, process, output=lambda *_: None)
                room.snapshots.commit(active, secrets.token_hex(8))

            def call() -> None:
                room.sandbox.call("dockermagic.sandbox.trees:measure", mounts={"path": Rootfs()})

            print(f"{mode:24} median    90%    min")
            print(f"RUN true, depth {given.depth:<8}", measure(given.n, run))
            print(f"{'request with a mount':24}", measure(given.n, call))


if __name__ == "__main__":
    main()
