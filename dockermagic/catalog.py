"""What the store holds, told as Docker tells it: the list of images, an image's history, ``inspect``'s document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dockermagic.oci.image import Image
from dockermagic.oci.spec import Descriptor, HistoryEntry, is_index
from dockermagic.oci.store import Store, StoredImage

__all__ = ["HistoryRow", "ImageSummary", "history_rows", "inspect", "list_images"]


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """A line of ``images``: one name of an image; ``<none>`` where it has none. ``size`` in bytes, unpacked."""

    repository: str
    tag: str
    id: str
    created: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A line of ``history``. ``created`` is RFC 3339, ``size`` in bytes; ``image_id`` is set for the topmost alone."""

    created: str
    created_by: str
    size: int
    comment: str
    empty_layer: bool
    image_id: str = ""


def _layer_size(store: Store, layer: Descriptor, diff_id: str) -> int:
    for blob in store.layers(diff_id):
        return blob.uncompressed_size
    return layer.size


def image_size(store: Store, image: Image) -> int:
    """The bytes of all layers, unpacked where that is known."""
    return sum(_layer_size(store, layer, diff_id) for layer, diff_id in zip(image.layers, image.diff_ids, strict=True))


def list_images(store: Store) -> list[ImageSummary]:
    """Every name of every image, the newest first."""
    rows = []
    for stored in store.images():
        image = Image.load(store, stored.descriptor)
        size = image_size(store, image)
        created = image.config.created
        names = [(name.familiar_name, name.tag or "<none>") for name in stored.names] or [("<none>", "<none>")]
        rows += [
            ImageSummary(repository, tag, image.id, created, size, stored.descriptor.digest)
            for repository, tag in names
        ]
    return sorted(rows, key=lambda row: row.created, reverse=True)


def history_rows(history: tuple[HistoryEntry, ...], sizes: list[int], image_id: str = "") -> list[HistoryRow]:
    """The history with its layers' sizes (bottom first), the newest entry first."""
    waiting = iter(sizes)
    rows = [
        HistoryRow(
            entry.created,
            entry.created_by,
            0 if entry.empty_layer else next(waiting, 0),
            entry.comment,
            entry.empty_layer,
        )
        for entry in history
    ]
    rows += [HistoryRow("", "", size, "", False) for size in waiting]
    rows.reverse()
    if rows and image_id:
        first = rows[0]
        rows[0] = HistoryRow(first.created, first.created_by, first.size, first.comment, first.empty_layer, image_id)
    return rows


def image_history(store: Store, image: Image) -> list[HistoryRow]:
    """``history`` of a stored image."""
    sizes = [_layer_size(store, layer, diff_id) for layer, diff_id in zip(image.layers, image.diff_ids, strict=True)]
    return history_rows(image.config.history, sizes, image.id)


def inspect(store: Store, stored: StoredImage) -> dict[str, Any]:
    """The document of ``docker image inspect``."""
    image = Image.load(store, stored.descriptor)
    document = image.config.to_json()
    config = document.get("config") or {}
    digests = [f"{name.familiar_name}@{stored.descriptor.digest}" for name in stored.names]
    found: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [name.familiar() for name in stored.names if name.tag],
        "RepoDigests": sorted(set(digests)),
        "Comment": image.config.history[-1].comment if image.config.history else "",
        "Created": image.config.created,
        "Author": image.config.author,
        "Config": config,
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Size": image_size(store, image),
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": ""},
        "Descriptor": {
            "mediaType": stored.descriptor.media_type,
            "digest": stored.descriptor.digest,
            "size": stored.descriptor.size,
        },
    }
    if image.config.variant:
        found["Variant"] = image.config.variant
    if is_index(stored.descriptor.media_type):
        found["Descriptor"]["platforms"] = [str(item.platform) for item in store.index(stored.descriptor).manifests]
    return found
