"""The harness itself: an engine test really runs as the user of its id mode."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.idmodes import own_mode

linux = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="id modes are Linux's")


@linux
def test_a_test_runs_as_the_user_of_its_mode(id_mode: str, engine_home: Path) -> None:
    (engine_home / "own").touch()

    assert own_mode() == id_mode
    assert (os.geteuid() == 0) == (id_mode == "root")
    assert (engine_home / "own").stat().st_uid == os.geteuid()
    assert Path.home().stat().st_uid == os.geteuid()


@linux
def test_ids_that_the_mode_can_map(id_mode: str) -> None:
    """Root has all ids; newuidmap maps a range for the one user and refuses the other."""
    unshare = ["unshare", "--user", "--map-auto", "--map-root-user"] if id_mode != "root" else []
    done = subprocess.run([*unshare, "cat", "/proc/self/uid_map"], capture_output=True, text=True)
    ids = sum(int(line.split()[2]) for line in done.stdout.splitlines())

    assert (ids > 1) == (id_mode != "single"), done.stderr


@linux
@pytest.mark.parametrize("word", ["one", "two"])
def test_other_parameters_stay(word: str, id_mode: str) -> None:
    assert word in ("one", "two")
