"""Unpacking a changeset: overlay form, the rules for what comes twice, and tars that mean harm."""

from __future__ import annotations

import gzip
import json
import os
import stat
import struct
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import ArchiveError, StoreError
from dockermagic.oci.compression import compressor
from dockermagic.oci.overlay import Stack
from dockermagic.oci.rooted import Directories
from dockermagic.oci.spec import digest
from tests.oci.trees import OPAQUE, snapshot, tar, unpack_bytes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")
FILE, DIRECTORY, SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
WHITEOUT = (stat.S_IFCHR, (0, 0))


def brief(directory: Path) -> dict[str, Any]:
    """Path -> kind and content; for an opaque directory the word."""
    return {
        path: (kind, "opaque" if OPAQUE in xattrs else content)
        for path, (kind, _, _, _, content, xattrs, *_) in snapshot(directory).items()
    }


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([("file", "./a", b"1")], {"a": (FILE, b"1")}, id="a leading dot"),
        pytest.param([("file", "/a", b"1")], {"a": (FILE, b"1")}, id="a leading slash"),
        pytest.param([("file", "d/a", b"1")], {"d": (DIRECTORY, None), "d/a": (FILE, b"1")}, id="implied directory"),
        pytest.param([("file", "a", b"1"), ("file", "a", b"22")], {"a": (FILE, b"22")}, id="file twice"),
        pytest.param(
            [("dir", "a"), ("file", "a/b", b""), ("dir", "a")],
            {"a": (DIRECTORY, None), "a/b": (FILE, b"")},
            id="directory twice keeps what is in it",
        ),
        pytest.param(
            [("dir", "a"), ("file", "a/b", b""), ("file", "a", b"1")], {"a": (FILE, b"1")}, id="file over directory"
        ),
        pytest.param(
            [("file", "a", b"1"), ("dir", "a")],
            {"a": (DIRECTORY, "opaque")},
            id="directory over file hides what is below",
        ),
        pytest.param([("symlink", "a", "x"), ("file", "a", b"1")], {"a": (FILE, b"1")}, id="file over symbolic link"),
        pytest.param(
            [("dir", "d"), ("symlink", "a", "d"), ("dir", "a"), ("file", "a/f", b"")],
            {"d": (DIRECTORY, None), "a": (DIRECTORY, "opaque"), "a/f": (FILE, b"")},
            id="directory over symbolic link",
        ),
        pytest.param(
            [("dir", "d"), ("symlink", "a", "d"), ("file", "a/f", b"")],
            {"d": (DIRECTORY, None), "a": (SYMLINK, "d"), "d/f": (FILE, b"")},
            id="through a symbolic link",
        ),
        pytest.param(
            [("symlink", "a", "../../d/./e"), ("file", "a/f", b"")],
            {"a": (SYMLINK, "../../d/./e"), "d": (DIRECTORY, None), "d/e": (DIRECTORY, None), "d/e/f": (FILE, b"")},
            id="a symbolic link that climbs stays inside",
        ),
        pytest.param([("file", ".wh.a", b"")], {"a": WHITEOUT}, id="whiteout"),
        pytest.param(
            [("file", "d/.wh.a", b"")], {"d": (DIRECTORY, None), "d/a": WHITEOUT}, id="whiteout, implied directory"
        ),
        pytest.param([("file", ".wh.a", b""), ("file", "a", b"1")], {"a": (FILE, b"1")}, id="whiteout, then file"),
        pytest.param([("file", "a", b"1"), ("file", ".wh.a", b"")], {"a": (FILE, b"1")}, id="file, then whiteout"),
        pytest.param(
            [("file", ".wh.a", b""), ("dir", "a")], {"a": (DIRECTORY, "opaque")}, id="whiteout, then directory"
        ),
        pytest.param(
            [("dir", "a"), ("file", ".wh.a", b"")], {"a": (DIRECTORY, "opaque")}, id="directory, then whiteout"
        ),
        pytest.param(
            [("dir", "a"), ("file", "a/b", b""), ("file", "a/.wh..wh..opq", b"")],
            {"a": (DIRECTORY, "opaque"), "a/b": (FILE, b"")},
            id="opaque",
        ),
        pytest.param([("dir", ".wh..wh.plnk"), ("file", ".wh..wh.plnk/1.2", b"")], {}, id="aufs"),
        pytest.param([("char", "a", (0, 0))], {"a": WHITEOUT}, id="device 0:0"),
        pytest.param(
            [("file", "a", b"1"), ("link", "b", "a"), ("link", "./c", "/b")],
            {"a": (FILE, b"1"), "b": (FILE, b"1"), "c": (FILE, b"1")},
            id="hard links",
        ),
        pytest.param([("file", "a", b"1"), ("link", "a", "a")], {"a": (FILE, b"1")}, id="hard link to itself"),
        pytest.param(
            [("symlink", "a", "x"), ("link", "b", "a")], {"a": (SYMLINK, "x"), "b": (SYMLINK, "x")}, id="to a link"
        ),
    ],
)
def test_what_a_changeset_makes(tmp_path: Path, entries: list[Any], expected: dict[str, Any]) -> None:
    unpack_bytes(tar(*entries), tmp_path / "fs")

    assert brief(tmp_path / "fs") == expected


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("file", "../out", b"x")], id="climbs"),
        pytest.param([("file", "d/../../out", b"x")], id="climbs from inside"),
        pytest.param([("dir", "..")], id="is the directory above"),
        pytest.param([("link", "a", "../secret")], id="hard link climbs"),
        pytest.param([("link", "a", "/secret")], id="hard link to what is not in the image"),
        pytest.param(
            [("symlink", "d", "{outside}"), ("link", "a", "d/secret")], id="hard link through a symbolic link"
        ),
        pytest.param([("dir", "d"), ("link", "a", "d")], id="hard link to a directory"),
        pytest.param([("link", "a", "")], id="hard link to nothing"),
        pytest.param([("file", ".wh...", b"")], id="whiteout of the directory above"),
        pytest.param([("file", ".wh..", b"")], id="whiteout of the directory itself"),
        pytest.param([("file", "d/.wh.", b"")], id="whiteout of nothing"),
        pytest.param([("file", ".wh.d/a", b"")], id="below a whiteout"),
        pytest.param([("file", "a", b""), ("file", "a/b", b"")], id="below a file"),
        pytest.param([("file", "d/a", b""), ("link", "d", "d/a")], id="a link in place of its file's directory"),
        pytest.param([("symlink", "a", "b"), ("symlink", "b", "a"), ("file", "a/x", b"")], id="links in a circle"),
        pytest.param([("symlink", "etc", "/etc"), ("file", "etc/passwd", b"x")], id="a link to itself"),
        pytest.param([("symlink", "a", "")], id="link to nowhere"),
        pytest.param([("file", "x" * 256, b"")], id="name too long"),
        pytest.param([("file", "x/" * 2500 + "x", b"")], id="path too long"),
    ],
)
def test_a_tar_that_reaches_out_or_makes_no_sense_is_refused(tmp_path: Path, entries: list[Any]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / "secret").write_bytes(b"secret")
    rows = [tuple(part.format(outside=outside) if isinstance(part, str) else part for part in row) for row in entries]
    with pytest.raises(ArchiveError):
        unpack_bytes(tar(*rows), tmp_path / "root" / "fs")

    assert {path.name for path in tmp_path.iterdir()} == {"outside", "secret", "root"}
    assert os.stat(outside / "secret").st_nlink == os.stat(tmp_path / "secret").st_nlink == 1


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("symlink", "d", "{outside}"), ("file", "d/new", b"x")], id="file through an absolute link"),
        pytest.param([("symlink", "d", "{outside}"), ("file", "d/.wh.secret", b"")], id="whiteout through it"),
        pytest.param([("symlink", "d", "{outside}"), ("file", "d/.wh..wh..opq", b"")], id="opaque through it"),
        pytest.param([("symlink", "d", "{outside}"), ("dir", "d/sub")], id="directory through it"),
        pytest.param(
            [("symlink", "d", "../../outside"), ("file", "d/secret", b"x")], id="file through a climbing link"
        ),
        pytest.param(
            [("dir", "d"), ("file", "d/a", b""), ("symlink", "d", "{outside}"), ("file", "d/secret", b"x")],
            id="a directory swapped for a link",
        ),
        pytest.param([("symlink", "a", "{outside}/secret"), ("file", "a", b"x")], id="file over a link that leads out"),
        pytest.param([("symlink", "a", "{outside}"), ("dir", "a"), ("file", "a/secret", b"x")], id="directory over it"),
    ],
)
def test_links_that_lead_out_are_followed_inside_the_root_only(tmp_path: Path, entries: list[Any]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    before = snapshot(outside)
    rows = [tuple(part.format(outside=outside) if isinstance(part, str) else part for part in row) for row in entries]
    unpack_bytes(tar(*rows), tmp_path / "root" / "fs")

    assert snapshot(outside) == before
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "root"}


