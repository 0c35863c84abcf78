"""The command line as a person has it: its own process, its own store, in every id mode."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Commands:
    """Runs ``python -m dockermagic`` on one store, in one directory."""

    home: Path
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUILDKIT_", "SSH_"))}
        return {**inherited, "PYTHONPATH": str(REPO), "DOCKERMAGIC_HOME": str(self.home), **self.environment}

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", "dockermagic"]

    def __call__(self, *words: str, stdin: bytes = b"", code: int | None = 0) -> Done:
        """Run to the end; the exit code must be ``code`` (None: any)."""
        done = self.raw(*words, stdin=stdin, code=code)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def raw(self, *words: str, stdin: bytes = b"", code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        """The same with bytes."""
        done = subprocess.run(
            [*self.program, *words], input=stdin, capture_output=True, env=self.env, cwd=self.directory, timeout=120
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        if code is not None:
            assert done.returncode == code, f"{words}: {done.stdout.decode()}{done.stderr.decode()}"
        return done

    def start(self, *words: str, **streams: int) -> subprocess.Popen[bytes]:
        """Start a command and let it run."""
        return subprocess.Popen([*self.program, *words], env=self.env, cwd=self.directory, **streams)  # type: ignore[call-overload,no-any-return]

    def build(self, dockerfile: str, *words: str, code: int = 0) -> Done:
        """Build a Dockerfile that needs no context."""
        return self("build", *words, "-", stdin=dockerfile.encode(), code=code)

    def file(self, name: str, content: str) -> Path:
        """Write a file of the working directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path


@pytest.fixture
def commands(id_mode: str, engine_home: Path, tmp_path: Path) -> Iterator[Commands]:
    """A store with nothing in it, and a directory to stand in, in each id mode."""
    directory = tmp_path / "work"
    directory.mkdir()
    opened = Commands(engine_home, directory)
    yield opened
    if running := opened("ps", "-aq").out.split() if (engine_home / "containers").exists() else []:
        opened("rm", "-f", *running)


@pytest.fixture
def busybox(commands: Commands) -> Commands:
    """The same with ``busybox:latest`` in the store."""
    commands("base", "-q", "busybox")
    return commands
