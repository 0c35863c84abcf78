"""An image as an immutable value: its config and its layers; a change returns a new image."""

from __future__ import annotations

from dockermagic.errors import ArchiveError
from dockermagic.oci.spec import (
    CONFIG,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Manifest,
    Platform,
    RootFs,
    chain_ids,
    encode,
)
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.values import dataclass, replace

__all__ = ["Image"]


@dataclass(frozen=True, slots=True)
class Image:
    """A config and the descriptors of its layers, bottom first, as many as the config has diff_ids.

    ``source`` is the manifest it was read from; None for an image that was made or changed here.
    """

    config: ImageConfig
    layers: tuple[Descriptor, ...] = ()
    source: Descriptor | None = None
    stored_id: str = ""

    @classmethod
    def empty(cls, platform: Platform | None = None) -> Image:
        """``FROM scratch``: no layer, nothing configured."""
        on = (platform or Platform.host()).normalized()
        return cls(ImageConfig(architecture=on.architecture, os=on.os, variant=on.variant, os_version=on.os_version))

    @classmethod
    def load(cls, store: Store, descriptor: Descriptor, platform: Platform | None = None) -> Image:
        """Read an image of the store; raises StoreError, ArchiveError, ImageNotFoundError."""
        source, manifest = store.resolve_manifest(descriptor, platform)
        config = store.config(manifest)
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise ArchiveError(
                f"image {descriptor.digest} has {len(manifest.layers)} layers, "
                f"but its config names {len(config.rootfs.diff_ids)}"
            )
        return cls(config, manifest.layers, source, manifest.config.digest)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers, bottom first."""
        return self.config.rootfs.diff_ids

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """For each layer the identity of it and all below it."""
        return chain_ids(self.diff_ids)

    @property
    def id(self) -> str:
        """The image's id: the digest of its config."""
        return self.stored_id or Descriptor.of(CONFIG, encode(self.config)).digest

    def append_layer(self, layer: LayerBlob, history: HistoryEntry) -> Image:
        """This image with one more layer on top."""
        diff_ids = RootFs(diff_ids=(*self.diff_ids, layer.diff_id))
        config = replace(self.config, rootfs=diff_ids, history=(*self.config.history, history))
        return Image(config, (*self.layers, layer.descriptor))

    def with_config(self, config: ContainerConfig) -> Image:
        """This image, run in another way."""
        return Image(replace(self.config, config=config), self.layers)

    def with_created(self, created: str) -> Image:
        """This image, made at that time (RFC 3339)."""
        return Image(replace(self.config, created=created), self.layers)

    def write(self, store: Store) -> Descriptor:
        """Store config and manifest, not the layers; returns the manifest's descriptor. Idempotent.

        Call it inside a lease, and tag or add what it returns before leaving.
        """
        if self.source is not None:
            return self.source
        config = store.put(encode(self.config), CONFIG)
        manifest = Manifest(config=config, layers=tuple(_plain(layer) for layer in self.layers))
        return store.put(encode(manifest), MANIFEST)


def _plain(layer: Descriptor) -> Descriptor:
    """The descriptor under OCI's media type, which a manifest of OCI's must use for Docker's layers too."""
    names = {
        "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    }
    return Descriptor(names.get(layer.media_type, layer.media_type), layer.digest, layer.size)
