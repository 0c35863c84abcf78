"""Search, comparison and copies of the tree that layers make, against trees written by hand."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest

from dockermagic.errors import UsageError
from dockermagic.oci.filefind import compare, find, pack
from tests.oci.trees import tar, unpack_bytes

BASE = [
    ("dir", "etc"),
    ("file", "etc/passwd", b"root"),
    ("file", "etc/hosts", b"localhost"),
    ("dir", "app"),
    ("file", "app/main.py", b"print(1)"),
    ("file", "app/util.py", b""),
]
ONE = [("file", "etc/passwd", b"root and app"), ("file", "app/new.py", b"x"), ("file", "etc/.wh.hosts", b"")]
OTHER = [("file", "etc/passwd", b"root and app"), ("file", "app/new.py", b"y"), ("file", "app/.wh.main.py", b"")]


@pytest.fixture
def trees(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Two trees that stand on one layer."""
    base, one, other = (tmp_path / name / "fs" for name in ("base", "one", "other"))
    unpack_bytes(tar(*BASE), base)
    unpack_bytes(tar(*ONE), one, [base])
    unpack_bytes(tar(*OTHER), other, [base])
    return [str(base), str(one)], [str(base), str(other)]


def test_search_by_name_path_expression_and_state(trees: tuple[list[str], list[str]]) -> None:
    layers, _ = trees

    def paths(**asked: object) -> dict[str, str]:
        found = find(layers, base=1, limit=100, **asked)  # type: ignore[arg-type]
        return {entry["path"]: entry["state"] for entry in found["entries"]}

    python = {"/app/main.py": "unchanged", "/app/new.py": "added", "/app/util.py": "unchanged"}
    assert paths(text=".PY") == python
    assert paths(text="app/n") == {"/app/new.py": "added"}
    assert paths(text=r"^/etc/(hosts|passwd)$", regex=True) == {"/etc/hosts": "removed", "/etc/passwd": "modified"}
    assert paths(states=["removed", "added"]) == {"/app/new.py": "added", "/etc/hosts": "removed"}
    assert paths(states=["modified"]) == {"/etc/passwd": "modified"}


def test_a_search_is_cut_and_says_so(trees: tuple[list[str], list[str]]) -> None:
    found = find(trees[0], base=1, text="a", limit=2)

    assert (len(found["entries"]), found["truncated"]) == (2, True)


def test_a_malformed_expression_is_an_error(trees: tuple[list[str], list[str]]) -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        find(trees[0], base=1, text="(", regex=True, limit=2)


def test_trees_that_part_ways_are_compared_by_content(trees: tuple[list[str], list[str]]) -> None:
    layers, other = trees
    found = compare(layers, other)

    assert [(one["path"], one["state"]) for one in found["paths"]] == [
        ("/app/main.py", "added"),
        ("/app/new.py", "modified"),
        ("/etc/hosts", "removed"),
    ]
    assert (found["added"], found["modified"], found["removed"], found["truncated"]) == (1, 1, 1, False)
    assert compare(layers, layers)["paths"] == []
    assert compare(layers, other, limit=1)["truncated"]


def test_trees_without_a_common_layer(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "fs", tmp_path / "other" / "fs"
    unpack_bytes(tar(*BASE), one)
    unpack_bytes(tar(*BASE[:2], ("dir", "srv"), ("file", "srv/page", b"hi")), other)

    found = {item["path"]: item["state"] for item in compare([str(one)], [str(other)])["paths"]}

    assert found.pop("/etc/hosts") == "added"
    assert found.pop("/srv") == "removed"
    assert found == {"/app": "added", "/app/main.py": "added", "/app/util.py": "added"}


def test_a_folder_is_packed_as_it_is_in_the_tree(trees: tuple[list[str], list[str]]) -> None:
    with tempfile.TemporaryFile() as file:
        assert pack(trees[0], "/app", out=file.fileno(), limit=1 << 20)["tar"]
        file.seek(0)
        with tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
            assert archive.getnames() == ["app", "app/main.py", "app/new.py", "app/util.py"]
            member = archive.extractfile("app/new.py")
            assert member is not None and member.read() == b"x"


def test_a_file_is_packed_as_it_is_and_nothing_too_large(trees: tuple[list[str], list[str]]) -> None:
    with tempfile.TemporaryFile() as file:
        assert pack(trees[0], "/etc/passwd", out=file.fileno(), limit=100) == {"tar": False, "size": 12}
        file.seek(0)
        assert file.read() == b"root and app"
        with pytest.raises(UsageError, match="too much"):
            pack(trees[0], "/etc/passwd", out=file.fileno(), limit=3)
        with pytest.raises(UsageError, match="no such file"):
            pack(trees[0], "/etc/hosts", out=file.fileno(), limit=100)