@needs_root
def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """What is no directory is not opened in place of one: a FIFO would keep us waiting for ever."""
    (tmp_path / "file").touch()
    directories = Directories(str(tmp_path))
    with pytest.raises(NotADirectoryError):
        directories.fd("file")
    directories.close()


def test_owners_modes_times_and_attributes(tmp_path: Path) -> None:
    info = tarfile.TarInfo("ping")
    info.mode, info.uid, info.gid, info.mtime = 0o6755, 7, 8, 1_600_000_000
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    info.pax_headers = {
        "mtime": "1600000000.123456789",
        "SCHILY.xattr.security.capability": capability.decode("latin1"),
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.containers.override_stat": "0:0:0777",
    }
    deep = tarfile.TarInfo("d")
    deep.type, deep.mode, deep.uid, deep.gid, deep.mtime = tarfile.DIRTYPE, 0o1555, 9, 10, 5
    link = tarfile.TarInfo("link")
    link.type, link.linkname, link.uid, link.gid, link.mtime = tarfile.SYMTYPE, "nowhere", 11, 12, 6
    unpack_bytes(
        tar(info, deep, ("file", "d/inside", b""), link, ("fifo", "fifo"), ("char", "null", (1, 3))), tmp_path / "fs"
    )
    found = snapshot(tmp_path / "fs")

    ping = os.stat(tmp_path / "fs/ping")
    assert found["ping"][1:6] == (0o6755, 7, 8, b"", {"security.capability": capability, "user.note": b"hello"})
    assert ping.st_mtime_ns == 1_600_000_000_123_456_789
    assert found["d"][1:4] == (0o1555, 9, 10)
    assert os.stat(tmp_path / "fs/d").st_mtime_ns == 5_000_000_000
    assert found["link"][2:5] == (11, 12, "nowhere")
    assert os.lstat(tmp_path / "fs/link").st_mtime_ns == 6_000_000_000
    assert found["fifo"][:2] == (stat.S_IFIFO, 0o644)
    assert found["null"][:5] == (stat.S_IFCHR, 0o644, 0, 0, (1, 3))


