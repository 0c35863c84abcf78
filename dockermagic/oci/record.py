"""A layer as a record: what its files are called and are like, and where their bytes are."""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__all__ = ["RECORD", "Layer", "Node", "Spot", "status"]

RECORD = ".dockermagic"
"""What the record is called, behind the name of the directory."""
_numbers = itertools.count(1)


class Node:
    """A file of a layer. ``names`` are a directory's, ``content`` is where a regular file's bytes are."""

    __slots__ = ("content", "device", "links", "mode", "mtime_ns", "names", "number", "owner", "target", "xattrs")

    def __init__(self, mode: int) -> None:
        self.number = next(_numbers)
        self.mode = mode
        self.owner = (0, 0)
        self.mtime_ns = time.time_ns()
        self.links = 1
        self.device = 0
        self.target = self.content = ""
        self.xattrs: dict[str, bytes] = {}
        self.names: dict[str, Node] = {}

    def status(self) -> Any:
        """As :func:`os.stat` tells it."""
        size = os.stat(self.content).st_size if self.content else len(os.fsencode(self.target))
        return status(self.mode, self.number, self.links, *self.owner, size, self.mtime_ns, self.device)


def status(
    mode: int, number: int, links: int, uid: int, gid: int, size: int, mtime_ns: int, device: int = 0, disk: int = 0
) -> Any:
    """What :func:`os.stat` would tell."""
    times = {"st_mtime_ns": mtime_ns, "st_ctime_ns": mtime_ns, "st_atime_ns": mtime_ns, "st_mtime": mtime_ns / 1e9}
    owner = {"st_uid": uid, "st_gid": gid, "st_rdev": device, "st_dev": disk}
    return SimpleNamespace(st_mode=mode, st_ino=number, st_nlink=links, st_size=size, **owner, **times)


class Layer:
    """One that is open: its tree, and how many hold it open. Without ``path`` it is several, seen as one."""

    def __init__(self, path: str, root: Node, contents: int) -> None:
        self.path, self.root = path, root
        self.contents = contents
        self.users = 0
        self.is_changed = False

    @classmethod
    def load(cls, path: str) -> Layer:
        """The layer whose directory this is."""
        record = json.loads(Path(f"{path}{RECORD}").read_bytes())
        nodes = []
        for mode, uid, gid, mtime_ns, links, device, target, content, xattrs, _ in record["files"]:
            node = Node(mode)
            node.owner, node.mtime_ns, node.links = (uid, gid), mtime_ns, links
            node.device, node.target = device, target
            node.content = f"{path}/{int(content)}" if content else ""  # a number and no way to another place
            node.xattrs = {name: value.encode("latin-1") for name, value in xattrs.items()}
            nodes.append(node)
        for node, fields in zip(nodes, record["files"], strict=True):
            node.names = {name: nodes[place] for name, place in fields[-1].items()}
        return cls(path, nodes[0], record["contents"])

    def save(self) -> None:
        """Write the record, as a whole."""
        places: dict[int, int] = {}
        nodes: list[Node] = []
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node.number not in places:
                places[node.number] = len(nodes)
                nodes.append(node)
                waiting += node.names.values()
        rows = [
            (
                *(node.mode, *node.owner, node.mtime_ns, node.links, node.device, node.target),
                os.path.basename(node.content),
                {name: value.decode("latin-1") for name, value in node.xattrs.items()},
                {name: places[below.number] for name, below in node.names.items()},
            )
            for node in nodes
        ]
        aside = Path(f"{self.path}{RECORD}.new")
        aside.write_text(json.dumps({"contents": self.contents, "files": rows}, separators=(",", ":")), "ascii")
        aside.replace(f"{self.path}{RECORD}")
        self.is_changed = False


class Spot:
    """A name in a directory of a layer; '' for the directory itself."""

    def __init__(self, layer: Layer, parent: Node, name: str) -> None:
        self.layer, self.parent, self.name = layer, parent, name

    def node(self) -> Node:
        if not self.name:
            return self.parent
        if not stat.S_ISDIR(self.parent.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.name)
        found = self.parent.names.get(self.name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)
        return found

    def put(self, node: Node) -> Node:
        """Give the name to a file. Raises FileExistsError."""
        if self.name in self.parent.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
        self.parent.names[self.name] = node
        self.parent.mtime_ns = time.time_ns()
        self.layer.is_changed = True
        return node

    def change(self) -> Node:
        self.layer.is_changed = True
        return self.node()
