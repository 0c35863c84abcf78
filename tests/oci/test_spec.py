"""The documents of image-spec: what is unknown survives, what is wrong is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockermagic.errors import ArchiveError, UsageError
from dockermagic.oci.spec import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    chain_ids,
    digest,
    encode,
    layer_media_type,
    timestamp,
)

# The examples of image-spec 1.1: config.md and manifest.md, shortened.
CONFIG: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa P. Hacker <alyspdev@example.com>",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "alice",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": ["PATH=/usr/bin", "FOO=oci_is_a"],
        "Entrypoint": ["/bin/my-app-binary"],
        "Cmd": ["--foreground", "--config"],
        "Volumes": {"/var/job-result-data": {}, "/var/log/my-app-logs": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"com.example.project.git.url": "https://example.com/project.git"},
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:c6f9", "sha256:5f70"]},
    "history": [
        {"created": "2015-10-31T22:22:54.690851953Z", "created_by": "/bin/sh -c #(nop) ADD file in /"},
        {"created": "2015-10-31T22:22:55.613815829Z", "created_by": "CMD", "empty_layer": True},
    ],
}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:b5b2", "size": 7023},
    "layers": [{"mediaType": layer_media_type("gzip"), "digest": "sha256:9834", "size": 32654}],
    "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:5b0b", "size": 7682},
    "annotations": {"com.example.key1": "value1"},
}


@pytest.mark.parametrize(("kind", "document"), [(ImageConfig, CONFIG), (Manifest, MANIFEST)])
def test_a_document_reads_and_writes_without_loss(kind: Any, document: dict[str, Any]) -> None:
    assert kind.from_json(document).to_json() == document
    assert list(kind.from_json(document).to_json()) == list(document)


def test_what_is_unknown_survives_and_null_is_absent() -> None:
    document = {**CONFIG, "config": {"Env": None, "Unknown": [1, {"a": None}]}, "moby": {"x": 1}, "history": None}
    written = ImageConfig.from_json(document).to_json()

    assert written["config"] == {"Unknown": [1, {"a": None}]}
    assert written["moby"] == {"x": 1}
    assert "history" not in written


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (ImageConfig, []),
        (ImageConfig, {"os": 7}),
        (ImageConfig, {"rootfs": {"diff_ids": "sha256:c6f9"}}),
        (ImageConfig, {"rootfs": {"diff_ids": [1]}}),
        (ImageConfig, {"config": {"Labels": {"a": 1}}}),
        (ImageConfig, {"config": {"ExposedPorts": ["80"]}}),
        (ImageConfig, {"history": [{"empty_layer": "yes"}]}),
        (Manifest, {"layers": {}}),
        (Manifest, {"config": "sha256:b5b2"}),
        (Manifest, {"config": {"size": True}}),
        (Descriptor, {"size": 1.5}),
        (Index, {"manifests": [None]}),
    ],
)
def test_a_member_of_the_wrong_type_is_refused_by_name(kind: Any, document: Any) -> None:
    with pytest.raises(ArchiveError, match="expected"):
        kind.from_json(document)


KEYS = ["config", "rootfs", "diff_ids", "history", "os", "Env", "Labels", "layers", "size", "digest", "x", "platform"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)


@given(st.sampled_from([ImageConfig, Manifest, Index]), JSON)
def test_any_json_is_a_document_or_a_clear_error(kind: Any, document: Any) -> None:
    try:
        read = kind.from_json(document)
    except ArchiveError:
        return
    assert kind.from_json(json.loads(encode(read))) == read


def test_encoding_is_compact_sorted_where_it_is_a_map_and_unicode() -> None:
    config = ImageConfig.from_json({"config": {"Labels": {"b": "<ü>", "a": "\udcff"}}})

    assert (
        encode(config)
        == (
            '{"architecture":"","os":"","config":{"Labels":{"a":"\ufffd","b":"<ü>"}},'
            '"rootfs":{"type":"layers","diff_ids":[]}}'
        ).encode()
    )


def test_chain_ids() -> None:
    first = "sha256:" + "1" * 64
    second = digest(f"{first} b".encode())

    assert chain_ids([first, "b", "c"]) == (first, second, digest(f"{second} c".encode()))
    assert chain_ids([]) == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.5Z"), (1_600_000_000, "2020-09-13T12:26:40Z")],
)
def test_timestamps(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("Linux/ARM64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/amd64/v1", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms_have_one_name(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "lin ux/amd64", "linux/../x"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(UsageError):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], 1),
        ("linux/amd64", ["linux/arm64", "linux/386"], 1),
        ("linux/amd64", ["linux/arm64", "windows/amd64"], None),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], 1),
        ("linux/amd64", [None], 0),
        ("linux/amd64", [None, "linux/amd64"], 1),
        ("linux/amd64", [None, None], None),
        ("linux/amd64", [], None),
    ],
)
def test_the_manifest_for_a_platform(wanted: str, offered: list[str | None], chosen: int | None) -> None:
    media_type = MANIFEST["mediaType"]
    platforms = [None if name is None else Platform(*name.split("/")) for name in offered]
    entries = [Descriptor(media_type, str(number), 1, platform=each) for number, each in enumerate(platforms)]
    found = Index(manifests=tuple(entries)).select(Platform.parse(wanted))

    assert found == (None if chosen is None else entries[chosen])
