"""Bytes through threads: reading, digests and (de)compression beside the work on the file system.

The libraries that decompress, compress and hash release the interpreter's lock, so that two processors are used.
Queues are short: memory stays flat.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial

from dockermagic.errors import ArchiveError, DockermagicError
from dockermagic.oci.blobs import full_disk
from dockermagic.oci.compression import BLOCK, PIECE, compressor, decompressed

__all__ = ["Sink", "Source", "recompress", "too_large"]

_BLOCKS_WAITING = 4
_PIECES_WAITING = 16
_Queue = queue.Queue[bytes | BaseException | None]


def too_large(limit: int) -> ArchiveError:
    """The error for a layer that unpacks to more bytes than that."""
    return ArchiveError(
        f"the layer unpacks to more than {limit} bytes",
        hint="If that is what it should be, raise the bound: 'layer' in [limits] of the config file.",
    )


class Source:
    """The uncompressed pieces of a blob, with the digests of both sides.

    Iterate to the end, then :attr:`digest` (if ``has_digest``), :attr:`size`, :attr:`diff_id` and
    :attr:`uncompressed_size` are set. Raises ArchiveError once more than ``limit`` bytes come out. Leave early through
    :meth:`close`.
    """

    def __init__(self, blob: int, *, limit: int | None = None, has_digest: bool = True) -> None:
        self.digest = self.diff_id = ""
        self.size = self.uncompressed_size = 0
        # Its own descriptor: a thread that is left behind must not read from what gets the number next.
        self._blob = os.dup(blob)
        self._limit = limit
        self._stopped = False
        self._raw = hashlib.sha256() if has_digest else None
        self._plain = hashlib.sha256()
        self._blocks: _Queue = queue.Queue(_PIECES_WAITING)
        self._to_hash: _Queue = queue.Queue(_PIECES_WAITING)
        self._threads = [threading.Thread(target=call, daemon=True) for call in (self._decompress, self._hash)]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[bytes]:
        while (block := self._blocks.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
        for thread in self._threads:
            thread.join()
        if self._raw is not None:
            self.digest = f"sha256:{self._raw.hexdigest()}"
        self.diff_id = f"sha256:{self._plain.hexdigest()}"

    def close(self) -> None:
        """Stop the threads. Idempotent; a read that waits for its other end is left to end by itself."""
        self._stopped = True
        for waiting in (self._blocks, self._to_hash):
            try:
                while True:
                    waiting.get_nowait()
            except queue.Empty:
                pass
        self._to_hash.put(None)

    def _read(self) -> bytes:
        if self._stopped:
            return b""
        data = os.read(self._blob, PIECE)
        if self._raw is not None:
            self._raw.update(data)
        self.size += len(data)
        return data

    def _decompress(self) -> None:
        end: BaseException | None = None
        try:
            for block in decompressed(self._read):
                if self._stopped:
                    return
                self.uncompressed_size += len(block)
                if self._limit is not None and self.uncompressed_size > self._limit:
                    raise too_large(self._limit)
                self._to_hash.put(block)
                self._blocks.put(block)
        except BaseException as error:
            end = error
        finally:
            os.close(self._blob)
            self._to_hash.put(None)
            self._blocks.put(end)

    def _hash(self) -> None:
        while isinstance(block := self._to_hash.get(), bytes):
            self._plain.update(block)


class Sink:
    """Where the uncompressed bytes of a layer go: compressed, to a file; with the digests of both sides.

    After :meth:`finish` the attributes are set. Raises StoreFullError on a full disk.
    """

    def __init__(self, out: int, kind: str, level: int | None = None) -> None:
        self.digest = self.diff_id = ""
        self.size = self.uncompressed_size = 0
        self._out = out
        self._compressor = compressor(kind, level)
        self._raw = hashlib.sha256()
        self._plain = hashlib.sha256()
        self._error: BaseException | None = None
        self._block = bytearray(BLOCK)
        self._filled = 0
        self._to_hash: queue.Queue[memoryview | None] = queue.Queue(_BLOCKS_WAITING)
        self._to_compress: queue.Queue[memoryview | None] = queue.Queue(_BLOCKS_WAITING)
        self._threads = [threading.Thread(target=call, daemon=True) for call in (self._hash, self._compress)]
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        left = memoryview(data)
        while left:
            room = self.room()
            step = min(len(room), len(left))
            room[:step] = left[:step]
            self.filled(step)
            left = left[step:]

    def room(self) -> memoryview:
        """A writable piece of the next block, to read a file into; tell :meth:`filled` how much of it was used."""
        return memoryview(self._block)[self._filled :]

    def filled(self, size: int) -> None:
        """So many bytes of :meth:`room` now count."""
        self._filled += size
        if self._filled == BLOCK:
            self._send()

    def finish(self) -> None:
        """Write what is left and set the attributes. Raises what went wrong on the way."""
        if self._filled:
            self._send()
        self.close()
        if self._error is not None:
            raise self._error
        self.digest = f"sha256:{self._raw.hexdigest()}"
        self.diff_id = f"sha256:{self._plain.hexdigest()}"

    def close(self) -> None:
        """Stop the threads. Idempotent."""
        for waiting in (self._to_hash, self._to_compress):
            waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        if self._error is not None:
            raise self._error
        block = memoryview(self._block)[: self._filled]
        self.uncompressed_size += self._filled
        self._to_hash.put(block)
        self._to_compress.put(block)
        self._block, self._filled = bytearray(BLOCK), 0

    def _hash(self) -> None:
        while (block := self._to_hash.get()) is not None:
            self._plain.update(block)

    def _compress(self) -> None:
        while (block := self._to_compress.get()) is not None:
            self._guarded(partial(self._compress_one, block))
        self._guarded(lambda: self._emit(self._compressor.flush()))

    def _compress_one(self, block: memoryview) -> None:
        self._emit(self._compressor.compress(block))

    def _guarded(self, call: Callable[[], None]) -> None:
        """After an error blocks are only taken off the queue, so that the other side never waits for ever."""
        if self._error is not None:
            return
        try:
            call()
        except (OSError, ValueError, DockermagicError) as error:
            self._error = error

    def _emit(self, data: bytes) -> None:
        self._raw.update(data)
        self.size += len(data)
        left = memoryview(data)
        with full_disk("the store"):
            while left:
                left = left[os.write(self._out, left) :]


def recompress(blob: int, out: int, kind: str, level: int | None = None) -> Sink:
    """Write a blob in another compression; the finished sink, whose ``diff_id`` the caller compares.

    Raises ArchiveError for a damaged blob and StoreFullError.
    """
    source = Source(blob)
    sink = Sink(out, kind, level)
    try:
        for block in source:
            sink.write(block)
        sink.finish()
    finally:
        source.close()
        sink.close()
    return sink