@needs_root
def test_the_last_header_of_a_hard_link_is_the_last_word(tmp_path: Path) -> None:
    link = tarfile.TarInfo("b")
    link.type, link.linkname, link.mode, link.uid, link.mtime = tarfile.LNKTYPE, "a", 0o4711, 5, 77
    unpack_bytes(tar(("file", "a", b"1"), link), tmp_path / "fs")
    found = snapshot(tmp_path / "fs", times=True)

    assert found["a"] == found["b"] == (stat.S_IFREG, 0o4711, 5, 0, b"1", {}, "a", 77)


def test_an_implied_directory_is_as_the_layers_below_have_it(tmp_path: Path) -> None:
    lowers = [tmp_path / "0/fs", tmp_path / "1/fs"]
    etc = tarfile.TarInfo("etc")
    etc.type, etc.mode, etc.mtime = tarfile.DIRTYPE, 0o711, 1234
    unpack_bytes(tar(etc, ("symlink", "lib", "usr/lib"), ("dir", "gone"), ("dir", "old"), ("dir", "old/in")), lowers[0])
    unpack_bytes(tar(("file", ".wh.gone", b""), ("file", "old/.wh..wh..opq", b"")), lowers[1], lowers[:1])
    entries = [("file", name, b"") for name in ("etc/a", "lib/b", "gone/c", "old/in/d")]
    unpack_bytes(tar(*entries), tmp_path / "2/fs", lowers)
    found = snapshot(tmp_path / "2/fs", times=True)

    assert set(found) == {
        *("etc", "etc/a", "usr", "usr/lib", "usr/lib/b", "gone", "gone/c", "old", "old/in", "old/in/d"),
    }
    assert (found["etc"][1], found["etc"][-1]) == (0o711, 1234)
    assert found["old/in"][1] == 0o755


