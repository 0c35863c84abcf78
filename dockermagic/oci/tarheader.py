"""A member of a tar archive, and the header that stands for it.

Names are what ``os.fsdecode`` makes of their bytes, so that those which are not UTF-8 survive.
"""

from __future__ import annotations

import os
import stat

from dockermagic.values import dataclass, field

__all__ = [
    "BLOCK_DEVICE",
    "CHARACTER",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "KINDS",
    "LINK",
    "RECORD",
    "SYMLINK",
    "Entry",
    "header",
]

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
"""What a file's format is in an archive; a socket is nothing there."""
RECORD = 512
XATTR = "SCHILY.xattr."
"""How GNU tar and star write an extended attribute as a pax record."""


@dataclass(slots=True)
class Entry:
    """One member of an archive.

    ``size`` counts what follows in the stream. ``sparse`` are its pieces as (offset, length) in the file that is made,
    whose size is ``real_size``.
    """

    name: str
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None
    real_size: int = 0


def header(entry: Entry) -> bytes:
    """The header of an entry as ustar, with an extended one of pax before it where something does not fit.

    The same entry gives the same bytes everywhere. Times are cut to whole seconds; owners have no names.
    """
    name, link = os.fsencode(entry.name), os.fsencode(entry.link)
    pax: dict[bytes, bytes] = {}
    short, prefix = name, b""
    if not name.isascii() or len(name) > 100:
        split = _split(name) if name.isascii() else None
        if split:
            prefix, short = split
        else:
            pax[b"path"] = name
            short = _ascii(name)
    if not link.isascii() or len(link) > 100:
        pax[b"linkpath"] = link
        link = _ascii(link)
    if any(not _is_utf8(value) for value in pax.values()):
        pax[b"hdrcharset"] = b"BINARY"
    seconds = entry.mtime_ns // 1_000_000_000
    numbers = {b"uid": entry.uid, b"gid": entry.gid, b"size": entry.size, b"mtime": seconds}
    for key, limit in ((b"uid", 1 << 21), (b"gid", 1 << 21), (b"size", 1 << 33), (b"mtime", 1 << 33)):
        if not 0 <= numbers[key] < limit:
            pax[key] = b"%d" % numbers[key]
            numbers[key] = 0
    for key_text, value in entry.xattrs.items():
        pax[(XATTR + key_text).encode("utf-8", "surrogateescape")] = value
    extension = b""
    if pax:
        body = b"".join(_pax_record(key, pax[key]) for key in sorted(pax))
        extension = _ustar(_pax_name(short), b"x", 0o644, {b"size": len(body)}) + body + bytes(-len(body) % RECORD)
    return extension + _ustar(short, entry.kind, entry.mode, numbers, link, prefix, entry.major, entry.minor)


def _ustar(
    name: bytes,
    kind: bytes,
    mode: int,
    numbers: dict[bytes, int],
    link: bytes = b"",
    prefix: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    get = numbers.get
    start = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        mode,
        get(b"uid", 0),
        get(b"gid", 0),
        get(b"size", 0),
        get(b"mtime", 0),
    )
    end = kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64)
    end += b"%07o\0%07o\0" % (major, minor) + prefix.ljust(167, b"\0")
    return start + b"%06o\0 " % (sum(start) + sum(end) + 8 * 32) + end


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name as ustar keeps them, if the name can be cut at a slash so that both fit."""
    if len(name) > 256:
        return None
    at = name.rfind(b"/", 0, min(len(name) - 1, 156))
    if at < 1 or len(name) - at - 1 > 100:
        return None
    return name[:at], name[at + 1 :]


def _ascii(name: bytes) -> bytes:
    return name.decode("ascii", "ignore").encode()[:100]


def _pax_name(name: bytes) -> bytes:
    return b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80]


def _pax_record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
