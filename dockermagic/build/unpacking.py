"""The layers of an image as snapshots, unpacked side by side: few need those below them before they are whole."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from dockermagic.events import Emit, Status, now
from dockermagic.oci import disk
from dockermagic.oci.arrival import Reading
from dockermagic.oci.image import Image
from dockermagic.oci.spec import Descriptor
from dockermagic.oci.together import together
from dockermagic.sandbox.base import Cancel
from dockermagic.sandbox.snapshot import Snapshot
from dockermagic.values import dataclass, field

if TYPE_CHECKING:
    from dockermagic.build.images import Images

__all__ = ["Unpacking"]

_AT_ONCE = max(2, os.cpu_count() or 1)


@dataclass
class _Layer:
    """One that is not there yet. ``below`` tells it where those below it are, ``above`` tells the next one."""

    number: int
    chain_id: str
    below: socket.socket | None = None
    above: socket.socket | None = None
    made: Future[Snapshot] = field(default_factory=Future)


class Unpacking:
    """What makes the layers of an image that are not there yet; ``reading`` gives blobs that are still coming.

    Each layer's diff_id is checked while it streams, and nothing of it is recorded before those below it are.
    ``told`` hears of each layer that is done, bottom first.
    """

    def __init__(
        self,
        images: Images,
        image: Image,
        emit: Emit,
        vertex: str,
        *,
        reading: Reading | None = None,
        told: Callable[[Descriptor], object] = lambda layer: None,
    ) -> None:
        self._images, self._image = images, image
        self._emit, self._vertex, self._told = emit, vertex, told
        self._reading = reading
        self._stop = Cancel()
        self._top: Snapshot | None = None
        self._layers: list[_Layer] = []
        for number, chain_id in enumerate(image.chain_ids):
            found = None if self._layers else images.snapshotter.find(f"chain:{chain_id}")
            if found is not None:
                self._top = found
                continue
            self._layers.append(_Layer(number, chain_id))
        for lower, upper in zip(self._layers, self._layers[1:], strict=False):
            lower.above, upper.below = socket.socketpair()

    def run(self, cancel: Cancel | None = None) -> Snapshot | None:
        """Unpack what is not there yet; the top layer, None of an image without layers."""
        if self._layers:
            with contextlib.ExitStack() as stack:
                if cancel is not None:
                    stack.callback(cancel.subscribe(self.cancel))
                together(self.calls(), at_once=len(self._layers), stop=self.cancel)
            return self._layers[-1].made.result()
        return self._top

    def calls(self) -> Sequence[Callable[[], None]]:
        """What has to be called, all at once: see :func:`~dockermagic.oci.together.together`."""
        return [partial(self._unpack, at) for at in range(len(self._layers))]

    def cancel(self) -> None:
        """Make the calls end soon, with BuildInterruptedError."""
        self._stop.set()

    def _unpack(self, at: int) -> None:
        layer = self._layers[at]
        with contextlib.ExitStack() as stack:
            try:
                if at >= _AT_ONCE:
                    self._wait(self._layers[at - _AT_ONCE].made)
                made = self._made(layer, self._layers[at - 1].made if at else None)
                self._told(self._image.layers[layer.number])
                if layer.above is not None:
                    # Nobody removes it before the next one stands on it.
                    stack.enter_context(self._images.snapshotter.hold(made))
                    lowers = [str(path) for path in self._images.snapshotter.chain(made)]
                    with contextlib.suppress(OSError):  # the next one is whole already, without a look at it
                        layer.above.sendall(json.dumps(lowers).encode())
            except BaseException as error:
                layer.made.set_exception(error)
                raise
            finally:
                if layer.above is not None:
                    layer.above.close()
                if layer.below is not None:
                    layer.below.close()
            layer.made.set_result(made)
            if layer.above is not None:
                self._wait(self._layers[at + 1].made)

    def _wait(self, made: Future[Snapshot]) -> None:
        """Until a layer is made or failed, or :meth:`cancel`: then it may never have been begun."""
        over = threading.Event()
        made.add_done_callback(lambda made: over.set())
        unsubscribe = self._stop.subscribe(over.set)
        over.wait()
        unsubscribe()

    def _made(self, layer: _Layer, below: Future[Snapshot] | None) -> Snapshot:
        """The snapshot of a layer, unless somebody else has made it meanwhile."""
        key, descriptor = f"chain:{layer.chain_id}", self._image.layers[layer.number]
        with self._images.alone(key, self._stop):
            found = self._images.snapshotter.find(key)
            if found is not None:
                return found
            started = now()
            self._extracting(descriptor, 0, started)
            made = self._filled(layer, key, below, late=disk.RECORDED)
            if made is None and below is not None:
                made = self._filled(layer, key, below, late=True)
            assert made is not None
        self._extracting(descriptor, descriptor.size, started)
        return made

    def _filled(
        self, layer: _Layer, key: str, below: Future[Snapshot] | None, *, late: bool = False
    ) -> Snapshot | None:
        """A layer as a snapshot, begun before those below it are there, unless ``late``; None if that was too early."""
        snapshotter, number = self._images.snapshotter, layer.number
        early = layer.below if not late else None
        active = snapshotter.prepare(self._top if below is None else below.result() if late else None)
        try:
            descriptor, diff_id = self._image.layers[number], self._image.diff_ids[number]
            reading = self._reading(number) if self._reading else None
            if not self._images.fill(active, descriptor, diff_id, self._stop, reading, early):
                snapshotter.discard(active)
                return None
            if early is not None and below is not None:
                active.parent = below.result()
            made = snapshotter.commit(active, key)
            snapshotter.set_diff_id(made, diff_id)
        except BaseException:
            snapshotter.discard(active)
            raise
        return made

    def _extracting(self, layer: Descriptor, done: int, started: float) -> None:
        moment = now()
        ended = moment if done == layer.size else None
        self._emit(Status(self._vertex, layer.digest, "extracting", done, layer.size, moment, started, ended))
