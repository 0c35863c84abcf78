"""Trees as values: what is in a directory, and tars made from tables."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockermagic.oci.layer import pack, unpack

OPAQUE = "user.overlay.opaque"


def snapshot(directory: Path, *, times: bool = False) -> dict[str, tuple[Any, ...]]:
    """Path -> kind, mode, owner, content or target, attributes; of everything below the directory, nothing followed."""
    found: dict[str, tuple[Any, ...]] = {}
    links: dict[int, str] = {}
    for top, directories, files in os.walk(os.fsencode(directory)):
        for name in sorted(directories + files):
            path = os.path.join(top, name)
            relative = os.fsdecode(os.path.relpath(path, os.fsencode(directory)))
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: Any = None
            if kind == stat.S_IFLNK:
                content = os.fsdecode(os.readlink(path))
            elif kind == stat.S_IFREG:
                content = Path(os.fsdecode(path)).read_bytes()
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                content = (os.major(status.st_rdev), os.minor(status.st_rdev))
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            xattrs.pop("security.selinux", None)
            same = (
                links.setdefault(status.st_ino, relative) if status.st_nlink > 1 and kind != stat.S_IFDIR else relative
            )
            is_whiteout = kind == stat.S_IFCHR and not status.st_rdev  # has no time of its own
            time = (status.st_mtime_ns // 10**9,) if times and not is_whiteout else ()
            mode = stat.S_IMODE(status.st_mode)
            found[relative] = (kind, mode, status.st_uid, status.st_gid, content, xattrs, same, *time)
    return found


def tar(*entries: tuple[str, str] | tuple[str, str, Any] | tarfile.TarInfo) -> bytes:
    """A tar from rows: (kind, name, content or target); kinds: file, dir, link, symlink, fifo, char, block."""
    kinds = {
        "file": tarfile.REGTYPE,
        "dir": tarfile.DIRTYPE,
        "link": tarfile.LNKTYPE,
        "symlink": tarfile.SYMTYPE,
        "fifo": tarfile.FIFOTYPE,
        "char": tarfile.CHRTYPE,
        "block": tarfile.BLKTYPE,
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            kind, name, content = (*entry, None)[:3]
            info = tarfile.TarInfo(name)
            info.type = kinds[kind]
            info.mode = 0o755 if kind == "dir" else 0o644
            data = b""
            if kind in ("link", "symlink"):
                info.linkname = content
            elif kind in ("char", "block"):
                info.devmajor, info.devminor = content
            elif kind == "file":
                data = content or b""
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def unpack_bytes(data: bytes, directory: Path, lowers: Sequence[Path] = (), **options: Any) -> Any:
    """Unpack a layer from memory; its bytes go through a file, as a blob does."""
    directory.mkdir(parents=True, exist_ok=True)
    blob = directory.parent / f"{directory.name}.blob"
    blob.write_bytes(data)
    with blob.open("rb") as file:
        return unpack(file.fileno(), str(directory), lowers=[str(lower) for lower in lowers], **options)


def pack_bytes(directory: Path, **options: Any) -> tuple[bytes, dict[str, Any]]:
    """Pack a layer into memory."""
    out = directory.parent / f"{directory.name}.out"
    with out.open("wb") as file:
        result = pack(str(directory), file.fileno(), **options)
    return out.read_bytes(), result
