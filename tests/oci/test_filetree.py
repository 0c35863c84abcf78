"""The tree of layers on one another, and what the upper ones changed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import UsageError
from dockermagic.oci.filetree import changes, list_directory, preview, wasted
from tests.oci.trees import tar, unpack_bytes

LOWER = [
    ("dir", "etc"),
    ("file", "etc/passwd", b"root"),
    ("file", "etc/hosts", b"localhost"),
    ("dir", "old"),
    ("file", "old/a", b"12345"),
    ("dir", "old/sub"),
    ("file", "old/sub/b", b"1234567"),
    ("dir", "same"),
    ("file", "same/file", b"same"),
    ("symlink", "link", "etc/passwd"),
    ("dir", "hidden"),
    ("file", "hidden/a", b"aa"),
    ("dir", "hidden/deep"),
    ("file", "hidden/deep/b", b"bbb"),
]
UPPER = [
    ("dir", "etc"),
    ("file", "etc/passwd", b"root and app"),
    ("file", "etc/new", b"new!"),
    ("file", ".wh.old", b""),
    ("file", ".wh.never", b""),
    ("dir", "hidden"),
    ("file", "hidden/.wh..wh..opq", b""),
    ("dir", "hidden/deep"),
    ("file", "hidden/deep/c", b"c"),
    ("file", "link", b"now a file"),
]


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    found: list[Path] = []
    for number, rows in enumerate((LOWER, UPPER)):
        unpack_bytes(tar(*rows), tmp_path / str(number) / "fs", found)
        found.append(tmp_path / str(number) / "fs")
    return [str(path) for path in found]


def states(listing: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in listing["entries"]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/",
            {
                "etc": "modified",
                "old": "removed",
                "same": "unchanged",
                "link": "modified",
                "hidden": "modified",
            },
        ),
        ("/etc", {"passwd": "modified", "hosts": "unchanged", "new": "added"}),
        ("/same/", {"file": "unchanged"}),
        ("/old", {"a": "removed", "sub": "removed"}),
        ("old/sub", {"b": "removed"}),
        ("/hidden", {"a": "removed", "deep": "modified"}),
        ("/hidden/deep", {"b": "removed", "c": "added"}),
    ],
)
def test_each_entry_of_a_directory_has_its_state(layers: list[str], path: str, expected: dict[str, str]) -> None:
    assert states(list_directory(layers, path, base=1)) == expected


@pytest.mark.parametrize("path", ["/nothing", "/etc/passwd", "/link", "/same/file/x"])
def test_what_is_no_directory_is_said_to_be_none(layers: list[str], path: str) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        list_directory(layers, path, base=1)


def test_the_whole_tree_and_one_without_a_base(layers: list[str]) -> None:
    assert set(states(list_directory(layers, "/", base=2)).values()) == {"unchanged"}
    assert states(list_directory(layers, "/", base=0)) == dict.fromkeys(["etc", "hidden", "link", "same"], "added")


def test_an_entry_tells_what_ls_would(layers: list[str]) -> None:
    entries = {entry["name"]: entry for entry in list_directory(layers[:1], "/", base=1, sizes=True)["entries"]}
    found = os.stat(Path(layers[0]) / "etc")

    assert entries["link"]["link"] == "etc/passwd"
    assert entries["etc"] == {
        "name": "etc",
        "kind": "dir",
        "size": 13,
        "mode": 0o755,
        "uid": 0,
        "gid": 0,
        "mtime": int(found.st_mtime),
        "link": "",
        "state": "unchanged",
        "layer": 0,
    }
    assert entries["hidden"]["size"] == 5


def test_pages_of_a_large_directory(tmp_path: Path) -> None:
    names = [f"file{number:05}" for number in range(1000)]
    unpack_bytes(tar(*(("file", name, b"") for name in names)), tmp_path / "fs")
    page = list_directory([str(tmp_path / "fs")], "/", base=1, offset=500, limit=200)

    assert page["total"] == 1000
    assert [entry["name"] for entry in page["entries"]] == names[500:700]


def test_a_part_of_a_directory_in_another_order(layers: list[str], tmp_path: Path) -> None:
    def names(**asked: object) -> list[str]:
        return [one["name"] for one in list_directory(layers, "/", base=1, **asked)["entries"]]  # type: ignore[arg-type]

    assert names(limit=2, backwards=True) == ["same", "old"]
    assert names(limit=2, order="size", sizes=True) == ["etc", "old"]
    assert names(limit=2, order="size", sizes=True, backwards=True) == ["hidden", "same"]
    os.utime(Path(layers[1]) / "link", (4_000_000_000, 4_000_000_000), follow_symlinks=False)
    assert names(limit=1, order="time") == ["link"]
    assert names(limit=1, offset=4, order="time", backwards=True) == ["link"]
    assert len(names(limit=1, whole=5)) == 5
    assert len(names(limit=1, whole=4)) == 1


def test_changes_count_what_was_done_and_list_it_in_order(layers: list[str]) -> None:
    found = changes(layers, base=1, sizes=True)

    assert [(change["state"][0], change["path"]) for change in found["paths"]] == [
        ("m", "/etc"),
        ("m", "/hidden"),
        ("m", "/link"),
        ("r", "/old"),
        ("a", "/etc/new"),
        ("m", "/etc/passwd"),
        ("r", "/hidden/a"),
        ("m", "/hidden/deep"),
        ("r", "/hidden/deep/b"),
        ("a", "/hidden/deep/c"),
    ]
    assert {key: found[key] for key in ("added", "modified", "removed", "bytes", "truncated")} == {
        "added": 2,
        "modified": 2,
        "removed": 3,
        "bytes": len(b"root and app" + b"new!" + b"c" + b"now a file"),
        "truncated": False,
    }
    assert changes(layers, base=1, limit=2)["added"] == 2
    assert len(changes(layers, base=1, limit=2)["paths"]) == 2


def test_changes_over_several_layers_are_those_of_all_together(tmp_path: Path, layers: list[str]) -> None:
    third = tmp_path / "2" / "fs"
    rows = [("file", "etc/.wh.new", b""), ("dir", "old"), ("file", "old/sub", b"x"), ("file", ".wh.same", b"")]
    unpack_bytes(tar(*rows), third, [Path(layer) for layer in layers])
    found = changes([*layers, str(third)], base=1)

    assert {(change["state"], change["path"]) for change in found["paths"] if "/hidden" not in change["path"]} == {
        ("modified", "/etc"),
        ("modified", "/link"),
        ("modified", "/old"),
        ("removed", "/old/a"),
        ("modified", "/old/sub"),
        ("modified", "/etc/passwd"),
        ("removed", "/same"),
    }


def test_what_is_in_a_new_directory_is_counted_where_it_is_not_described(tmp_path: Path) -> None:
    rows = [
        ("dir", "new"),
        *(("file", f"new/{name}", b"") for name in "abcd"),
        ("dir", "new/sub"),
        ("file", "new/sub/e", b""),
    ]
    unpack_bytes(tar(("dir", "etc")), tmp_path / "0/fs")
    unpack_bytes(tar(*rows), tmp_path / "1/fs", [tmp_path / "0/fs"])
    layers = [str(tmp_path / "0/fs"), str(tmp_path / "1/fs")]
    for limit in (None, 0, 1, 3, 6, 7, 8):
        found = changes(layers, base=1, limit=limit)
        whole = ["/new", "/new/a", "/new/b", "/new/c", "/new/d", "/new/sub", "/new/sub/e"]
        assert [one["path"] for one in found["paths"]] == whole[:limit]
        assert (found["added"], found["truncated"]) == (7, limit is not None and limit < 7)


def test_wasted_bytes_are_those_that_nobody_sees(layers: list[str]) -> None:
    found = wasted(layers)
    sizes = {"/etc/passwd": 4, "/old": 12, "/hidden/a": 2, "/hidden/deep/b": 3}

    assert {item["path"]: item["bytes"] for item in found["paths"]} == sizes
    assert found["bytes"] == sum(sizes.values())
    assert found["total"] == sum(len(row[2]) for row in LOWER + UPPER if row[0] == "file")


def test_dive_calls_all_bytes_wasted_of_what_is_stored_more_than_once(layers: list[str]) -> None:
    """By hand: sizes of each path that ends in a layer, of a removed file none, of a removed directory what it held."""
    found = wasted(layers)
    again = {"/etc/passwd": (4, 12), "/link": (0, 10), "/hidden/a": (2, 0), "/hidden/deep/b": (3, 0)}
    once = {
        "/etc/hosts": 9,
        "/etc/new": 4,
        "/same/file": 4,
        "/old/a": 5,
        "/old/sub/b": 7,
        "/old": 12,
        "/hidden/deep/c": 1,
    }

    assert found["wasted"] == sum(map(sum, again.values())) == 31
    least, all_of_it = sum(map(min, again.values())), sum(map(sum, again.values()))
    assert found["efficiency"] == (sum(once.values()) + least) / (sum(once.values()) + all_of_it)


def test_a_file_is_previewed_without_following_links(layers: list[str]) -> None:
    assert base64.b64decode(preview(layers, "/etc/passwd", limit=4)["data"]) == b"root"
    assert preview(layers, "/etc/passwd", limit=4)["size"] == 12
    with pytest.raises(UsageError, match="no such file"):
        preview(layers[:1], "/link")


def test_names_that_are_not_utf8_come_through_json(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (Path(os.fsdecode(os.fsencode(tmp_path / "fs") + b"/a\xff"))).write_bytes(b"1")
    listing = json.loads(json.dumps(list_directory([str(tmp_path / "fs")], "/", base=1)))

    assert [os.fsencode(entry["name"]) for entry in listing["entries"]] == [b"a\xff"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay")
def test_the_merged_tree_is_the_one_that_the_kernel_shows(tmp_path: Path, layers: list[str]) -> None:
    merged, upper, work = tmp_path / "merged", tmp_path / "upper", tmp_path / "work"
    for directory in (merged, upper, work):
        directory.mkdir()
    options = f"lowerdir={':'.join(reversed(layers))},upperdir={upper},workdir={work},userxattr"
    mount = subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], capture_output=True)
    if mount.returncode:
        pytest.skip("no overlay here")
    try:
        for top, directories, files in os.walk(merged):
            inside = os.path.relpath(top, merged)
            listing = list_directory(layers, "/" if inside == "." else inside, base=2)
            assert {entry["name"] for entry in listing["entries"]} == {*directories, *files}
    finally:
        subprocess.run(["umount", merged], check=True)
