"""Image layouts as plain directories (image-layout.md): images go out to one, and come in from one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dockermagic.errors import ArchiveError, ImageNotFoundError
from dockermagic.oci import lock
from dockermagic.oci.blobs import full_disk
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    Descriptor,
    Index,
    Platform,
    decode,
    encode,
    is_index,
    is_manifest,
)
from dockermagic.oci.store import Store
from dockermagic.values import replace
from dockermagic.wholefile import whole_file, write_whole

__all__ = ["find_image", "load_layout", "read_blob", "save_layout", "take_blob"]

_LARGEST_DOCUMENT = 16 << 20


def save_layout(store: Store, descriptor: Descriptor, names: Sequence[Reference], directory: Path) -> None:
    """Write an image into the layout at ``directory``, which is made if missing; what else is in it stays.

    An image takes its names from those that had them. Each file appears whole or not at all, ``index.json`` last.
    Raises StoreFullError, StoreError, ArchiveError for a directory that holds something else.
    """
    root = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
    directory.mkdir(parents=True, exist_ok=True)
    with lock.hold(directory / "index.json.lock"), full_disk(directory):
        known = _index(directory) if (directory / "index.json").exists() else Index()
        for blob in store.reachable([root]):
            place = _blob(directory, blob.digest)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                with store.open(blob.digest) as source, whole_file(place) as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        entries = [
            replace(root, annotations={ANNOTATION_REF_NAME: name.tag, ANNOTATION_IMAGE_NAME: str(name)})
            for name in names
        ] or [root]
        taken = {_names(entry) for entry in entries} - {("", "")}
        kept = [one for one in known.manifests if _names(one) not in taken and one.digest != root.digest]
        write_whole(directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        write_whole(directory / "index.json", encode(Index(manifests=(*kept, *entries))))


def load_layout(store: Store, directory: Path, wanted: str, platform: Platform | None = None) -> Descriptor:
    """Bring an image of the layout at ``directory`` into the store, without a name; call it inside a lease.

    ``wanted`` is a tag, a digest or a whole name, '' for the tag latest or the only image. Of a list of manifests the
    one for the platform comes along. Every digest is checked. Raises ImageNotFoundError and ArchiveError.
    """
    index = _index(directory)
    found = _find(index, wanted, directory)
    while is_index(found.media_type):
        take_blob(store, directory, found)
        chosen = store.index(found).select(platform or Platform.host())
        if chosen is None:
            raise ImageNotFoundError(f"no manifest for {platform or Platform.host()} in {directory}")
        found = chosen
    if not is_manifest(found.media_type):
        raise ArchiveError(f"{found.digest} in {directory} is not an image: {found.media_type!r:.100}")
    take_blob(store, directory, found)
    manifest = store.manifest(found)
    for part in (manifest.config, *manifest.layers):
        take_blob(store, directory, part)
    return Descriptor(found.media_type, found.digest, found.size)


def find_image(directory: Path, wanted: str) -> Descriptor:
    """The entry of a layout that ``wanted`` means, as for :func:`load_layout`."""
    return _find(_index(directory), wanted, directory)


def read_blob(directory: Path, digest: str) -> bytes:
    """A small blob of a layout, checked. Raises ArchiveError."""
    data = _document(_blob(directory, digest))
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ArchiveError(f"blob {digest} in {directory} is damaged")
    return data


def _index(directory: Path) -> Index:
    return Index.from_json(decode(_document(directory / "index.json"), f"{directory}/index.json"))


def _document(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise ArchiveError(
            f"{path.parent} is not an image layout: {path.name}: {os.strerror(error.errno or 0)}",
            hint="A layout is a directory with index.json and blobs/, such as `--output type=oci,tar=false` writes.",
        ) from None
    if len(data) > _LARGEST_DOCUMENT:
        raise ArchiveError(f"{path} is larger than {_LARGEST_DOCUMENT} bytes")
    return data


def _names(entry: Descriptor) -> tuple[str, str]:
    return entry.annotations.get(ANNOTATION_REF_NAME, ""), entry.annotations.get(ANNOTATION_IMAGE_NAME, "")


def _find(index: Index, wanted: str, directory: Path) -> Descriptor:
    if wanted.startswith("sha256:"):
        fitting = [entry for entry in index.manifests if entry.digest == wanted]
        if not fitting and _blob(directory, wanted).is_file():
            data = _document(_blob(directory, wanted))
            kind = str(decode(data, wanted).get("mediaType", ""))
            fitting = [Descriptor(kind, wanted, len(data))]
    else:
        fitting = [entry for entry in index.manifests if (wanted or "latest") in _names(entry)]
        if not fitting and not wanted:
            fitting = list(index.manifests)
    if len({entry.digest for entry in fitting}) == 1:
        return fitting[0]
    names = sorted({name for entry in index.manifests for name in _names(entry)[:1] if name})
    what = f"{wanted or 'an image'} in {directory}"
    raise ImageNotFoundError(
        f"could not find {what}" if not fitting else f"there are several of {what}",
        hint=f"Its images: {', '.join(names)}" if names else "Name an image of it by its digest.",
    )


def _blob(directory: Path, name: str) -> Path:
    algorithm, _, value = name.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ArchiveError(f"{directory} speaks of the blob {name!r:.100}: only sha256 is known here")
    return directory / "blobs" / algorithm / value


def take_blob(store: Store, directory: Path, descriptor: Descriptor) -> None:
    """Bring one blob of a layout into the store; nothing to do where it is there. Raises ArchiveError."""
    place = _blob(directory, descriptor.digest)
    if store.has(descriptor.digest):
        return
    try:
        file = place.open("rb")
    except OSError:
        raise ArchiveError(f"{directory} speaks of {descriptor.digest}, which is not in it") from None
    with file, store.writer() as writer:
        while data := file.read(1 << 20):
            writer.write(data)
        writer.commit(descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
