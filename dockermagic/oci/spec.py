"""The JSON documents of the OCI image specification, as frozen values that keep what they do not know.

Every class has ``from_json`` (null is the same as absent, unknown members go to ``extra``; raises ArchiveError if a
member has the wrong type) and ``to_json`` (members in the order of the specification, empty optional ones left out).
Docker's schema 2 documents have the same shape and are read by the same classes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dockermagic.errors import ArchiveError
from dockermagic.oci.document import BOOL, INT, MAP, SET, STRINGS, TEXT, Document, member
from dockermagic.oci.platform import Platform
from dockermagic.values import dataclass, field

__all__ = [
    "ANNOTATION_IMAGE_NAME",
    "ANNOTATION_REF_NAME",
    "CONFIG",
    "DOCKER_CONFIG",
    "DOCKER_INDEX",
    "DOCKER_LAYER_GZIP",
    "DOCKER_MANIFEST",
    "EMPTY",
    "INDEX",
    "LAYER",
    "LAYER_GZIP",
    "LAYER_ZSTD",
    "MANIFEST",
    "ContainerConfig",
    "Descriptor",
    "Healthcheck",
    "HistoryEntry",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "RootFs",
    "chain_ids",
    "decode",
    "digest",
    "encode",
    "is_foreign",
    "is_index",
    "is_layer",
    "is_manifest",
    "layer_media_type",
    "timestamp",
]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER}+gzip"
LAYER_ZSTD = f"{LAYER}+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
# The last ones are what Docker takes as well: some registries did not keep the type.
_IMAGE_CONFIGS = (CONFIG, DOCKER_CONFIG, "application/octet-stream", "application/json", "text/html")
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = f"{DOCKER_LAYER}.gzip"

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_IMAGE_NAME = "io.containerd.image.name"

_SURROGATE = "[\ud800-\udfff]"


def digest(data: bytes) -> str:
    """The ``sha256:`` digest of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(value: Document | Any) -> bytes:
    """Canonical JSON: compact UTF-8, members in the order given; what is not Unicode becomes U+FFFD, as in Go."""
    plain = value.to_json() if isinstance(value, Document) else value
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub(_SURROGATE, "\ufffd", text).encode()


def decode(data: bytes, what: str) -> Any:
    """Parse JSON; ``what`` names the document in the ArchiveError that broken text raises."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{what} is not valid JSON: {error}") from error


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The ChainID of each layer: the identity of it and all below it (image-spec, config.md, Layer ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def timestamp(seconds: float | None = None) -> str:
    """Seconds since the epoch (None: now) as the specification writes times: RFC 3339 in UTC, no needless digits."""
    from datetime import UTC, datetime

    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def is_index(media_type: str) -> bool:
    """Whether the media type is that of a list of manifests."""
    return media_type in (INDEX, DOCKER_INDEX)


def is_manifest(media_type: str) -> bool:
    """Whether the media type is that of one image's manifest."""
    return media_type in (MANIFEST, DOCKER_MANIFEST)


def is_layer(media_type: str) -> bool:
    """Whether the media type is that of a changeset, compressed or not."""
    return media_type in (LAYER, LAYER_GZIP, LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP) or is_foreign(media_type)


def is_foreign(media_type: str) -> bool:
    """Whether the layer may not be passed on and is fetched from elsewhere (``nondistributable``, ``foreign``)."""
    return ".nondistributable." in media_type or ".foreign." in media_type


def layer_media_type(compression: str) -> str:
    """The layer media type of ``none``, ``gzip`` or ``zstd``."""
    return {"none": LAYER, "gzip": LAYER_GZIP, "zstd": LAYER_ZSTD}[compression]


@dataclass(frozen=True, slots=True)
class Descriptor(Document):
    """Which blob: its media type, digest and size (descriptor.md)."""

    media_type: str = field(metadata=member("mediaType", TEXT, keep=True))
    digest: str = field(metadata=member("digest", TEXT, keep=True))
    size: int = field(metadata=member("size", INT, keep=True))
    urls: tuple[str, ...] = field(default=(), metadata=member("urls", STRINGS))
    annotations: Mapping[str, str] = field(default_factory=dict, metadata=member("annotations", MAP))
    data: str = field(default="", metadata=member("data", TEXT))
    platform: Platform | None = field(default=None, metadata=member("platform", Platform))
    artifact_type: str = field(default="", metadata=member("artifactType", TEXT))
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        """The descriptor of these bytes."""
        return cls(media_type, digest(data), len(data))


@dataclass(frozen=True, slots=True)
class Manifest(Document):
    """One image: its config and its layers, bottom first (manifest.md)."""

    schema_version: int = field(default=2, metadata=member("schemaVersion", INT, keep=True))
    media_type: str = field(default=MANIFEST, metadata=member("mediaType", TEXT))
    artifact_type: str = field(default="", metadata=member("artifactType", TEXT))
    config: Descriptor = field(default=Descriptor("", "", 0), metadata=member("config", Descriptor, keep=True))
    layers: tuple[Descriptor, ...] = field(default=(), metadata=member("layers", (Descriptor,), keep=True))
    subject: Descriptor | None = field(default=None, metadata=member("subject", Descriptor))
    annotations: Mapping[str, str] = field(default_factory=dict, metadata=member("annotations", MAP))
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_image(self) -> bool:
        """Whether this is an image, and nothing else that registries keep: a cache, a chart, a signature."""
        return self.config.media_type in _IMAGE_CONFIGS


