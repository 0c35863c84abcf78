"""Where a build goes: archives, layouts, root filesystems, several platforms; whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dockermagic.build.request import BuildResult, Output
from dockermagic.errors import DockermagicError, RunFailedError, UsageError
from dockermagic.oci.image import Image
from tests.build.kit import Bench, write

TREE = (
    "FROM busybox AS b\nRUN mkdir -p /out/d && echo hi > /out/f && ln -s f /out/l && ln /out/f /out/h "
    "&& mkfifo /out/p && chmod 700 /out/d && touch -d @981173106 /out/f && chown 5:6 /out/f && chmod 4755 "
    "/out/f\nFROM scratch\nCOPY --from=b /out /\nCOPY <<E /gone\nE\n"
)


def member(tar: tarfile.TarFile, name: str) -> tuple[bytes, int, int, int, int]:
    found = tar.getmember(name)
    return found.type, found.mode, found.uid, found.gid, int(found.mtime)


def test_tar_of_the_root_filesystem(bench: Bench, tmp_path: Path) -> None:
    """Owners, modes, times and links of the image, in every id mode."""
    place = tmp_path / "root.tar"
    bench.build(TREE, outputs=(Output("tar", str(place)),))
    with tarfile.open(place) as tar:
        assert tar.getnames() == ["d", "f", "gone", "h", "l", "p"]
        assert member(tar, "f") == (tarfile.REGTYPE, 0o4755, 5, 6, 981173106)
        assert (tar.getmember("h").type, tar.getmember("h").linkname) == (tarfile.LNKTYPE, "f")
        assert (tar.getmember("l").type, tar.getmember("l").linkname) == (tarfile.SYMTYPE, "f")
        assert (tar.getmember("p").type, tar.getmember("d").mode) == (tarfile.FIFOTYPE, 0o700)
    assert list(tmp_path.glob(".*")) == []


def test_removed_files_are_not_in_the_tree(bench: Bench, tmp_path: Path) -> None:
    """Whiteouts of every kind have done their work."""
    text = (
        "FROM busybox\nRUN mkdir /d && touch /d/a /d/b /x\nRUN rm /x /d/a && rm -r /home\n"
        "RUN rm -r /d && mkdir /d && touch /d/c\n"
    )
    bench.build(text, outputs=(Output("tar", str(tmp_path / "t")),))
    with tarfile.open(tmp_path / "t") as tar:
        names = tar.getnames()

    assert [name for name in names if name.startswith("d/")] == ["d/c"]
    assert not {"x", "home"} & set(names)
    assert not [name for name in names if ".wh." in name]


def test_directory_of_the_root_filesystem(bench: Bench, tmp_path: Path) -> None:
    """The files are the caller's; what is there stays, and gives way to what has its name."""
    place = tmp_path / "out"
    write(place, {"mine": "stays", "f": "old", "l/x": "a directory", "d": "a file", "outside/": ""})
    (place / "h").symlink_to(tmp_path / "target")
    bench.build(TREE, outputs=(Output("local", str(place)),))

    assert (place / "mine").read_text() == "stays"
    assert (place / "f").read_text() == "hi\n"
    assert (place / "f").stat().st_uid == os.getuid()
    assert stat.S_IMODE((place / "f").stat().st_mode) == 0o4755
    assert (place / "f").stat().st_ino == (place / "h").stat().st_ino
    assert (place / "f").stat().st_mtime == 981173106
    assert os.readlink(place / "l") == "f"
    assert (place / "d").is_dir()
    assert stat.S_ISFIFO((place / "p").lstat().st_mode)
    assert not (tmp_path / "target").exists()


def test_directory_again(bench: Bench, tmp_path: Path) -> None:
    """The same output twice is the same, also where a directory cannot be written by its mode."""
    text = "FROM busybox AS b\nRUN mkdir -p /o/d && touch /o/d/f && chmod 555 /o/d\nFROM scratch\nCOPY --from=b /o /\n"
    for _ in range(2):
        bench.build(text, outputs=(Output("local", str(tmp_path / "out")),))

    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o555
    (tmp_path / "out/d").chmod(0o755)


