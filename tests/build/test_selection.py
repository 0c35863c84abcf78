"""What a COPY's sources stand for in a tree of files, and what of it makes a digest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from dockermagic.build.selection import Tree, digest_groups, file_digest, resolve, select
from dockermagic.dockerfile.ignore import Matcher
from tests.build.kit import write

FILES = {
    "a.txt": "a",
    "[b].txt": "b",
    "d/one": "1",
    "d/two.md": "2",
    "d/e/three": "3",
    "d/link": "->one",
    "f/": "",
    "to-d": "->d",
    "to-root": "->/",
    "out": "->../../etc",
    "round": "->round",
    "gone": "->nowhere",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "root", FILES)


def taken(root: Path, pattern: str, ignore: str = "", **options: object) -> list[str]:
    """What a pattern selects: each source with what is in it."""
    tree = Tree(str(root), Matcher(ignore.split()) if ignore else None)
    groups = select(tree, pattern, **options)  # type: ignore[arg-type]
    return [f"{group.name}:{','.join(entry.target for entry in group.entries[1:])}" for group in groups]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt:"]),
        ("/a.txt", ["a.txt:"]),
        ("../../a.txt", ["a.txt:"]),
        ("d", ["d:e,e/three,link,one,two.md"]),
        ("to-d", ["to-d:e,e/three,link,one,two.md"]),
        ("to-d/e/three", ["three:"]),
        ("to-root/a.txt", ["a.txt:"]),
        ("*.txt", ["[b].txt:", "a.txt:"]),
        ("[a-b].txt", ["a.txt:"]),
        ("[[]b].txt", ["[b].txt:"]),
        ("\\[b\\].txt", ["[b].txt:"]),
        ("?.txt", ["a.txt:"]),
        ("d/*/three", ["three:"]),
        ("*/one", ["one:"]),
        ("none*", []),
        ("[^a].txt", []),
    ],
)
def test_sources(root: Path, pattern: str, expected: list[str]) -> None:
    assert taken(root, pattern) == expected


@pytest.mark.parametrize("pattern", ["none", "gone", "round", "out", "out/passwd", "none/*", "a.txt/x"])
def test_what_is_not_there(root: Path, pattern: str) -> None:
    with pytest.raises(FileNotFoundError):
        taken(root, pattern)


@pytest.mark.parametrize("pattern", ["[", "a\\", "[a-"])
def test_malformed_wildcards(root: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="syntax error in pattern"):
        taken(root, pattern)


@pytest.mark.parametrize(
    ("ignore", "pattern", "expected"),
    [
        ("d/e", "d", ["d:link,one,two.md"]),
        ("d/* !d/one", "d", ["d:one"]),
        ("d !d/e/three", "d", ["d:e,e/three"]),
        ("**/*.md *.txt", "*", ["d:e,e/three,link,one", "f:", "to-d:e,e/three,link,one"]),
    ],
)
def test_ignored(root: Path, ignore: str, pattern: str, expected: list[str]) -> None:
    for name in ("gone", "out", "round", "to-root"):
        (root / name).unlink()
    assert taken(root, pattern, ignore) == expected


def test_parents_and_excludes(root: Path) -> None:
    tree = Tree(str(root))
    (group,) = select(tree, "d/e/three", parents=True)
    assert (group.name, [parent.target for parent in group.parents or ()]) == ("d/e/three", ["d", "d/e"])
    (group,) = select(tree, "./d/./e/three", parents=True)
    assert (group.name, [parent.target for parent in group.parents or ()]) == ("e/three", ["e"])
    assert taken(root, "**/one", parents=True) == ["d/one:"]
    assert taken(root, "d", excludes=Matcher(["e", "*.md"])) == ["d:link,one"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"d/one": "new"}, False),
        ({"d/new": ""}, False),
        ({"d/e/three": "->one"}, False),
        ({"a.txt": "unrelated"}, True),
        ({}, True),
    ],
)
def test_digest_is_of_what_matters(root: Path, change: Mapping[str, str], same: bool) -> None:
    def digest() -> str:
        tree = Tree(str(root))
        return digest_groups(select(tree, "d"), lambda entry: file_digest(tree.absolute(entry.path)), owners=False)

    before = digest()
    for name, text in change.items():
        (root / name).unlink(missing_ok=True)
        write(root, {name: text})
    os.utime(root / "d/one", (1, 1))

    assert (digest() == before) == same


def test_a_link_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    """Nothing is remembered about where a link led."""
    root = write(tmp_path / "root", {"a/x": "a", "b/x": "b", "l": "->a"})
    tree = Tree(str(root))
    assert resolve(tree, "l/x") == "a/x"
    (root / "l").unlink()
    (root / "l").symlink_to("../../b")
    assert resolve(tree, "l/x") == "b/x"
