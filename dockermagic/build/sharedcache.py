"""``--cache-to`` and ``--cache-from``: cache records with their layers, in a registry, in a layout, or inside an image.

A cache is an OCI manifest: its config is a document with a record for each step (the key, what went into it, and the
chain of layers that it made), its layers are those layers. A record is used where the key is wanted on the very layers
that it was made on; only then is its layer fetched. Keys mean the same on every machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dockermagic.build.cache import Cache
from dockermagic.build.images import Images
from dockermagic.build.internal import Internal
from dockermagic.build.request import BuildResult, CacheOption
from dockermagic.errors import ArchiveError, ImageNotFoundError, RegistryError, StoreError, UsageError
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import MANIFEST, Descriptor, Manifest, chain_ids, decode, encode, is_manifest
from dockermagic.oci.store import Store
from dockermagic.sandbox.base import Cancel
from dockermagic.sandbox.snapshot import Snapshot
from dockermagic.settings import settings
from dockermagic.values import dataclass, field

if TYPE_CHECKING:
    from dockermagic.oci.registry import Repository

__all__ = [
    "CACHE_CONFIG",
    "INLINE",
    "SharedCache",
    "caches_below",
    "check_cache_option",
    "export_cache",
    "inline_records",
]

CACHE_CONFIG = "application/vnd.dockermagic.cache.v1+json"
INLINE = "dockermagic.cache.v1"
_OPTIONS = {
    "to": {
        "registry": ("ref", "mode"),
        "local": ("dest", "mode", "tag"),
        "inline": (),
    },
    "from": {"registry": ("ref",), "local": ("src", "tag", "digest")},
}
_NEEDED = {("registry", "to"): "ref", ("local", "to"): "dest", ("registry", "from"): "ref", ("local", "from"): "src"}


def check_cache_option(option: CacheOption, way: str) -> None:
    """Raises :class:`UsageError` for a cache that could not be read or written; ``way`` is to or from."""
    known = _OPTIONS[way]
    if option.type not in known:
        raise UsageError(
            f"--cache-{way} type {option.type} is not supported", hint=f"There are {', '.join(sorted(known))}."
        )
    for name in option.options:
        if name not in known[option.type]:
            raise UsageError(
                f"--cache-{way} type={option.type} has no option {name}",
                hint=f"It has: {', '.join(known[option.type]) or 'none'}.",
            )
    needed = _NEEDED.get((option.type, way), "")
    if needed and not option.options.get(needed):
        raise UsageError(f"{needed} is required for --cache-{way} type={option.type}")
    if option.options.get("mode", "min") not in ("min", "max"):
        raise UsageError(f"--cache-{way} mode={option.options['mode']} is neither min nor max")


def caches_below() -> list[CacheOption]:
    """The cache in the directory ``cache`` of the shared store, if there is one."""
    shared = settings().shared
    if shared is None or not (shared / "cache/index.json").is_file():
        return []
    return [CacheOption("local", {"src": str(shared / "cache")})]


@dataclass(frozen=True, slots=True)
class _Record:
    """A step: its key, the chain ids of the layers it stands on and makes ('' for nothing below), and its layer.

    ``created`` is when that was made, None where the cache does not say.
    """

    key: str
    below: str
    chain: str
    diff_id: str
    layer: Descriptor
    inputs: Mapping[str, Any]
    created: float | None


class _Source(Protocol):
    """Where layers of a cache come from; :meth:`take` brings one into the store."""

    def take(self, store: Store, layer: Descriptor) -> None: ...


# -- out


def _collected(
    images: Images, cache: Cache, result: BuildResult, every: bool
) -> tuple[list[dict[str, Any]], list[Descriptor]]:
    """The records of a build's steps as JSON values, and the layers they speak of. Inside a lease."""
    snapshotter = images.snapshotter
    kept = None if every else set(result.stages[result.target].snapshots)
    records: dict[str, dict[str, Any]] = {}
    layers: dict[str, Descriptor] = {}
    for step in result.steps:
        if step.snapshot is None or step.key.startswith("chain:") or (kept is not None and step.snapshot not in kept):
            continue
        snapshot = snapshotter.get(step.snapshot)
        if snapshot is None:
            continue
        line = [found for one in snapshotter.ids(snapshot) if (found := snapshotter.get(one)) is not None]
        blobs = [images.blob(one) for one in line]
        chain = chain_ids([blob.diff_id for blob in blobs])
        layer = blobs[-1].descriptor
        layers[layer.digest] = layer
        records[step.key] = {
            "key": step.key,
            "below": chain[-2] if len(chain) > 1 else "",
            "chain": chain[-1],
            "diff_id": blobs[-1].diff_id,
            "layer": layer.digest,
            "inputs": cache.inputs(step.key) or {},
            "created": snapshot.created,
        }
    return list(records.values()), list(layers.values())


def export_cache(images: Images, cache: Cache, result: BuildResult, option: CacheOption, internal: Internal) -> None:
    """Write the cache of a build where the option says; raises RegistryError, StoreError and the like."""
    with internal.step(f"exporting cache to {_shown(option)}") as step, images.store.lease():
        with step.part("preparing build cache for export"):
            records, layers = _collected(images, cache, result, option.options.get("mode") == "max")
            config = images.store.put(encode({"version": 1, "records": records}), CACHE_CONFIG)
            root = images.store.put(encode(Manifest(config=config, layers=tuple(layers))), MANIFEST)
        if option.type == "local":
            from dockermagic.oci.layout import save_layout

            name = Reference.parse(f"cache:{option.options.get('tag') or 'latest'}")
            save_layout(images.store, root, [name], Path(option.options["dest"]))
        else:
            from dockermagic.oci.transfer import push

            push(images.store, Reference.parse(option.options["ref"]), root, notify=step.transfer)


