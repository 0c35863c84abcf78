"""Images in one file: ``docker save``'s format and OCI's, which is an image layout in a tar.

What is written is both at once: an OCI layout with Docker's ``manifest.json`` beside it, unless OCI alone is asked for.
Archives are read and written as streams and are not trusted.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dockermagic.errors import ArchiveError, ImageNotFoundError, InvalidReferenceError, StoreError, UsageError
from dockermagic.oci.blobs import BLOCK
from dockermagic.oci.compression import decompressed, detect
from dockermagic.oci.reference import Reference, is_digest
from dockermagic.oci.rooted import clean
from dockermagic.oci.spec import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    CONFIG,
    MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    decode,
    encode,
    is_index,
    is_manifest,
    layer_media_type,
)
from dockermagic.oci.store import Store
from dockermagic.oci.tarheader import DIRECTORY, FILE, LINK, RECORD, SYMLINK, Entry, header
from dockermagic.oci.tarstream import TarReader
from dockermagic.values import replace

__all__ = ["load", "save", "save_image"]

_SMALL = 1 << 20
_KEPT_IN_MEMORY = 64 << 20
_MOST_NAMES = 100_000


class Readable(Protocol):
    """Where an archive comes from: a file, a pipe, standard input."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """Where an archive goes to."""

    def write(self, data: bytes, /) -> Any: ...


# -- saving


def save(
    store: Store,
    names: Sequence[str],
    file: Writable,
    *,
    format: str = "docker",
    platform: Platform | None = None,
) -> None:
    """Write images of the store to ``file``, which only needs ``write``; ``format`` is ``docker`` or ``oci``.

    An image that is asked for by its id has no name in the archive. A list of manifests is written whole if all of it
    is here, else the one for the platform. The same images give the same bytes. Raises ImageNotFoundError before
    anything is written, and StoreError for a missing or damaged blob.
    """
    images: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for text in names:
        found = store.find(text)
        _, tags = images.setdefault(found.descriptor.digest, (found.descriptor, []))
        try:
            tags += [each for each in found.names if each == Reference.parse(text) and each not in tags]
        except InvalidReferenceError:
            pass
    _write(store, list(images.values()), file, format, platform)


def save_image(
    store: Store, descriptor: Descriptor, names: Sequence[Reference], file: Writable, *, format: str = "docker"
) -> None:
    """Write one image, which need not be recorded, under these names. Otherwise like :func:`save`."""
    _write(store, [(descriptor, list(names))], file, format, None)


_Found = list[tuple[Descriptor, list[Reference]]]


def _write(store: Store, images: _Found, file: Writable, format: str, platform: Platform | None) -> None:
    if format not in ("docker", "oci"):
        raise UsageError(f"unknown archive format {format!r}", hint="There are docker and oci.")
    roots = [(_root(store, descriptor, platform), names) for descriptor, names in images]
    blobs = sorted({each.digest for root, _ in roots for each in store.reachable([root])})
    for digest in blobs:
        store.size(digest)  # raises for a missing one, before anything is written
    writer = _Writer(file)
    writer.directory("blobs")
    writer.directory("blobs/sha256")
    for digest in blobs:
        writer.blob(store, digest)
    entries = []
    for root, names in roots:
        for name in names:
            annotations = {ANNOTATION_REF_NAME: str(name), ANNOTATION_IMAGE_NAME: str(name)}
            entries.append(replace(root, annotations=annotations))
        if not names:
            entries.append(root)
    writer.document("index.json", encode(Index(manifests=tuple(entries))))
    if format == "docker":
        writer.document("manifest.json", encode(_docker_manifest(store, roots, platform)))
    writer.document("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    file.write(bytes(2 * RECORD))


def _root(store: Store, descriptor: Descriptor, platform: Platform | None) -> Descriptor:
    """What of the image goes into the archive: all, or one platform's part."""
    if is_index(descriptor.media_type):
        is_whole = all(store.has(each.digest) for each in store.reachable([descriptor]))
        if platform is not None or not is_whole:
            descriptor = store.resolve_manifest(descriptor, platform)[0]
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _docker_manifest(store: Store, images: _Found, platform: Platform | None) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for root, names in images:
        manifest = store.manifest(root, platform)
        layers = [_path(layer.digest) for layer in manifest.layers]
        config = _path(manifest.config.digest)
        entry = entries.setdefault(config, {"Config": config, "RepoTags": [], "Layers": layers})
        entry["RepoTags"] += [name.with_tag(name.tag).familiar() for name in names if name.tag]
    return list(entries.values())


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


