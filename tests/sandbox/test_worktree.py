"""Working trees: whatever they held before, they hold what a new one would; a record is read as it was written."""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path

from dockermagic.sandbox import tree_record
from dockermagic.sandbox.base import Rootfs
from dockermagic.sandbox.worktree import WorkTree, check_out

NAMES = ("a", "b", "c", "\udcff")


def shown(top: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every path with its mode and what it holds."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            holds = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(top))] = mode, holds
    return found


def disturb(top: Path, chance: random.Random) -> None:
    """One change at random below a directory, or none."""
    folders = [top, *(path for path in sorted(top.rglob("*")) if path.is_dir() and not path.is_symlink())]
    place = chance.choice(folders) / chance.choice(NAMES)
    kind = chance.choice(("file", "append", "mode", "directory", "link", "hard link", "gone", "gone"))
    is_there = place.exists() and not place.is_symlink()
    if kind == "append" and is_there and place.is_file():
        with place.open("a") as file:
            file.write("more")
    elif kind == "mode" and is_there:
        place.chmod(stat.S_IMODE(place.stat().st_mode) ^ 0o070)
    elif kind not in ("append", "mode"):
        shutil.rmtree(place) if is_there and place.is_dir() else place.unlink(missing_ok=True)
        others = [path for path in sorted(top.rglob("*")) if path.is_file() and not path.is_symlink()]
        if kind == "file":
            place.write_text(f"{chance.random()}")
        elif kind == "directory":
            place.mkdir()
            (place / chance.choice(NAMES)).write_text(f"{chance.random()}")
        elif kind == "link":
            place.symlink_to(chance.choice(NAMES))
        elif kind == "hard link" and others:
            place.hardlink_to(chance.choice(others))


def held(tree: WorkTree) -> dict[str, tuple[int, bytes | str]]:
    return shown(Path(tree.path))


def test_a_tree_holds_any_stack_after_any_other(tmp_path: Path) -> None:
    chance = random.Random(1)
    base = tmp_path / "base"
    base.mkdir()
    stacks: list[tuple[Path, ...]] = [(base,)]
    wanted = {(base,): shown(base)}
    for number in range(40):
        stack = chance.choice(stacks[-6:])
        upper = tmp_path / f"layer-{number}"
        upper.mkdir()
        tree = check_out(str(tmp_path), "way", Rootfs(stack, upper))
        assert held(tree) == wanted[stack]
        for _ in range(chance.randrange(6)):
            disturb(Path(tree.path), chance)
        if chance.random() < 0.3:  # as of one that was killed
            tree.release()
            continue
        made = (*stack, upper)
        wanted[made] = held(tree)
        tree.keep()
        tree.release()
        stacks.append(made)

    for made in stacks[1:]:
        fresh = check_out(str(tmp_path), f"fresh-{len(made)}-{made[-1].name}", Rootfs(made))
        assert held(fresh) == wanted[made]
        fresh.release()


def test_a_sibling_after_its_sibling_changes_nothing_else(tmp_path: Path) -> None:
    """The layer of a step that comes in place of another one has what it did, and nothing of the other's."""
    base = tmp_path / "base"
    (base / "d").mkdir(parents=True)
    (base / "d" / "one").write_text("1")
    (base / "d" / "two").hardlink_to(base / "d" / "one")
    for number in range(3):
        upper = tmp_path / f"upper-{number}"
        upper.mkdir()
        tree = check_out(str(tmp_path), "way", Rootfs((base,), upper))
        Path(tree.path, "d", f"new-{number}").write_text("new")
        tree.keep()
        tree.release()
        assert set(shown(upper)) == {"d", f"d/new-{number}"}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = {"": (0o40755, 4096, -1, 1 << 63, 0, (1 << 32) - 2, 5), "a/\udcff\n": (0o100644, 1 << 40, 3, 4, 5, 6, 7)}
    tree_record.write(tmp_path / "record", rows)
    assert tree_record.read(tmp_path / "record") == rows

    data = (tmp_path / "record").read_bytes()
    for broken in (b"", data[:4], data[:40], data[: data.index(b"\0a")], data[8:]):
        (tmp_path / "record").write_bytes(broken)
        assert tree_record.read(tmp_path / "record") is None
    assert tree_record.read(tmp_path / "missing") is None


def test_a_folder_may_give_way_while_it_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    rows = tree_record.rows_below(str(tmp_path))
    assert next(rows)[0] == "x"
    (tmp_path / "x").rmdir()
    (tmp_path / "x").touch()
    assert list(rows) == []
