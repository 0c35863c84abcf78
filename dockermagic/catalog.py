"""What the store holds, told as Docker tells it: the list of images, an image's history, ``inspect``'s document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dockermagic.build.facts import sizes_by_diff_id
from dockermagic.errors import DockermagicError
from dockermagic.oci.image import Image
from dockermagic.oci.spec import HistoryEntry, is_index
from dockermagic.oci.store import Store, StoredImage
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.sandbox.probe import Probe
    from dockermagic.view import InfoView

__all__ = ["HistoryRow", "ImageSummary", "history_rows", "host_info", "inspect", "list_images"]


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


def host_info(home: Path, found: Probe, limits: Sequence[str], help_: str) -> InfoView:
    """What this host can do, as rows to show. ``limits`` are what does not hold for containers."""
    from dockermagic.view import InfoRow, InfoView

    facts = found.explain()
    state: Literal["good", "none"] = "good" if found.mode else "none"
    rows = [
        InfoRow("Runs a RUN with", facts["runs_with"], state, "" if found.mode else " ".join(facts["improve"])),
        InfoRow("Sandbox", found.mode or "none", state),
        InfoRow("Kernel", facts["kernel"]),
        InfoRow("Store", str(home)),
    ]
    rows += [InfoRow("Not isolated", text, "less") for text in facts["not_isolated"]]
    rows += [InfoRow("Could be better", text, "less") for text in facts["improve"] if found.mode]
    for trial in found.trials:
        if not trial.works:
            rows.append(InfoRow(f"Sandbox {trial.mode}", "not possible", "", f"{trial.failed}: {trial.reason}"))
    rows += [InfoRow("Limits", text, "less", help_) for text in limits]
    if not limits:
        rows.append(InfoRow("Limits", "memory, processors and processes, by control groups", "good"))
    return InfoView(tuple(rows))


def layer_sizes(store: Store, image: Image) -> list[int]:
    """The bytes of the files in each layer, bottom first; of its tar, or its blob, where no more is known."""
    known = sizes_by_diff_id(store.records)
    sizes = []
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        blobs = [blob.uncompressed_size for blob in store.layers(diff_id)]
        sizes.append(known[diff_id] if diff_id in known else next(iter(blobs), layer.size))
    return sizes


def list_images(store: Store) -> list[ImageSummary]:
    """Every tag of every image, the newest first; where a repository has none of it, but its digest, that."""
    rows = []
    for stored in [*store.images(), *store.borrowed()]:
        try:
            image = Image.load(store, stored.descriptor)
            size, created = sum(layer_sizes(store, image)), image.config.created
        except DockermagicError:  # damaged, or no image but a cache, say: it has a name and takes room all the same
            parts = {each.digest for each in store.reachable([stored.descriptor]) if store.has(each.digest)}
            size, created = sum(map(store.size, parts)), ""
        tags = [(name.familiar_name, name.tag) for name in stored.names if name.tag]
        pinned = {name.familiar_name for name in stored.names} - {repository for repository, _ in tags}
        names = [*tags, *((repository, "<none>") for repository in sorted(pinned))] or [("<none>", "<none>")]
        rows += [
            ImageSummary(repository, tag, stored.id, created, size, stored.descriptor.digest)
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
    sizes = layer_sizes(store, image)
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
        "Size": sum(layer_sizes(store, image)),
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
