"""What an image holds, read from an archive with nothing but the standard library.

Both sides of a comparison go through this one reader, which knows docker-archives and OCI archives, gzip and plain
layers, whiteouts and opaque directories. It is written from image-spec and shares no code with the package.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import struct
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")  # net_bind_service, effective
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(frozen=True)
class Node:
    """``content`` is a digest, a link's target or a device's numbers; ``names`` are all names of a hard-linked file."""

    kind: str
    mode: str
    owner: str
    content: str = ""
    names: tuple[str, ...] = ()
    xattrs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    config: dict[str, Any]
    layers: list[bytes]


def read_image(path: Path) -> Image:
    """The single image of an archive."""
    with tarfile.open(path) as tar:
        files: dict[str, tarfile.TarInfo] = {posixpath.normpath(member.name): member for member in tar}

        def content(name: str) -> bytes:
            member = files[name]
            while member.issym() or member.islnk():
                directory = posixpath.dirname(member.name) if member.issym() else ""
                member = files[posixpath.normpath(posixpath.join(directory, member.linkname))]
            file = tar.extractfile(member)
            assert file
            return file.read()

        if "manifest.json" in files:
            (entry,) = json.loads(content("manifest.json"))
            names, config = entry["Layers"], json.loads(content(entry["Config"]))
        else:
            document = json.loads(content("index.json"))
            while "manifests" in document:
                (descriptor,) = document["manifests"]
                document = json.loads(content(_blob(descriptor)))
            names, config = (
                [_blob(layer) for layer in document["layers"]],
                json.loads(content(_blob(document["config"]))),
            )
        layers = [_plain(content(name)) for name in names]
    for layer, diff_id in zip(layers, config["rootfs"]["diff_ids"], strict=True):
        assert diff_id == f"sha256:{hashlib.sha256(layer).hexdigest()}", "a layer is not what its diff_id says"
    return Image(config, layers)


def _blob(descriptor: dict[str, Any]) -> str:
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    return f"blobs/{algorithm}/{digest}"


def _plain(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def merged_tree(layers: list[bytes]) -> dict[str, dict[str, Any]]:
    """The file tree after all layers, by absolute path; hard links are told apart from copies."""
    tree: dict[str, tuple[Node, object]] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            members = list(tar)
            for member in members:
                _hide(tree, _path(member.name))
            for member in members:
                path = _path(member.name)
                if posixpath.basename(path).startswith(".wh."):
                    continue
                if member.islnk():
                    tree[path] = tree[_path(member.linkname)]
                    continue
                old = tree.get(path)
                if old and not (old[0].kind == "directory" and member.isdir()):
                    _remove(tree, path)
                tree[path] = _node(tar, member), object()
    names: dict[int, list[str]] = {}
    for path, (_, inode) in tree.items():
        names.setdefault(id(inode), []).append(path)
    result = {}
    for path, (node, inode) in sorted(tree.items()):
        linked = sorted(names[id(inode)])
        result[path] = asdict(node) | {"names": linked if len(linked) > 1 else [], "xattrs": list(node.xattrs)}
    result.pop("/", None)
    return result


def _path(name: str) -> str:
    return posixpath.normpath("/" + name).replace("//", "/")


def _hide(tree: dict[str, tuple[Node, object]], path: str) -> None:
    """Whiteouts hide what the layers below have, wherever in the layer they stand."""
    directory, name = posixpath.split(path)
    if name == ".wh..wh..opq":
        for child in [child for child in tree if child.startswith(directory.rstrip("/") + "/")]:
            del tree[child]
    elif name.startswith(".wh."):
        _remove(tree, posixpath.join(directory, name.removeprefix(".wh.")))


def _remove(tree: dict[str, tuple[Node, object]], path: str) -> None:
    for child in [child for child in tree if child == path or child.startswith(path + "/")]:
        del tree[child]


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    kind = KINDS[member.type]
    content = ""
    if kind == "file":
        file = tar.extractfile(member)
        assert file
        data = file.read()
        content = f"{len(data)} {hashlib.sha256(data).hexdigest()[:16]}"
    elif kind == "symlink":
        content = member.linkname
    elif kind.endswith("device"):
        content = f"{member.devmajor}:{member.devminor}"
    mode = "" if kind == "symlink" else f"{member.mode & 0o7777:04o}"
    xattrs = sorted(
        f"{name.removeprefix('SCHILY.xattr.')}={value!r}"
        for name, value in member.pax_headers.items()
        if name.startswith("SCHILY.xattr.")
    )
    return Node(kind, mode, f"{member.uid}:{member.gid}", content, (), tuple(xattrs))


def comparable_config(config: dict[str, Any]) -> dict[str, Any]:
    """The parts of an image config that a Dockerfile decides; absent and empty are the same."""
    history = [
        {"created_by": entry.get("created_by", ""), "empty_layer": bool(entry.get("empty_layer"))}
        for entry in config.get("history", [])
    ]
    inner = {
        name: value for name, value in (config.get("config") or {}).items() if value not in (None, "", [], {}, False)
    }
    return {
        "architecture": config["architecture"],
        "os": config["os"],
        "config": inner,
        "history": history,
        "layers": len(config["rootfs"]["diff_ids"]),
    }


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """One line for each path and each part of the config that is not the same, ours first."""
    lines = []
    for path in sorted({*actual["tree"], *expected["tree"]}):
        ours, theirs = actual["tree"].get(path), expected["tree"].get(path)
        if ours is None or theirs is None:
            lines.append(f"{path}: only {'Docker' if ours is None else 'ours'} has it")
        else:
            lines += [f"{path}: {key} {ours[key]!r} is {theirs[key]!r}" for key in ours if ours[key] != theirs[key]]
    mine, other = _flat(actual["config"]), _flat(expected["config"])
    for key in [*mine, *(key for key in other if key not in mine)]:
        if mine.get(key) != other.get(key):
            lines.append(f"config {key}: {mine.get(key)!r} is {other.get(key)!r}")
    return lines


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    history = {f"history {number}": entry for number, entry in enumerate(config["history"])}
    rest = {name: value for name, value in config.items() if name not in ("config", "history")}
    return {**rest, **config["config"], **history}


def rootfs() -> bytes:
    """One of each kind: owners, set-id bits, links, a capability, devices, a pipe, long and strange names, holes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mtime, entry.mode = kind, len(content), 1_000_000_007, 0o644
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(content))

        add("d", tarfile.DIRTYPE, mode=0o1777)
        add("d/owned", content=b"owned\n", uid=1234, gid=56789)
        add("d/setuid", content=b"x", mode=0o6755)
        add("d/link", tarfile.LNKTYPE, linkname="d/setuid", mode=0o6755)
        add("d/soft", tarfile.SYMTYPE, linkname="../nowhere", mode=0o777, uid=7)
        add("d/able", content=b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
        add("d/noted", content=b"x", pax_headers={"SCHILY.xattr.user.note": "hello"})
        add("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("d/disk", tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660, gid=6)
        add("d/pipe", tarfile.FIFOTYPE, mode=0o600)
        add("d/" + "n" * 200, content=b"long name")
        for depth in range(1, 13):
            add("/".join(["deep" * 10] * depth), tarfile.DIRTYPE, mode=0o755)
        add("/".join(["deep" * 10] * 12) + "/file", content=b"long path")
        add("d/\N{LATIN SMALL LETTER U WITH DIAERESIS} and blanks", content=b"x")
        add("d/holes", content=bytes(3 << 20) + b"end")
        add("d/empty")
    return stream.getvalue()
