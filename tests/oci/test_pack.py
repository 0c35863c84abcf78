"""Packing a layer: what goes in, in which order, and that the same tree gives the same bytes."""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockermagic.errors import ArchiveError, StoreError, StoreFullError
from dockermagic.oci.layer import pack
from tests.oci.trees import OPAQUE, pack_bytes, snapshot, tar, unpack_bytes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


@needs_root
def test_what_goes_into_a_changeset_and_in_which_order(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_bytes(b"content")
    os.chown(root / "d/file", 3_000_000, 5)
    (root / "d/file").chmod(0o4755)
    os.utime(root / "d/file", ns=(0, 1_999_999_999))
    os.setxattr(root / "d/file", "security.capability", CAPABILITY)
    os.setxattr(root / "d/file", "user.note", b"\xff\x00hello")
    os.link(root / "d/file", root / "d/also")
    os.setxattr(root / "d", OPAQUE, b"y")
    os.setxattr(root / "d", "user.overlay.impure", b"y")
    os.mknod(root / "removed", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "socket", stat.S_IFSOCK | 0o666)
    os.mkfifo(root / "fifo")
    os.symlink("../x" * 50, root / "link")
    (root / "-first").write_bytes(b"")
    data, result = pack_bytes(root, compression="none")
    found = members(data)

    assert list(found) == [
        *(".wh.removed", "-first", "d", "d/.wh..wh..opq", "d/also", "d/file", "fifo", "link", "null"),
    ]
    first = found["d/also"]
    assert (first.size, first.mode, first.uid, first.gid, first.mtime) == (7, 0o4755, 3_000_000, 5, 1)
    assert first.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
    assert first.pax_headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\xff\x00hello"
    assert (found["d/file"].type, found["d/file"].linkname) == (tarfile.LNKTYPE, "d/also")
    for mark in (".wh.removed", "d/.wh..wh..opq"):
        assert (found[mark].type, found[mark].mode, found[mark].mtime, found[mark].size) == (tarfile.REGTYPE, 0, 0, 0)
    assert not any("overlay" in key for member in found.values() for key in member.pax_headers)
    assert (found["null"].devmajor, found["null"].devminor) == (1, 3)
    assert found["link"].linkname == "../x" * 50
    assert {(member.uname, member.gname) for member in found.values()} == {("", "")}
    assert result["entries"] == len(found)


def test_a_directory_that_hides_others_lists_what_is_gone(tmp_path: Path) -> None:
    lowers = [tmp_path / "1", tmp_path / "2"]
    unpack_bytes(tar(*(("file", name, b"") for name in ("d/a/x", "d/b", "d/c/y", "f"))), lowers[0])
    unpack_bytes(tar(("file", "d/.wh.b", b""), ("file", "d/e", b"")), lowers[1], lowers[:1])
    rows = [("file", "d/a/new", b""), ("file", "d/c", b""), ("dir", "f"), ("file", "f/.wh..wh..opq", b"")]
    unpack_bytes(tar(*rows, ("file", "d/.wh..wh..opq", b""), ("file", "new/.wh..wh..opq", b"")), tmp_path / "3", lowers)
    found = members(pack_bytes(tmp_path / "3", compression="none", lowers=[str(path) for path in lowers])[0])

    assert list(found) == ["d", "d/.wh.e", "d/a", "d/a/.wh.x", "d/a/new", "d/c", "f", "new"]


@needs_root
def test_a_capability_of_a_user_namespace_is_written_without_its_user(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/ping").write_bytes(b"")
    os.setxattr(tmp_path / "fs/ping", "security.capability", struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 1000))
    found = members(pack_bytes(tmp_path / "fs", compression="none")[0])

    assert found["ping"].pax_headers["SCHILY.xattr.security.capability"].encode("latin1") == CAPABILITY


def test_owners_that_could_only_be_recorded_are_those_of_the_image(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    root.mkdir()
    (root / "file").write_bytes(b"1")
    (root / "null").write_bytes(b"")
    (root / "dir").mkdir()
    os.symlink("file", root / "link")
    os.setxattr(root / "file", "user.containers.override_stat", b"70:71:04755")
    os.setxattr(root / "null", "user.containers.override_stat", b"0:6:0666:char-1-3")
    os.setxattr(root / "dir", "user.containers.override_stat", b"72:73:0700")
    (tmp_path / "ownership.json").write_text('{"link": "74:75:0777"}')
    found = members(pack_bytes(root, compression="none")[0])

    assert {name: (member.uid, member.gid, member.type) for name, member in found.items()} == {
        "file": (70, 71, tarfile.REGTYPE),
        "null": (0, 6, tarfile.CHRTYPE),
        "dir": (72, 73, tarfile.DIRTYPE),
        "link": (74, 75, tarfile.SYMTYPE),
    }
    assert (found["null"].mode, found["null"].devmajor, found["null"].devminor) == (0o666, 1, 3)
    assert not any(member.pax_headers for member in found.values())


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_times_are_clamped_only_where_they_are_later(tmp_path: Path, compression: str) -> None:
    (tmp_path / "fs").mkdir()
    for name, time in (("old", 1000), ("new", 3000)):
        (tmp_path / "fs" / name).write_bytes(b"")
        os.utime(tmp_path / "fs" / name, (time, time))
    data, _ = pack_bytes(tmp_path / "fs", compression=compression, source_date_epoch=2000)
    unpack_bytes(data, tmp_path / "again" / "fs")

    assert {path.name: path.stat().st_mtime for path in (tmp_path / "again/fs").iterdir()} == {"old": 1000, "new": 2000}


def test_the_order_on_disk_says_nothing(tmp_path: Path) -> None:
    names = [f"name{number}" for number in range(200)]
    digests = []
    for number, order in enumerate((names, names[::-1])):
        root = tmp_path / str(number) / "fs"
        root.mkdir(parents=True)
        for name in order:
            (root / name).write_bytes(name.encode())
            os.utime(root / name, (5, 5))
        digests.append(pack_bytes(root)[1])

    assert digests[0] == digests[1]


def test_a_compressed_layer_has_a_header_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    data, result = pack_bytes(tmp_path / "fs")

    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    assert result["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert result["uncompressed_size"] == 1024


def test_gnu_tar_reads_every_name(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    deep = root / ("a" * 60) / ("b" * 60) / ("c" * 120)
    deep.mkdir(parents=True)
    for name in ("plain", "ü" * 80, "x" * 255, "with\nnewline", " space "):
        (deep / name).write_bytes(b"")
        (root / name).write_bytes(b"")
    (Path(os.fsdecode(os.fsencode(root) + b"/not\xffutf8"))).write_bytes(b"")
    data, _ = pack_bytes(root, compression="none")
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-x"], input=data, check=True)

    assert snapshot(tmp_path / "out", times=True) == snapshot(root, times=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/a").write_bytes(os.urandom(3 << 20))
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(StoreFullError):
        pack(str(tmp_path / "fs"), full.fileno())


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A file of 300 MB goes in and out of a layer without the process growing by more than 40 MB."""
    (tmp_path / "fs").mkdir()
    with (tmp_path / "fs/large").open("wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(300):
            file.write(block)
    program = (
        "import os, sys, resource\n"
        "from dockermagic.oci.layer import pack, unpack\n"
        "top = sys.argv[1]\n"
        "os.makedirs(f'{top}/small'); os.makedirs(f'{top}/again/fs'); os.makedirs(f'{top}/before/fs')\n"
        "def both(source, name):\n"
        "    out = os.open(f'{top}/{name}', os.O_RDWR | os.O_CREAT)\n"
        "    pack(source, out); os.lseek(out, 0, 0); unpack(out, f'{top}/{name}.d/fs')\n"
        "os.makedirs(f'{top}/a.d/fs'); os.makedirs(f'{top}/b.d/fs')\n"
        "both(f'{top}/small', 'a')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "both(f'{top}/fs', 'b')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, text=True)

    assert int(done.stdout) < 40 << 10


def test_what_its_owner_may_not_read_is_packed_all_the_same_and_stays_so(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    rows = [("dir", "d"), ("file", "d/shadow", b"secret"), ("file", "d/shadow2", b"secret")]
    unpack_bytes(tar(*rows), root)
    (root / "d/shadow").chmod(0)
    (root / "d/shadow2").chmod(0o200)
    (root / "d").chmod(0)
    try:
        found = members(pack_bytes(root, compression="none")[0])
        assert stat.S_IMODE((root / "d").stat().st_mode) == 0
    finally:
        (root / "d").chmod(0o700)

    assert {name: member.mode for name, member in found.items()} == {"d": 0, "d/shadow": 0, "d/shadow2": 0o200}
    assert [stat.S_IMODE(path.stat().st_mode) for path in sorted((root / "d").iterdir())] == [0, 0o200]


@needs_root
@pytest.mark.parametrize("setup", ["user", "namespace"])
def test_a_layer_unpacked_by_an_ordinary_user_packs_to_the_same_bytes(setup: str) -> None:
    """Owners, devices and capabilities that a user, or the root of a namespace with one id, cannot set are recorded."""
    rows: list[tarfile.TarInfo] = []
    for name, kind, mode, uid in (
        *(
            ("d", tarfile.DIRTYPE, 0o2750, 7),
            ("d/su", tarfile.REGTYPE, 0o4755, 0),
            ("d/app", tarfile.REGTYPE, 0o640, 8),
        ),
        *(
            ("d/link", tarfile.SYMTYPE, 0o777, 9),
            ("d/null", tarfile.CHRTYPE, 0o666, 5),
            ("d/pipe", tarfile.FIFOTYPE, 0o600, 6),
        ),
        *(
            ("d/hard", tarfile.LNKTYPE, 0o640, 8),
            ("locked", tarfile.DIRTYPE, 0o000, 0),
            ("locked/in", tarfile.REGTYPE, 0, 1),
        ),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, uid + 1, 1000
        if kind == tarfile.CHRTYPE:
            info.devmajor, info.devminor = 1, 3
        info.linkname = {"d/link": "app", "d/hard": "d/app"}.get(name, "")
        if name == "d/su":
            info.pax_headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin1")}
        rows.append(info)
    data = tar(*rows, ("file", ".wh.gone", b""))
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        expected = through(data, Path(name) / "root", "root")

        found = through(data, Path(name) / setup, setup)
        assert [member.get_info() for member in members(found).values()] == [
            member.get_info() for member in members(expected).values()
        ]
        assert found == expected


def through(data: bytes, place: Path, setup: str) -> bytes:
    """A layer that was unpacked and packed by root, a user, or a user who is root of a namespace."""
    place.mkdir()
    os.chown(place, *((0, 0) if setup == "root" else (65534, 65534)))
    child = os.fork()
    if not child:
        code = 1
        try:
            if setup != "root":
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            if setup == "namespace":
                code = 77
                enter_namespace()
                code = 1
            unpack_bytes(data, place / "fs")
            (place / "packed").write_bytes(pack_bytes(place / "fs", compression="none")[0])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 77:
        pytest.skip("no user namespaces here")
    assert code == 0
    return (place / "packed").read_bytes()


def enter_namespace() -> None:
    """A user namespace with one id, which is root there."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl_dumpable = 4
    libc.prctl(prctl_dumpable, 1, 0, 0, 0)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("0 65534 1")
    Path("/proc/self/gid_map").write_text("0 65534 1")


# -- random trees

NAMES = st.one_of(
    st.text("abc.-_", min_size=1, max_size=3),
    st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 47} & set(name)).map(os.fsdecode),
    st.text("ü", min_size=50, max_size=110),
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))
MODES = st.integers(0, 0o7777)
FILES = st.tuples(
    st.just("file"),
    st.one_of(st.binary(max_size=600), st.integers(1, 3).map(lambda size: bytes(size * 100_000))),
    MODES,
)
LINKS = st.tuples(st.just("symlink"), st.text("ab./", min_size=1, max_size=120), st.just(0))
OTHERS = st.tuples(st.sampled_from(["fifo", "removed", "hardlink"]), st.integers(0, 100), MODES)
TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(NAMES, st.one_of(FILES, LINKS, OTHERS), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(FILES, LINKS, OTHERS, inner), max_size=5),
    max_leaves=15,
)


def make(tree: dict[str, Any], directory: Path, files: list[Path]) -> None:
    readable = 0 if os.geteuid() == 0 else 0o400  # for the test itself; see the test of files that nobody may read
    for number, (name, value) in enumerate(tree.items()):
        path = directory / name
        if isinstance(value, dict):
            path.mkdir()
            make(value, path, files)
            if number % 3 == 0:
                os.setxattr(path, OPAQUE, b"y")
            path.chmod(0o700 + number)
            continue
        kind, content, mode = value
        mode |= readable
        if kind == "hardlink" and files:
            os.link(files[content % len(files)], path)
            continue
        if kind == "symlink":
            os.symlink(content, path)
        elif kind == "fifo":
            os.mkfifo(path)
            path.chmod(mode)
        elif kind == "removed":
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        else:
            path.write_bytes(content if kind == "file" else b"")
            if os.geteuid() == 0:
                os.chown(path, mode, mode * 1000)
            path.chmod(mode)
            files.append(path)
        os.utime(path, (mode, mode), follow_symlinks=False)


@settings(max_examples=60, deadline=None)
@given(TREES, st.sampled_from(["gzip", "zstd", "none"]))
def test_any_tree_comes_back_as_it_was(tree: dict[str, Any], compression: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, again = Path(name) / "1/fs", Path(name) / "2/fs"
        root.mkdir(parents=True)
        make(tree, root, [])
        data, result = pack_bytes(root, compression=compression)
        unpacked = unpack_bytes(data, again, digest=result["digest"], diff_id=result["diff_id"], size=result["size"])

        assert snapshot(again, times=True) == snapshot(root, times=True)
        assert pack_bytes(again, compression=compression) == (data, result)
        assert unpacked["entries"] == result["entries"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_to_a_tar_reaches_outside_or_ends_in_anything_but_a_clear_error(data: st.DataObject) -> None:
    whole = bytearray(
        tar(
            ("dir", "d"),
            ("file", "d/a", b"1" * 700),
            ("link", "d/b", "d/a"),
            ("symlink", "s", "d"),
            ("file", "s/" + "n" * 120, b"2"),
            ("file", ".wh.x", b""),
        )
    )
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[at] = byte
        start = at // 512 * 512
        if data.draw(st.booleans()):  # with a checksum that fits, so that the change itself is looked at
            whole[start + 148 : start + 156] = b" " * 8
            whole[start + 148 : start + 156] = b"%06o\0 " % sum(whole[start : start + 512])
    with tempfile.TemporaryDirectory() as name:
        try:
            unpack_bytes(bytes(whole), Path(name) / "in/fs", limit=1 << 20)
        except (ArchiveError, StoreError):
            pass
        assert [path.name for path in Path(name).iterdir()] == ["in"]
