"""One RUN in each way to run it: what it costs beside many files, and an apt install beside the same in a chroot.

``sudo .venv/bin/python -m tests.benchmarks.bench_ways [files] [apt] [--rounds 3]``

``files``: ``RUN true`` on a root filesystem of 15 000 files. ``apt``: ``apt-get install jq`` from packages that a layer
below has fetched already, round by round in a chroot, in namespaces and under PRoot. Seconds are wall and processor
time; the latter is that of the whole resident process with all its children, and does not depend on what else runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine

FILES = 15_000
_TICKS = os.sysconf("SC_CLK_TCK")
_FETCH = "apt-get update && apt-get install -y --download-only jq"
_INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-download jq >/dev/null"
_CHROOT = 'mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" /bin/sh -c "$2"'
Taken = tuple[float, float]


def below(engine: Engine) -> float:
    """Processor seconds of the resident process and all its children that have ended."""
    first = engine.sandbox.worker.pid  # type: ignore[attr-defined]
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    found = 0.0
    for pid in (str(first), *children[:1]):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += sum(map(int, fields[11:15])) / _TICKS
    return found


def timed(work: Callable[[], object], engine: Engine | None = None) -> Taken:
    """Wall and processor seconds of a build of this engine's, or else of a process that is waited for."""

    def used() -> float:
        others = below(engine) if engine else sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        return time.process_time() + others

    os.sync()
    wall, cpu = time.perf_counter(), used()
    work()
    wall = time.perf_counter() - wall
    time.sleep(0.2)  # what answered is counted when it has ended
    return wall, used() - cpu


def opened(home: Path, way: str) -> Engine:
    engine = Engine(home / way)
    engine.use_sandbox(way)
    return engine


def build(engine: Engine, *lines: str, tag: str = "") -> None:
    engine.build(BuildRequest("\n".join(lines), tags=(tag,) if tag else ()), lambda event: None)


def said(name: str, taken: list[Taken], beside: list[Taken] | None = None) -> None:
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    words = f"{name:28} wall {wall:7.3f} (min {min(taken)[0]:.3f})  processor {cpu:7.3f}"
    if beside:
        ratios = [[one[i] / other[i] for one, other in zip(taken, beside, strict=True)] for i in (0, 1)]
        words += "  ratio by rounds: " + ", ".join(
            f"{name} {' '.join(f'{ratio:.2f}' for ratio in column)} (median {statistics.median(column):.2f})"
            for name, column in zip(("wall", "processor"), ratios, strict=True)
        )
    print(words, f" load {os.getloadavg()[0]:.1f}", flush=True)


def files(ways: list[str], rounds: int, home: Path) -> None:
    folders = f"for i in $(seq {FILES // 100}); do mkdir $i; for j in $(seq 100); do echo $j >$i/$j; done; done"
    make = f"RUN mkdir /d && cd /d && {folders}"
    for way in ways:
        with opened(home, way) as engine:
            engine.base("busybox")
            build(engine, "FROM busybox", make, "RUN true warm")
            texts = [("FROM busybox", make, f"RUN true {number}") for number in range(rounds)]
            said(f"RUN true, {FILES} files, {way}", [timed(partial(build, engine, *text), engine) for text in texts])


def apt(ways: list[str], rounds: int, home: Path, image: str) -> None:
    with ExitStack() as stack:
        engines = {way: stack.enter_context(opened(home, way)) for way in ways}
        install(engines, rounds, home, image)


def install(engines: dict[str, Engine], rounds: int, home: Path, image: str) -> None:
    first = next(iter(engines.values()))
    for engine in engines.values():
        if image:
            with open(image, "rb") as file:
                engine.load(file)
        else:
            engine.prepare("debian:bookworm")
    # One fetch for all: what is installed is the same everywhere.
    archive = home / "fetched.tar"
    build(first, "FROM debian:bookworm", f"RUN {_FETCH}", tag="fetched")
    with archive.open("wb") as file:
        first.save(["fetched"], file)
    for engine in engines.values():
        if engine is not first:
            with archive.open("rb") as file:
                engine.load(file)
        build(engine, "FROM fetched", "RUN true")
    layers = [str(path) for path in first.files.directories(first.snapshots_of("fetched"))]
    taken: dict[str, list[Taken]] = {"chroot": [], **{way: [] for way in engines}}
    for number in range(rounds):
        tree = home / f"chroot-{number}"
        tree.mkdir()
        for layer in layers:
            subprocess.run(["cp", "-a", f"{layer}/.", tree], check=True)
        # In a mount namespace of its own, so that nothing of the host is ever mounted where files are removed.
        command = ["unshare", "--mount", "sh", "-c", _CHROOT, "sh", str(tree), _INSTALL]
        taken["chroot"].append(timed(partial(subprocess.run, command, check=True)))
        shutil.rmtree(tree)
        for way, engine in engines.items():
            work = partial(build, engine, "FROM fetched", f"RUN {_INSTALL} # {number}")
            taken[way].append(timed(work, engine))
    for name, found in taken.items():
        said(f"apt-get install jq, {name}", found, taken["chroot"] if name != "chroot" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["files", "apt"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="root,proot")
    parser.add_argument("--image", default="", help="an archive of debian:bookworm; else it is pulled or made")
    given = parser.parse_args()
    ways = given.ways.split(",")
    with tempfile.TemporaryDirectory(prefix="dockermagic-bench-", dir="/var/tmp") as name:
        if "files" in given.parts:
            files(ways, given.rounds, Path(name))
        if "apt" in given.parts:
            apt(ways, given.rounds, Path(name), given.image)


if __name__ == "__main__":
    main()
