"""What the sandbox's worker does for COPY, ADD and WORKDIR, with the ids of the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dockermagic.build.copier import Copier, Look
from dockermagic.build.extract import Limit
from dockermagic.build.selection import Entry, Group, Tree, clean, digest_files, digest_groups, file_digest, select
from dockermagic.errors import BuildError, ContextError
from dockermagic.oci import disk
from dockermagic.oci.blobs import clear_errors
from dockermagic.oci.growing import GrowingLayer
from dockermagic.oci.overlay import ownership_file
from dockermagic.sandbox.ownership import meant

__all__ = ["copy", "digest", "group_row", "make_directory", "opened_layer"]


@contextmanager
def opened_layer(upper: str, lowers: list[str], record: str = "") -> Iterator[GrowingLayer]:
    """A layer's directory to write into; finished when the block has ended well."""
    disk.umask(0)
    with clear_errors(upper):
        layer = GrowingLayer(upper, lowers, record or ownership_file(upper))
        try:
            yield layer
            layer.finish()
        finally:
            layer.close()


def copy(
    upper: str,
    lowers: list[str],
    destination: str,
    sources: list[dict[str, Any]],
    source: str | None = None,
    chown: str = "",
    chmod: str = "",
    excludes: list[str] | None = None,
    parents: bool = False,
    unpack: bool | None = None,
    is_add: bool = False,
    limit: int = 0,
) -> None:
    """Put every source below ``destination`` (absolute; a trailing slash makes it a directory) in the layer ``upper``.

    A source is ``{"groups": rows, "base": directory}`` (selected beforehand), ``{"pattern": ...}`` (selected here, from
    ``source``), ``{"inline": text, "name": ...}`` or ``{"file": path, "name": ..., "mtime": ns}``, a download. An
    archive may unpack to ``limit`` bytes. Raises :class:`BuildError` where a file and a directory stand in each
    other's way.
    """
    with opened_layer(upper, lowers) as layer:
        copier = Copier(layer, look(layer, chown, chmod, alone=not lowers), Limit(limit))
        for item in sources:
            if "inline" in item:
                copier.write(destination, item["name"], item["inline"].encode("utf-8", "surrogateescape"))
            elif "file" in item:
                copier.download(destination, item, unpack=bool(unpack))
            elif "pattern" in item:
                tree = Tree(source or "/var/empty", meant=meant)
                for group in select_here(tree, item["pattern"], excludes, parents):
                    copier.group(group, tree.root, destination, from_context=False)
            else:
                for row in item["groups"]:
                    unpacks = is_add and unpack is not False
                    copier.group(group_from_row(row), item["base"], destination, from_context=True, unpack=unpacks)


def digest(
    source: str, patterns: list[str], excludes: list[str] | None = None, parents: bool = False
) -> tuple[str, dict[str, str], int]:
    """The content digest of what the patterns select in a stage, a short digest of each file, and the bytes in all."""
    tree = Tree(source, meant=meant)
    groups = [group for pattern in patterns for group in select_here(tree, pattern, excludes, parents)]
    size = sum(entry.size for group in groups for entry in group.entries)
    known: dict[str, str] = {}

    def content(entry: Entry) -> str:
        if entry.path not in known:
            known[entry.path] = file_digest(tree.absolute(entry.path))
        return known[entry.path]

    return digest_groups(groups, content, owners=True), digest_files(groups, content, owners=True), size


def select_here(tree: Tree, pattern: str, excludes: list[str] | None, parents: bool) -> list[Group]:
    """:func:`select`, with a missing path in the reference's words."""
    matcher = None
    if excludes:
        from dockermagic.dockerfile.ignore import Matcher

        matcher = Matcher(excludes)
    try:
        return select(tree, pattern, excludes=matcher, parents=parents)
    except FileNotFoundError:
        raise ContextError(
            f'failed to calculate checksum: "/{clean(pattern)}": not found',
            hint="The path is looked up in the image or stage that --from names.",
        ) from None


def make_directory(upper: str, lowers: list[str], path: str, user: str = "") -> None:
    """WORKDIR: make ``path`` and its missing parents, owned by ``user``; what exists stays as it is."""
    with opened_layer(upper, lowers) as layer:
        Copier(layer, look(layer, user, "", alone=not lowers) if user else Look(0, 0)).directory(clean(path))


def group_row(group: Group) -> dict[str, Any]:
    """A group as a JSON value."""
    return {"name": group.name, "entries": group.entries, "parents": group.parents}


def group_from_row(row: dict[str, Any]) -> Group:
    """The reverse of :func:`group_row`."""
    parents = None if row["parents"] is None else tuple(map(Entry._make, row["parents"]))
    return Group(row["name"], tuple(map(Entry._make, row["entries"])), parents)


def look(layer: GrowingLayer, chown: str, chmod: str, *, alone: bool) -> Look:
    """``--chown`` as ids: names are looked up in the image; an unknown name counts as 0.

    A layer that stands ``alone``, upon ``scratch`` or with ``--link``, has no image to look them up in.
    """
    if not chown:
        return Look(chmod=chmod)
    user, colon, group = chown.partition(":")
    if alone and any(part not in ("", "root") and not part.isdigit() for part in (user, group)):
        raise BuildError(
            "invalid user index: -1",
            hint="Upon scratch and with --link there is no /etc/passwd to look names up in: give numbers.",
        )
    uid, gid = 0, 0
    if user.isdigit():
        uid = gid = int(user)
    elif user:
        for name, fields in _database(layer, "etc/passwd"):
            if name == user and len(fields) > 3 and fields[2].isdigit() and fields[3].isdigit():
                uid, gid = int(fields[2]), int(fields[3])
                break
    if colon and group:
        gid = int(group) if group.isdigit() else 0
        for name, fields in _database(layer, "etc/group") if not group.isdigit() else ():
            if name == group and len(fields) > 2 and fields[2].isdigit():
                gid = int(fields[2])
                break
    return Look(uid, gid, chmod)


def _database(layer: GrowingLayer, path: str) -> Iterator[tuple[str, list[str]]]:
    for line in layer.read(path, most=1 << 24).decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        yield fields[0], fields
