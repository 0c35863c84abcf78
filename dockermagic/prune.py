"""What takes the room of a store, and what of it can go: looked at first, so that it can be told before it is done.

Nothing goes that an image which stays, a container that stays or a living process stands on. Images lose their names
and blobs, layers their directories; what is built upon a layer that went is built again when it is wanted.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dockermagic.build.context import forget_gone
from dockermagic.build.locks import Lock
from dockermagic.containers.container import Container
from dockermagic.containers.runtime import Containers
from dockermagic.errors import ContainerError, DockermagicError, StoreError
from dockermagic.oci.image import Image
from dockermagic.oci.spec import Descriptor, is_manifest
from dockermagic.oci.store import Store, StoredImage
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.snapshot import Snapshot, Snapshotter
from dockermagic.values import dataclass, field
from dockermagic.view import Usage

__all__ = ["Plan", "Pruner", "Scope", "Wanted"]

Scope = Literal["none", "dangling", "all"]

_FETCHED_NOW = 3600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What may go.

    Of ``images``, ``dangling`` ones have no name; ``all`` are those that no container stands on. Of the ``cache``,
    ``dangling`` is what neither an image nor one of the layers in ``spare`` stands on; ``all`` takes these, too, and
    cache mounts, downloads and clones. ``before``: only what was made (the cache: last used) before that time, in
    seconds. ``labels`` are labels of an image or a container (a value of None: any) and whether each has to be there.
    The cache has none. It goes, what was not used for longest first, until ``keep_bytes`` of it are left.
    """

    containers: bool = False
    images: Scope = "none"
    cache: Scope = "none"
    before: float | None = None
    labels: tuple[tuple[str, str | None, bool], ...] = ()
    keep_bytes: int | None = None
    spare: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go. ``directories`` are cache mounts, downloads and clones; ``bytes`` is what all of it takes."""

    containers: tuple[Container, ...] = ()
    images: tuple[StoredImage, ...] = ()
    layers: tuple[int, ...] = ()
    directories: tuple[Path, ...] = ()
    blobs: int = 0
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.containers or self.images or self.layers or self.directories or self.blobs)


@dataclass
class Pruner:
    """One look at a store. What it found is true for the moment; :meth:`apply` takes nothing that is used by then."""

    home: Path
    store: Store
    snapshotter: Snapshotter
    containers: Containers
    sandbox: Sandbox
    _sizes: dict[int, int] = field(default_factory=dict)

    # -- what there is

    def usage(self) -> list[Usage]:
        """Images with their blobs and layers, containers, volumes, and the cache."""
        snapshots = {one.id: one for one in self.snapshotter.all()}
        images = self.store.images()
        containers = self.containers.shelf.all()
        used = {one.image_id for one in containers}
        of_images = self._stands_on(images, snapshots)
        active = self._stands_on([one for one in images if one.id in used], snapshots)
        blobs = self._blob_sizes()
        of_active = self._blobs_of(one for one in images if one.id in used)
        layers = sum(map(self._size, (snapshots[one] for one in of_images)))
        kept = sum(map(self._size, (snapshots[one] for one in active)))
        size, kept = layers + sum(blobs.values()), kept + sum(blobs[one] for one in of_active if one in blobs)
        places = [self.containers.shelf.root / one.id for one in containers]
        running = [self.containers.shelf.root / one.id for one in containers if one.is_running]
        volumes = list(self.containers.volumes.root.glob("*"))
        extra = list(self._extra())
        cache = [one for one in snapshots.values() if one.id not in of_images]
        rest = sum(map(self._size, cache)) + self._measure(extra)
        return [
            Usage("Images", len(images), sum(one.id in used for one in images), size, size - kept),
            Usage(
                "Containers",
                len(places),
                len(running),
                self._measure(places),
                self._measure(set(places) - set(running)),
            ),
            Usage("Local Volumes", len(volumes), len(volumes), self._measure(volumes), 0),
            Usage("Build Cache", len(cache) + len(extra), 0, rest, rest),
        ]

    def cache_bytes(self) -> int:
        """What the layers take that no image stands on."""
        snapshots = {one.id: one for one in self.snapshotter.all()}
        of_images = self._stands_on(self.store.images(), snapshots)
        return sum(self._size(one) for one in snapshots.values() if one.id not in of_images)

    def _size(self, snapshot: Snapshot) -> int:
        if snapshot.id not in self._sizes:
            try:
                self._sizes[snapshot.id] = self.snapshotter.size(snapshot)
            except DockermagicError:  # it went meanwhile
                self._sizes[snapshot.id] = 0
        return self._sizes[snapshot.id]

    def _measure(self, places: Iterable[Path]) -> int:
        total = 0
        for place in places:
            with contextlib.suppress(DockermagicError, OSError):
                if place.is_dir():
                    total += int(self.sandbox.call("dockermagic.sandbox.trees:measure", path=str(place)))
                else:
                    total += place.stat().st_size
        return total

    def _extra(self) -> Iterator[Path]:
        """Cache mounts, downloads and clones."""
        for part in ("cache-mounts", "downloads", "git"):
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(os.listdir(self.home / part)):
                    if not name.startswith(".") and not name.endswith((".owners", ".new")):
                        yield self.home / part / name

    def _blob_sizes(self) -> dict[str, int]:
        found = {}
        for digest in self.store.digests():
            with contextlib.suppress(StoreError):
                found[digest] = self.store.size(digest)
        return found

    def _blobs_of(self, images: Iterable[StoredImage]) -> set[str]:
        return {one.digest for one in self.store.reachable([image.descriptor for image in images])}

    def _stands_on(self, images: Iterable[StoredImage], snapshots: Mapping[int, Snapshot]) -> set[int]:
        """The snapshots of images' layers, with all below them."""
        found: set[int] = set()
        for descriptor in self.store.reachable([image.descriptor for image in images]):
            if is_manifest(descriptor.media_type):
                found |= self._chain(descriptor, snapshots)
        return found

    def _chain(self, manifest: Descriptor, snapshots: Mapping[int, Snapshot]) -> set[int]:
        with contextlib.suppress(DockermagicError):
            for chain_id in reversed(Image.load(self.store, manifest).chain_ids):
                top = self.snapshotter.find(f"chain:{chain_id}")
                if top is not None and top.id in snapshots:
                    return set(self.snapshotter.ids(top)) & snapshots.keys()
        return set()

    # -- what can go

    def plan(self, wanted: Wanted) -> Plan:
        """What would go, and how much room that makes."""
        going: list[Container] = []
        staying: list[Container] = []
        for container in self.containers.shelf.all():
            (going if wanted.containers and self._may_go(container, wanted) else staying).append(container)
        used = {one.image_id for one in staying}
        gone: list[StoredImage] = []
        kept: list[StoredImage] = []
        for image in self.store.images():
            (gone if self._image_may_go(image, wanted, used) else kept).append(image)
        snapshots = {one.id: one for one in self.snapshotter.all()}
        layers: list[int] = []
        scope = "none" if any(present for _, _, present in wanted.labels) else wanted.cache
        if scope != "none":
            layers = self._layers(wanted, snapshots, self._stands_on(kept, snapshots), staying)
        directories = list(self._old_extra(wanted)) if scope == "all" and wanted.keep_bytes is None else []
        needed = self._blobs_of(kept)
        blobs = {one: size for one, size in self._blob_sizes().items() if one not in needed}
        places = [self.containers.shelf.root / one.id for one in going]
        size = sum(blobs.values()) + sum(self._size(snapshots[one]) for one in layers)
        size += self._measure(directories) + self._measure(places)
        return Plan(tuple(going), tuple(gone), tuple(layers), tuple(directories), len(blobs), size)

    def _may_go(self, container: Container, wanted: Wanted) -> bool:
        is_old = wanted.before is None or container.created < wanted.before
        return not container.is_running and is_old and _has(container.labels, wanted)

    def _image_may_go(self, image: StoredImage, wanted: Wanted, used: set[str]) -> bool:
        if wanted.images == "none" or (wanted.images == "dangling" and image.names) or image.id in used:
            return False
        if wanted.before is None and not wanted.labels:
            return True
        try:
            config = Image.load(self.store, image.descriptor).config
        except DockermagicError:
            return False
        if wanted.before is not None and _seconds(config.created) >= wanted.before:
            return False
        return _has(config.config.labels or {}, wanted)

    def _layers(
        self,
        wanted: Wanted,
        snapshots: Mapping[int, Snapshot],
        of_images: set[int],
        staying: Sequence[Container],
    ) -> list[int]:
        """The layers that go, each before those it stands on, what was not used for longest first."""
        keep = set(of_images)
        if wanted.cache != "all":
            keep |= self._with_below(wanted.spare, snapshots)
        for container in staying:
            names = [lower.parent.name for lower in container.lowers]
            keep |= self._with_below((int(name) for name in names if name.isdigit()), snapshots)
        free = {identity: one for identity, one in snapshots.items() if identity not in keep}
        used = self.snapshotter.last_used()
        above: dict[int, int] = {}
        for one in snapshots.values():
            if one.parent is not None:
                above[one.parent] = above.get(one.parent, 0) + 1
        left = sum(map(self._size, free.values())) if wanted.keep_bytes is not None else 0
        leaves = [(used.get(identity, 0.0), identity) for identity in free if not above.get(identity)]
        heapq.heapify(leaves)
        found: list[int] = []
        while leaves:
            moment, identity = heapq.heappop(leaves)
            if wanted.before is not None and moment >= wanted.before:
                continue
            if wanted.keep_bytes is not None and left <= wanted.keep_bytes:
                break
            found.append(identity)
            left -= self._size(snapshots[identity]) if wanted.keep_bytes is not None else 0
            below = snapshots[identity].parent
            if below is not None and below in free:
                above[below] -= 1
                if not above[below]:
                    heapq.heappush(leaves, (used.get(below, 0.0), below))
        return found

    def _with_below(self, ids: Iterable[int], snapshots: Mapping[int, Snapshot]) -> set[int]:
        found: set[int] = set()
        for one in ids:
            at: int | None = one
            while at is not None and at in snapshots and at not in found:
                found.add(at)
                at = snapshots[at].parent
        return found

    def _old_extra(self, wanted: Wanted) -> Iterator[Path]:
        now = time.time()
        for path in self._extra():
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime
                # A build that runs may be about to read what was fetched just now.
                limit = now - _FETCHED_NOW if path.parent.name == "downloads" else now
                if changed < min(limit, limit if wanted.before is None else wanted.before):
                    yield path

    # -- going

    def apply(self, plan: Plan) -> int:
        """Take away what was planned and is not used by now; the bytes that went."""
        freed = 0
        for container in plan.containers:
            size = self._measure([self.containers.shelf.root / container.id])
            with contextlib.suppress(ContainerError):
                self.containers.remove(container.id)
                freed += size
        named = {image.descriptor.digest: image.names for image in plan.images}
        with self.store.records.transaction():
            for image in self.store.images():
                if named.get(image.descriptor.digest) == image.names:
                    self.store.forget(image.descriptor.digest)
        freed += sum(self.store.collect().values())
        snapshots = {one.id: one for one in self.snapshotter.all()}
        sizes = {one: self._size(snapshots[one]) for one in plan.layers if one in snapshots}
        freed += sum(sizes.get(one, 0) for one in self.snapshotter.remove(plan.layers))
        for directory in plan.directories:
            freed += self._remove(directory)
        forget_gone(self.store.records)
        return freed

    def _remove(self, path: Path) -> int:
        """Remove a cache mount, a download or a clone that nobody uses."""
        lock = Lock(path.parent / ".lock", path.name)
        if not lock.try_acquire():
            return 0
        try:
            size = self._measure([path])
            beside = [str(one) for one in (path, path.with_name(f"{path.name}.owners")) if one.exists()]
            if path.is_dir():
                self.sandbox.call("dockermagic.sandbox.trees:delete", paths=beside)
            else:
                path.unlink(missing_ok=True)
            return size
        finally:
            lock.release()


def _has(labels: Mapping[str, str], wanted: Wanted) -> bool:
    """Whether these labels are as they have to be."""
    return all((name in labels and value in (None, labels[name])) is present for name, value, present in wanted.labels)


def _seconds(moment: str) -> float:
    from datetime import datetime

    text = re.sub(r"(\.\d{6})\d+", r"\1", moment.replace("Z", "+00:00"))
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
