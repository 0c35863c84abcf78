"""A registry of the tests' own: it does what the specification says, and misbehaves where it is told to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Server:
    """``blobs`` and ``manifests`` are what it has; ``seen`` the requests, with their Authorization headers.

    ``trouble`` is called before each request is answered as it should be, and returns True if it has answered.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.trouble: Callable[[Handler], bool] = lambda request: False
        self.user = ""  # NAME:PASSWORD
        self.bearer = False
        self.realm = ""
        self.tokens: dict[str, str] = {}
        self.pending = b""  # the one upload in chunks
        server = self

        class Bound(Handler):
            registry = server

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.http.daemon_threads = True
        self.address = f"127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def paths(self, method: str) -> list[str]:
        return [path for seen, path, _ in self.seen if seen == method]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


class Handler(BaseHTTPRequestHandler):
    registry: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self, status: int, body: bytes, claimed: int, **headers: str) -> None:
        """Promise more than comes, then hang up."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.reply(status, body, Content_Length=str(claimed), **headers)
        self.close_connection = True

    def any(self) -> None:
        server = self.registry
        self.parts = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(self.parts.query))
        length = int(self.headers.get("Content-Length") or 0)
        self.content = self.rfile.read(length)
        server.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        if server.trouble(self):
            return
        if self.parts.path == "/token":
            self.token()
        elif self.authorized():
            self.spec()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = any

    def token(self) -> None:
        form = dict(urllib.parse.parse_qsl(self.content.decode()))
        basic = "Basic " + base64.b64encode(self.registry.user.encode()).decode()
        if self.registry.user and self.headers.get("Authorization") != basic and "refresh_token" not in form:
            self.reply(401)
            return
        token = hashlib.sha256(f"{self.path}{form}".encode()).hexdigest()
        self.registry.tokens[token] = self.query.get("scope") or form.get("scope", "")
        name = "access_token" if form else "token"
        self.reply(200, json.dumps({name: token, "expires_in": 300}).encode())

    def authorized(self) -> bool:
        server = self.registry
        given = self.headers.get("Authorization", "")
        if server.bearer:
            repository = self.parts.path.split("/")[2]
            if repository in server.tokens.get(given.removeprefix("Bearer "), ""):
                return True
            realm = server.realm or f"http://{server.address}/token"
            self.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="test",scope="ignored"')
            return False
        if server.user and given != "Basic " + base64.b64encode(server.user.encode()).decode():
            self.reply(401, WWW_Authenticate='Basic realm="test"')
            return False
        return True

    def spec(self) -> None:
        server = self.registry
        what = re.fullmatch(r"/v2/(.+?)/(manifests|blobs|tags)/(.+)", self.parts.path)
        if what is None:
            self.reply(404)
            return
        _, kind, name = what.groups()
        if kind == "manifests":
            self.manifest(name)
        elif name.startswith("uploads/"):
            self.upload()
        elif name in server.blobs:
            data = server.blobs[name]
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if start:
                at = int(start[1])
                self.reply(206, data[at:], Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}")
            else:
                self.reply(200, data)
        else:
            self.reply(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')

    def manifest(self, name: str) -> None:
        server = self.registry
        if self.command == "PUT":
            digest = f"sha256:{hashlib.sha256(self.content).hexdigest()}"
            server.manifests[name] = server.manifests[digest] = (self.headers["Content-Type"], self.content)
            self.reply(201, Docker_Content_Digest=digest)
        elif name in server.manifests:
            media_type, data = server.manifests[name]
            self.reply(200, data, Content_Type=media_type)
        else:
            self.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')

    def upload(self) -> None:
        server = self.registry
        if self.command == "POST":
            if self.query.get("mount") in server.blobs and "from" in self.query:
                self.reply(201, Location=f"/v2/x/blobs/{self.query['mount']}")
            else:
                self.reply(202, Location="/v2/x/blobs/uploads/7?state=a%2Fb")
            return
        assert self.query["state"] == "a/b"
        place = "/v2/x/blobs/uploads/7?state=a%2Fb"
        if self.command == "PATCH":
            start = int(self.headers["Content-Range"].partition("-")[0])
            if start != len(server.pending):
                self.reply(416, Location=place, Range=f"0-{max(len(server.pending) - 1, 0)}")
                return
            server.pending += self.content
            self.reply(202, Location=place, Range=f"0-{len(server.pending) - 1}")
        elif self.command == "GET":
            self.reply(204, Location=place, Range=f"0-{max(len(server.pending) - 1, 0)}")
        else:
            content, server.pending = server.pending + self.content, b""
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != self.query["digest"]:
                self.reply(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            else:
                server.blobs[self.query["digest"]] = content
                self.reply(201, Location=f"/v2/x/blobs/{self.query['digest']}")