class _Writer:
    def __init__(self, file: Writable) -> None:
        self._file = file

    def directory(self, name: str) -> None:
        self._file.write(header(Entry(f"{name}/", DIRECTORY, 0o755)))

    def document(self, name: str, data: bytes) -> None:
        self._file.write(header(Entry(name, FILE, 0o644, size=len(data))) + data + bytes(-len(data) % RECORD))

    def blob(self, store: Store, digest: str) -> None:
        algorithm = digest.partition(":")[0]
        check = hashlib.new(algorithm)
        size = store.size(digest)
        self._file.write(header(Entry(_path(digest), FILE, 0o644, size=size)))
        with store.open(digest) as source:
            while data := source.read(BLOCK):
                check.update(data)
                self._file.write(data)
        if f"{algorithm}:{check.hexdigest()}" != digest:
            raise StoreError(f"blob {digest} is damaged", hint="Remove the image, then pull, load or build it again.")
        self._file.write(bytes(-size % RECORD))


# -- loading


def load(store: Store, file: Readable, *, progress: Callable[[int], None] | None = None) -> list[str]:
    """Read an archive of either format, compressed or not, into the store.

    Returns what was loaded, in the archive's order: names in their familiar form, or ``sha256:...`` ids of images that
    have no name. ``progress`` is told the bytes read so far. Every digest is checked, and names are given in one step
    after all is there. Raises ArchiveError; then no image was added.
    """
    done = 0

    def read() -> bytes:
        nonlocal done
        data = file.read(BLOCK)
        done += len(data)
        if progress is not None:
            progress(done)
        return data

    with store.lease():
        parts = _Parts(store)
        reader = TarReader(decompressed(read))
        for entry in reader:
            parts.add(entry, reader)
        reader.drain()
        if parts.has("index.json"):
            found = _oci_images(store, parts)
        elif parts.has("manifest.json"):
            found = _docker_images(store, parts)
        else:
            raise ArchiveError(
                "this archive holds no image: neither index.json nor manifest.json is in it",
                hint="`import` makes an image of a root filesystem.",
            )
        with store.records.transaction():
            for descriptor, names in found:
                store.add(descriptor)
                for name in names:
                    store.tag(name, descriptor)
    loaded = []
    for descriptor, names in found:
        loaded += [name.familiar() for name in names] or [store.find(descriptor.digest).id]
    return loaded


