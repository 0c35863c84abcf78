"""The content store: an OCI image layout that many processes write at once.

Which images and names there are is in the records; ``index.json`` is derived from them, so that skopeo, podman and
umoci read the store as it stands. Nothing here calls fsync: after kill -9 or a full disk the store is whole; after a
power cut a blob can be short, and reading it says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dockermagic.errors import ArchiveError, ImageNotFoundError, InvalidReferenceError, StoreError
from dockermagic.oci import lock
from dockermagic.oci.blobs import Blobs, full_disk
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    decode,
    encode,
    is_index,
    is_manifest,
)
from dockermagic.records import Records, declare
from dockermagic.values import dataclass, replace

__all__ = ["LayerBlob", "Store", "StoredImage"]

declare(
    "images",
    """
    CREATE TABLE IF NOT EXISTS images (
        digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, image_id TEXT NOT NULL,
        added REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS images_by_id ON images (image_id);
    CREATE TABLE IF NOT EXISTS image_names (
        name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES images (digest), tagged REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS image_names_by_digest ON image_names (digest);
    CREATE TABLE IF NOT EXISTS image_generation (number INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS layer_blobs (
        digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, diff_id TEXT NOT NULL,
        uncompressed_size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS layer_blobs_by_diff_id ON layer_blobs (diff_id);
    """,
)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the store. ``id`` is the digest of its config; for a list of manifests, of this machine's one.

    ``names`` is empty for a dangling image. ``added`` is in seconds since the epoch.
    """

    descriptor: Descriptor
    id: str
    names: tuple[Reference, ...]
    added: float


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer's blob and what it unpacks to. Several blobs can hold the same layer, compressed differently."""

    descriptor: Descriptor
    diff_id: str
    uncompressed_size: int


class Store(Blobs):
    """The images of one home directory. Cheap to make; safe in threads and beside other processes.

    Whoever writes blobs that nothing refers to yet does so inside :meth:`lease`.
    """

    def __init__(self, home: Path, records: Records, shared: Path | None = None) -> None:
        super().__init__(home, shared)
        self.records = records
        layout = home / "oci-layout"
        if not layout.exists():
            with full_disk(home):
                _replace(layout, b'{"imageLayoutVersion":"1.0.0"}')
        self.write_index()

    # -- names

    def add(self, descriptor: Descriptor) -> None:
        """Record an image without a name, so that it is listed and its blobs are kept. Idempotent.

        Raises StoreError where one of them is missing.
        """
        with self.lease(), self.records.transaction() as tx:
            self.use(descriptor)
            if tx.execute("SELECT 1 FROM images WHERE digest = ?", (descriptor.digest,)).fetchone() is None:
                image_id = self._image_id(descriptor)
                tx.execute(
                    "INSERT INTO images VALUES (?, ?, ?, ?, ?)",
                    (descriptor.digest, descriptor.media_type, descriptor.size, image_id, time.time()),
                )

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Give an image a name, taken from whatever had it. Atomic; ``index.json`` follows after the commit."""
        with self.lease(), self.records.transaction() as tx:
            self.add(descriptor)
            changed = tx.execute(
                "INSERT INTO image_names VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET digest = ?2, tagged = ?3 WHERE digest <> ?2",
                (_key(reference), descriptor.digest, time.time()),
            )
            if changed.rowcount:
                self._names_changed()

    def use(self, descriptor: Descriptor) -> None:
        """Ask for every blob of an image, so that the lease around this call protects them.

        Raises StoreError if it is not whole. Of a list of manifests, what is not here is not needed.
        """
        needed = {descriptor.digest}
        try:
            needed.add(self.resolve_manifest(descriptor)[0].digest)
        except ImageNotFoundError:
            pass
        for each in self.reachable([descriptor]):
            is_document = is_manifest(each.media_type) or is_index(each.media_type)
            if not self.has(each.digest) and (each.digest in needed or not is_document):
                self.size(each.digest)  # which says that it is missing

    def untag(self, reference: Reference) -> bool:
        """Take a name away; False if there was none. The image stays, without a name."""
        with self.records.transaction() as tx:
            gone = tx.execute("DELETE FROM image_names WHERE name = ?", (_key(reference),)).rowcount > 0
            if gone:
                self._names_changed()
        return gone

    def forget(self, digest: str) -> bool:
        """Drop an image and its names from the records; its blobs stay until they are collected."""
        with self.records.transaction() as tx:
            if tx.execute("DELETE FROM image_names WHERE digest = ?", (digest,)).rowcount:
                self._names_changed()
            return tx.execute("DELETE FROM images WHERE digest = ?", (digest,)).rowcount > 0

    def resolve(self, reference: Reference) -> Descriptor | None:
        """What the name stands for here. A name with a digest is found under any tag of its repository."""
        row = self.records.row(
            "SELECT images.* FROM image_names JOIN images USING (digest) WHERE name = ?", (_key(reference),)
        )
        if row is None and reference.digest:
            row = self.records.row(
                "SELECT images.* FROM image_names JOIN images USING (digest) WHERE digest = ? AND name GLOB ?",
                (reference.digest, f"{reference.name}[:@]*"),
            )
        if row is None:
            return self._shared_names().get(_key(reference))
        return Descriptor(row["media_type"], row["digest"], row["size"])

    def _shared_names(self) -> dict[str, Descriptor]:
        """What the names of the shared store stand for; its index is read anew each time, as it may change."""
        if self.shared is None:
            return {}
        try:
            index = Index.from_json(decode((self.shared / "index.json").read_bytes(), "the shared store's index.json"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(
                f"the shared store {self.shared} cannot be read: {error.strerror}",
                hint="$DOCKERMAGIC_SHARED_STORE or [store] shared in the config file names it.",
            ) from None
        return {
            entry.annotations[ANNOTATION_IMAGE_NAME]: Descriptor(entry.media_type, entry.digest, entry.size)
            for entry in index.manifests
            if ANNOTATION_IMAGE_NAME in entry.annotations
        }

    def references(self) -> dict[Reference, Descriptor]:
        """All names and what they stand for, sorted by name."""
        rows = self.records.rows("SELECT name, images.* FROM image_names JOIN images USING (digest) ORDER BY name")
        return {Reference.parse(row["name"]): Descriptor(row["media_type"], row["digest"], row["size"]) for row in rows}

    def images(self) -> list[StoredImage]:
        """All images, the newest first; those without a name too."""
        names: dict[str, list[Reference]] = {}
        for row in self.records.rows("SELECT name, digest FROM image_names ORDER BY name"):
            names.setdefault(row["digest"], []).append(Reference.parse(row["name"]))
        return [
            StoredImage(
                Descriptor(row["media_type"], row["digest"], row["size"]),
                row["image_id"],
                tuple(names.get(row["digest"], ())),
                row["added"],
            )
            for row in self.records.rows("SELECT * FROM images ORDER BY added DESC, digest")
        ]

    def borrowed(self) -> list[StoredImage]:
        """The images of the shared store whose names are not taken here: using one makes it one of this."""
        own = {row["name"] for row in self.records.rows("SELECT name FROM image_names")}
        shared = {name: one for name, one in sorted(self._shared_names().items()) if name not in own}
        names: dict[str, list[Reference]] = {}
        for name, one in shared.items():
            names.setdefault(one.digest, []).append(Reference.parse(name))
        images = {one.digest: one for one in shared.values()}
        return [StoredImage(one, self._image_id(one), tuple(names[one.digest]), 0.0) for one in images.values()]

    def find(self, text: str) -> StoredImage:
        """The image that a person means: a name, or the beginning of an id or digest.

        Raises ImageNotFoundError, also where an id's beginning fits several images.
        """
        descriptor = None
        try:
            descriptor = self.resolve(Reference.parse(text))
        except InvalidReferenceError:
            pass
        if descriptor is not None:
            if self.records.row("SELECT 1 FROM images WHERE digest = ?", (descriptor.digest,)) is None:
                self.tag(Reference.parse(text), descriptor)  # the shared store's becomes one of this
            return self._stored(descriptor.digest)
        start = text.removeprefix("sha256:")
        if start and set(start) <= set("0123456789abcdef"):
            rows = self.records.rows(
                "SELECT digest, image_id FROM images WHERE image_id GLOB ?1 OR digest GLOB ?1", (f"sha256:{start}*",)
            )
            if len({row["image_id"] for row in rows}) == 1:
                return self._stored(rows[0]["digest"])
            if rows:
                raise ImageNotFoundError(f"{text} is the beginning of several image ids", hint="Give more digits.")
        raise ImageNotFoundError(f"no such image: {text}")

    # -- documents

    def index(self, descriptor: Descriptor) -> Index:
        """Read a list of manifests; raises StoreError or ArchiveError."""
        return Index.from_json(decode(self.read(descriptor.digest), f"index {descriptor.digest}"))

    def manifest(self, descriptor: Descriptor, platform: Platform | None = None) -> Manifest:
        """Read a manifest; from a list of them the one for the platform.

        Without a platform it is this machine's, or if only others are here the first of them. Raises StoreError,
        ArchiveError, or ImageNotFoundError where the list has none for the platform or it was never fetched.
        """
        return self.resolve_manifest(descriptor, platform)[1]

    def resolve_manifest(self, descriptor: Descriptor, platform: Platform | None = None) -> tuple[Descriptor, Manifest]:
        """Like :meth:`manifest`, with the descriptor of the manifest that was chosen."""
        for _ in range(4):
            if is_manifest(descriptor.media_type):
                text = decode(self.read(descriptor.digest), f"manifest {descriptor.digest}")
                return descriptor, Manifest.from_json(text)
            if not is_index(descriptor.media_type):
                break
            index = self.index(descriptor)
            wanted = platform or Platform.host()
            chosen = index.select(wanted)
            if platform is None and (chosen is None or not self.has(chosen.digest)):
                here = (item for item in index.manifests if is_manifest(item.media_type) and self.has(item.digest))
                chosen = next(here, chosen)
            if chosen is None or not self.has(chosen.digest):
                raise ImageNotFoundError(f"no image for {wanted} of {descriptor.digest} is here")
            descriptor = chosen
        raise ArchiveError(f"{descriptor.digest} is not an image: {descriptor.media_type!r}")

    def config(self, manifest: Manifest) -> ImageConfig:
        """Read the config of a manifest; raises StoreError, or ArchiveError if it is no image's."""
        found = manifest.config.digest
        if not manifest.is_image:
            raise ArchiveError(f"{found} is no image's config, but {manifest.config.media_type or 'nothing':.100}")
        return ImageConfig.from_json(decode(self.read(found), f"config {found}"))

    # -- layers

    def remember_layer(self, layer: LayerBlob) -> None:
        """Record what a layer's blob unpacks to, after it was verified. Idempotent."""
        with self.records.transaction() as tx:
            tx.execute(
                "INSERT INTO layer_blobs VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                (
                    layer.descriptor.digest,
                    layer.descriptor.media_type,
                    layer.descriptor.size,
                    layer.diff_id,
                    layer.uncompressed_size,
                ),
            )

    def layers(self, diff_id: str) -> list[LayerBlob]:
        """The blobs in the store that hold this layer."""
        rows = self.records.rows("SELECT * FROM layer_blobs WHERE diff_id = ? ORDER BY digest", (diff_id,))
        return [
            LayerBlob(Descriptor(row["media_type"], row["digest"], row["size"]), diff_id, row["uncompressed_size"])
            for row in rows
            if self.has(row["digest"])
        ]

    def assert_idle(self) -> None:
        """Raises StoreError where another process is building, pulling or the like."""
        with lock.hold(self.home / "blobs.lock"):
            if any(lock.is_alive(path) for path in (self.home / "leases").iterdir()):
                raise StoreError(f"the store {self.home} is in use", hint="Wait for what builds, pulls or pushes.")

    # -- garbage

    def reachable(self, roots: Iterable[Descriptor]) -> Iterator[Descriptor]:
        """The descriptors and all they refer to, each once. Those whose blob is missing end there."""
        seen: set[str] = set()
        waiting = list(roots)
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            yield descriptor
            try:
                if is_manifest(descriptor.media_type):
                    manifest = self.manifest(descriptor)
                    waiting += [manifest.config, *manifest.layers]
                elif is_index(descriptor.media_type):
                    waiting += self.index(descriptor).manifests
            except (StoreError, ArchiveError):
                continue

    def garbage(self, keep: Iterable[Descriptor | str] = ()) -> dict[str, int]:
        """The blobs that neither an image of the records nor ``keep`` refers to, and their sizes.

        A descriptor in ``keep`` keeps all it refers to, a digest only itself.
        """
        kept = set()
        roots = [image.descriptor for image in self.images()]
        for item in keep:
            if isinstance(item, str):
                kept.add(item)
            else:
                roots.append(item)
        kept |= {descriptor.digest for descriptor in self.reachable(roots)}
        found = {}
        for digest in self.digests():
            if digest not in kept:
                try:
                    found[digest] = self.size(digest)
                except StoreError:  # another process collected it meanwhile
                    continue
        return found

    def collect(self, keep: Iterable[Descriptor | str] = ()) -> dict[str, int]:
        """Remove the garbage that nobody uses; returns what went, with sizes. Inside a lease only what is older."""
        horizon = self.horizon()
        removed = self.remove(self.garbage(keep), horizon)
        with self.records.transaction() as tx:
            tx.executemany("DELETE FROM layer_blobs WHERE digest = ?", [(digest,) for digest in removed])
        return removed

    # -- index.json

    def write_index(self) -> None:
        """Write ``index.json`` from the records unless it is up to date. Atomic; safe beside others."""
        if self.generation() == _written(self.home):
            return
        # The lock is held from reading the records to the rename: the last to write has seen every commit.
        with lock.hold(self.home / "index.lock") as descriptor, full_disk(self.home):
            generation = self.generation()
            _replace(self.home / "index.json", encode(self._index()))
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(generation).encode())

    def _index(self) -> Index:
        entries = []
        for reference, descriptor in self.references().items():
            names = {ANNOTATION_REF_NAME: reference.familiar(), ANNOTATION_IMAGE_NAME: str(reference)}
            entries.append(replace(descriptor, annotations=names))
        return Index(manifests=tuple(entries))

    def _names_changed(self) -> None:
        with self.records.transaction() as tx:
            if not tx.execute("UPDATE image_generation SET number = number + 1").rowcount:
                tx.execute("INSERT INTO image_generation VALUES (1)")
        self.records.after_commit(self.write_index)

    def generation(self) -> int:
        """A number that is another one after every change of a name."""
        row = self.records.row("SELECT number FROM image_generation")
        return row[0] if row else 0

    def _image_id(self, descriptor: Descriptor) -> str:
        try:
            return self.manifest(descriptor).config.digest
        except ImageNotFoundError:
            return descriptor.digest

    def _stored(self, digest: str) -> StoredImage:
        rows = self.records.rows("SELECT name FROM image_names WHERE digest = ? ORDER BY name", (digest,))
        row = self.records.row("SELECT * FROM images WHERE digest = ?", (digest,))
        if row is None:
            raise ImageNotFoundError(f"no such image: {digest}")
        names = tuple(Reference.parse(each["name"]) for each in rows)
        return StoredImage(Descriptor(row["media_type"], digest, row["size"]), row["image_id"], names, row["added"])


def _key(reference: Reference) -> str:
    """How a name is kept: with a digest the tag says nothing."""
    return str(replace(reference, tag="") if reference.digest else reference)


def _written(home: Path) -> int:
    """The state of the records that ``index.json`` shows; -1 where there is none."""
    try:
        text = (home / "index.lock").read_text(encoding="ascii")
        return int(text) if (home / "index.json").exists() else -1
    except (OSError, ValueError):
        return -1


def _replace(path: Path, data: bytes) -> None:
    """Write a file aside and rename it in; what a killed process leaves is swept."""
    descriptor, temporary = lock.new_file(path.parent / "ingest")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        temporary.chmod(0o644)
        lock.publish(descriptor, temporary, path)
    finally:
        lock.discard(descriptor, temporary)