@dataclass(frozen=True, slots=True)
class Index(Document):
    """Several manifests, mostly one per platform (image-index.md)."""

    schema_version: int = field(default=2, metadata=member("schemaVersion", INT, keep=True))
    media_type: str = field(default=INDEX, metadata=member("mediaType", TEXT))
    artifact_type: str = field(default="", metadata=member("artifactType", TEXT))
    manifests: tuple[Descriptor, ...] = field(default=(), metadata=member("manifests", (Descriptor,), keep=True))
    subject: Descriptor | None = field(default=None, metadata=member("subject", Descriptor))
    annotations: Mapping[str, str] = field(default_factory=dict, metadata=member("annotations", MAP))
    extra: Mapping[str, Any] = field(default_factory=dict)

    def select(self, platform: Platform) -> Descriptor | None:
        """The manifest for a platform: the best match, the first among equals; None where nothing runs on it.

        An entry without a platform is taken only if no other fits and it is the only manifest there is.
        """
        manifests = [item for item in self.manifests if is_manifest(item.media_type) or is_index(item.media_type)]
        fitting = [(item.platform.distance(platform), item) for item in manifests if item.platform]
        ranked = [(distance, item) for distance, item in fitting if distance is not None]
        if ranked:
            return min(ranked, key=lambda pair: pair[0])[1]
        if len(manifests) == 1 and manifests[0].platform is None:
            return manifests[0]
        return None


@dataclass(frozen=True, slots=True)
class Healthcheck(Document):
    """Docker's extension to the config; times in nanoseconds."""

    test: tuple[str, ...] = field(default=(), metadata=member("Test", STRINGS))
    interval: int = field(default=0, metadata=member("Interval", INT))
    timeout: int = field(default=0, metadata=member("Timeout", INT))
    start_period: int = field(default=0, metadata=member("StartPeriod", INT))
    start_interval: int = field(default=0, metadata=member("StartInterval", INT))
    retries: int = field(default=0, metadata=member("Retries", INT))
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerConfig(Document):
    """What a container of the image runs with (config.md, ``config``). ``env`` holds ``NAME=value`` words."""

    user: str = field(default="", metadata=member("User", TEXT))
    exposed_ports: tuple[str, ...] = field(default=(), metadata=member("ExposedPorts", SET))
    env: tuple[str, ...] = field(default=(), metadata=member("Env", STRINGS))
    entrypoint: tuple[str, ...] = field(default=(), metadata=member("Entrypoint", STRINGS))
    cmd: tuple[str, ...] = field(default=(), metadata=member("Cmd", STRINGS))
    volumes: tuple[str, ...] = field(default=(), metadata=member("Volumes", SET))
    working_dir: str = field(default="", metadata=member("WorkingDir", TEXT))
    labels: Mapping[str, str] = field(default_factory=dict, metadata=member("Labels", MAP))
    stop_signal: str = field(default="", metadata=member("StopSignal", TEXT))
    args_escaped: bool = field(default=False, metadata=member("ArgsEscaped", BOOL))
    healthcheck: Healthcheck | None = field(default=None, metadata=member("Healthcheck", Healthcheck))
    onbuild: tuple[str, ...] = field(default=(), metadata=member("OnBuild", STRINGS))
    shell: tuple[str, ...] = field(default=(), metadata=member("Shell", STRINGS))
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RootFs(Document):
    """The digests of the uncompressed layers, bottom first."""

    type: str = field(default="layers", metadata=member("type", TEXT, keep=True))
    diff_ids: tuple[str, ...] = field(default=(), metadata=member("diff_ids", STRINGS, keep=True))
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HistoryEntry(Document):
    """One step; ``empty_layer`` if it added no layer."""

    created: str = field(default="", metadata=member("created", TEXT))
    created_by: str = field(default="", metadata=member("created_by", TEXT))
    author: str = field(default="", metadata=member("author", TEXT))
    comment: str = field(default="", metadata=member("comment", TEXT))
    empty_layer: bool = field(default=False, metadata=member("empty_layer", BOOL))
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageConfig(Document):
    """The config of an image (config.md). The digest of its JSON is the image's id."""

    created: str = field(default="", metadata=member("created", TEXT))
    author: str = field(default="", metadata=member("author", TEXT))
    architecture: str = field(default="", metadata=member("architecture", TEXT, keep=True))
    os: str = field(default="", metadata=member("os", TEXT, keep=True))
    os_version: str = field(default="", metadata=member("os.version", TEXT))
    os_features: tuple[str, ...] = field(default=(), metadata=member("os.features", STRINGS))
    variant: str = field(default="", metadata=member("variant", TEXT))
    config: ContainerConfig = field(default=ContainerConfig(), metadata=member("config", ContainerConfig))
    rootfs: RootFs = field(default=RootFs(), metadata=member("rootfs", RootFs, keep=True))
    history: tuple[HistoryEntry, ...] = field(default=(), metadata=member("history", (HistoryEntry,)))
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def platform(self) -> Platform:
        """The platform that the image is for."""
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)
