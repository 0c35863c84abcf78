"""Containers alone: how long a run and an exec take, what a hundred detached ones weigh, how fast output passes.

``python -m tests.benchmarks.bench_containers [-n 50] [--containers 100] [--megabytes 100]``; as root or as an ordinary
user, in the id mode that is chosen there. What else the machine does is in the numbers: look at the minimum, too.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dockermagic.containers.request import ExecRequest, RunRequest
from dockermagic.engine import Engine


def measure(times: int, step: Callable[[], object]) -> str:
    """Median and minimum in milliseconds."""
    taken = []
    for _ in range(times):
        before = time.perf_counter()
        step()
        taken.append((time.perf_counter() - before) * 1e3)
    return f"{statistics.median(taken):7.1f} ms, at least {min(taken):.1f} ms"


def weight(home: Path) -> int:
    """The proportional memory, in bytes, of every process that works for the store and is in no container."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        if str(home).encode() in _read(entry / "cmdline") and int(entry.name) != os.getpid():
            for process in (entry, *_descendants(entry)):
                if b"dockermagic" in _read(process / "cmdline"):
                    lines = _read(process / "smaps_rollup").splitlines()
                    total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(b"Pss:"))
    return total


def _descendants(process: Path) -> Iterator[Path]:
    """What a process started; that does not name the store."""
    for child in b" ".join(map(_read, process.glob("task/*/children"))).split():
        below = Path("/proc", child.decode())
        yield below
        yield from _descendants(below)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-n", type=int, default=50)
    options.add_argument("--containers", type=int, default=100)
    options.add_argument("--megabytes", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="dockermagic-bench-", dir="/var/tmp") as folder, Engine(folder) as engine:
        engine.base("busybox")
        true = RunRequest("busybox", ("true",), remove=True)
        engine.run(true)
        print("run --rm busybox true, in a process", measure(given.n, lambda: engine.run(true)))
        environment = {**os.environ, "DOCKERMAGIC_HOME": folder}
        words = [sys.executable, "-m", "dockermagic", "run", "--rm", "busybox", "true"]
        python = [sys.executable, "-c", "pass"]
        times = max(3, given.n // 10)
        print("run --rm busybox true, from a shell", measure(times, lambda: subprocess.run(words, env=environment)))
        print("python -c pass                     ", measure(times, lambda: subprocess.run(python)))

        sleeper = RunRequest("busybox", ("sleep", "1000"))
        first = engine.run_detached(sleeper)
        command = ExecRequest(("true",))
        print(
            "exec true                          ",
            measure(given.n, lambda: engine.running.execute(first, command, output=None)),
        )
        before = time.perf_counter()
        for _ in range(given.containers - 1):
            engine.run_detached(sleeper)
        seconds = (time.perf_counter() - before) / max(1, given.containers - 1)
        engine.sandbox.close()
        each = weight(Path(folder)) / given.containers
        print(
            f"{given.containers} detached containers: {each / 1e6:.2f} MB each, started in {seconds * 1e3:.1f} ms each"
        )
        for container in engine.containers():
            engine.remove_container(container.id, force=True)

        size = given.megabytes << 20
        script = RunRequest("busybox", ("sh", "-c", f"head -c {size} /dev/zero"), remove=True)
        with open(Path(folder, "out"), "wb") as file:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            before = time.perf_counter()
            engine.run(script, output=lambda stream, data: file.write(data))
            seconds = time.perf_counter() - before
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
            print(
                f"{given.megabytes} MB of output to a file: {size / seconds / 1e6:.0f} MB/s, "
                f"{file.tell() - size} bytes lost or more, {grown >> 10} MB more memory"
            )


if __name__ == "__main__":
    main()
