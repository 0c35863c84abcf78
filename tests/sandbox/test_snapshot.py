"""Snapshots: whole or not at all, never removed while in use, cleared up after a death or a restart."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.errors import StoreError
from dockermagic.records import Records
from dockermagic.sandbox.snapshot import Snapshotter
from tests.sandbox.kit import Room

REPO = Path(__file__).parents[2]


def directories(room: Room) -> set[str]:
    return {entry for entry in os.listdir(room.home / "snapshots") if entry != "mount-points"}


def test_commit_and_find(room: Room) -> None:
    first = room.step("echo 1 > /1", key="one")
    second = room.step("echo 2 > /2", key="two")

    assert room.snapshots.find("one") == first
    assert room.snapshots.get(second.id) == second
    assert room.snapshots.find("three") is None
    assert room.snapshots.chain(second)[-2:] == (first.fs, second.fs)
    assert os.listdir(second.fs) == ["2"]
    assert os.listdir(second.directory) == ["fs"]


def test_the_root_directory_is_like_the_one_below(room: Room) -> None:
    room.step("chmod 750 /; chown 5:6 /")
    snapshot = room.step("touch /x")

    assert stat.S_IMODE(os.stat(snapshot.fs).st_mode) == 0o750
    assert room.printed("stat -c '%u:%g' /") == ("0:0\n" if room.mode == "single" else "5:6\n")


@pytest.mark.alike
def test_the_same_key_twice_is_one_snapshot(room: Room) -> None:
    """Two processes that made the same layer: the first commit counts."""
    one, two = room.snapshots.prepare(room.top), room.snapshots.prepare(room.top)
    first = room.snapshots.commit(one, "same")

    assert room.snapshots.commit(two, "same") == first
    assert not two.directory.exists()


@pytest.mark.alike
def test_commit_is_undone_with_its_transaction(room: Room) -> None:
    active = room.snapshots.prepare(room.top)
    with pytest.raises(ZeroDivisionError), room.records.transaction():
        room.snapshots.commit(active, "undone")
        raise ZeroDivisionError

    assert room.snapshots.find("undone") is None
    assert len(room.snapshots.sweep().directories) == 1


def test_discard(room: Room) -> None:
    active = room.snapshots.prepare(room.top)
    room.run("mkdir -p /a/b; chown -R 7:8 /a; chmod 0 /a/b /a", rootfs=active.rootfs)
    room.snapshots.discard(active)
    room.snapshots.discard(active)

    assert not active.directory.exists()


@pytest.mark.alike
def test_size(room: Room) -> None:
    snapshot = room.step("head -c 1000 /dev/zero > /a; ln /a /b; mkdir /c; echo 1 > /c/d")

    assert room.snapshots.size(snapshot) == 1002
    assert room.snapshots.find(snapshot.key).size == 1002  # type: ignore[union-attr]


def test_remove(room: Room) -> None:
    """From the top only, with everything that stands on it."""
    first, second, third = (room.step(f"echo > /{number}") for number in range(3))

    assert room.snapshots.remove([first.id]) == []
    assert room.snapshots.remove([first.id, third.id]) == [third.id]
    assert room.snapshots.remove([first.id, second.id, 4711]) == [first.id, second.id]
    assert directories(room) == {str(room.snapshots.find("base").id)}  # type: ignore[union-attr]


@pytest.mark.alike
def test_what_is_in_use_stays(room: Room) -> None:
    first, second = room.step("echo > /1"), room.step("echo > /2")
    active = room.snapshots.prepare(first)

    assert room.snapshots.remove([first.id, second.id]) == [second.id]
    room.snapshots.discard(active)
    with room.snapshots.hold(first):
        assert room.snapshots.remove([first.id]) == []
    assert room.snapshots.remove([first.id]) == [first.id]


@pytest.mark.alike
def test_a_removed_parent_is_said(room: Room) -> None:
    first = room.step("echo > /1")
    room.snapshots.remove([first.id])

    with pytest.raises(StoreError, match=f"snapshot {first.id} is gone"):
        room.snapshots.prepare(first)
    with pytest.raises(StoreError, match="is gone"), room.snapshots.hold(first):
        pass


def test_sweep_leaves_the_living(room: Room) -> None:
    active = room.snapshots.prepare(room.top)

    assert len(room.snapshots.sweep().directories) == 0
    assert active.directory.exists()
    room.snapshots.discard(active)


def test_a_restart_of_the_machine_drops_what_was_not_synced(room: Room) -> None:
    """And what stands on it, even if that was written later."""
    kept = room.step("echo > /kept")
    room.snapshots.sync()
    lost = room.step("echo > /lost")
    above = room.step("echo > /above")
    with room.records.transaction() as transaction:
        transaction.execute("UPDATE snapshots SET boot = 'another' WHERE id = ?", (lost.id,))

    assert len(room.snapshots.sweep().directories) == 2
    assert room.snapshots.get(kept.id) == kept
    assert [room.snapshots.get(one.id) for one in (lost, above)] == [None, None]


@pytest.mark.alike
def test_ids_are_never_used_again(room: Room) -> None:
    first = room.step("echo > /1")
    room.snapshots.remove([first.id])
    room.top = room.snapshots.find("base")

    assert room.step("echo > /2").id > first.id


DYING = """
import os, signal, sys
from pathlib import Path
from tests.sandbox.kit import Room
room = Room(Path(sys.argv[1]), sys.argv[2])
room.top = room.snapshots.find("base")
where = sys.argv[3]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "running":
    room.run("echo x > /half; kill -STOP 1; echo; sleep 300", output=die)
if where == "before rename":
    os.rename = die
if where == "after rename":
    real = os.rename
    def rename(*names):
        real(*names)
        die()
    os.rename = rename
if where == "before commit":
    room.records.after_commit = die
    room.snapshots._sync_later = die
room.step("mkdir /d; chown 5:6 /d; echo whole > /d/whole", key="next")
"""


@pytest.mark.parametrize("where", ["running", "before rename", "after rename", "before commit"])
def test_kill_at_any_point(room: Room, tmp_path: Path, where: str) -> None:
    """What was committed is whole; what was not leaves nothing behind after the next start."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(room.home), room.mode, where],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    again = Snapshotter(room.home, Records(room.home), room.sandbox)
    again.sweep()

    assert again.find("next") is None
    assert directories(room) == {str(room.snapshots.find("base").id)}  # type: ignore[union-attr]
    assert room.step("cat /d/whole 2>/dev/null; echo fine") is not None


def test_modes_do_not_share(room: Room) -> None:
    """A snapshot belongs to one id mode: its owners mean nothing in another."""
    with room.records.transaction() as transaction:
        transaction.execute("UPDATE snapshots SET mode = 'other'")

    assert room.snapshots.find("base") is None
    assert room.snapshots.all() == []


def test_nobody_outside_can_enter(room: Room) -> None:
    """Set-id programs of an image are not for other users of the host."""
    room.printed("true")

    assert stat.S_IMODE(os.stat(room.home / "snapshots").st_mode) == 0o700