class _Parts:
    """The files of an archive by name: small ones in memory, others as blobs of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._small: dict[str, bytes] = {}
        self._blobs: dict[str, Descriptor] = {}
        self._links: dict[str, str] = {}
        self._in_memory = 0

    def add(self, entry: Entry, reader: TarReader) -> None:
        """Take the next file in."""
        name = clean(entry.name, "the archive's entry")
        if len(self._small) + len(self._blobs) + len(self._links) > _MOST_NAMES:
            raise ArchiveError(f"the archive has more than {_MOST_NAMES} files")
        if entry.kind in (LINK, SYMLINK):
            above = posixpath.dirname(name) if entry.kind == SYMLINK else ""
            target = posixpath.normpath(posixpath.join(above, entry.link))
            self._links[name] = clean(target, "the target of the archive's link")
        elif entry.kind == FILE:
            words = name.split("/")
            if len(words) == 3 and words[0] == "blobs" and is_digest(f"{words[1]}:{words[2]}"):
                self._blob(name, f"{words[1]}:{words[2]}", reader)
            elif entry.size <= _SMALL and self._in_memory < _KEPT_IN_MEMORY:
                self._small[name] = b"".join(reader.data())
                self._in_memory += entry.size
            else:
                self._blob(name, "", reader)

    def _blob(self, name: str, digest: str, reader: TarReader) -> None:
        if digest and not digest.startswith("sha256:"):
            raise ArchiveError(f"the archive has the blob {digest}: only sha256 is known here")
        with self._store.writer() as writer:
            for piece in reader.data():
                writer.write(piece)
            self._blobs[name] = writer.commit("", digest=digest)

    def has(self, name: str) -> bool:
        """Whether the archive holds the file."""
        return name in self._small or name in self._blobs

    def document(self, name: str) -> bytes:
        """The content of a file that should be small."""
        if name in self._small:
            return self._small[name]
        return self._store.read(self.blob(name).digest)

    def blob(self, name: str) -> Descriptor:
        """A file as a blob of the store; its media type is not set. Raises ArchiveError if it is not there."""
        path = clean(name, "the archive's name")
        for _ in range(16):
            if path in self._blobs:
                return self._blobs[path]
            if path in self._small:
                return self._store.put(self._small[path], "")
            if path not in self._links:
                break
            path = self._links[path]
        raise ArchiveError(f"the archive speaks of {name!r:.200}, which is not in it")


def _oci_images(store: Store, parts: _Parts) -> _Found:
    index = Index.from_json(decode(parts.document("index.json"), "index.json"))
    tags: dict[str, list[str]] = {}
    if parts.has("manifest.json"):
        for item in _docker_entries(parts):
            tags["sha256:" + posixpath.basename(item["Config"]).removesuffix(".json")] = item["RepoTags"]
    found: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for entry in index.manifests:
        descriptor = Descriptor(entry.media_type or MANIFEST, entry.digest, entry.size)
        if not is_manifest(descriptor.media_type) and not is_index(descriptor.media_type):
            continue
        manifest = _complete(store, descriptor)
        _, names = found.setdefault(descriptor.digest, (descriptor, []))
        name = entry.annotations.get(ANNOTATION_IMAGE_NAME) or entry.annotations.get(ANNOTATION_REF_NAME)
        wanted = [name] if name else tags.get(manifest.config.digest, [])
        names += [each for each in map(_name, wanted) if each not in names]
    if not found:
        raise ArchiveError("the archive's index.json names no image")
    return list(found.values())


def _complete(store: Store, descriptor: Descriptor) -> Manifest:
    """The manifest of an image for this machine, or else any, after a look whether all it needs is here."""
    if not store.has(descriptor.digest):
        raise ArchiveError(f"the archive speaks of {descriptor.digest}, which is not in it")
    try:
        manifest = store.manifest(descriptor)
    except ImageNotFoundError as error:
        raise ArchiveError(f"the archive speaks of {descriptor.digest}, but has none of its images") from error
    for part in (manifest.config, *manifest.layers):
        if not store.has(part.digest):
            raise ArchiveError(f"the archive speaks of {part.digest}, which is not in it")
        if store.size(part.digest) != part.size:
            raise ArchiveError(f"blob {part.digest} has {store.size(part.digest)} bytes, expected {part.size}")
    config = store.config(manifest)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise ArchiveError(f"image {descriptor.digest} does not name as many diff_ids as it has layers")
    return manifest


def _docker_entries(parts: _Parts) -> list[dict[str, Any]]:
    entries = decode(parts.document("manifest.json"), "manifest.json")
    wrong = ArchiveError("the archive's manifest.json is not as Docker writes it")
    if not isinstance(entries, list):
        raise wrong
    checked = []
    for item in entries:
        if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
            raise wrong
        lists = [item.get("RepoTags") or [], item.get("Layers") or []]
        if not all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in lists):
            raise wrong
        checked.append({"Config": item["Config"], "RepoTags": lists[0], "Layers": lists[1]})
    return checked


def _docker_images(store: Store, parts: _Parts) -> _Found:
    found: _Found = []
    for item in _docker_entries(parts):
        data = parts.document(item["Config"])
        config = ImageConfig.from_json(decode(data, item["Config"]))
        if len(config.rootfs.diff_ids) != len(item["Layers"]):
            raise ArchiveError(f"{item['Config']!r:.200} does not name as many diff_ids as it has layers")
        layers = []
        for path, diff_id in zip(item["Layers"], config.rootfs.diff_ids, strict=True):
            blob = parts.blob(path)
            with store.open(blob.digest) as file:
                kind = detect(file.read(6))
            if kind not in ("none", "gzip", "zstd"):
                raise ArchiveError(f"the layer {path!r:.200} is compressed with {kind}")
            if kind == "none" and blob.digest != diff_id:
                raise ArchiveError(f"the layer {path!r:.200} has the digest {blob.digest}, expected {diff_id}")
            layers.append(Descriptor(layer_media_type(kind), blob.digest, blob.size))
        manifest = Manifest(config=store.put(data, CONFIG), layers=tuple(layers))
        names = list(dict.fromkeys(map(_name, item["RepoTags"])))
        found.append((store.put(encode(manifest), MANIFEST), names))
    if not found:
        raise ArchiveError("the archive's manifest.json names no image")
    return found


def _name(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except InvalidReferenceError as error:
        raise ArchiveError(f"the archive has an image under the name {text!r:.200}: {error.message}") from error