def inline_records(images: Images, cache: Cache, result: BuildResult) -> dict[str, Any]:
    """What an image's config says of its own layers; inside a lease."""
    records, _ = _collected(images, cache, result, False)
    for record in records:
        del record["created"]  # else no image would be reproducible
    return {"version": 1, "records": records}


def _shown(option: CacheOption) -> str:
    return option.options.get("ref") or option.options.get("dest") or option.options.get("src") or option.type


# -- in


@dataclass(frozen=True, slots=True)
class _Layout:
    directory: Path

    def take(self, store: Store, layer: Descriptor) -> None:
        from dockermagic.oci.layout import take_blob

        take_blob(store, self.directory, layer)


@dataclass(frozen=True, slots=True)
class _Registry:
    repository: Repository

    def take(self, store: Store, layer: Descriptor) -> None:
        if not store.has(layer.digest):
            self.repository.fetch(store, layer)


@dataclass
class SharedCache:
    """The caches that a build may take layers from. Reading one that is not there is told and does no harm."""

    rooms: Callable[[], Images]
    cache: Cache
    _records: dict[str, list[tuple[_Record, _Source]]] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def images(self) -> Images:
        """Opened when the first cache is read."""
        return self.rooms()

    def __enter__(self) -> SharedCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, options: Sequence[CacheOption], internal: Internal) -> None:
        """Read what caches there are, not yet their layers."""
        for option in options:
            with internal.step(f"importing cache manifest from {_shown(option)}") as step:
                try:
                    for record, source in self._read(option):
                        self._records.setdefault(record.key, []).append((record, source))
                except (RegistryError, ArchiveError, ImageNotFoundError, StoreError) as error:
                    step.status(f"it cannot be used: {error.message}", 0)

    def _read(self, option: CacheOption) -> Iterator[tuple[_Record, _Source]]:
        source: _Source
        get: Callable[[Descriptor], bytes]
        if option.type == "local":
            from dockermagic.oci.layout import find_image, read_blob

            directory = Path(option.options["src"])
            root = find_image(directory, option.options.get("digest") or option.options.get("tag", ""))
            source, get = _Layout(directory), lambda found: read_blob(directory, found.digest)
            data = get(root)
        else:
            from dockermagic.oci.transfer import repository_of

            reference = Reference.parse(option.options["ref"])
            repository = repository_of(reference)
            self._open.callback(repository.close)
            root, data = repository.manifest(reference.digest or reference.tag)
            source = _Registry(repository)

            def get(found: Descriptor) -> bytes:
                with self.images.store.lease():
                    source.take(self.images.store, found)
                    return self.images.store.read(found.digest)

        if not is_manifest(root.media_type):
            raise ArchiveError(f"{root.media_type!r:.100} is not a cache")
        manifest = Manifest.from_json(decode(data, "the cache's manifest"))
        document = decode(get(manifest.config), "the cache")
        if manifest.config.media_type != CACHE_CONFIG:
            document = document.get(INLINE) if isinstance(document, dict) else None
        layers = {layer.digest: layer for layer in manifest.layers}
        for record in _records(document, layers):
            yield record, source

    def find(self, key: str, parent: Snapshot | None, cancel: Cancel | None = None) -> Snapshot | None:
        """The layer of a key on this parent, fetched and unpacked; None where no cache has it, or it is not whole."""
        for record, source in self._records.get(key, ()):
            below = self.images.snapshotter.find(f"chain:{record.below}") if record.below else None
            if (below.id if below else None) != (parent.id if parent else None):
                continue
            with contextlib.suppress(RegistryError, ArchiveError, StoreError):
                source.take(self.images.store, record.layer)
                return self._unpack(record, parent, cancel)
        return None

    def _unpack(self, record: _Record, parent: Snapshot | None, cancel: Cancel | None) -> Snapshot:
        snapshotter = self.images.snapshotter
        active = snapshotter.prepare(parent)
        try:
            self.images.fill(active, record.layer, record.diff_id, cancel)
            with self.cache.records.transaction() as tx:
                self.cache.record(tx, record.key, record.inputs)
                made = snapshotter.commit(active, record.key, replace=True, created=record.created)
                snapshotter.set_diff_id(made, record.diff_id)
                snapshotter.alias(f"chain:{record.chain}", made)
            return made
        except BaseException:
            snapshotter.discard(active)
            raise


def _records(document: object, layers: Mapping[str, Descriptor]) -> Iterable[_Record]:
    if not isinstance(document, dict) or document.get("version") != 1 or not isinstance(document.get("records"), list):
        raise ArchiveError("it has no cache records")
    for item in document["records"]:
        try:
            key, below, chain, diff_id = (item[name] for name in ("key", "below", "chain", "diff_id"))
            layer, inputs = layers[item["layer"]], item["inputs"]
        except (KeyError, TypeError):
            raise ArchiveError("its cache records are not as they should be") from None
        if not all(isinstance(word, str) for word in (key, below, chain, diff_id)) or not isinstance(inputs, dict):
            raise ArchiveError("its cache records are not as they should be")
        if not key.startswith("chain:"):  # an image's layers are the same by digest, and come with it
            created = item.get("created")
            is_past = isinstance(created, int | float) and 0 <= created <= time.time()
            yield _Record(key, below, chain, diff_id, layer, inputs, created if is_past else None)
