"""Archives of images, both ways, with the tools that others use."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import ArchiveError, ImageNotFoundError, StoreError, UsageError
from dockermagic.oci.archive import load, save, save_image
from dockermagic.oci.compression import compressor
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import (
    CONFIG,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    HistoryEntry,
    Index,
    Manifest,
    Platform,
    digest,
    encode,
    layer_media_type,
    timestamp,
)
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.records import Records
from tests.oci.trees import pack_bytes, snapshot, tar, unpack_bytes

HELLO = Reference.parse("example.org/team/hello:1.0")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")


def needs(*programs: str) -> Any:
    missing = [name for name in programs if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_records = Records(tmp_path / "home")
    yield Store(tmp_path / "home", with_records)
    with_records.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with_records = Records(tmp_path / "other")
    yield Store(tmp_path / "other", with_records)
    with_records.close()


def first_layer(directory: Path) -> None:
    info = tarfile.TarInfo("bin/su")
    info.mode, info.uid, info.gid = 0o4755, 0, 5
    unpack_bytes(
        tar(
            ("dir", "bin"),
            info,
            ("dir", "etc"),
            ("file", "etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
            ("dir", "old"),
            ("file", "old/a", b"a"),
            ("dir", "var"),
            ("file", "var/b", b"b"),
        ),
        directory,
    )


def second_layer(directory: Path, lower: Path) -> None:
    long = "d/" + "long-name-" * 12 + "ü"
    unpack_bytes(
        tar(
            ("file", ".wh.old", b""),
            ("dir", "var"),
            ("file", "var/.wh..wh..opq", b""),
            ("file", "var/c", b"c"),
            ("dir", "d"),
            ("file", long, b"long"),
            ("link", "d/hard", long),
            ("symlink", "d/soft", "../etc/passwd"),
            ("fifo", "d/fifo"),
        ),
        directory,
        [lower],
    )


def build(store: Store, tmp_path: Path, *, compression: str = "gzip", platform: str = "linux/amd64") -> Image:
    made = Image.empty(Platform.parse(platform))
    lower, upper = tmp_path / "0/fs", tmp_path / "1/fs"
    if not lower.exists():
        first_layer(lower)
        second_layer(upper, lower)
    for number, directory in enumerate((lower, upper)):
        data, result = pack_bytes(directory, compression=compression)
        blob = store.put(data, layer_media_type(compression))
        assert (blob.digest, blob.size) == (result["digest"], result["size"])
        step = HistoryEntry(created=timestamp(0), created_by=f"COPY {number} / # buildkit")
        made = made.append_layer(LayerBlob(blob, result["diff_id"], result["uncompressed_size"]), step)
    return made.with_config(ContainerConfig(cmd=("/bin/su",), env=("PATH=/bin",))).with_created(timestamp(0))


def tagged(store: Store, tmp_path: Path, name: Reference = HELLO, **options: Any) -> Descriptor:
    written = build(store, tmp_path, **options).write(store)
    store.tag(name, written)
    return written


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(store: Store, names: list[str], path: Path, format: str = "docker") -> Path:
    with path.open("wb") as file:
        save(store, names, file, format=format)
    return path


@pytest.mark.parametrize("format", ["docker", "oci"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_is_saved_is_what_is_loaded(
    store: Store, other: Store, tmp_path: Path, format: str, compression: str
) -> None:
    image = tagged(store, tmp_path, compression=compression)
    store.tag(HELLO.with_tag("2.0"), image)
    path = written(store, [str(HELLO), "example.org/team/hello:2.0"], tmp_path / "x.tar", format)
    with path.open("rb") as file:
        assert load(other, file) == ["example.org/team/hello:1.0", "example.org/team/hello:2.0"]

    assert other.resolve(HELLO) == image
    assert other.garbage() == {}
    assert Image.load(other, image) == Image.load(store, image)


def test_the_same_images_give_the_same_archive(store: Store, tmp_path: Path) -> None:
    tagged(store, tmp_path)
    first = written(store, [str(HELLO)], tmp_path / "1.tar").read_bytes()

    assert written(store, [str(HELLO)], tmp_path / "2.tar").read_bytes() == first


def test_an_image_that_is_asked_for_by_id_comes_back_without_a_name(store: Store, other: Store, tmp_path: Path) -> None:
    tagged(store, tmp_path)
    identity = store.find(str(HELLO)).id
    path = written(store, [identity[7:20]], tmp_path / "x.tar")
    with path.open("rb") as file:
        assert load(other, file) == [identity]


@pytest.mark.parametrize("press", ["gzip", "zstd"])
def test_a_whole_archive_may_be_compressed_and_come_through_a_pipe(
    store: Store, other: Store, tmp_path: Path, press: str
) -> None:
    image = tagged(store, tmp_path)
    path = written(store, [str(HELLO)], tmp_path / "x.tar")
    squeeze = compressor(press)
    (tmp_path / "y").write_bytes(squeeze.compress(path.read_bytes()) + squeeze.flush())
    with subprocess.Popen(["cat", tmp_path / "y"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        load(other, process.stdout)

    assert other.resolve(HELLO) == image


def test_a_list_of_manifests_is_saved_whole_or_for_the_platform(store: Store, other: Store, tmp_path: Path) -> None:
    both = []
    for name in ("linux/amd64", "linux/arm64"):
        descriptor = build(store, tmp_path, platform=name).write(store)
        both.append(Descriptor(MANIFEST, descriptor.digest, descriptor.size, platform=Platform.parse(name)))
    index = store.put(encode(Index(manifests=tuple(both))), Index().media_type)
    store.tag(HELLO, index)
    with written(store, [str(HELLO)], tmp_path / "x.tar", "oci").open("rb") as file:
        load(other, file)
    assert other.resolve(HELLO) == index
    assert other.manifest(index, Platform.parse("linux/arm64")) == store.manifest(both[1])

    here = 0 if Platform.host().architecture == "amd64" else 1
    store.blob(both[1 - here].digest).unlink()
    stream = io.BytesIO()
    save(store, [str(HELLO)], stream, format="oci")
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        listed = archive.extractfile("index.json")
        assert listed is not None
        assert [item["digest"] for item in json.load(listed)["manifests"]] == [both[here].digest]


def test_nothing_is_written_for_an_image_that_is_not_whole(store: Store, tmp_path: Path) -> None:
    tagged(store, tmp_path)
    stream = io.BytesIO()
    with pytest.raises(ImageNotFoundError):
        save(store, [str(HELLO), "nothing"], stream)
    with pytest.raises(UsageError):
        save(store, [str(HELLO)], stream, format="zip")
    layer = store.manifest(store.find(str(HELLO)).descriptor).layers[0]
    store.blob(layer.digest).rename(tmp_path / "kept")
    with pytest.raises(StoreError, match="missing"):
        save(store, [str(HELLO)], stream)
    assert stream.getvalue() == b""

    store.blob(layer.digest).write_bytes(bytes(layer.size))
    with pytest.raises(StoreError, match="damaged"):
        save(store, [str(HELLO)], stream)


# -- with the tools that others use


@needs("skopeo")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_was_saved_and_is_read(store: Store, other: Store, tmp_path: Path, transport: str) -> None:
    image = tagged(store, tmp_path)
    path = written(store, [str(HELLO)], tmp_path / "x.tar", transport.partition("-")[0])
    found = json.loads(run("skopeo", "inspect", "--config", f"{transport}:{path}"))
    run("skopeo", "copy", f"{transport}:{path}", f"{transport}:{tmp_path / 'y.tar'}:{HELLO}")
    with (tmp_path / "y.tar").open("rb") as file:
        assert load(other, file) == [HELLO.familiar()]

    config = Image.load(store, image).config
    assert found["rootfs"]["diff_ids"] == list(config.rootfs.diff_ids)
    again = Image.load(other, other.find(str(HELLO)).descriptor)
    assert (again.id, again.config) == (Image.load(store, image).id, config)


@needs_root
@needs("umoci")
def test_umoci_unpacks_the_same_tree(store: Store, tmp_path: Path) -> None:
    tagged(store, tmp_path)
    run("umoci", "unpack", "--image", f"{store.home}:{HELLO}", tmp_path / "bundle")
    rootfs = snapshot(tmp_path / "bundle/rootfs", times=True)
    ours = snapshot(tmp_path / "0/fs", times=True)
    top = snapshot(tmp_path / "1/fs", times=True)

    assert set(rootfs) == {
        *("bin", "bin/su", "etc", "etc/passwd", "var", "var/c", "d", "d/hard", "d/soft", "d/fifo"),
        *(name for name in top if "long-name" in name),
    }
    for name in ("bin", "bin/su", "etc/passwd"):
        assert rootfs[name] == ours[name]
    for name in set(rootfs) - {"bin", "bin/su", "etc", "etc/passwd", "var"}:
        assert rootfs[name] == top[name]


@needs_root
@needs("podman")
@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_podman_loads_what_was_saved_and_its_own_archives_are_loaded(
    store: Store, other: Store, tmp_path: Path, format: str
) -> None:
    image = tagged(store, tmp_path)
    path = written(store, [str(HELLO)], tmp_path / "x.tar", format.partition("-")[0])
    short = tempfile.mkdtemp(prefix="podman")  # it refuses long paths
    podman = ("podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs")
    try:
        assert str(HELLO) in run(*podman, "load", "-i", path)
        shown = json.loads(run(*podman, "image", "inspect", str(HELLO)))[0]
        run(*podman, "save", "--format", format, "-o", tmp_path / "y.tar", str(HELLO))
    finally:
        shutil.rmtree(short, ignore_errors=True)
    with (tmp_path / "y.tar").open("rb") as file:
        assert load(other, file) == [HELLO.familiar()]

    ours = Image.load(store, image)
    assert shown["RootFS"]["Layers"] == list(ours.diff_ids)
    assert Image.load(other, other.find(str(HELLO)).descriptor).diff_ids == ours.diff_ids


# -- archives as others write them, and broken ones


def docker_archive(*, tags: Any = ("hello:latest",), layer: bytes | None = None, **config: Any) -> list[Any]:
    """The rows of an archive as ``docker save`` wrote it before it wrote OCI layouts."""
    content = tar(("file", "a", b"1"))
    text = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(content)]},
            **config,
        }
    ).encode()
    manifest = [{"Config": "c.json", "RepoTags": tags if tags is None else list(tags), "Layers": ["x/layer.tar"]}]
    return [
        ("dir", "x"),
        ("file", "x/VERSION", b"1.0"),
        ("file", "x/layer.tar", content if layer is None else layer),
        ("file", "c.json", text),
        ("file", "manifest.json", json.dumps(manifest).encode()),
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(docker_archive(), ["hello:latest"], id="as docker save wrote it"),
        pytest.param(docker_archive(tags=["a:1", "docker.io/library/b:2", "a:1"]), ["a:1", "b:2"], id="several tags"),
        pytest.param(docker_archive(tags=None), None, id="without a tag"),
        pytest.param(docker_archive(layer=gzip.compress(tar(("file", "a", b"1")))), ["hello:latest"], id="gzip layer"),
        pytest.param(
            [
                *docker_archive()[:2],
                ("symlink", "x/layer.tar", "../l.tar"),
                *docker_archive()[3:],
                ("file", "l.tar", tar(("file", "a", b"1"))),
            ],
            ["hello:latest"],
            id="a layer behind a link",
        ),
    ],
)
def test_archives_of_docker(store: Store, rows: list[Any], expected: list[str] | None) -> None:
    loaded = load(store, io.BytesIO(tar(*rows)))

    assert loaded == (expected or [store.images()[0].id])
    image = Image.load(store, store.images()[0].descriptor)
    assert image.diff_ids == (digest(tar(("file", "a", b"1"))),)
    assert image.id == digest({row[1]: row[2] for row in rows if len(row) > 2}["c.json"])


def oci_archive(**changed: bytes | None) -> list[Any]:
    """The rows of an OCI archive; ``changed`` replaces the content under a blob's name, or takes it away."""
    layer = tar(("file", "a", b"1"))
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(layer)]}, "os": "linux"}).encode()
    manifest = encode(
        Manifest(config=Descriptor.of(CONFIG, config), layers=(Descriptor.of(layer_media_type("none"), layer),))
    )
    index = encode(Index(manifests=(Descriptor.of(MANIFEST, manifest),)))
    rows = []
    for name, data in (("layer", layer), ("config", config), ("manifest", manifest)):
        content = changed.get(name, data)
        if content is not None:
            rows.append(("file", f"blobs/sha256/{digest(data)[7:]}", content))
    return [*rows, ("file", "index.json", changed.get("index", index)), ("file", "oci-layout", b"{}")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([("file", "a", b"")], "no image", id="no image at all"),
        pytest.param(docker_archive(layer=tar(("file", "b", b""))), "expected sha256", id="another layer"),
        pytest.param(docker_archive(layer=b"BZh9" + bytes(600)), "bzip2", id="a layer compressed unusually"),
        pytest.param(docker_archive(rootfs={"type": "layers", "diff_ids": []}), "diff_ids", id="fewer diff_ids"),
        pytest.param(docker_archive(tags=["Not A Name"]), "name", id="a tag that is none"),
        pytest.param(docker_archive()[:4], "no image", id="without manifest.json"),
        pytest.param([*docker_archive()[:2], *docker_archive()[3:]], "not in it", id="a layer is missing"),
        pytest.param([*docker_archive()[:3], docker_archive()[4]], "not in it", id="the config is missing"),
        pytest.param(
            [*docker_archive()[:4], ("file", "manifest.json", b"{}")], "as Docker", id="another manifest.json"
        ),
        pytest.param([*docker_archive()[:4], ("file", "manifest.json", b"[")], "JSON", id="half a manifest.json"),
        pytest.param([*docker_archive(), ("file", "../out", b"")], "leave the root", id="climbs"),
        pytest.param([*docker_archive(), ("symlink", "x", "../../etc/passwd")], "leave the root", id="a link climbs"),
        pytest.param(oci_archive(layer=b"changed"), "digest mismatch", id="a changed layer"),
        pytest.param(oci_archive(layer=None), "not in it", id="without the layer"),
        pytest.param(oci_archive(manifest=None), "not in it", id="without the manifest"),
        pytest.param(oci_archive(index=b'{"manifests":[]}'), "names no image", id="an empty index"),
        pytest.param(oci_archive(index=b'{"manifests":7}'), "expected a list", id="a strange index"),
        pytest.param([("file", "blobs/sha512/" + "0" * 128, b"")], "sha256", id="another digest"),
    ],
)
def test_a_broken_or_hostile_archive_is_refused_and_adds_no_image(
    store: Store, tmp_path: Path, rows: list[Any], message: str
) -> None:
    with pytest.raises(ArchiveError, match=message):
        load(store, io.BytesIO(tar(*rows)))

    assert store.images() == []
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_an_archive_as_buildkit_writes_it_has_no_name(store: Store) -> None:
    assert load(store, io.BytesIO(tar(*oci_archive()))) == [store.images()[0].id]


def test_one_image_is_saved_without_being_recorded(store: Store, other: Store, tmp_path: Path) -> None:
    image = build(store, tmp_path).write(store)
    stream = io.BytesIO()
    save_image(store, image, [HELLO], stream, format="oci")
    stream.seek(0)

    assert store.images() == []
    assert load(other, stream) == [HELLO.familiar()]
