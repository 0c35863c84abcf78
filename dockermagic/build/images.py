"""Images in and out of a build: a base becomes snapshots, a finished stage becomes an image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.build.locks import Lock
from dockermagic.errors import ImageNotFoundError, RegistryError, StoreError
from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import Descriptor, HistoryEntry, ImageConfig, RootFs, chain_ids, layer_media_type
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.sandbox.base import Cancel, Sandbox
from dockermagic.sandbox.snapshot import Active, Snapshot, Snapshotter
from dockermagic.settings import settings
from dockermagic.values import dataclass, replace

if TYPE_CHECKING:
    import socket

    from dockermagic.build.graph import ImageSource
    from dockermagic.events import Emit

__all__ = ["DEFAULT_PACKING", "BaseImage", "Images", "Packing", "Pull"]

Pull = Callable[[Reference, Platform, "Emit"], Descriptor]
"""Fetches an image into the store; raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How layers become blobs: ``compression`` none, gzip or zstd, and its ``level`` (None: the usual one).

    No time in a new layer is later than ``latest``, in seconds; with ``one_time`` all are that. ``force`` packs the
    base's layers again, too, where they are compressed in another way.
    """

    compression: str = "gzip"
    level: int | None = None
    latest: int | None = None
    force: bool = False
    one_time: bool = False


DEFAULT_PACKING = Packing()


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image of the store, resolved to a manifest."""

    name: str
    manifest: str
    image: Image

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole image config as a JSON value."""
        return self.image.config.to_json()

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The layers' chain ids, bottom first."""
        return self.image.chain_ids


def _advice(reference: Reference) -> str:
    from dockermagic.build.bases import can_make

    own = f"Make it from this machine's own packages: dockermagic base {reference.familiar()}. Or load"
    start = own if can_make(reference.familiar()) else "Load"
    return f"{start} it from an archive: dockermagic load -i FILE. What is here: dockermagic images"


