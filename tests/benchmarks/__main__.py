"""Measure this engine beside Docker's BuildKit and buildah: ``python -m tests.benchmarks [--rounds N] [--only WORD]``.

As root: Docker runs in its chroot (:mod:`tests.peers`). Prints a table with medians and the ratio to BuildKit, and how
busy the machine was. After ``--minutes`` no further round is begun.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.workloads import CHAIN, Buildah, BuildKit, Engine, Ours, Row, chain, change_one, many_files
from tests.peers.docker import Docker
from tests.peers.images import busybox_archive

Rounds = dict[str, list[float]]


class Bench:
    def __init__(self, engines: list[Engine], ours: Ours, directory: Path, rounds: int, minutes: float) -> None:
        self.engines, self.ours, self.directory, self.rounds = engines, ours, directory, rounds
        self.end = time.monotonic() + 60 * minutes
        self.notes: list[str] = []

    def in_turn(
        self,
        measure: Callable[[Engine, int], float | None],
        *,
        spare_slow: bool = False,
        before: Callable[[int], None] = lambda number: None,
    ) -> Rounds:
        """Round by round, each engine in turn; one that cannot do it has no figure, and a note says why."""
        seconds: Rounds = {engine.name: [] for engine in self.engines}
        able = list(self.engines)
        for number in range(self.rounds):
            if number and time.monotonic() > self.end:
                break
            before(number)
            for engine in [one for one in able if not (spare_slow and number and one.slow)]:
                try:
                    taken = measure(engine, number)
                except RuntimeError as error:
                    able.remove(engine)
                    self.notes.append(str(error).strip())
                    continue
                if taken is not None:
                    seconds[engine.name].append(taken)
        return seconds

    def run_true(self) -> list[Row]:
        """Twenty RUNs, each with its layer kept; then the same again, all cached."""
        contexts = {
            (engine.name, number): chain(self.directory / f"chain-{engine.name}-{number}", f"{engine.name}{number}")
            for engine in self.engines
            for number in range(self.rounds)
        }
        new = self.in_turn(lambda engine, number: engine.build(contexts[engine.name, number]))
        cached = self.in_turn(lambda engine, _: engine.build(contexts[engine.name, 0]))
        inside = [self.ours.inside("cells", f"round{number}") for number in range(self.rounds)]

        def cell(name: str) -> Rounds:
            return {"dockermagic": [taken[name] for taken in inside]}

        peers = {name: new[name] for name in new if name != self.ours.name}
        peers_cached = {name: cached[name] for name in cached if name != self.ours.name}
        containers = self.in_turn(lambda engine, _: engine.run_true())
        return [
            Row(f"one `RUN true` of {CHAIN}, from the command line", new, CHAIN),
            Row(f"one `RUN true` of {CHAIN}, in a cell", peers | cell("chain"), CHAIN, "10 ms"),
            Row("one new RUN in a cell of its own", cell("one"), 1, "15 ms"),
            Row(f"{CHAIN} cached instructions, from the command line", cached, 1, "0.8"),
            Row(f"{CHAIN} cached instructions, in a cell", peers_cached | cell("cached"), 1, "10 ms"),
            Row("`run --rm busybox true`, from the command line", containers),
            Row(
                "`run --rm busybox true`, in a cell",
                {name: containers[name] for name in peers if name == "BuildKit"} | cell("run"),
                1,
                "25 ms",
            ),
        ]

    def copy(self) -> list[Row]:
        """20 000 files: nothing known, nothing changed, one changed."""
        context = many_files(self.directory / "files")

        def cold(engine: Engine, _: int) -> float:
            engine.forget()
            return engine.build(context)

        def again(engine: Engine, _: int) -> float:
            return engine.build(context)

        def change(number: int) -> None:
            change_one(context, f"round{number}")

        return [
            Row("COPY 20 000 x 4 KB, cold", self.in_turn(cold, spare_slow=True), 1, "1.0 (aim 0.7)"),
            Row("the same, nothing changed", self.in_turn(again, spare_slow=True), 1, "0.25"),
            Row("the same, one file changed", self.in_turn(again, spare_slow=True, before=change), 1, "0.5"),
        ]

    def load_ext(self) -> list[Row]:
        taken = [self.ours.inside("load_ext")["load_ext"] for _ in range(max(3, self.rounds))]
        return [Row("`%load_ext dockermagic`", {"dockermagic": taken}, 1, "100 ms")]

    def memory(self) -> list[Row]:
        """The most memory that a build's process had, by the size of the layer it made and saved."""
        for megabytes in (1, 1000):
            context = self.directory / f"big-{megabytes}"
            context.mkdir()
            line = f"RUN dd if=/dev/urandom of=/big bs=1M count={megabytes} 2>/dev/null"
            (context / "Dockerfile").write_text(f"FROM busybox\n{line}\n")
            out = self.directory / "big.tar"
            command = self.ours.command(context, f"--output=type=oci,dest={out}")
            process = subprocess.Popen(command, env=self.ours.environment(), stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            self.notes.append(
                f"memory: a layer of {megabytes} MB built and saved with {usage.ru_maxrss // 1024} MB"
                f" (the largest of all children so far: {children // 1024} MB), exit code {process.returncode}"
            )
        return []


def table(rows: list[Row], engines: list[Engine]) -> str:
    names = [engine.name for engine in engines]
    lines = ["| work | " + " | ".join(names) + " | ours / BuildKit | goal | rounds |", "|---" * (len(names) + 4) + "|"]
    for row in rows:
        medians = {name: statistics.median(values) / row.per for name, values in row.seconds.items() if values}
        cells = [_time(medians[name]) if name in medians else "" for name in names]
        ratio = (
            f"{medians['dockermagic'] / medians['BuildKit']:.2f}" if {"dockermagic", "BuildKit"} <= set(medians) else ""
        )
        rounds = max(len(values) for values in row.seconds.values())
        lines.append(f"| {row.title} | {' | '.join(cells)} | {ratio} | {row.goal} | {rounds} |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--only", choices=["run_true", "copy", "load_ext", "memory"], action="append")
    parser.add_argument("--without", choices=["BuildKit", "buildah"], action="append", default=[])
    options = parser.parse_args()
    docker = Docker()
    try:
        with tempfile.TemporaryDirectory(prefix="dockermagic-bench-", dir="/var/tmp") as name:
            directory = Path(name)
            ours = Ours(directory)
            engines: list[Engine] = [BuildKit(docker), Buildah(docker.chroot), ours]
            engines = [engine for engine in engines if engine.name not in options.without]
            archive = busybox_archive(directory / "busybox.tar")
            for engine in engines:
                engine.load(archive)
            bench = Bench(engines, ours, directory, options.rounds, options.minutes)
            load = os.getloadavg()
            rows: list[Row] = []
            for part in options.only or ["run_true", "copy", "load_ext", "memory"]:
                rows += getattr(bench, part)()
            versions = ", ".join(f"{engine.name}: {getattr(engine, 'version', '')}" for engine in engines)
            print(
                f"{versions}; Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores,"
                f" load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n\n{table(rows, engines)}\n",
                *bench.notes,
                sep="\n",
            )
    finally:
        docker.stop()


if __name__ == "__main__":
    sys.exit(main())
