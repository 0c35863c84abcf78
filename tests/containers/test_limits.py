"""Where limits are written: control groups of version 2 in a made-up tree, resource limits where there is none.

Those marked `machine` are of a machine with systemd and version 2: run them by hand, as root and as an ordinary user
who has logged in, with `pytest -m machine tests/containers/test_limits.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dockermagic.containers import limits, scopes
from dockermagic.containers.limits import Limits, enter_groups, out_of_memory
from dockermagic.containers.processes import usage
from dockermagic.sandbox.base import Ulimit


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy in which this process is in a leaf of a subtree."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    parent = tmp_path / "user.slice"
    parent.mkdir()
    monkeypatch.setattr(limits, "_ROOT", tmp_path)
    monkeypatch.setattr(scopes, "_BOOTED", tmp_path / "no systemd")
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


def test_groups_of_killed_containers_go_with_the_next(tree: Path) -> None:
    """But not those that are somebody else's, or in use (not empty), or a moment old, whose process may yet come."""
    (tree / "cgroup.subtree_control").write_text("memory")
    left, used, other, young = (tree / f"dockermagic-{name}" for name in ("a" * 12, "b" * 12, "peers-1", "c" * 12))
    for group in (left, used, other, young):
        group.mkdir()
    (used / "cgroup.procs").touch()
    for group in (left, used, other):
        os.utime(group, (0, 0))
    Limits("dockermagic-0123456789ab", memory=1 << 20).prepare()
    assert [group.exists() for group in (left, used, other, young)] == [False, True, True, True]


def test_out_of_memory_is_seen_in_both_versions(tmp_path: Path) -> None:
    """The kernel counts what it killed; a group that is gone, or of another controller, says nothing."""
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\n")
    assert not out_of_memory([str(tmp_path), str(tmp_path / "gone")])
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert out_of_memory([str(tmp_path)])


def test_what_a_group_uses(tmp_path: Path) -> None:
    """Its memory without what is kept in case, and the time of those that have ended, are the group's own figures."""
    (tmp_path / "memory.max").write_text("67108864\n")
    (tmp_path / "memory.current").write_text("30000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 10000000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 90000000\nuser_usec 1\n")
    used = usage(os.getpid(), (str(tmp_path),), "host")
    assert (used.memory, used.limit, used.cpu) == (20000000, 67108864, 90.0)


@pytest.mark.machine
def test_a_scope_of_systemd(tmp_path: Path) -> None:
    """It has every limit, takes in a process from this login's group, and is gone with its last process."""
    asked = Limits("dockermagic-test", memory=64 << 20, cpus=0.5, pids=10)
    asked.prepare()
    assert (asked.notes, asked.ulimits) == ([], [])
    (group,) = asked.groups
    read = {name: (group / name).read_text().strip() for name in ("memory.max", "cpu.max", "pids.max")}
    assert read == {"memory.max": "67108864", "cpu.max": "50000 100000", "pids.max": "11"}

    command = "import sys; input(); kept = b'x' * (1 << 28); print(len(kept))"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hungry:
        process = os.pidfd_open(hungry.pid)
        enter_groups([str(group)], process)
        os.close(process)
        assert hungry.communicate(b"\n")[0] == b""
    assert hungry.returncode == -signal.SIGKILL
    assert out_of_memory([str(group)])
    asked.close()
    deadline = time.monotonic() + 60
    while group.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
