"""A store's whole build cache as images and a list: what was built somewhere is CACHED in another store.

Each chain of snapshots becomes an image without a config of its own; the list says which key stands for which chain id.
Whoever restores it trusts it as one trusts an image: it says what a step would have given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dockermagic.build.cache import Cache
from dockermagic.build.images import Images
from dockermagic.errors import ArchiveError
from dockermagic.events import Emit
from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import chain_ids

__all__ = ["pack_cache", "restore_cache"]

_NAME = "dockermagic.invalid/bundle:{}"
_INNER = ("chain:", "base:")


def pack_cache(images: Images, cache: Cache) -> tuple[list[str], list[dict[str, Any]]]:
    """Name an image for each chain that nothing stands on; the names, and an entry for each key. Call it in a lease."""
    snapshotter = images.snapshotter
    everything = snapshotter.all()
    parents = {snapshot.parent for snapshot in everything}
    platform = Platform.host()
    names: list[str] = []
    chains: dict[int, str] = {}
    for leaf in everything:
        if leaf.id in parents:
            continue
        line = [found for identity in snapshotter.ids(leaf) if (found := snapshotter.get(identity))]
        config = {"architecture": platform.architecture, "os": platform.os, "config": {}}
        image = images.assemble(config, line, None)
        names.append(_NAME.format(len(names)))
        images.store.tag(Reference.parse(names[-1]), image.write(images.store))
        chains |= dict(zip((one.id for one in line), chain_ids(image.diff_ids), strict=True))
    entries = [
        {"key": one.key, "chain": chains[one.id], "inputs": cache.inputs(one.key) or {}}
        for one in everything
        if not one.key.startswith(_INNER)
    ]
    return names, entries


def restore_cache(
    images: Images, cache: Cache, names: Sequence[str], entries: Iterable[Mapping[str, Any]], emit: Emit
) -> int:
    """Unpack the images of :func:`pack_cache`, which are in the store, and know their layers by their keys.

    Returns how many keys are new. The names are gone afterwards. Raises ArchiveError for a list that is none.
    """
    snapshotter, store = images.snapshotter, images.store
    for name in names:
        descriptor = store.find(name).descriptor
        images.snapshots(Image.load(store, descriptor), emit)
        store.untag(Reference.parse(name))
        store.forget(descriptor.digest)
    count = 0
    for entry in entries:
        key, chain, inputs = entry.get("key"), entry.get("chain"), entry.get("inputs")
        if not (isinstance(key, str) and isinstance(chain, str) and isinstance(inputs, dict)) or key.startswith(_INNER):
            raise ArchiveError("the list of cached steps is damaged")
        snapshot = snapshotter.find(f"chain:{chain}")
        if snapshot is not None and snapshotter.find(key) is None:
            snapshotter.alias(key, snapshot)
            with images.store.records.transaction() as tx:
                cache.record(tx, key, inputs)
            count += 1
    return count