def told(*lowers: Path) -> int:
    """A descriptor that tells where the layers below are; closed without a word if there are none."""
    out, into = os.pipe()
    if lowers:
        os.write(into, json.dumps([str(lower) for lower in lowers]).encode())
    os.close(into)
    return out


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("file", "etc/a", b"1"), ("file", "new/in/b", b"2")], id="implied directories"),
        pytest.param([("file", "etc/a", b"1"), ("dir", "etc")], id="a directory that comes later"),
        pytest.param([("dir", "lib"), ("file", "lib/a", b"")], id="a directory in place of a link"),
        pytest.param([("file", ".wh.lib", b""), ("dir", "lib"), ("file", "lib/a", b"")], id="a link that was removed"),
        pytest.param([("file", "etc/.wh.old", b""), ("file", "new/.wh..wh..opq", b"")], id="whiteouts"),
        pytest.param(
            [("file", "etc/.wh..wh..opq", b""), ("file", "etc/a", b"")], id="all of a directory that is below"
        ),
        pytest.param([("file", "etc/a", b""), ("link", "b", "etc/old"), ("link", "c", "lib/x")], id="hard links"),
        pytest.param([("link", "b", "etc/old"), ("file", "lib/a", b"")], id="a link that is known by then"),
        pytest.param([("file", "new/a", b""), ("file", ".wh.new", b""), ("file", "new", b"")], id="what goes again"),
        pytest.param(
            [("dir", "usr"), ("file", "usr/lib/a", b""), ("file", "usr/.wh..wh..opq", b"")],
            id="hidden afterwards",
        ),
    ],
)
def test_layers_below_that_come_late_make_no_difference(entries: list[Any], tmp_path: Path) -> None:
    etc, root = tarfile.TarInfo("etc"), tarfile.TarInfo("./")
    etc.type, etc.mode, etc.mtime = tarfile.DIRTYPE, 0o711, 1234
    root.type, root.mode = tarfile.DIRTYPE, 0o750
    library = tarfile.TarInfo("usr/lib")
    library.type, library.mode = tarfile.DIRTYPE, 0o711
    below = [root, etc, ("file", "etc/old", b"old"), library, ("file", "usr/lib/x", b""), ("symlink", "lib", "usr/lib")]
    unpack_bytes(tar(*below), tmp_path / "0/fs")
    unpack_bytes(tar(*entries), tmp_path / "1/fs", [tmp_path / "0/fs"])
    late = told(tmp_path / "0/fs")
    unpack_bytes(tar(*entries), tmp_path / "2/fs", below=late)
    os.close(late)

    assert snapshot(tmp_path / "2/fs", times=True) == snapshot(tmp_path / "1/fs", times=True)
    assert (tmp_path / "2/fs").stat().st_mode == (tmp_path / "1/fs").stat().st_mode == stat.S_IFDIR | 0o750


@pytest.mark.parametrize(
    "entry",
    [("file", "lib/a", b""), ("file", "lib/.wh..wh..opq", b""), ("link", "way", "lib"), ("file", "lib", b"")],
    ids=["below", "hidden", "a link to it", "in its place"],
)
def test_a_layer_whose_paths_lead_through_a_late_link_is_unpacked_again(entry: Any, tmp_path: Path) -> None:
    unpack_bytes(tar(("dir", "usr"), ("symlink", "lib", "usr")), tmp_path / "0/fs")
    late = told(tmp_path / "0/fs")

    assert unpack_bytes(tar(("file", "lib/b", b""), entry), tmp_path / "1/fs", below=late) is None
    os.close(late)


def test_a_layer_that_waits_for_those_below_in_vain(tmp_path: Path) -> None:
    late = told()
    with pytest.raises(StoreError, match="the layers below this one did not come"):
        unpack_bytes(tar(("file", "a", b"")), tmp_path / "fs", below=late)
    os.close(late)


def test_a_hard_link_to_a_file_of_a_lower_layer_brings_it_up(tmp_path: Path) -> None:
    lower = tmp_path / "0/fs"
    unpack_bytes(tar(("file", "d/a", b"content"), ("symlink", "way", "d")), lower)
    unpack_bytes(tar(("link", "b", "way/a")), tmp_path / "1/fs", [lower])
    found = snapshot(tmp_path / "1/fs")

    assert found["b"][4] == found["d/a"][4] == b"content"
    assert found["b"][6] == found["d/a"][6]


