"""Compressed streams: told apart by their first bytes, read and written in blocks, in memory that does not grow.

gzip goes through isal where there is a wheel for this machine, else and from level 4 on through zlib. Neither promises
the same bytes across versions, so nothing may be keyed on a compressed digest.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dockermagic.errors import ArchiveError, UsageError

__all__ = ["BLOCK", "PIECE", "PINNED_LEVEL", "Compressor", "compressor", "decompressed", "detect"]

BLOCK = 1 << 20
"""What is handled at a time. isal's output depends on it: compressors are fed exactly this much."""

PIECE = 1 << 18
"""What comes out of a decompressor at a time, at most: small enough to stay in the processor's cache on its way."""

_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_LONGEST_MAGIC = 6
PINNED_LEVEL = 6
"""gzip at this level is always zlib's, whose output has been the same for decades: for images that are reproduced."""
_FASTEST = 3
_BROKEN = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def detect(head: bytes) -> str:
    """``gzip``, ``zstd``, ``bzip2``, ``xz`` or ``none`` from the first bytes of a stream."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    skippable = len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18"
    return "zstd" if skippable else "none"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Zlib:
    """zlib's object under the names that the other decompressors share."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.eof and not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # new in 3.14
    except ImportError:
        from backports import zstd
    return zstd


def _decompressor(kind: str) -> tuple[_Decompressor, tuple[type[Exception], ...]]:
    match kind:
        case "gzip":
            try:
                from isal import igzip_lib
            except ImportError:
                return _Zlib(), _BROKEN
            found: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            broken: Any = igzip_lib.IsalError
            return found, (*_BROKEN, broken)
        case "zstd":
            zstd = _zstd()
            found = zstd.ZstdDecompressor()
            return found, (*_BROKEN, zstd.ZstdError)
        case "bzip2":
            return bz2.BZ2Decompressor(), _BROKEN
        case _:
            return lzma.LZMADecompressor(), _BROKEN


def decompressed(read: Callable[[], bytes]) -> Iterator[bytes]:
    """The blocks of a stream, decompressed; none is longer than PIECE, so that a bomb can be stopped.

    ``read`` gives the next bytes and b"" at the end. Several gzip members or zstd frames on end are one stream. Raises
    ArchiveError where the stream is damaged, cut short or followed by something else.
    """
    head = _at_least(read, b"", _LONGEST_MAGIC)
    kind = detect(head)
    if kind == "none":
        while head:
            yield from (head[start : start + PIECE] for start in range(0, len(head), PIECE))
            head = read()
        return
    stream, errors = _decompressor(kind)
    data = head
    while True:
        try:
            block = stream.decompress(data, PIECE)
        except errors as error:
            raise ArchiveError(f"the {kind} stream is damaged: {error}") from error
        data = b""
        if block:
            yield block
        if stream.eof:
            data = _after_padding(_at_least(read, stream.unused_data, _LONGEST_MAGIC), read)
            if not data:
                return
            if detect(data) != kind:
                raise ArchiveError(f"the {kind} stream is followed by something else")
            stream, errors = _decompressor(kind)
        elif stream.needs_input:
            data = read()
            if not data:
                raise ArchiveError(f"the {kind} stream is cut short")


def _at_least(read: Callable[[], bytes], data: bytes, wanted: int) -> bytes:
    while len(data) < wanted:
        more = read()
        if not more:
            break
        data += more
    return data


def _after_padding(data: bytes, read: Callable[[], bytes]) -> bytes:
    """What comes after the zeros that may fill the last block of a tape."""
    while data and not data.strip(b"\0"):
        data = read()
    return data if not data.startswith(b"\0") else _at_least(read, data.lstrip(b"\0"), _LONGEST_MAGIC)


class Compressor(Protocol):
    """Takes blocks of exactly BLOCK bytes, the last one shorter, and gives compressed bytes."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


class _Gzip:
    """gzip with a header that says nothing: no time, no name, no system (RFC 1952, OS 255)."""

    def __init__(self, level: int | None) -> None:
        self._object: Any = None
        self._crc32: Callable[[Any, int], int] = zlib.crc32
        if level is None or level <= _FASTEST:
            with contextlib.suppress(ImportError):
                from isal import isal_zlib

                self._object = isal_zlib.compressobj(2 if level is None else level, isal_zlib.DEFLATED, -15)
                self._crc32 = isal_zlib.crc32
        if self._object is None:
            self._object = zlib.compressobj(6 if level is None else level, zlib.DEFLATED, -15)
        self._checksum = 0
        self._size = 0
        self._header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        self._checksum = self._crc32(data, self._checksum)
        self._size += len(data)
        header, self._header = self._header, b""
        out: bytes = self._object.compress(data)
        return header + out

    def flush(self) -> bytes:
        end: bytes = self._object.flush()
        return self._header + end + struct.pack("<LL", self._checksum, self._size & 0xFFFFFFFF)


def compressor(kind: str, level: int | None = None) -> Compressor:
    """A compressor for ``none``, ``gzip`` or ``zstd``; raises UsageError for another."""
    match kind:
        case "none":
            return _Plain()
        case "gzip":
            return _Gzip(level)
        case "zstd":
            found: Compressor = _zstd().ZstdCompressor(level=3 if level is None else level)
            return found
    raise UsageError(f"unknown compression {kind!r}", hint="There are none, gzip and zstd.")
