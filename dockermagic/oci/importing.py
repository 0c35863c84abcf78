"""A root filesystem in a tar as an image of one layer: what ``docker import`` does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dockermagic.errors import ArchiveError
from dockermagic.oci.archive import Readable
from dockermagic.oci.blobs import BLOCK
from dockermagic.oci.compression import decompressed
from dockermagic.oci.image import Image
from dockermagic.oci.pipeline import Sink, too_large
from dockermagic.oci.platform import Platform
from dockermagic.oci.rooted import clean
from dockermagic.oci.spec import Descriptor, HistoryEntry, layer_media_type
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.oci.tarstream import TarReader
from dockermagic.settings import settings

__all__ = ["import_root"]


def import_root(store: Store, file: Readable, *, message: str = "", platform: Platform | None = None) -> Descriptor:
    """Make an image of a tar, compressed or not, and record it without a name; returns its manifest's descriptor.

    The tar becomes the layer as it is. Raises ArchiveError where it is none, would leave the root, or is larger than
    a layer may be.
    """
    with store.lease():
        with store.writer() as writer:
            sink = Sink(writer.fileno(), "gzip")
            try:
                entries = _look_through(TarReader(_passing(file, sink)))
                sink.finish()
            finally:
                sink.close()
            if not entries:
                raise ArchiveError("this is no root filesystem: the tar has no entries")
            layer = writer.commit(layer_media_type("gzip"), digest=sink.digest, size=sink.size)
        made = LayerBlob(layer, sink.diff_id, sink.uncompressed_size)
        store.remember_layer(made)
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        step = HistoryEntry(created=now, created_by="", comment=message)
        descriptor = Image.empty(platform).append_layer(made, step).with_created(now).write(store)
        store.add(descriptor)
        return descriptor


def _passing(file: Readable, sink: Sink) -> Iterator[bytes]:
    left = settings().layer_limit
    for block in decompressed(lambda: file.read(BLOCK)):
        left -= len(block)
        if left < 0:
            raise too_large(settings().layer_limit)
        sink.write(block)
        yield block


def _look_through(reader: TarReader) -> int:
    count = 0
    for entry in reader:
        clean(entry.name, "the tar's entry")
        count += 1
    reader.drain()
    return count
