"""The layers of an image that is being pulled: each is unpacked while it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dockermagic.build.images import Images
from dockermagic.build.internal import InternalStep
from dockermagic.build.unpacking import Unpacking
from dockermagic.oci.arrival import Reading
from dockermagic.oci.image import Image
from dockermagic.oci.spec import Descriptor
from dockermagic.values import dataclass

__all__ = ["Arriving"]


@dataclass(slots=True)
class Arriving:
    """An :class:`~dockermagic.oci.transfer.Unpacker` of one image that makes snapshots."""

    images: Images
    step: InternalStep
    _unpacking: Unpacking | None = None

    def calls(self, image: Image, reading: Reading) -> Sequence[Callable[[], None]]:
        """What makes the layers that are not there yet; blobs of the others are not read."""
        emit, vertex = self.step.emit, self.step.digest

        def told(layer: Descriptor) -> None:
            self.step.transfer(layer.digest, "unpacked", layer.size, layer.size)

        self._unpacking = Unpacking(self.images, image, emit, vertex, reading=reading, told=told)
        return self._unpacking.calls()

    def cancel(self) -> None:
        """Make the calls end soon, with BuildInterruptedError."""
        if self._unpacking is not None:
            self._unpacking.cancel()
