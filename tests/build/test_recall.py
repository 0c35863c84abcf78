"""What is remembered of a context: the digest of a selection, as long as none of its files has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dockermagic.build import context
from dockermagic.build.context import Context, Recalled, Selection, StatCache, forget_gone
from dockermagic.errors import ContextError
from dockermagic.records import Records


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A context whose files have settled."""
    monkeypatch.setattr(context, "_SETTLED", -(1 << 62))
    root = tmp_path / "context"
    (root / "sub/deeper").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/deeper/c", "sub/left-out"):
        (root / name).write_text(name)
    (root / "link").symlink_to("a")
    (root / "folder").symlink_to("sub")
    return root


def look(
    root: Path, *patterns: str, excludes: tuple[str, ...] = (), ignored: str = "**/left-out"
) -> Selection | Recalled:
    cache = StatCache(Records(root.parent / "store"), str(root))
    found = Context(root, [ignored], cache).select(patterns or (".",), excludes=excludes)
    cache.save()
    return found


def overwrite(path: Path) -> None:
    """Other content, of the same size and with the same time, as soon as the clock tells it apart."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text(path.read_text().swapcase())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("patterns", [(".",), ("a", "sub"), ("folder",), ("link",)])
def test_what_has_not_changed_is_recalled(root: Path, patterns: tuple[str, ...]) -> None:
    first, second = look(root, *patterns), look(root, *patterns)

    assert (type(first), type(second)) == (Selection, Recalled)
    assert (second.digest, second.transferred) == (first.digest, 0)
    assert (second.groups, second.files()) == (first.groups, first.files())


def test_contexts_that_are_gone_are_forgotten(root: Path) -> None:
    look(root)
    other = root.parent / "other"
    root.rename(other)
    look(other)
    records = Records(root.parent / "store")
    forget_gone(records)

    for table in ("contexts", "selections"):
        assert [row["root"] for row in records.rows(f"SELECT root FROM {table}")] == [str(other)]


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: overwrite(root / "sub/deeper/c"),
    "mode": lambda root: (root / "sub/b").chmod(0o755),
    "mode of a directory": lambda root: (root / "sub/deeper").chmod(0o700),
    "one more": lambda root: (root / "sub/new").write_text(""),
    "one less": lambda root: (root / "sub/b").unlink(),
    "another name": lambda root: (root / "sub/b").rename(root / "sub/bb"),
    "another target": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("b")),
    "another kind": lambda root: ((root / "a").unlink(), (root / "a").mkdir()),
    "an empty directory": lambda root: (root / "sub/empty").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(root: Path, change: str) -> None:
    before = look(root)
    CHANGES[change](root)

    after = look(root)
    assert isinstance(after, Selection)
    assert after.digest != before.digest
    assert look(root).digest == after.digest


def test_what_else_decides_is_told_apart(root: Path) -> None:
    """A selection is that of its patterns, exclusions and ignore file; wildcards are looked up each time."""
    digests = {
        look(root, "sub").digest,
        look(root, "sub", excludes=("b",)).digest,
        look(root, "sub", ignored="b").digest,
    }
    (root / "sub/left-out").write_text("changed")

    assert len(digests) == 3
    assert isinstance(look(root, "sub"), Recalled)
    assert isinstance(look(root, "s*"), Selection)
    assert isinstance(look(root, "s*"), Selection)


def test_a_file_that_has_just_changed_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_SETTLED", 1 << 62)

    assert [type(look(root)) for _ in range(2)] == [Selection, Selection]


def test_files_that_change_under_a_build_are_not_taken_for_those_before(root: Path) -> None:
    look(root)
    recalled = look(root)
    (root / "a").write_text("other")

    with pytest.raises(ContextError, match="changed while it was built"):
        _ = recalled.groups


def test_a_path_that_can_be_none_is_an_error_of_the_context(root: Path) -> None:
    for pattern in ("a\0b", "\ud800"):
        with pytest.raises(ContextError):
            look(root, pattern)
