"""Blobs and images: every digest counted again, every document read, and all that it refers to looked for."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator

from dockermagic.errors import DockermagicError, StoreError
from dockermagic.fsck.findings import Notes
from dockermagic.oci.pipeline import Source
from dockermagic.oci.reference import is_digest
from dockermagic.oci.spec import Descriptor, is_index, is_manifest
from dockermagic.oci.store import Store, StoredImage

__all__ = ["Content"]

_AGAIN = "Pull, load or build it again; `rmi` takes the damaged one away first."


class Content:
    """One look through the blobs and the images of a store."""

    def __init__(self, store: Store, notes: Notes, *, quick: bool) -> None:
        self.store = store
        self.notes = notes
        self.quick = quick
        self.problems: dict[str, str] = {}
        self.diff_ids: dict[str, str] = {}

    def check(self) -> None:
        """Look at everything and note what is wrong; garbage goes."""
        self._strangers()
        layers = {row["digest"]: row["diff_id"] for row in self.store.records.rows("SELECT * FROM layer_blobs")}
        for image in self.store.images():
            with contextlib.suppress(DockermagicError):
                for digest in self._layers(image.descriptor):
                    layers.setdefault(digest, "")
        digests = sorted(self.store.digests())
        for digest in digests:
            if problem := self._blob(digest, is_layer=digest in layers):
                self.problems[digest] = problem
        self.notes.count("blobs", len(digests))
        images = self.store.images()
        for image in images:
            self._image(image)
        self.notes.count("images", len(images))
        self._layer_records(layers)
        garbage = self.store.collect()
        for digest in garbage:
            self.problems.pop(digest, None)
        if garbage:
            self.notes.leftover("blobs", f"{len(garbage)} that no image needs, {sum(garbage.values())} bytes")
        for digest, problem in self.problems.items():
            self.notes.damage(f"blob {digest}", problem)

    def _strangers(self) -> None:
        for algorithm in (self.store.home / "blobs").iterdir():
            for path in algorithm.iterdir():
                if not is_digest(f"{algorithm.name}:{path.name}"):
                    self.notes.note(f"blobs/{algorithm.name}/{path.name}", "is not a blob, and not dockermagic's")

    def _layers(self, root: Descriptor) -> Iterator[str]:
        for descriptor in self.store.reachable([root]):
            if is_manifest(descriptor.media_type):
                yield from (layer.digest for layer in self.store.manifest(descriptor).layers)

    def _blob(self, digest: str, *, is_layer: bool) -> str:
        """What is wrong with a blob's bytes; '' where nothing is or it went away meanwhile."""
        try:
            if self.quick:
                self.store.size(digest)
                return ""
            found = self._read(digest) if is_layer else self._hash(digest)
        except FileNotFoundError:
            return ""
        except StoreError as error:
            return error.message if self._is_here(digest) else ""
        except (DockermagicError, OSError, EOFError, ValueError) as error:
            return f"cannot be read: {error}".replace("\n", " ")
        return "" if found == digest else f"is damaged: its content has the digest {found}"

    def _is_here(self, digest: str) -> bool:
        """Whether a blob has its name in the store; what cannot be looked at (EIO, EBADMSG) is here, and damaged."""
        try:
            self.store.find_blob(digest).stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def _hash(self, digest: str) -> str:
        algorithm = digest.partition(":")[0]
        with self.store.open(digest) as file:
            return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"

    def _read(self, digest: str) -> str:
        """A layer's digest, and on the way that of what it unpacks to."""
        if not digest.startswith("sha256:"):
            return self._hash(digest)
        with self.store.open(digest) as file:
            source = Source(file.fileno())
            try:
                for _ in source:
                    pass
            except DockermagicError:
                found = self._hash(digest)
                if found != digest:
                    return found
                raise
            finally:
                source.close()
        self.diff_ids[digest] = source.diff_id
        return source.digest

    def _image(self, image: StoredImage) -> None:
        problems = list(self._wrong(image))
        # What another process has removed meanwhile is not lost.
        if not problems or image.descriptor.digest not in {each.descriptor.digest for each in self.store.images()}:
            return
        names = ", ".join(name.familiar() for name in image.names) or "without a name"
        for problem in problems:
            self.notes.damage(f"image {names} ({image.id.removeprefix('sha256:')[:12]})", problem, hint=_AGAIN)

    def _wrong(self, image: StoredImage) -> Iterator[str]:
        """What is wrong with an image. Of a list of manifests those count that are here, and this machine's."""
        needed = set()
        with contextlib.suppress(DockermagicError):
            needed = {self.store.resolve_manifest(image.descriptor)[0].digest}
        for descriptor in self.store.reachable([image.descriptor]):
            if is_index(descriptor.media_type) or is_manifest(descriptor.media_type):
                if not self._is_here(descriptor.digest) and descriptor.digest not in {image.descriptor.digest, *needed}:
                    continue
                yield from self._parts([descriptor])
                if not self._is_here(descriptor.digest):
                    continue
                try:
                    yield from self._document(descriptor, image)
                except DockermagicError as error:
                    if descriptor.digest not in self.problems:
                        yield error.message

    def _document(self, descriptor: Descriptor, image: StoredImage) -> Iterator[str]:
        if is_index(descriptor.media_type):
            self.store.index(descriptor)
            return
        manifest = self.store.manifest(descriptor)
        problems = list(self._parts([manifest.config, *manifest.layers]))
        yield from problems
        if problems or not manifest.is_image:
            return
        config = self.store.config(manifest)
        wanted = config.rootfs.diff_ids
        if len(wanted) != len(manifest.layers):
            yield f"{len(manifest.layers)} layers, but its config names {len(wanted)}"
            return
        for layer, diff_id in zip(manifest.layers, wanted, strict=True):
            found = self.diff_ids.get(layer.digest, diff_id)
            if found != diff_id:
                yield f"layer {layer.digest} unpacks to {found}, but its config names {diff_id}"
        if descriptor.digest == image.descriptor.digest and image.id != manifest.config.digest:
            yield f"is recorded under the id {image.id}, but its config is {manifest.config.digest}"

    def _parts(self, descriptors: Iterable[Descriptor]) -> Iterator[str]:
        for descriptor in descriptors:
            if descriptor.digest in self.problems:
                yield f"blob {descriptor.digest} {self.problems[descriptor.digest]}"
            elif not self._is_here(descriptor.digest):
                yield f"blob {descriptor.digest} is missing"
            elif (size := self.store.find_blob(descriptor.digest).stat().st_size) != descriptor.size:
                yield f"blob {descriptor.digest} has {size} bytes, expected {descriptor.size}"

    def _layer_records(self, layers: dict[str, str]) -> None:
        """What is recorded of layers' blobs: right, and of blobs that are here."""
        gone = [digest for digest, diff_id in layers.items() if diff_id and not self._is_here(digest)]
        wrong = [
            digest for digest, diff_id in layers.items() if diff_id and self.diff_ids.get(digest, diff_id) != diff_id
        ]
        with self.store.records.transaction() as tx:
            tx.executemany("DELETE FROM layer_blobs WHERE digest = ?", [(digest,) for digest in (*gone, *wrong)])
        if gone:
            self.notes.leftover("store.db", f"{len(gone)} records of layers' blobs that are gone")
        for digest in wrong:
            self.notes.damage(f"blob {digest}", "is recorded with a diff_id that is not its own", mended="forgotten")
