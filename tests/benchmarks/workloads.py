"""What is measured, and how each engine does it.

A workload prepares, then is run in rounds, each engine in turn, so that a noisy machine is noisy for all. An engine's
``None`` means: it has no such thing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.chroot import Chroot
from tests.peers.docker import Docker

REPO = Path(__file__).parents[2]
CHAIN = 20


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    taken: list[float] = []
    start = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - start)


class Engine(ABC):
    """Builds directories from a shell; the whole command is what is timed."""

    name: str
    slow = False
    """Whether it takes part in the first round only where a round of its own takes half a minute."""

    @abstractmethod
    def load(self, archive: Path) -> None: ...

    @abstractmethod
    def command(self, context: Path, *options: str) -> list[str]: ...

    @abstractmethod
    def forget(self) -> None:
        """Drop every cached step; the base image stays."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def build(self, context: Path, *options: str) -> float:
        """Seconds of one build from the command line."""
        return self.timed(self.command(context, *options))

    def timed(self, command: list[str]) -> float:
        os.sync()  # what others have written is not to be paid for here
        with stopwatch() as taken:
            done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return taken[0]

    def run_true(self) -> float | None:
        """Seconds of ``run --rm busybox true``."""
        return None


class BuildKit(Engine):
    name = "BuildKit"

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        version = docker("version", "--format", "{{.Server.Version}}").stdout.strip()
        self.version = f"Docker {version}"

    def load(self, archive: Path) -> None:
        self.docker.load(archive)

    def command(self, context: Path, *options: str) -> list[str]:
        words = ["build", "--quiet", "--network=host", "--tag=bench", *options, self.docker.path(context)]
        return self.docker.command(*words)

    def forget(self) -> None:
        self.docker("builder", "prune", "--all", "--force")

    def run_true(self) -> float:
        return self.timed(self.docker.command("run", "--rm", "--network=host", "busybox", "true"))


class Buildah(Engine):
    """The chroot's buildah, with a cache of steps (``--layers``) as the others have."""

    name = "buildah"
    slow = True
    options = ("--root", "/var/lib/docker/buildah", "--runroot", "/run/buildah")
    config = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'

    def __init__(self, chroot: Chroot) -> None:
        self.chroot = chroot
        script = 'printf %s "$1" > /run/containers.conf'
        chroot.run("sh", "-c", script, "sh", self.config)
        self.version = " ".join(chroot.run("buildah", "--version").stdout.split()[:3])

    def _words(self, *words: str) -> list[str]:
        environment = ["env", "CONTAINERS_CONF=/run/containers.conf", "STORAGE_DRIVER=overlay"]
        return self.chroot.command(*environment, "buildah", *self.options, *words)

    def load(self, archive: Path) -> None:
        self.timed(self._words("pull", "--quiet", f"docker-archive:{self.chroot.path(archive)}"))

    def command(self, context: Path, *options: str) -> list[str]:
        words = ("build", "--quiet", "--layers", "--isolation=chroot", "--tag=bench", *options)
        return self._words(*words, self.chroot.path(context))

    def forget(self) -> None:
        for name in subprocess.run(self._words("images", "--all", "--quiet", "--filter=reference=bench"), capture_output=True, text=True).stdout.split():  # fmt: skip # noqa: E501
            subprocess.run(self._words("rmi", "--force", name), capture_output=True)


class Ours(Engine):
    name = "dockermagic"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.archive: Path | None = None
        self.version = subprocess.run(
            [sys.executable, "-c", "import dockermagic; print(dockermagic.__version__)"],
            cwd=REPO, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    def environment(self) -> dict[str, str]:
        # An installed package is compiled: so shall this one be after its first run.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return inherited | {"DOCKERMAGIC_HOME": str(self.home), "PYTHONPATH": str(REPO)}

    def load(self, archive: Path) -> None:
        self.archive = archive
        self.timed([sys.executable, "-m", "dockermagic", "load", "-i", str(archive)])

    def command(self, context: Path, *options: str) -> list[str]:
        return [sys.executable, "-m", "dockermagic", "build", "--quiet", "--tag=bench", *options, str(context)]

    def forget(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        assert self.archive
        self.load(self.archive)

    def run_true(self) -> float:
        return self.timed([sys.executable, "-m", "dockermagic", "run", "--rm", "busybox", "true"])

    def inside(self, what: str, *arguments: str) -> dict[str, float]:
        """Timings taken inside one IPython process (:mod:`tests.benchmarks.inside`), in seconds."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.inside", what, *arguments],
            env=self.environment(), capture_output=True, text=True, check=False, cwd=REPO,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"inside {what}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


def chain(directory: Path, salt: str) -> Path:
    """A context whose Dockerfile has twenty instructions that each keep a layer."""
    directory.mkdir(exist_ok=True)
    lines = "".join(f"RUN true {salt} {number}\n" for number in range(CHAIN))
    (directory / "Dockerfile").write_text(f"FROM busybox\n{lines}")
    return directory


def many_files(directory: Path, count: int = 20_000, size: int = 4096) -> Path:
    """A context of ``count`` files of ``size`` bytes, none like another, two hundred to a directory."""
    for number in range(count):
        folder = directory / f"d{number // 200:03d}"
        if number % 200 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number:05d}").write_bytes((f"{number:08d}" * (size // 8)).encode())
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY . /files\n")
    return directory


def change_one(directory: Path, word: str) -> None:
    path = directory / "d000/f00000"
    path.write_bytes((word.ljust(8)[:8] * 512).encode())


@dataclass
class Row:
    """One line of the table: seconds by engine, one for each round; ``per`` divides them for the reader."""

    title: str
    seconds: dict[str, list[float]]
    per: int = 1
    goal: str = ""