def test_links_of_the_target_are_not_followed(bench: Bench, tmp_path: Path) -> None:
    """A link where the image has a directory gives way; nothing is written behind it."""
    behind = write(tmp_path / "behind", {"f": "theirs"})
    write(tmp_path / "out", {"d": f"->{behind}"})
    bench.build("FROM scratch\nCOPY <<E /d/f\nmine\nE\n", outputs=(Output("local", str(tmp_path / "out")),))

    assert (tmp_path / "out/d/f").read_text() == "mine\n"
    assert (behind / "f").read_text() == "theirs"


def index_of(place: Path) -> dict[str, object]:
    with tarfile.open(place) as tar:
        file = tar.extractfile("index.json")
        assert file is not None
        found: dict[str, object] = json.load(file)
        return found


def layer_types(bench: Bench, place: Path) -> list[str]:
    """The media types of the layers of an archive's first image."""
    with tarfile.open(place) as tar:

        def document(name: str) -> dict[str, object]:
            file = tar.extractfile(name)
            assert file is not None
            return json.load(file)  # type: ignore[no-any-return]

        index = document("index.json")
        digest = index["manifests"][0]["digest"]  # type: ignore[index]
        manifest = document(f"blobs/{digest.replace(':', '/')}")
        return [layer["mediaType"].rpartition("tar")[2] for layer in manifest["layers"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["+gzip", "+gzip"]),
        ({"compression": "zstd"}, ["+gzip", "+zstd"]),
        ({"compression": "zstd", "force-compression": "true"}, ["+zstd", "+zstd"]),
        ({"compression": "uncompressed", "force-compression": "true"}, ["", ""]),
        ({"compression": "gzip", "compression-level": "9"}, ["+gzip", "+gzip"]),
    ],
)
def test_compression(bench: Bench, tmp_path: Path, options: dict[str, str], expected: list[str]) -> None:
    """New layers as asked, the base's too with force-compression; what is written can be read back."""
    place = tmp_path / "image.tar"
    bench.build("FROM busybox\nRUN echo x > /x\n", outputs=(Output("oci", str(place), {**options, "name": "one"}),))

    assert layer_types(bench, place) == expected
    with place.open("rb") as file:
        assert bench.engine.load(file) == ["one:latest"]
    assert bench.printed("FROM one\nRUN cat /x\n", no_cache=True) == "x\n"


def test_uncompressed_layers_are_the_same_layers(bench: Bench, tmp_path: Path) -> None:
    """Another compression changes no diff_id."""
    ids = []
    for kind in ("gzip", "zstd", "uncompressed"):
        place = tmp_path / kind
        bench.build("FROM busybox\nRUN true\n", outputs=(Output("docker", str(place), {"compression": kind}),))
        with tarfile.open(place) as tar:
            manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
            config = json.load(tar.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]
        ids.append(config["rootfs"]["diff_ids"])

    assert ids[0] == ids[1] == ids[2]


def test_names(bench: Bench, tmp_path: Path) -> None:
    """name= beats the tags, several are separated by commas; without dest it goes to the store."""
    place = tmp_path / "a.tar"
    outputs = (Output("docker", str(place), {"name": "a:1,b"}), Output("image", "", {"name": "kept"}))
    bench.build("FROM busybox\n", tags=("tagged",), outputs=outputs)
    with tarfile.open(place) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]

    assert manifest[0]["RepoTags"] == ["a:1", "b:latest"]
    assert {image.repository for image in bench.engine.images()} == {"busybox", "kept", "tagged"}


