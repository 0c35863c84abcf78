"""Where limits are written: control groups of version 2 in a made-up tree, resource limits where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dockermagic.containers import limits
from dockermagic.containers.limits import Limits
from dockermagic.sandbox.base import Ulimit


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy in which this process is in a leaf of a subtree."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    parent = tmp_path / "user.slice"
    parent.mkdir()
    monkeypatch.setattr(limits, "_ROOT", tmp_path)
    monkeypatch.setattr(Limits, "_own_group", lambda self, name: None if name else "user.slice/shell.scope")
    return parent


def test_a_delegated_subtree(tree: Path) -> None:
    """The group is made beside that of this process, which is a leaf, and holds the container's processes."""
    (tree / "cgroup.subtree_control").write_text("")
    asked = Limits("box", memory=64 << 20, cpus=0.5, pids=10)
    asked.prepare()
    process = os.pidfd_open(os.getpid())
    asked.join(process)
    os.close(process)

    group = tree / "box"
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
        "pids.max": "10",
        "cgroup.procs": str(os.getpid()),
    }
    assert (asked.groups, asked.notes, asked.ulimits) == ([group], [], [])
    for path in group.iterdir():  # the kernel's files go with their directory
        path.unlink()
    asked.close()
    assert not group.exists()


def test_a_subtree_that_is_not_ours(tree: Path) -> None:
    """No group is left; what can be is held by resource limits, and all of it is said."""
    asked = Limits("box", memory=64 << 20, cpus=0.5, pids=10)
    asked.prepare()

    assert asked.ulimits == [Ulimit("as", 64 << 20, 64 << 20), Ulimit("nproc", 10, 10)]
    assert [note.partition(" ")[0] for note in asked.notes] == ["--memory", "--cpus", "--pids-limit"]
    assert list(tree.iterdir()) == []
