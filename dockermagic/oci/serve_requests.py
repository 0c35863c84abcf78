"""The requests of the distribution-spec, as :class:`~dockermagic.oci.serve.StoreServer` answers them."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from dockermagic.errors import ArchiveError, DockermagicError, InvalidReferenceError, StoreError
from dockermagic.oci.blobs import BLOCK, BlobWriter
from dockermagic.oci.reference import Reference, is_digest
from dockermagic.oci.spec import Descriptor, Index, Manifest, decode, digest, is_index, is_manifest

if TYPE_CHECKING:
    from dockermagic.oci.serve import StoreServer

__all__ = ["TOKEN_SECONDS", "Handler", "Refused", "reference_of"]

TOKEN_SECONDS = 3600
_LARGEST_MANIFEST = 4 << 20
_ERRORS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_UNKNOWN": 404,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 413,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}


class Refused(Exception):
    """An answer that is an error, by its code in the specification."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code, self.message = code, message or code.replace("_", " ").lower()


def reference_of(repository: str, tag: str = "latest") -> Reference:
    """What a repository and a tag or digest of the specification are called here. Raises Refused."""
    try:
        return Reference.parse(f"{repository}@{tag}" if is_digest(tag) else f"{repository}:{tag}")
    except InvalidReferenceError:
        raise Refused("NAME_UNKNOWN") from None


