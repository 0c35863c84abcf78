"""Blobs: files under ``blobs/sha256`` named by their digest, written aside and renamed in when they are whole.

Many processes share the directory. What a process is about to refer to, it protects with a lease: while a lease lives,
no blob that was written or asked for since it began is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dockermagic.errors import ArchiveError, StoreError, full_disk_error, is_full
from dockermagic.oci import lock
from dockermagic.oci.reference import is_digest
from dockermagic.oci.spec import Descriptor

__all__ = ["BlobWriter", "Blobs", "clear_errors", "full_disk"]

BLOCK = 1 << 20
_LARGEST_DOCUMENT = 16 << 20


@contextlib.contextmanager
def full_disk(where: Path | str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into StoreFullError."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk_error(where) from error
        raise


@contextlib.contextmanager
def clear_errors(where: Path | str) -> Iterator[None]:
    """Turn a full disk into StoreFullError and what else the system refuses into StoreError."""
    try:
        with full_disk(where):
            yield
    except OSError as error:
        name = f" {error.filename!r:.300}" if error.filename else ""
        raise StoreError(f"{where}:{name} {error.strerror or error}") from error


class BlobWriter:
    """A blob in the making. Leaving the ``with`` block without :meth:`commit` removes it.

    Give bytes to :meth:`write`, or let another process write to :meth:`fileno` and tell :meth:`commit` the digest.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._hashed = 0
        with full_disk(blobs.home):
            self._descriptor, self._path = lock.new_file(blobs.home / "ingest")

    def fileno(self) -> int:
        """The descriptor of the file, open for writing; it belongs to this object."""
        return self._descriptor

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes; raises StoreFullError."""
        self._hash.update(data)
        left = memoryview(data)
        with full_disk(self._blobs.home):
            while left:
                left = left[os.write(self._descriptor, left) :]
        self._hashed += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        """The digest of what was written with :meth:`write` so far."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def size(self) -> int:
        """The bytes in the file so far."""
        return os.fstat(self._descriptor).st_size

    def commit(self, media_type: str, *, digest: str = "", size: int | None = None) -> Descriptor:
        """Make it a blob of the store; idempotent where the blob exists already.

        ``digest`` and ``size``, where given, must be those of the bytes: else ArchiveError, and nothing is stored. The
        digest of bytes that another process wrote to the descriptor is taken on trust.
        """
        written = self.size
        if size is not None and size != written:
            raise ArchiveError(f"expected {size} bytes for {digest or 'a blob'}, got {written}")
        if written == self._hashed:
            if digest and digest != self.digest:
                raise ArchiveError(f"digest mismatch: expected {digest}, got {self.digest}")
            digest = self.digest
        elif not digest:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with os.fdopen(self._descriptor, "rb", closefd=False) as file:
                digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        target = self._blobs.blob(digest)
        self._path.chmod(0o644)
        with self._blobs.steady(), full_disk(self._blobs.home):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.utime(self._path)
            lock.publish(self._descriptor, self._path, target)
        return Descriptor(media_type, digest, written)

    def close(self) -> None:
        """Drop the file if it was not committed. Idempotent."""
        if self._descriptor >= 0:
            lock.discard(self._descriptor, self._path)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Blobs:
    """The blobs below ``home``. Making one creates the directories and clears what dead processes left.

    Below it may be a ``shared`` home that is only read: what is there need not be here.
    """

    def __init__(self, home: Path, shared: Path | None = None) -> None:
        self.home = home
        self.shared = shared
        with full_disk(home):
            try:
                for part in ("blobs/sha256", "ingest", "leases", "locks"):
                    (home / part).mkdir(parents=True, exist_ok=True)
                self.sweep()
            except PermissionError as error:
                raise StoreError(
                    f"the store {home} cannot be written: {error.strerror}",
                    hint="Set DOCKERMAGIC_HOME to a directory of your own.",
                ) from error

    def blob(self, digest: str) -> Path:
        """Where the blob is or would be; raises StoreError if that is no digest."""
        return self._place(self.home, digest)

    def _place(self, home: Path, digest: str) -> Path:
        if not is_digest(digest):
            raise StoreError(f"{digest!r} is not a digest")
        algorithm, _, encoded = digest.partition(":")
        return home / "blobs" / algorithm / encoded

    def find_blob(self, digest: str) -> Path:
        """Where the blob is: here, else in the shared store; where it would be if it is in neither."""
        own = self.blob(digest)
        if self.shared is not None and not own.exists():
            other = self._place(self.shared, digest)
            if other.is_file():
                return other
        return own

    def has(self, digest: str) -> bool:
        """Whether the blob is here. Asking counts as a use: a lease of this process protects it from then on."""
        path = self.blob(digest)
        with self.steady():
            try:
                os.utime(path)
            except FileNotFoundError:
                return self.find_blob(digest) != path
            except PermissionError:
                return True
        return True

    def size(self, digest: str) -> int:
        """The size of the blob; raises StoreError if it is not here, or the disk does not give it."""
        try:
            return self.find_blob(digest).stat().st_size
        except OSError as error:
            raise _not_read(digest, error) from error

    def open(self, digest: str) -> io.FileIO:
        """Open the blob for reading, unverified; the caller closes it. Raises StoreError as ``size``."""
        try:
            return self.find_blob(digest).open("rb", buffering=0)
        except OSError as error:
            raise _not_read(digest, error) from error

    def read(self, digest: str) -> bytes:
        """The bytes of a small blob, checked; raises StoreError if it is missing, damaged or no document."""
        with self.open(digest) as file:
            data = file.read(_LARGEST_DOCUMENT + 1)
        if len(data) > _LARGEST_DOCUMENT:
            raise StoreError(f"blob {digest} is too large for a JSON document")
        algorithm = digest.partition(":")[0]
        if algorithm in hashlib.algorithms_available:
            found = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
            if found != digest:
                raise _damaged(digest, found)
        return data

    def verify(self, digest: str) -> int:
        """Read the whole blob and check its digest; returns its size, raises StoreError."""
        with self.open(digest) as file:
            algorithm = digest.partition(":")[0]
            found = f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
            if found != digest:
                raise _damaged(digest, found)
            return os.fstat(file.fileno()).st_size

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store these bytes, also in place of what a power cut left of them. Idempotent."""
        descriptor = Descriptor.of(media_type, data)
        if not self.has(descriptor.digest) or self.size(descriptor.digest) != len(data):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(media_type)
        return descriptor

    def writer(self) -> BlobWriter:
        """A new blob, to be used in a ``with`` block."""
        return BlobWriter(self)

    def digests(self) -> Iterator[str]:
        """The digests of all blobs, in no order."""
        for algorithm in (self.home / "blobs").iterdir():
            for path in algorithm.iterdir():
                if is_digest(f"{algorithm.name}:{path.name}"):
                    yield f"{algorithm.name}:{path.name}"

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Protect what is written or asked for in the ``with`` block until it is left, or the process ends."""
        with contextlib.ExitStack() as stack:
            with self.steady():
                stack.enter_context(self._new_lease())
            yield

    @contextlib.contextmanager
    def _new_lease(self) -> Iterator[int]:
        with full_disk(self.home):
            descriptor, path = lock.new_file(self.home / "leases")
        try:
            yield os.fstat(descriptor).st_mtime_ns
        finally:
            lock.discard(descriptor, path)

    def horizon(self) -> int:
        """What was used since then may be about to be referred to; taken before looking what is referred to.

        It is the beginning of the oldest lease that lives, or now, on the clock of the file system.
        """
        with lock.hold(self.home / "blobs.lock"), self._new_lease() as begun:
            moments = [begun]
            for path in list((self.home / "leases").iterdir()):
                if lock.is_alive(path):
                    with contextlib.suppress(FileNotFoundError):
                        moments.append(path.stat().st_mtime_ns)
            return min(moments)

    def remove(self, digests: Iterable[str], horizon: int) -> dict[str, int]:
        """Remove blobs that nothing referred to after :meth:`horizon` was taken; returns which went and their sizes.

        Those that were used since stay. Readers that have one open keep it.
        """
        removed: dict[str, int] = {}
        with lock.hold(self.home / "blobs.lock"):
            for digest in digests:
                path = self.blob(digest)
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    if found.st_mtime_ns < horizon:
                        path.unlink()
                        removed[digest] = found.st_size
        return removed

    def sweep(self) -> int:
        """Remove what processes that ended left unfinished; returns how many files. Safe beside others at any time."""
        swept = 0
        for part in ("ingest", "leases", "locks"):
            for path in (self.home / part).iterdir():
                swept += not lock.is_alive(path)
        return swept

    def steady(self) -> contextlib.AbstractContextManager[int]:
        """No blob is removed inside this ``with`` block. To be left soon."""
        return lock.hold(self.home / "blobs.lock", shared=True)


def _not_read(digest: str, error: OSError) -> StoreError:
    if not isinstance(error, FileNotFoundError):
        return StoreError(
            f"blob {digest} cannot be read: {error.strerror}",
            hint="`dockermagic fsck` looks at all of the store; the disk below it may be damaged.",
        )
    return StoreError(
        f"blob {digest} is missing from the store",
        hint="Pull or load the image again, or build it with --no-cache.",
    )


def _damaged(digest: str, found: str) -> StoreError:
    return StoreError(
        f"blob {digest} is damaged: its content has the digest {found}",
        hint="Remove the image, then pull, load or build it again.",
    )
