"""Reading tar as a stream, in the formats that images come in: ustar, pax and GNU's (POSIX.1-2017, pax).

Nothing here touches a file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from dockermagic.errors import ArchiveError
from dockermagic.oci.tarheader import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    RECORD,
    SYMLINK,
    XATTR,
    Entry,
)

__all__ = ["TarReader"]

_ZEROS = bytes(RECORD)
_LARGEST_EXTENSION = 1 << 20
_HAS_DATA = frozenset((b"0", b"\0", b"7", b"S"))
_KINDS = {b"\0": FILE, b"7": FILE, b"S": FILE, b"D": DIRECTORY}
_KNOWN = frozenset((FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_IGNORED = frozenset((b"V", b"N"))


class TarReader:
    """Iterate over the entries of a stream of blocks; between two of them, :meth:`data` gives the first one's content.

    What was not read of an entry is skipped. Raises ArchiveError for a damaged or cut stream. Holds one block and one
    header, whatever the archive's size.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._block = memoryview(b"")
        self._at = 0
        self._left = 0
        self._padding = 0
        self._global: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next entry; None at the end of the archive."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        pax: dict[str, bytes] = {}
        long_name = long_link = b""
        while True:
            raw = self._read(RECORD, at_end=b"")
            if not raw or raw == _ZEROS:
                if pax or long_name or long_link:
                    raise ArchiveError("the tar stream is cut short after an extended header")
                return None
            _check(raw)
            kind = raw[156:157]
            size = _size(raw[124:136])
            if kind in (b"x", b"g", b"L", b"K"):
                body = self._extension(size)
                if kind == b"x":
                    pax = _pax_records(body)
                elif kind == b"g":
                    self._global |= _pax_records(body)
                elif kind == b"L":
                    long_name = body.rstrip(b"\0")
                else:
                    long_link = body.rstrip(b"\0")
                continue
            if kind in _IGNORED:
                self._skip(-size % RECORD + size)
                pax, long_name, long_link = {}, b"", b""
                continue
            return self._entry(raw, kind, size, self._global | pax if self._global else pax, long_name, long_link)

    def data(self) -> Iterator[memoryview]:
        """The content of the current entry, in pieces; each is valid until the next is asked for."""
        while self._left:
            if self._at == len(self._block):
                self._advance()
            end = min(len(self._block), self._at + self._left)
            piece = self._block[self._at : end]
            self._left -= end - self._at
            self._at = end
            yield piece

    def drain(self) -> None:
        """Read the stream to its end, so that its digest is of all of it."""
        for _ in self._blocks:
            pass

    def _entry(
        self, raw: bytes, kind: bytes, size: int, pax: dict[str, bytes], long_name: bytes, long_link: bytes
    ) -> Entry:
        ustar = raw[257:263] == b"ustar\0"
        name = long_name or _text(raw[0:100])
        prefix = _text(raw[345:500]) if ustar and not long_name else b""
        if prefix:
            name = prefix + b"/" + name
        name = pax.get("path", name)
        entry = Entry(
            os.fsdecode(name),
            _KINDS.get(kind, kind),
            _number(raw[100:108]) & 0o7777,
            _number(raw[108:116]),
            _number(raw[116:124]),
            size,
            _number(raw[136:148]) * 1_000_000_000,
            os.fsdecode(long_link or _text(raw[157:257])),
        )
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = _size(raw[329:337]) & 0xFFFFF, _size(raw[337:345]) & 0xFFFFF
        if entry.kind not in _KNOWN:
            raise ArchiveError(f"the tar entry {entry.name!r} has the unknown type {kind!r}")
        if pax:
            _apply_pax(entry, pax)
        if entry.kind == FILE and entry.name.endswith("/"):
            entry.kind = DIRECTORY  # how tar wrote directories before ustar
        # Links and directories may carry a size that says nothing about the stream.
        self._left = entry.size if kind in _HAS_DATA else 0
        entry.size = self._left
        self._padding = -self._left % RECORD
        entry.real_size = entry.size
        if kind == b"S":
            self._old_gnu_sparse(entry, raw)
        elif any(key.startswith("GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax)
        if "\0" in entry.name or "\0" in entry.link:
            raise ArchiveError(f"the tar entry {entry.name!r} has a zero byte in its name")
        return entry

    def _old_gnu_sparse(self, entry: Entry, raw: bytes) -> None:
        pieces = _sparse_numbers(raw[386:482])
        entry.real_size = _size(raw[483:495])
        more = raw[482]
        while more:
            block = self._read(RECORD)
            pieces += _sparse_numbers(block[:504])
            more = block[504]
            _bound(len(pieces))
        entry.sparse = _pieces(entry, pieces)

    def _pax_sparse(self, entry: Entry, pax: dict[str, bytes]) -> None:
        entry.name = os.fsdecode(pax.get("GNU.sparse.name", os.fsencode(entry.name)))
        entry.real_size = _decimal(pax.get("GNU.sparse.realsize") or pax.get("GNU.sparse.size") or b"0")
        if pax.get("GNU.sparse.major") == b"1":
            numbers: list[int] = []
            wanted, rest = 1, b""
            while len(numbers) < wanted:
                if entry.size < RECORD:
                    raise ArchiveError(f"the sparse map of {entry.name!r} is cut short")
                lines = (rest + self._read(RECORD)).split(b"\n")
                self._left -= RECORD
                entry.size -= RECORD
                rest = lines.pop()
                numbers += [_decimal(line) for line in lines[: wanted - len(numbers) if wanted > 1 else None]]
                if wanted == 1 and numbers:
                    wanted = 1 + 2 * numbers[0]
                _bound(wanted)
            flat = numbers[1:wanted]
        else:
            flat = [_decimal(number) for number in pax.get("GNU.sparse.map", b"").split(b",") if number]
        if len(flat) % 2:
            raise ArchiveError(f"the sparse map of {entry.name!r} is damaged")
        entry.sparse = _pieces(entry, list(zip(flat[::2], flat[1::2], strict=True)))

    def _extension(self, size: int) -> bytes:
        if size > _LARGEST_EXTENSION:
            raise ArchiveError(f"an extended tar header of {size} bytes is too large")
        body = self._read(size)
        self._skip(-size % RECORD)
        return body

    def _advance(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            raise ArchiveError("the tar stream is cut short")
        self._block, self._at = memoryview(block), 0

    def _read(self, size: int, at_end: bytes | None = None) -> bytes:
        end = self._at + size
        if end <= len(self._block):
            found = bytes(self._block[self._at : end])
            self._at = end
            return found
        parts = []
        left = size
        while left:
            if self._at == len(self._block):
                if at_end is not None and left == size:
                    block = next(self._blocks, None)
                    if block is None:
                        return at_end
                    self._block, self._at = memoryview(block), 0
                else:
                    self._advance()
            end = min(len(self._block), self._at + left)
            parts.append(bytes(self._block[self._at : end]))
            left -= end - self._at
            self._at = end
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            if self._at == len(self._block):
                self._advance()
            step = min(len(self._block) - self._at, size)
            self._at += step
            size -= step


def _check(raw: bytes) -> None:
    digits = raw[148:156].strip(b" \0")
    stored = int(digits or b"0", 8) if not digits.strip(b"01234567") else -1
    rest = sum(raw) - sum(raw[148:156]) + 8 * 32
    if stored != rest:
        signed = rest - 256 * sum(byte > 127 for byte in raw[:148] + raw[156:])
        if stored != signed:
            raise ArchiveError("this is not a tar stream, or it is damaged: bad header checksum")


def _number(data: bytes) -> int:
    if data[0] & 0x80:  # GNU's base 256
        value = int.from_bytes(data, "big") & ((1 << (8 * len(data) - 1)) - 1)
        value = value - (1 << (8 * len(data) - 1)) if data[0] & 0x40 else value
        return _plausible(value)
    text = data.partition(b"\0")[0].strip(b" ")
    if text.strip(b"01234567"):
        raise ArchiveError(f"a tar header has the number {data!r}")
    return int(text, 8) if text else 0


def _size(data: bytes) -> int:
    value = _number(data)
    if value < 0:
        raise ArchiveError(f"a tar header has the size {value}")
    return value


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise ArchiveError(f"a tar header has the number {text!r:.60}")
    return _plausible(int(text))


def _plausible(value: int) -> int:
    """Numbers that no file system could hold are refused, so that nobody trips over them later."""
    if abs(value) >= 1 << 62:
        raise ArchiveError(f"a tar header has the number {value}")
    return value


def _text(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _pax_records(body: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(body) and body[at] != 0:
        space = body.find(b" ", at, at + 20)
        length = _decimal(body[at:space]) if space > 0 else 0
        record = body[space + 1 : at + length - 1]
        equals = record.find(b"=")
        if equals < 1 or at + length > len(body) or body[at + length - 1 : at + length] != b"\n":
            raise ArchiveError("an extended tar header is damaged")
        key = record[:equals].decode("utf-8", "surrogateescape")
        if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):  # one record for each number, in order
            sparse.append(record[equals + 1 :])
        else:
            records[key] = record[equals + 1 :]
        at += length
    if sparse:
        records["GNU.sparse.map"] = b",".join(sparse)
    return records


def _apply_pax(entry: Entry, pax: dict[str, bytes]) -> None:
    for key, value in pax.items():
        match key:
            case "linkpath":
                entry.link = os.fsdecode(value)
            case "size":
                entry.size = _decimal(value)
            case "uid":
                entry.uid = _decimal(value)
            case "gid":
                entry.gid = _decimal(value)
            case "mtime":
                entry.mtime_ns = _nanoseconds(value)
            case _ if key.startswith(XATTR):
                entry.xattrs[key[len(XATTR) :]] = value


def _nanoseconds(value: bytes) -> int:
    sign = -1 if value.startswith(b"-") else 1
    whole, _, part = value.lstrip(b"-").partition(b".")
    if not (whole + part).isdigit() or len(whole) > 15:
        raise ArchiveError(f"a tar header has the time {value!r:.60}")
    return sign * (int(whole or b"0") * 1_000_000_000 + int(part[:9].ljust(9, b"0")))


def _sparse_numbers(data: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(data), 24):
        if data[at : at + 12].strip(b"\0 "):
            found.append((_number(data[at : at + 12]), _number(data[at + 12 : at + 24])))
    return found


def _bound(count: int) -> None:
    if count > 1_000_000:
        raise ArchiveError("a sparse file in more than a million pieces is refused")


def _pieces(entry: Entry, pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    end = 0
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > entry.real_size:
            raise ArchiveError(f"the sparse map of {entry.name!r} is damaged")
        end = offset + length
    if sum(length for _, length in pieces) != entry.size:
        raise ArchiveError(f"the sparse map of {entry.name!r} does not fit its size")
    return pieces
