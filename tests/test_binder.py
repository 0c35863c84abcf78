"""binder/: what mybinder.org would make of this repository, as far as that can be told without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.dockerfile.linter import check
from dockermagic.dockerfile.stages import parse_dockerfile

REPO = Path(__file__).parents[1]
BINDER = REPO / "binder"


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")
def test_repo2docker_accepts_it_and_our_parser_reads_what_it_makes() -> None:
    pytest.importorskip("repo2docker")
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "--user-id=1000", "--user-name=jovyan"]
    done = subprocess.run([*command, str(REPO)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    dockerfile = parse_dockerfile(done.stdout)
    words = [instruction.name for instruction in dockerfile.instructions()]

    assert dockerfile.stages[0].base.image.startswith("docker.io/library/buildpack-deps:")
    assert {"RUN", "COPY", "USER", "ENTRYPOINT", "CMD"} <= set(words)
    assert "mmdebstrap" in done.stdout and "binder/postBuild" in done.stdout and "binder/start" in done.stdout
    assert check(done.stdout).error is None


def test_it_names_its_python_and_its_scripts_can_be_started() -> None:
    version = re.fullmatch(r"python-3\.(\d+)\n", (BINDER / "runtime.txt").read_text())

    assert version and int(version[1]) >= 11
    for name in ("postBuild", "start"):
        assert os.access(BINDER / name, os.X_OK)
        assert subprocess.run(["bash", "-n", BINDER / name], check=False).returncode == 0


def test_start_hands_on_what_it_is_given(tmp_path: Path) -> None:
    command = [BINDER / "start", "sh", "-c", 'echo "$DOCKERMAGIC_HOME" "$@"', "sh", "a b", "c"]
    done = subprocess.run(
        command, env={"HOME": "/home/jovyan", "PATH": os.environ["PATH"]}, capture_output=True, text=True
    )

    assert done.stdout == "/home/jovyan/.dockermagic a b c\n"
