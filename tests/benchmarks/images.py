"""Images beside the others: ``python -m tests.benchmarks.images [--rounds N] [--only pull]``, as root; median ratios.

A registry on loopback holds an image of one gzip layer of 150 MB and one of five of 60 MB (random bytes and text by
halves). Each round pulls them into an empty store, pushes to an empty repository, saves one of 500 MB, and unpacks.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import HistoryEntry, digest, layer_media_type, timestamp
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.oci.transfer import push
from dockermagic.records import Records
from tests.oci.trees import tar
from tests.peers.docker import Docker
from tests.peers.registry import Registry
from tests.peers.tools import podman, skopeo

MB = 1 << 20


def layer(megabytes: int) -> tuple[bytes, bytes]:
    """A tar of so many files of 1 MB, and its gzip, which is a little more than half of it."""
    text = b"".join(b"%d lines of text that compress well\n" % number for number in range(20_000))[: MB // 2]
    plain = tar(*(("file", f"d{number % 20}/file{number}", os.urandom(MB // 2) + text) for number in range(megabytes)))
    return plain, gzip.compress(plain, 1)


# In a small process of its own: the most memory of a child begins with that of its parent.
MEASURE = """\
import json, resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - begun
print(json.dumps([done.returncode, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024]))
"""


# As it is installed: what Python has compiled is kept, so that nobody waits for it but the first.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def timed(command: Sequence[str], env: dict[str, str] | None = None) -> tuple[float, int]:
    """Seconds, and the most memory of the process in MB. What others have written is on the disk before."""
    os.sync()
    words = [sys.executable, "-c", MEASURE, *command]
    done = subprocess.run(words, env=ENVIRONMENT | (env or {}), capture_output=True, text=True, check=True)
    code, seconds, memory = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{command}: {done.stderr}")
    return seconds, memory


class Bench:
    def __init__(self, directory: Path, docker: Docker, registry: Registry) -> None:
        self.directory, self.docker, self.registry = directory, docker, registry
        self.seconds: dict[str, dict[str, list[float]]] = {}
        self.memory: dict[str, int] = {}
        self.rounds: dict[str, int] = {}
        self.count = 0

    def note(self, work: str, who: str, taken: tuple[float, int]) -> None:
        self.seconds.setdefault(work, {}).setdefault(who, []).append(taken[0])
        if who == "dockermagic":
            self.memory[work] = max(self.memory.get(work, 0), taken[1])

    def ours(self, home: Path, *words: str) -> tuple[float, int]:
        return timed([sys.executable, "-m", "dockermagic", *words], {"DOCKERMAGIC_HOME": str(home)})

    def fresh(self) -> Path:
        self.count += 1
        return self.directory / f"home{self.count}"

    def fill(self) -> None:
        """Put the images on the registry."""
        records = Records(self.directory / "source")
        store = Store(self.directory / "source", records)
        for name, sizes in (("one", [270]), ("five", [108] * 5)):
            with store.lease():
                made = Image.empty(Platform.host())
                for number, size in enumerate(sizes):
                    plain, packed = layer(size)
                    blob = LayerBlob(store.put(packed, layer_media_type("gzip")), digest(plain), len(plain))
                    made = made.append_layer(blob, HistoryEntry(created=timestamp(0), created_by=f"COPY {number} /"))
                    if name == "one":
                        (self.directory / "layer.tar.gz").write_bytes(packed)
                reference = Reference.parse(f"{self.registry.address}/bench/{name}:1")
                descriptor = made.with_created(timestamp(0)).write(store)
                store.tag(reference, descriptor)
                push(store, reference, descriptor)
        records.close()

    def in_turn(self, work: str, taken: dict[str, Callable[[], tuple[float, int]]]) -> None:
        """Each does the work; who was first is last in the next round."""
        self.rounds[work] = self.rounds.get(work, -1) + 1
        names = list(taken)
        first = self.rounds[work] % len(names)
        for who in names[first:] + names[:first]:
            self.note(work, who, taken[who]())

    def pull(self, name: str) -> None:
        image = f"{self.registry.address}/bench/{name}:1"

        def ours() -> tuple[float, int]:
            home = self.fresh()
            # Once a boot it is tried what this host allows, as others do when their daemon starts.
            self.ours(home, "info")
            taken = self.ours(home, "pull", "-q", image)
            shutil.rmtree(home)
            return taken

        def docker() -> tuple[float, int]:
            if left := self.docker("images", "-aq").stdout:
                raise RuntimeError(f"docker has images already: {left}")
            taken = timed(self.docker.command("pull", "-q", image))
            self.docker("rmi", "-f", image)
            return taken

        def podmans() -> tuple[float, int]:
            tool = podman(self.fresh())
            taken = timed(tool.command("pull", "-q", "--tls-verify=false", image), tool.environment)
            tool("rmi", "-f", image)
            return taken

        work = f"pull and unpack, {name} layer{'s' if name == 'five' else ''}"
        self.in_turn(work, {"dockermagic": ours, "docker": docker, "podman": podmans})

    def push(self, name: str) -> None:
        """To registries with nothing on them: what is there already is not sent."""
        source = f"{self.registry.address}/bench/{name}:1"
        home, tool = self.directory / "source", skopeo(self.directory / "skopeo")

        def ours(target: str) -> tuple[float, int]:
            self.ours(home, "tag", source, target)
            taken = self.ours(home, "push", "-q", target)
            self.ours(home, "rmi", target)
            return taken

        def skopeos(target: str) -> tuple[float, int]:
            words = ("copy", "-q", "--dest-tls-verify=false", f"oci:{home}:{source}", f"docker://{target}")
            return timed(tool.command(*words), tool.environment)

        def to_empty(send: Callable[[str], tuple[float, int]]) -> tuple[float, int]:
            place = self.fresh()
            place.mkdir()
            empty = Registry(place)
            try:
                return send(f"{empty.address}/to/{name}:1")
            finally:
                empty.stop()
                shutil.rmtree(place)

        self.in_turn(f"push, {name}", {"dockermagic": partial(to_empty, ours), "skopeo": partial(to_empty, skopeos)})

    def save(self) -> None:
        image = f"{self.registry.address}/bench/five:1"
        out = self.directory / "saved.tar"
        self.docker("pull", "-q", image)
        self.in_turn(
            "save",
            {
                "dockermagic": lambda: self.ours(self.directory / "source", "save", "-o", str(out), image),
                "docker": lambda: timed(self.docker.command("save", "-o", self.docker.path(out), image)),
            },
        )
        self.docker("rmi", "-f", image)  # so that the next round's pull is cold

    def unpack(self) -> None:
        blob = self.directory / "layer.tar.gz"
        code = (
            "import os,sys; from dockermagic.oci.layer import unpack; os.mkdir(sys.argv[2]);"
            " unpack(os.open(sys.argv[1], os.O_RDONLY), sys.argv[2])"
        )

        def into(command: Callable[[Path], Sequence[str]]) -> tuple[float, int]:
            place = self.fresh()
            place.mkdir()
            taken = timed(command(place))
            shutil.rmtree(place)
            return taken

        self.in_turn(
            "unpack",
            {
                "dockermagic": lambda: into(lambda place: [sys.executable, "-c", code, str(blob), str(place / "x")]),
                "tar xzf": lambda: into(lambda place: ["tar", "xzf", str(blob), "-C", str(place)]),
            },
        )

    def table(self) -> str:
        lines = ["| work | dockermagic | others (ours / theirs) | memory |", "|---|---|---|---|"]
        for work, taken in self.seconds.items():
            mine = statistics.median(taken["dockermagic"])
            others = {who: statistics.median(values) for who, values in taken.items() if who != "dockermagic"}
            ratios = ", ".join(f"{who} {theirs:.2f} s ({mine / theirs:.2f})" for who, theirs in others.items())
            lines.append(f"| {work} | {mine:.2f} s | {ratios} | {self.memory[work]} MB |")
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["pull", "push", "save", "unpack"], action="append")
    options = parser.parse_args()
    docker = Docker()
    try:
        with tempfile.TemporaryDirectory(prefix="dockermagic-bench-", dir="/var/tmp") as name:
            (Path(name) / "registry").mkdir()
            registry = Registry(Path(name) / "registry")
            try:
                bench = Bench(Path(name), docker, registry)
                bench.fill()
                works: list[tuple[str, Callable[[], None]]] = [
                    ("pull", lambda: bench.pull("one")),
                    ("pull", lambda: bench.pull("five")),
                    ("push", lambda: bench.push("five")),
                    ("save", bench.save),
                    ("unpack", bench.unpack),
                ]
                for _ in range(options.rounds):
                    for kind, work in works:
                        if kind in (options.only or [kind]):
                            work()
                print(f"load {os.getloadavg()[0]:.1f}\n\n{bench.table()}")
                print(json.dumps(bench.seconds))
            finally:
                registry.stop()
    finally:
        docker.stop()


if __name__ == "__main__":
    main()