@pytest.mark.parametrize("mark", ["d/.wh.a", "d/.wh..wh..opq"])
def test_what_was_brought_up_to_be_linked_to_is_not_the_layers_own(mark: str, tmp_path: Path) -> None:
    lower = tmp_path / "0/fs"
    unpack_bytes(tar(("file", "d/a", b"content")), lower)
    unpack_bytes(tar(("link", "b", "d/a"), ("file", mark, b"")), tmp_path / "1/fs", [lower])
    stack = Stack([str(lower), str(tmp_path / "1/fs")])
    try:
        assert stack.lookup("d/a") is None
        assert stack.lookup("b") is not None
    finally:
        stack.close()
    assert (lower / "d/a").stat().st_nlink == 1


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    raw = tar(("file", "abcd", b"1")).replace(b"abcd", b"a\xffcd")
    header, rest = bytearray(raw[:512]), raw[512:]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    unpack_bytes(bytes(header) + rest, tmp_path / "fs")

    assert os.listdir(os.fsencode(tmp_path / "fs")) == [b"a\xffcd"]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_digests_are_of_what_was_read_and_must_be_those_expected(tmp_path: Path, kind: str) -> None:
    plain = tar(("file", "a", b"1" * 100_000)) + b"after the end"
    press = compressor(kind)
    data = press.compress(plain) + press.flush()
    result = unpack_bytes(data, tmp_path / "fs", digest=digest(data), diff_id=digest(plain), size=len(data))

    assert (result["digest"], result["diff_id"]) == (digest(data), digest(plain))
    assert (result["size"], result["uncompressed_size"], result["entries"], result["bytes"]) == (
        len(data),
        len(plain),
        1,
        100_000,
    )
    for number, wrong in enumerate(({"digest": digest(b"")}, {"diff_id": digest(b"")}, {"size": 5})):
        with pytest.raises(ArchiveError, match="expected"):
            unpack_bytes(data, tmp_path / f"wrong{number}", **wrong)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_members_on_end_are_one_stream(tmp_path: Path, kind: str) -> None:
    plain = tar(("file", "a", bytes(range(256)) * 64))
    data = b""
    for start in range(0, len(plain), 5000):
        press = compressor(kind)
        data += press.compress(plain[start : start + 5000]) + press.flush()

    assert unpack_bytes(data, tmp_path / "fs")["diff_id"] == digest(plain)


PLAIN = tar(("file", "a", os.urandom(3_000_000)), ("file", "b", b"2"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(gzip.compress(PLAIN, 1)[:-4], "cut short", id="gzip without its end"),
        pytest.param(gzip.compress(PLAIN, 1)[:2_000_000], "cut short", id="half a gzip"),
        pytest.param(gzip.compress(PLAIN, 1)[:-8] + bytes(8), "damaged", id="gzip with a wrong checksum"),
        pytest.param(gzip.compress(PLAIN, 1) + b"something", "followed by", id="gzip with a tail"),
        pytest.param(PLAIN[:2_000_000], "cut short", id="half a file"),
        pytest.param(PLAIN[:300], "cut short", id="half a header"),
        pytest.param(b"x" * 5000, "not a tar", id="no tar"),
        pytest.param(PLAIN[:100] + b"9" + PLAIN[101:], "checksum", id="a changed header"),
        pytest.param(tar(("file", "a", b"")).replace(b"ustar\x0000", b"ustar\x0000")[:512], "", id="no end mark"),
    ],
)
def test_a_damaged_stream_is_said_to_be(tmp_path: Path, data: bytes, message: str) -> None:
    if not message:  # many programs leave the end mark out
        assert unpack_bytes(data, tmp_path / "fs")["entries"] == 1
        return
    with pytest.raises(ArchiveError, match=message):
        unpack_bytes(data, tmp_path / "fs")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_ends_at_the_limit(tmp_path: Path, kind: str) -> None:
    info = tarfile.TarInfo("bomb")
    info.size = 200 << 20
    press = compressor(kind)
    data = press.compress(info.tobuf() + bytes(1 << 20))
    data += b"".join(press.compress(bytes(1 << 20)) for _ in range(199)) + press.flush()
    with pytest.raises(ArchiveError, match="more than 10000000 bytes"):
        unpack_bytes(data, tmp_path / "fs", limit=10_000_000)

    assert (tmp_path / "fs/bomb").stat().st_size <= 10_000_000


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number * 300_000)
            file.write(f"piece {number}".encode())
        file.truncate(20_000_000)
    options = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    command = ["tar", "-C", str(source), "-cS", *options, "sparse"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    unpack_bytes(data, tmp_path / "fs")

    assert len(data) < 2_000_000
    assert (tmp_path / "fs/sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (tmp_path / "fs/sparse").stat().st_blocks * 512 < 2_000_000


def test_long_runs_of_zeros_become_holes(tmp_path: Path) -> None:
    content = b"start" + bytes(8 << 20) + b"middle" + bytes(8 << 20)
    unpack_bytes(tar(("file", "a", content)), tmp_path / "fs")

    assert (tmp_path / "fs/a").read_bytes() == content
    assert (tmp_path / "fs/a").stat().st_blocks * 512 < 6 << 20


def test_zlib_takes_over_where_isal_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    press = compressor("gzip")
    data = press.compress(PLAIN) + press.flush()

    assert zlib.decompress(data, wbits=31) == PLAIN
    assert unpack_bytes(data, tmp_path / "fs")["diff_id"] == digest(PLAIN)
