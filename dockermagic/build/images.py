"""Images in and out of a build: a base becomes snapshots, a finished stage becomes an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dockermagic.build.graph import ImageSource
from dockermagic.errors import ImageNotFoundError
from dockermagic.events import Emit, Status, now
from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import Descriptor, HistoryEntry, ImageConfig, RootFs, chain_ids, layer_media_type
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.sandbox.base import Cancel, Sandbox
from dockermagic.sandbox.snapshot import Snapshot, Snapshotter

__all__ = ["BaseImage", "Images", "Pull"]

Pull = Callable[[Reference, Platform, Emit], Descriptor | None]
"""Fetches an image into the store, or says None where no registry can be reached for it."""


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
        if descriptor is None and self.pull is not None:
            descriptor = self.pull(reference, wanted, emit)
        if descriptor is None:
            descriptor = self.store.resolve(reference)
        if descriptor is None:
            raise ImageNotFoundError(
                f"{reference}: not found",
                hint=f"Make it from this machine's own packages (dockermagic base {reference.familiar()}, for busybox "
                "and debian), or load it from an archive (dockermagic load -i FILE). What is here: dockermagic images",
            )
        image = Image.load(self.store, descriptor, wanted)
        shown = str(reference)
        return BaseImage(shown, descriptor.digest, image)

    def unpack(self, op: ImageSource, emit: Emit, *, vertex: str = "", cancel: Cancel | None = None) -> Snapshot:
        """The snapshot of the image's top layer; layers that are not unpacked yet are."""
        base: BaseImage = op.image
        parent: Snapshot | None = None
        for number, chain_id in enumerate(base.chain_ids):
            parent = self.layer(base.image, number, chain_id, parent, emit, vertex, cancel)
        assert parent is not None
        return parent

    def snapshots(self, image: Image, emit: Emit) -> Snapshot | None:
        """The snapshot of an image's top layer, None for an image without layers."""
        if not image.chain_ids:
            return None
        base = BaseImage("", "", image)
        return self.unpack(ImageSource("", "", image.chain_ids, base), emit)

    def layer(
        self,
        image: Image,
        number: int,
        chain_id: str,
        parent: Snapshot | None,
        emit: Emit,
        vertex: str,
        cancel: Cancel | None,
    ) -> Snapshot:
        """One unpacked layer. Digest and diff_id are checked while it streams, before anything is recorded."""
        key = f"chain:{chain_id}"
        found = self.snapshotter.find(key)
        if found is not None:
            return found
        descriptor = image.layers[number]
        started = now()
        emit(Status(vertex, descriptor.digest, "extracting", 0, descriptor.size, started, started))
        active = self.snapshotter.prepare(parent)
        try:
            with self.store.open(descriptor.digest) as blob:
                self.sandbox.call(
                    "dockermagic.oci.unpack:unpack",
                    fds={"blob": blob.fileno()},
                    cancel=cancel,
                    directory=str(active.upper),
                    digest=descriptor.digest,
                    diff_id=image.diff_ids[number],
                )
            snapshot = self.snapshotter.commit(active, key)
            self.snapshotter.set_diff_id(snapshot, image.diff_ids[number])
        except BaseException:
            self.snapshotter.discard(active)
            raise
        emit(Status(vertex, descriptor.digest, "extracting", descriptor.size, descriptor.size, now(), started, now()))
        return snapshot

    # out

    def blob(
        self, snapshot: Snapshot, *, compression: str = "gzip", options: Mapping[str, Any] | None = None
    ) -> LayerBlob:
        """The layer of a snapshot as a blob of the store, made once. Call it inside a lease."""
        known = self.snapshotter.diff_id(snapshot)
        if known and not options:
            for blob in self.store.layers(known):
                if blob.descriptor.media_type == layer_media_type(compression):
                    return blob
        with self.store.writer() as writer:
            done = self.sandbox.call(
                "dockermagic.oci.pack:pack",
                fds={"out": writer.fileno()},
                directory=str(snapshot.fs),
                compression=compression,
                **(options or {}),
            )
            descriptor = writer.commit(layer_media_type(compression), digest=done["digest"], size=done["size"])
        made = LayerBlob(descriptor, done["diff_id"], done["uncompressed_size"])
        self.store.remember_layer(made)
        if not options:
            self.snapshotter.set_diff_id(snapshot, made.diff_id)
        return made

    def assemble(
        self,
        config: Mapping[str, Any],
        snapshots: Sequence[Snapshot],
        base: Image | None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Image:
        """An image of a config (with its whole history) and layers: the base's own blobs, then one for each snapshot.

        ``snapshots`` are all layers of the stage, bottom first. Call it inside a lease.
        """
        known = base.layers if base is not None else ()
        diff_ids = list(base.diff_ids) if base is not None else []
        layers = list(known)
        for snapshot in snapshots[len(known) :]:
            blob = self.blob(snapshot, options=options)
            layers.append(blob.descriptor)
            diff_ids.append(blob.diff_id)
        if not options:
            for snapshot, chain_id in zip(snapshots, chain_ids(diff_ids), strict=True):
                self.snapshotter.alias(f"chain:{chain_id}", snapshot)
        made = ImageConfig.from_json(dict(config))
        history = tuple(HistoryEntry.from_json(entry) for entry in config.get("history", ()))
        made = replace(made, rootfs=RootFs(diff_ids=tuple(diff_ids)), history=history)
        return Image(made, tuple(layers))
