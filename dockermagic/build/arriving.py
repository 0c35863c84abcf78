"""The layers of an image that is being pulled: each is unpacked while it comes."""

from __future__ import annotations

from dataclasses import dataclass, field

from dockermagic.build.images import Images
from dockermagic.build.internal import InternalStep
from dockermagic.oci.arrival import Reading
from dockermagic.oci.image import Image
from dockermagic.sandbox.base import Cancel
from dockermagic.sandbox.snapshot import Snapshot

__all__ = ["Arriving"]


@dataclass(frozen=True, slots=True)
class Arriving:
    """An :class:`~dockermagic.oci.transfer.Unpacker` that makes snapshots."""

    images: Images
    step: InternalStep
    stop: Cancel = field(default_factory=Cancel)

    def unpack(self, image: Image, reading: Reading) -> None:
        """Every layer as a snapshot; those that are there already are not read."""
        parent: Snapshot | None = None
        for number, chain_id in enumerate(image.chain_ids):
            parent, below = self.images.snapshotter.find(f"chain:{chain_id}"), parent
            if parent is not None:
                continue
            parent = self.images.layer(
                image, number, chain_id, below, self.step.emit, self.step.digest, self.stop, reading
            )
            layer = image.layers[number]
            self.step.transfer(layer.digest, "unpacked", layer.size, layer.size)

    def cancel(self) -> None:
        """End soon, with BuildInterruptedError."""
        self.stop.set()