class Images:
    """What a build wants of images, over one store and one snapshotter."""

    def __init__(self, store: Store, snapshotter: Snapshotter, sandbox: Sandbox, pull: Pull | None = None) -> None:
        self.store = store
        self.snapshotter = snapshotter
        self.sandbox = sandbox
        self.pull = pull

    def resolve(self, name: str, platform: str, emit: Emit, *, always_pull: bool = False) -> BaseImage:
        """The image of that name: from the store, else pulled. Raises :class:`ImageNotFoundError`."""
        reference = Reference.parse(name)
        wanted = Platform.parse(platform)
        descriptor = None if always_pull else self.store.resolve(reference)
        image = None
        if descriptor is not None:
            self.store.use(descriptor)
            with contextlib.suppress(ImageNotFoundError):  # of several platforms another one may be here alone
                image = Image.load(self.store, descriptor, wanted)
        if image is None and self.pull is not None:
            try:
                descriptor = self.pull(reference, wanted, emit)
            except RegistryError as error:
                why = error.message.removeprefix(f"{reference}: ")
                raise ImageNotFoundError(
                    f"{reference}: not found here, and it could not be pulled: {why}", hint=_advice(reference)
                ) from error
        if descriptor is None:
            raise ImageNotFoundError(f"{reference}: not found", hint=_advice(reference))
        if image is None:
            self.store.use(descriptor)
            image = Image.load(self.store, descriptor, wanted)
        return BaseImage(str(reference), descriptor.digest, image)

    def resolve_layout(self, place: str, platform: str) -> BaseImage:
        """The image of a layout directory: ``DIR``, ``DIR:TAG`` or ``DIR@DIGEST``. It stays in the store, unnamed."""
        path, at, wanted = place.partition("@")
        if not at and not Path(path).is_dir():
            path, _, wanted = path.rpartition(":")
        with self.store.lease():
            from dockermagic.oci.layout import load_layout

            descriptor = load_layout(self.store, Path(path), wanted, Platform.parse(platform))
            self.store.add(descriptor)
        return BaseImage(f"oci-layout://{place}", descriptor.digest, Image.load(self.store, descriptor))

    def unpack(self, op: ImageSource, emit: Emit, *, vertex: str = "", cancel: Cancel | None = None) -> Snapshot:
        """The snapshot of the image's top layer; layers that are not unpacked yet are."""
        from dockermagic.build.unpacking import Unpacking

        base: BaseImage = op.image
        top = Unpacking(self, base.image, emit, vertex).run(cancel)
        assert top is not None
        return top

    def snapshots(self, image: Image, emit: Emit) -> Snapshot | None:
        """The snapshot of an image's top layer, None for an image without layers."""
        top = self.snapshotter.find(f"chain:{image.chain_ids[-1]}") if image.chain_ids else None
        if top is not None or not image.chain_ids:
            return top
        from dockermagic.build.unpacking import Unpacking

        return Unpacking(self, image, emit, "").run()

    @contextlib.contextmanager
    def alone(self, name: str, cancel: Cancel | None = None) -> Iterator[None]:
        """What two builds want is made by one of them; the other waits, and finds it."""
        lock = Lock(self.store.home / "steps.lock", f"{self.sandbox.mode} {name}")
        lock.acquire(cancel)
        try:
            yield
        finally:
            lock.release()

    def fill(
        self,
        active: Active,
        layer: Descriptor,
        diff_id: str,
        cancel: Cancel | None = None,
        blob: contextlib.AbstractContextManager[int] | None = None,
        below: socket.socket | None = None,
    ) -> bool:
        """Unpack a layer into a new snapshot, from the store or as it comes; its diff_id is checked on the way.

        ``below`` tells the directories of the layers below where they are still being made. False if the layer must
        be unpacked again, onto them.
        """
        with blob if blob is not None else self._opened(layer) as file:
            done = self.sandbox.call(
                "dockermagic.oci.unpack:unpack",
                fds={"blob": file} | ({"below": below.fileno()} if below is not None else {}),
                cancel=cancel,
                directory=str(active.upper),
                lowers=[str(path) for path in active.rootfs.lowers],
                size=layer.size,
                diff_id=diff_id,
                limit=settings().layer_limit,
            )
        return done is not None

    @contextlib.contextmanager
    def _opened(self, layer: Descriptor) -> Iterator[int]:
        with self.store.open(layer.digest) as file:
            yield file.fileno()

    # out

    def blob(self, snapshot: Snapshot, packing: Packing = DEFAULT_PACKING) -> LayerBlob:
        """The layer of a snapshot as a blob of the store, made once. Call it inside a lease."""
        packed = self._packed(snapshot, packing)
        if packed is not None:
            return packed
        with self.alone(f"pack {snapshot.id} {packing}"):
            return self._packed(snapshot, packing) or self._pack(snapshot, packing)

    def _packed(self, snapshot: Snapshot, packing: Packing) -> LayerBlob | None:
        known = self.snapshotter.diff_id(snapshot)
        if known and packing.level is None and packing.latest is None:
            for blob in self.store.layers(known):
                if blob.descriptor.media_type == layer_media_type(packing.compression):
                    return blob
        return None

    def same_layer(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of the same layer that was here before, and the given one goes; itself where there is none.

        For the bottom layer of an image. Call it inside a lease.
        """
        found = self.snapshotter.find(f"chain:{self.blob(snapshot).diff_id}")
        if found is None or found.id == snapshot.id:
            return snapshot
        self.snapshotter.remove([snapshot.id])
        return found

    def _pack(self, snapshot: Snapshot, packing: Packing) -> LayerBlob:
        with self.store.writer() as writer:
            done = self.sandbox.call(
                "dockermagic.oci.pack:pack",
                fds={"out": writer.fileno()},
                directory=str(snapshot.fs),
                lowers=[str(path) for path in self.snapshotter.chain(snapshot)[:-1]],
                compression=packing.compression,
                level=packing.level,
                source_date_epoch=packing.latest,
                one_time=packing.one_time,
            )
            descriptor = writer.commit(layer_media_type(packing.compression), digest=done["digest"], size=done["size"])
        made = LayerBlob(descriptor, done["diff_id"], done["uncompressed_size"])
        self.store.remember_layer(made)
        if packing.latest is None:
            self.snapshotter.set_diff_id(snapshot, made.diff_id)
        return made

    def repack(self, layer: Descriptor, diff_id: str, packing: Packing) -> Descriptor:
        """A layer of a base image in another compression; the blob itself where it has that one already."""
        wanted = layer_media_type(packing.compression)
        kind = next((kind for kind in ("gzip", "zstd") if layer.media_type.endswith(kind)), "none")
        if kind == packing.compression and packing.level is None:
            return layer
        for blob in self.store.layers(diff_id):
            if blob.descriptor.media_type == wanted and packing.level is None:
                return blob.descriptor
        from dockermagic.oci.pipeline import recompress

        with self.store.writer() as writer, self.store.open(layer.digest) as source:
            done = recompress(source.fileno(), writer.fileno(), packing.compression, packing.level)
            if done.diff_id != diff_id:
                raise StoreError(f"blob {layer.digest} is damaged", hint="Remove the image and load it again.")
            descriptor = writer.commit(wanted, digest=done.digest, size=done.size)
        self.store.remember_layer(LayerBlob(descriptor, diff_id, done.uncompressed_size))
        return descriptor

    def assemble(
        self,
        config: Mapping[str, Any],
        snapshots: Sequence[Snapshot],
        base: Image | None,
        packing: Packing = DEFAULT_PACKING,
    ) -> Image:
        """An image of a config (with its whole history) and layers: the base's own blobs, then one for each snapshot.

        ``snapshots`` are all layers of the stage, bottom first. Call it inside a lease.
        """
        known = base.layers if base is not None else ()
        diff_ids = list(base.diff_ids) if base is not None else []
        layers = list(known)
        if packing.force:
            layers = [self.repack(layer, diff_id, packing) for layer, diff_id in zip(known, diff_ids, strict=True)]
        for snapshot in snapshots[len(known) :]:
            blob = self.blob(snapshot, packing)
            layers.append(blob.descriptor)
            diff_ids.append(blob.diff_id)
        if packing.latest is None:
            for snapshot, chain_id in zip(snapshots, chain_ids(diff_ids), strict=True):
                self.snapshotter.alias(f"chain:{chain_id}", snapshot)
        made = ImageConfig.from_json(dict(config))
        history = tuple(HistoryEntry.from_json(entry) for entry in config.get("history", ()))
        made = replace(made, rootfs=RootFs(diff_ids=tuple(diff_ids)), history=history)
        return Image(made, tuple(layers))