class Handler(BaseHTTPRequestHandler):
    """Answers one connection for a ``registry``."""

    registry: StoreServer
    protocol_version = "HTTP/1.1"
    server_version = "dockermagic"
    timeout = 60

    def log_message(self, *words: Any) -> None:
        """Nothing: who asks for what is nobody's business."""

    def any(self) -> None:
        """One request of any method."""
        parts = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(parts.query))
        self.took_body = False
        try:
            try:
                self._route(parts.path)
            except Refused as refused:
                self._refuse(refused.code, refused.message)
            except DockermagicError as error:
                self._refuse("UNKNOWN", error.message)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = any

    def _route(self, path: str) -> None:
        if path == "/token":
            self._give_token()
            return
        changes = self.command not in ("GET", "HEAD")
        if not path.startswith("/v2"):
            raise Refused("NAME_UNKNOWN")
        if changes and self.registry.is_read_only:
            raise Refused("DENIED", "nobody may push here")
        if not self.registry.may(self.headers.get("Authorization", ""), push=changes):
            self._challenge(path, changes)
            return
        found = re.fullmatch(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags)/(?P<rest>.*)", path)
        if path in ("/v2", "/v2/"):
            self._reply(200, b"{}")
        elif path == "/v2/_catalog":
            names = sorted({reference.familiar_name for reference in self.registry.store.references()})
            self._reply(200, json.dumps({"repositories": names}).encode())
        elif found is None:
            raise Refused("NAME_UNKNOWN")
        elif found["kind"] == "manifests":
            self._manifest(found["name"], found["rest"])
        elif found["kind"] == "tags":
            self._tags(found["name"])
        elif found["rest"].startswith("uploads/"):
            self._upload(found["name"], found["rest"].removeprefix("uploads/"))
        else:
            self._blob(found["name"], found["rest"])

    # -- who

    def _give_token(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        wants_push = any("push" in scope for scope in query.get("scope", ["push"]))
        token = self.registry.new_token(self.headers.get("Authorization", ""), wants_push)
        if not token:
            self._reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
            return
        answer = {"token": token, "access_token": token, "expires_in": TOKEN_SECONDS}
        self._reply(200, json.dumps(answer).encode())

    def _challenge(self, path: str, changes: bool) -> None:
        host = self.headers.get("Host") or self.registry.address
        wanted = f'Bearer realm="http://{host}/token",service="dockermagic"'
        found = re.fullmatch(r"/v2/(.+?)/(manifests|blobs|tags)/.*", path)
        if found:
            wanted += f',scope="repository:{found[1]}:pull{",push" if changes else ""}"'
        body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
        self._reply(401, body, {"WWW-Authenticate": wanted})

    # -- reading

    def _manifest(self, repository: str, name: str) -> None:
        if self.command == "PUT":
            self._put_manifest(repository, name)
            return
        self._only_reading()
        reference = reference_of(repository, name)
        store = self.registry.store
        found = store.resolve(reference)
        if found is None and is_digest(name) and name in self.registry.digests(repository):
            data = store.read(name)
            found = Descriptor(_media_type(data), name, len(data))
        if found is None or not (is_manifest(found.media_type) or is_index(found.media_type)):
            raise Refused("MANIFEST_UNKNOWN")
        headers = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest}
        self._reply(200, store.read(found.digest), headers)

    def _tags(self, repository: str) -> None:
        name = reference_of(repository).name
        tags = sorted(one.tag for one in self.registry.store.references() if one.name == name and one.tag)
        if not tags:
            raise Refused("NAME_UNKNOWN")
        self._reply(200, json.dumps({"name": repository, "tags": tags}).encode())

    def _blob(self, repository: str, name: str) -> None:
        self._only_reading()
        store = self.registry.store
        if name not in self.registry.digests(repository) and not self._may_push():
            raise Refused("BLOB_UNKNOWN")
        try:
            size = store.size(name)
            file = store.open(name)
        except StoreError:
            raise Refused("BLOB_UNKNOWN") from None
        with file:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(wanted[1]), int(wanted[2] or size - 1)) if wanted else (0, size - 1)
            if wanted and not (first <= last < size):
                raise Refused("RANGE_INVALID")
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Docker-Content-Digest", name)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if self.command == "GET" and size:
                self.wfile.flush()
                self.connection.sendfile(file, first, last - first + 1)

    def _may_push(self) -> bool:
        return self.registry.may(self.headers.get("Authorization", ""), push=True)

    def _only_reading(self) -> None:
        if self.command not in ("GET", "HEAD"):
            raise Refused("UNSUPPORTED")

    # -- writing

    def _upload(self, repository: str, name: str) -> None:
        reference_of(repository)
        registry = self.registry
        if self.command == "POST" and not name:
            self._begin(repository)
        elif self.command == "DELETE":
            registry.end(name)
            self._reply(204)
        elif self.command in ("PATCH", "PUT"):
            with registry.upload(name) as writer:
                start = re.match(r"(?:bytes )?(\d+)-", self.headers.get("Content-Range", ""))
                if start and int(start[1]) != writer.size:
                    self._at(416, repository, name, writer.size)
                    return
                for piece in self._body():
                    writer.write(piece)
                if self.command == "PATCH":
                    self._at(202, repository, name, writer.size)
                    return
                self._commit(repository, name, writer)
        else:
            with registry.upload(name) as writer:
                self._at(204, repository, name, writer.size)

    def _begin(self, repository: str) -> None:
        mount = self.query.get("mount", "")
        source = self.query.get("from", "")
        if mount and source and mount in self.registry.digests(source) and self.registry.store.has(mount):
            self._reply(201, b"", {"Location": f"/v2/{repository}/blobs/{mount}", "Docker-Content-Digest": mount})
            return
        name = self.registry.begin()
        if "digest" in self.query:
            with self.registry.upload(name) as writer:
                for piece in self._body():
                    writer.write(piece)
                self._commit(repository, name, writer)
            return
        self._at(202, repository, name, 0)

    def _commit(self, repository: str, name: str, writer: BlobWriter) -> None:
        wanted = self.query.get("digest", "")
        if not is_digest(wanted) or not wanted.startswith("sha256:"):
            raise Refused("DIGEST_INVALID")
        try:
            writer.commit("", digest=wanted)
        except ArchiveError as error:
            raise Refused("DIGEST_INVALID", error.message) from None
        finally:
            self.registry.end(name)
        self._reply(201, b"", {"Location": f"/v2/{repository}/blobs/{wanted}", "Docker-Content-Digest": wanted})

    def _at(self, status: int, repository: str, name: str, size: int) -> None:
        """How far an upload is."""
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{name}", "Docker-Upload-UUID": name}
        self._reply(status, b"", {**headers, "Range": f"0-{max(size - 1, 0)}"})

    def _put_manifest(self, repository: str, name: str) -> None:
        data = b""
        for piece in self._body():
            data += piece
            if len(data) > _LARGEST_MANIFEST:
                raise Refused("SIZE_INVALID")
        found = digest(data)
        if is_digest(name) and name != found:
            raise Refused("DIGEST_INVALID")
        store = self.registry.store
        media_type = _media_type(data) or self.headers.get("Content-Type", "")
        try:
            self._complete(data, media_type)
            with store.lease():
                descriptor = store.put(data, media_type)
                if not is_digest(name):
                    store.tag(reference_of(repository, name), descriptor)
        except ArchiveError as error:
            raise Refused("MANIFEST_INVALID", error.message) from None
        except StoreError as error:
            raise Refused("MANIFEST_BLOB_UNKNOWN", error.message) from None
        self._reply(201, b"", {"Location": f"/v2/{repository}/manifests/{found}", "Docker-Content-Digest": found})

    def _complete(self, data: bytes, media_type: str) -> None:
        document = decode(data, "the manifest")
        if is_index(media_type):
            parts = Index.from_json(document).manifests
        elif is_manifest(media_type):
            manifest = Manifest.from_json(document)
            parts = (manifest.config, *manifest.layers)
        else:
            raise ArchiveError(f"{media_type[:100]!r} is not an image")
        for part in parts:
            if not self.registry.store.has(part.digest):
                raise Refused("MANIFEST_BLOB_UNKNOWN", part.digest)

    # -- HTTP

    def _body(self) -> Iterator[bytes]:
        """What the client sends, whole or in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := _length(self.rfile.readline(100).partition(b";")[0].decode("latin-1"), 16):
                yield from self._read(size)
                self.rfile.readline(100)
            self.rfile.readline(100)
        else:
            yield from self._read(_length(self.headers.get("Content-Length") or "0"))
        self.took_body = True

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read(min(size, BLOCK))
            if not piece:
                raise ConnectionResetError
            size -= len(piece)
            yield piece

    def _refuse(self, code: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._reply(_ERRORS[code], body)

    def _reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not self.took_body and (
            self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        ):
            self.close_connection = True  # what it sends is not read
        self.send_response(status)
        named = {"Content-Type": "application/json", **(headers or {})}
        named["Docker-Distribution-Api-Version"] = "registry/2.0"
        if self.close_connection:
            named["Connection"] = "close"
        if status != 204:
            named["Content-Length"] = str(len(body))
        for key, value in named.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _length(text: str, base: int = 10) -> int:
    digits = text.strip()
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", digits):
        raise Refused("SIZE_INVALID")
    try:
        return int(digits, base)
    except ValueError:
        raise Refused("SIZE_INVALID") from None


def _media_type(data: bytes) -> str:
    try:
        found = json.loads(data).get("mediaType", "")
    except (ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""
