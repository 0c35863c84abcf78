"""ADD of archives that mean harm, and COPY and ADD where another layer or link stands in the way."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from dockermagic.build.context import Context
from dockermagic.build.copying import copy, group_row
from dockermagic.errors import ArchiveError, BuildError, ContextError
from tests.build.kit import Bench, write


def tar_of(members: Iterable[tuple[str, int, str | bytes]], kind: str = "") -> bytes:
    """Members as (name, type, content or target)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as tar:
        for name, type_, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = bytes([type_]), 0o755 if bytes([type_]) == tarfile.DIRTYPE else 0o644
            if isinstance(content, bytes):
                entry.size = len(content)
            else:
                entry.linkname = content
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


FILE, HARD, LINK, FOLDER = (ord(one) for one in (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("../../up", FILE, b"1"), ("/top", FILE, b"2"), ("a/../b", FILE, b"3")], "./b ./top ./up"),
        ([("l", LINK, "/etc"), ("l/f", FILE, b"1")], "./etc ./etc/f ./l"),
        ([("l", LINK, "../../.."), ("l/f", FILE, b"1")], "./f ./l"),
        ([("l", LINK, "gone/../../../etc"), ("l/f", FILE, b"1")], "./etc ./etc/f ./gone ./l"),
        ([("f", FILE, b"1"), ("h", HARD, "../../f")], "./f ./h"),
        ([("./", FOLDER, ""), (".", FOLDER, ""), ("f", FILE, b"1")], "./f"),
        ([(".wh.etc", FILE, b""), ("d/.wh..wh..opq", FILE, b""), ("f", FILE, b"1")], "./f"),
        ([("f", FOLDER, ""), ("f/g", FILE, b""), ("f", FILE, b"1")], "./f"),
        ([("f", FILE, b""), ("f", FOLDER, ""), ("f/g", FILE, b"1")], "./f ./f/g"),
        ([("x" * 200, FILE, b"1")], f"./{'x' * 200}"),
    ],
    ids=["names", "absolute link", "climbing link", "link through nothing", "hard link", "root", "whiteouts",
         "file for directory", "directory for file", "long name"],
)  # fmt: skip
def test_names_stay_below_the_destination(
    bench: Bench, members: list[tuple[str, int, str | bytes]], found: str
) -> None:
    (bench.context / "a.tar").write_bytes(tar_of(members))
    text = "FROM busybox\nADD a.tar /in/side/\nRUN ls /etc > /dev/null && cd /in/side && find . -mindepth 1 | sort\n"

    assert bench.printed(text).split() == found.split()
    assert (
        bench.printed("FROM busybox\nADD a.tar /in/side/\nRUN ls /in; ls / | grep -c -e up -e top || true\n")
        == "side\n0\n"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar_of([("f", FILE, bytes(3_000_000))], "gz"), "more than is allowed"),
        (tar_of([("f", FILE, bytes(3_000_000))], "bz2"), "more than is allowed"),
        (tar_of([("h", HARD, "gone")]), "leads to"),
        (tar_of([("f", FILE, b"x" * 5000)])[:2000], "cut short"),
        (tar_of([("x" * 300, FILE, b"")]), "too long a name"),
        (tar_of([("a", LINK, "b"), ("b", LINK, "a"), ("a/f", FILE, b"")]), "too many symbolic links"),
    ],
    ids=["bomb", "another bomb", "link to nothing", "cut short", "long name", "circle"],
)
def test_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str) -> None:
    """Nothing comes of it, and the reason names the archive."""
    monkeypatch.setenv("DOCKERMAGIC_ADD_LIMIT", "2000000")
    (bench.context / "a.tar").write_bytes(data)
    with pytest.raises(ArchiveError, match=message) as caught:
        bench.build("FROM busybox\nADD a.tar /in/\n")
    assert "a.tar" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN touch /x\nCOPY d /x", "cannot copy to non-directory: /x"),
        ("RUN touch /x\nCOPY f /x/", "cannot copy to non-directory: /x"),
        ("RUN mkdir -p /x/f\nCOPY f /x/", "cannot replace to directory /x/f with file"),
        ("RUN mkdir -p /x/e && touch /x/e/g\nCOPY d /x", ""),
        ("RUN mkdir -p /x && touch /x/e\nCOPY d /x", "cannot copy to non-directory: /x/e"),
        ("RUN mkdir -p /x /y && ln -s /y /x/e\nCOPY d /x", "cannot copy to non-directory: /x/e"),
        ("RUN mkdir -p /x/e/g\nCOPY d /x", "cannot replace to directory /x/e/g with file"),
        ("RUN ln -s l /l\nCOPY f /l/f", "too many symbolic links"),
        ("RUN touch /etc/x\nWORKDIR /etc/x", "cannot copy to non-directory: /etc/x"),
    ],
)
def test_what_stands_in_the_way(bench: Bench, text: str, message: str) -> None:
    write(bench.context, {"d/e/g": "g", "f": "f"})
    if not message:
        bench.build(f"FROM busybox\n{text}\n")
        return
    with pytest.raises((BuildError, ArchiveError), match=message) as caught:
        bench.build(f"FROM busybox\n{text}\n")
    assert caught.value.place is not None and caught.value.place.line == 3


def test_owners_of_what_carries_no_attribute_come_along(bench: Bench) -> None:
    """Links and pipes keep their owners through COPY --from, in every id mode."""
    text = (
        "FROM busybox AS a\nRUN mkdir /d && cd /d && touch f && mkfifo p && ln -s f l && chown -h 7:8 f p l\n"
        "FROM busybox\nCOPY --from=a /d /d\nCOPY --from=a --chown=5:6 /d /e\n"
    )
    bench.build(text, tags=("owners",))
    entries = layer_owners(bench, "owners")

    assert {entries[f"d/{name}"] for name in "fpl"} == {(7, 8)}
    assert {entries[f"e/{name}"] for name in "fpl"} == {(5, 6)}


def layer_owners(bench: Bench, name: str) -> dict[str, tuple[int, int]]:
    """The owners that an image's tars hold."""
    archive = io.BytesIO()
    bench.engine.save([name], archive)
    archive.seek(0)
    found = {}
    with tarfile.open(fileobj=archive) as outer:
        for member in outer:
            file = outer.extractfile(member) if member.isfile() else None
            with contextlib.suppress(tarfile.TarError):
                with tarfile.open(fileobj=io.BytesIO(file.read() if file else b"")) as layer:
                    found |= {entry.name.strip("/"): (entry.uid, entry.gid) for entry in layer}
    return found


def test_a_context_that_changes_meanwhile(tmp_path: Path) -> None:
    """A file, or a directory above it, that is another one by the time it is copied."""
    for number, change in enumerate(("file", "link above", "gone")):
        root = write(tmp_path / f"c{number}", {"d/f": "1", "other/f": "2"})
        groups = [group_row(group) for group in Context(root, (), None).select(("d",)).groups]
        if change == "file":
            (root / "d/f").write_text("changed")
        else:
            (root / "d/f").unlink()
            if change == "link above":
                (root / "d").rmdir()
                (root / "d").symlink_to("other")
        upper = tmp_path / f"u{number}/fs"
        upper.mkdir(parents=True)
        with pytest.raises(ContextError, match="changed while it was copied"):
            copy(str(upper), [], "/x", [{"groups": groups, "base": str(root)}])
