"""A client of the distribution specification: manifests and blobs of one repository, in both directions."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from dockermagic.errors import ArchiveError, RegistryError
from dockermagic.oci import auth
from dockermagic.oci.blobs import BLOCK, Blobs
from dockermagic.oci.connection import LEAST
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, decode, digest, is_foreign
from dockermagic.oci.transport import TRY_AGAIN, Answer, BrokenOff, Transport, discard, reason

__all__ = ["Repository"]

_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
_LARGEST_MANIFEST = 4 << 20
_TRIES = 5
_MOST_PIECES = 1000
_CHUNK = 8 << 20
_LARGEST_CHUNK = 64 << 20

Progress = Callable[[int], None]
Begun = Callable[[int], None]


class Repository:
    """One repository of a registry. Thread-safe. Every method raises RegistryError; nothing is believed unchecked.

    ``address`` is where to ask instead of the registry itself: a mirror. ``options`` are those of :class:`Transport`.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        address: str = "",
        insecure: bool = False,
        credentials: Callable[[], auth.Credentials | None] | None = None,
        **options: Any,
    ) -> None:
        # A mirror is somebody else: the registry's password is none of its business.
        host = urllib.parse.urlsplit(address).netloc if "://" in address else address
        look_up = credentials or (lambda: auth.find(host or reference.registry))
        self._http = Transport(address or reference.registry, credentials=look_up, insecure=insecure, **options)
        self._name = reference.repository
        self._title = f"{reference.registry}/{reference.repository}"

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    # -- reading

    def manifest(self, wanted: str) -> tuple[Descriptor, bytes]:
        """The manifest or index of a tag or digest, with its exact bytes; the digest is checked."""
        is_digest = ":" in wanted
        if is_digest and not wanted.startswith("sha256:"):
            raise RegistryError(f"{self._title}@{wanted:.100}: only digests of sha256 can be checked here")
        what = f"{self._title}{'@' if is_digest else ':'}{wanted}"
        answer = self._call("GET", f"manifests/{wanted}", headers={"Accept": _ACCEPT}, what=what)
        data = self._whole(answer, what)
        found = digest(data)
        expected = wanted if is_digest else answer.headers.get("Docker-Content-Digest", "")
        if expected.startswith("sha256:") and expected != found:
            raise RegistryError(f"{what}: digest mismatch: expected {expected}, got {found}")
        try:
            document = decode(data, what)
        except ArchiveError as error:
            raise RegistryError(error.message) from error
        inside = document.get("mediaType") if isinstance(document, dict) else None
        sent = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        media_type = inside if isinstance(inside, str) and inside else sent
        if isinstance(document, dict) and document.get("schemaVersion") == 1:
            raise RegistryError(f"{what}: an image in the old format of Docker (schema 1), which nobody reads any more")
        if media_type not in (INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST):
            raise RegistryError(f"{what}: {media_type[:100]!r} is not an image")
        return Descriptor(media_type, found, len(data)), data

    def fetch(
        self, blobs: Blobs, descriptor: Descriptor, progress: Progress | None = None, begun: Begun | None = None
    ) -> None:
        """Bring a blob into the store, checked while it streams; goes on where a cut connection left off.

        ``begun`` is told the descriptor of the file that the bytes go to, ``progress`` how many bytes there are so far.
        """
        what = f"{self._title}@{descriptor.digest}"
        if is_foreign(descriptor.media_type):
            raise RegistryError(
                f"{what}: a layer that its maker does not let registries pass on ({descriptor.media_type})",
                hint="Images of Windows have such layers; they are not supported.",
            )
        with blobs.writer() as writer:
            if begun is not None:
                begun(writer.fileno())
            failures = 0
            for _ in range(_MOST_PIECES):
                done = writer.size
                try:
                    for block in self._rest(descriptor, done, what):
                        if writer.size + len(block) > descriptor.size:
                            raise RegistryError(f"{what}: longer than the {descriptor.size} bytes that were announced")
                        writer.write(block)
                        if progress is not None:
                            progress(writer.size)
                    problem = "it ends too early"
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    problem = f"the connection breaks: {reason(error)}"
                if writer.size >= descriptor.size:
                    break
                failures = 0 if writer.size - done >= LEAST else failures + 1
                if failures == _TRIES:
                    raise RegistryError(f"{what}: {problem}, after {writer.size} of {descriptor.size} bytes")
                self._http.wait(failures)
            try:
                writer.commit(descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
            except ArchiveError as error:
                raise RegistryError(f"{what}: {error.message}") from error

    def _rest(self, descriptor: Descriptor, done: int, what: str) -> Iterator[bytes]:
        """The bytes of a blob from ``done`` on."""
        headers = {"Range": f"bytes={done}-"} if done else {}
        answer = self._call("GET", f"blobs/{descriptor.digest}", headers=headers, allow=(200, 206), what=what)
        skip = done if answer.status == 200 else 0
        start = answer.headers.get("Content-Range", "")
        if answer.status == 206 and not start.startswith(f"bytes {done}-"):
            discard(answer)
            raise RegistryError(f"{what}: asked from byte {done} on, got {start[:50]!r}")
        with contextlib.closing(self._http.blocks(answer)) as blocks:
            for block in blocks:
                if skip:
                    step = min(skip, len(block))
                    skip -= step
                    block = block[step:]
                if block:
                    yield block

    def tags(self) -> list[str]:
        """The tags of the repository, sorted."""
        found: list[str] = []
        path = "tags/list?n=1000"
        for _ in range(100):
            answer = self._call("GET", path, what=self._title)
            document = decode(self._whole(answer, self._title), self._title)
            found += [str(tag) for tag in (document.get("tags") or [] if isinstance(document, dict) else [])]
            link = answer.headers.get("Link", "")
            path, more, _ = link.removeprefix("<").partition(">")
            if 'rel="next"' not in link.replace("'", '"') or not more or path == link:
                break
        return sorted(found)

    def _whole(self, answer: Answer, what: str) -> bytes:
        try:
            data = self._http.content(answer, _LARGEST_MANIFEST + 1)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RegistryError(f"{what}: the connection broke: {reason(error)}") from error
        if len(data) > _LARGEST_MANIFEST:
            raise RegistryError(f"{what}: a document of more than {_LARGEST_MANIFEST >> 20} MB is refused")
        return data

    # -- writing

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the registry has the blob in this repository."""
        answer = self._call(
            "HEAD",
            f"blobs/{descriptor.digest}",
            allow=(200, 404),
            push=True,
            what=f"{self._title}@{descriptor.digest}",
        )
        answer.drain_conn()  # a HEAD is answered without a body, also where that is an error
        answer.release_conn()
        return answer.status == 200

    def upload(
        self, blobs: Blobs, descriptor: Descriptor, progress: Progress | None = None, *, mount_from: str = ""
    ) -> bool:
        """Send a blob; False if the registry took it over from the repository ``mount_from`` of its own.

        It goes in one piece; where that breaks off or is too large, in chunks, of which only the last one is lost.
        """
        what = f"{self._title}@{descriptor.digest}"
        target, _ = self._begin(what, descriptor.digest, mount_from)
        if not target:
            return False
        size = blobs.size(descriptor.digest)

        def content() -> Iterator[bytes]:
            done = 0
            with blobs.open(descriptor.digest) as file:
                while block := file.read(BLOCK):
                    yield block
                    done += len(block)
                    if progress is not None:
                        progress(done)

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        options: dict[str, Any] = {"headers": headers, "body": content, "push": True, "what": what}
        try:
            allow = (201, 204, 413, *TRY_AGAIN)
            answer = self._call("PUT", _with_digest(target, descriptor), allow=allow, tries=1, **options)
            discard(answer)
            if answer.status in (201, 204):
                return True
        except BrokenOff:
            pass
        self._upload_in_chunks(blobs, descriptor, progress, what)
        return True

    def _begin(self, what: str, digest: str = "", mount_from: str = "") -> tuple[str, int]:
        """Where to upload to, '' if the blob was taken from elsewhere; and the least size of a chunk."""
        query = f"?mount={digest}&from={urllib.parse.quote(mount_from)}" if mount_from else ""
        answer = self._call(
            "POST",
            f"blobs/uploads/{query}",
            allow=(201, 202),
            headers={"Content-Length": "0"},
            push=True,
            mount_from=mount_from,
            what=what,
        )
        discard(answer)
        if answer.status == 201:
            return "", 0
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        return self._location(answer, what), int(least) if least.isdigit() else 0

    def _location(self, answer: Answer, what: str) -> str:
        location = answer.headers.get("Location", "")
        if not location:
            raise RegistryError(f"{what}: the registry does not say where to upload to")
        return urllib.parse.urljoin(f"{self._http.base}/v2/{self._name}/blobs/uploads/", location)

    def _upload_in_chunks(self, blobs: Blobs, descriptor: Descriptor, progress: Progress | None, what: str) -> None:
        target, least = self._begin(what)
        size, done, furthest, failures = blobs.size(descriptor.digest), 0, 0, 0
        with blobs.open(descriptor.digest) as file:
            while done < size:
                file.seek(done)
                piece = file.read(min(max(_CHUNK, least), _LARGEST_CHUNK))
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(len(piece)),
                    "Content-Range": f"{done}-{done + len(piece) - 1}",
                }
                options: dict[str, Any] = {"headers": headers, "body": piece, "push": True, "what": what, "tries": 1}
                try:
                    answer = self._call("PATCH", target, allow=(201, 202, 204), **options)
                except RegistryError:
                    failures += 1
                    if failures == _TRIES:
                        raise
                    self._http.wait(failures)
                    target, done = self._arrived(target, what)
                    continue
                discard(answer)
                target, done = self._location(answer, what), done + len(piece)
                if done > furthest:  # a registry that forgets what it took gets no further
                    furthest, failures = done, 0
                if progress is not None:
                    progress(done)
        answer = self._call(
            "PUT",
            _with_digest(target, descriptor),
            allow=(201, 204),
            headers={"Content-Length": "0"},
            push=True,
            what=what,
        )
        discard(answer)

    def _arrived(self, target: str, what: str) -> tuple[str, int]:
        """Where an upload goes on, and how many bytes the registry has."""
        answer = self._call("GET", target, allow=(200, 204), push=True, what=what)
        discard(answer)
        last = answer.headers.get("Range", "").rpartition("-")[2]
        here = self._location(answer, what) if answer.headers.get("Location") else target
        return here, int(last) + 1 if last.isdigit() and last != "0" else 0

    def put_manifest(self, data: bytes, media_type: str, name: str) -> None:
        """Send a manifest or index under a tag or its digest; all it refers to must be there."""
        what = f"{self._title}:{name}"
        answer = self._call(
            "PUT",
            f"manifests/{name}",
            allow=(200, 201, 202),
            headers={"Content-Type": media_type},
            body=data,
            push=True,
            what=what,
        )
        stored = answer.headers.get("Docker-Content-Digest", "")
        discard(answer)
        if stored.startswith("sha256:") and stored != digest(data):
            raise RegistryError(f"{what}: the registry stored something else: {stored}")

    def _call(
        self, method: str, path: str, *, push: bool = False, mount_from: str = "", what: str, **options: Any
    ) -> Answer:
        scope = f"repository:{self._name}:pull{',push' if push else ''}"
        if mount_from:
            scope += f" repository:{mount_from}:pull"
        if "://" not in path and not path.startswith("/"):
            path = f"/v2/{self._name}/{path}"
        return self._http.request(method, path, scope=scope, what=what, **options)


def _with_digest(target: str, descriptor: Descriptor) -> str:
    return f"{target}{'&' if '?' in target else '?'}digest={urllib.parse.quote(descriptor.digest, safe='')}"