def test_layout_directory(bench: Bench, tmp_path: Path) -> None:
    """tar=false writes a layout; a second image is added, and a name moves."""
    place = tmp_path / "layout"
    for text, name in (("ENV A=1", "x:1"), ("ENV A=2", "x:2"), ("ENV A=3", "x:1")):
        bench.build(f"FROM busybox\n{text}\n", outputs=(Output("oci", str(place), {"tar": "false", "name": name}),))
    index = json.loads((place / "index.json").read_text())
    tags = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]

    assert sorted(tags) == ["1", "2"]
    assert json.loads((place / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert not list(place.rglob(".*"))


def platform_images(bench: Bench, result: BuildResult) -> dict[str, Image]:
    stored = bench.engine.store.find(result.image_id)
    found = {}
    for entry in bench.engine.store.index(stored.descriptor).manifests:
        assert entry.platform is not None
        found[str(entry.platform)] = Image.load(bench.engine.store, entry)
    return found


def test_several_platforms(bench: Bench, tmp_path: Path) -> None:
    """One list of manifests; each knows its own platform, and the steps are told with theirs."""
    text = "FROM scratch AS a\nARG TARGETARCH\nCOPY f /f-$TARGETARCH\nFROM a\nLABEL x=1\n"
    write(bench.context, {"f": "1"})
    place = tmp_path / "multi.tar"
    outputs = (Output("oci", str(place)), Output("local", str(tmp_path / "out")))
    result = bench.build(text, platform="linux/arm64,linux/amd64", outputs=outputs, tags=("multi",))
    images = platform_images(bench, result)

    assert {name: image.config.architecture for name, image in images.items()} == {
        "linux/arm64": "arm64",
        "linux/amd64": "amd64",
    }
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("f-*")) == [
        "linux_amd64/f-amd64",
        "linux_arm64/f-arm64",
    ]
    names = bench.names()
    assert "[linux/arm64 a 1/1] COPY f /f-arm64" in names
    assert names.count("[internal] load build definition from Dockerfile") == 1
    with place.open("rb") as file:
        assert len(bench.engine.load(file)) == 1


def test_platform_of_stages(bench: Bench) -> None:
    """A stage of this machine can run for the build of another; what it made is cached for all."""
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS make\nRUN echo made > /made\n"
        "FROM scratch\nARG TARGETPLATFORM\nCOPY --from=make /made /made\nLABEL for=$TARGETPLATFORM\n"
    )
    result = bench.build(text, platform="linux/amd64,linux/arm64,linux/arm64")
    labels = {name: image.config.config.labels for name, image in platform_images(bench, result).items()}

    assert labels == {"linux/amd64": {"for": "linux/amd64"}, "linux/arm64": {"for": "linux/arm64"}}


def test_run_for_another_processor(bench: Bench) -> None:
    """A program for another processor cannot run here, and the error says why."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100)
    (bench.context / "sh").write_bytes(header)
    (bench.context / "sh").chmod(0o755)
    bench.build("FROM scratch\nCOPY sh /bin/sh\n", platform="linux/arm64", tags=("strange",))
    with pytest.raises(RunFailedError) as caught:
        bench.build("FROM strange\nRUN true\n", platform="linux/arm64")

    assert "linux/arm64" in caught.value.hint
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("output", "platform", "message"),
    [
        (Output("local", ""), "", "dest is required"),
        (Output("oci", "x", {"compression": "estargz"}), "", "unsupported layer compression type: estargz"),
        (Output("oci", "x", {"kompression": "gzip"}), "", "no option kompression"),
        (Output("oci", "x", {"rewrite-timestamp": "maybe"}), "", "non-bool value"),
        (Output("oci", "-", {"tar": "false"}), "", "tar=false writes a directory"),
        (Output("docker", "x"), "linux/amd64,linux/arm64", "manifest lists"),
        (Output("tar", "x"), "linux/amd64,linux/arm64", "several platforms"),
        (Output("oci", "/no/such/directory/x"), "", "cannot write /no/such/directory/x"),
        (Output("tar", "/"), "", "destination directory / cannot be a directory"),
        (Output("oci", "x"), "linux/amd64,", "invalid platform"),
        (Output("image", "", {"push": "true"}), "", "tag is needed when pushing to registry"),
        (Output("docker", "", {"push": "true"}), "", "no option push"),
        (Output("floppy", "x"), "", "output type floppy is not supported"),
    ],
)
def test_refused(
    bench: Bench, output: Output, platform: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written is said, and no half of it is left."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=message):
        bench.build("FROM busybox\n", outputs=(output,), platform=platform)

    assert sorted(tmp_path.iterdir()) == before


def test_no_half_written_file(bench: Bench, tmp_path: Path) -> None:
    """A damaged blob is found while the archive is written: the old file stays, and nothing beside it."""
    (tmp_path / "image.tar").write_text("the old one")
    bench.build("FROM busybox\nRUN true\n", tags=("made",))
    image = Image.load(bench.engine.store, bench.engine.store.find("made").descriptor)
    blob = bench.engine.store.blob(image.layers[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(gzip.compress(b"x").ljust(blob.stat().st_size, b"\0"))
    with pytest.raises(DockermagicError, match="damaged"):
        bench.build("FROM busybox\nRUN true\n", outputs=(Output("oci", str(tmp_path / "image.tar")),))

    assert (tmp_path / "image.tar").read_text() == "the old one"
    assert [path.name for path in tmp_path.glob(".*")] == []
