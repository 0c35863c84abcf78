"""A token server as the distribution's token specification has it, for Debian's registry: signed with openssl."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class TokenServer:
    """Gives tokens for all that is asked to whoever knows the password. ``configuration`` is the registry's part."""

    def __init__(self, directory: Path, user: str, password: str) -> None:
        self.key, certificate = directory / "key.pem", directory / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
             "-keyout", self.key, "-out", certificate], check=True, capture_output=True,
        )  # fmt: skip
        lines = certificate.read_text().splitlines()
        self.certificate = "".join(line for line in lines if not line.startswith("-"))
        basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: Any) -> None:
                pass

            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                if self.headers.get("Authorization") != basic:
                    self.send_error(401)
                    return
                body = json.dumps({"token": server.token(query.get("scope", []))}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        realm = f"http://127.0.0.1:{self.http.server_address[1]}/token"
        self.configuration = (
            f"auth: {{token: {{realm: {realm!r}, service: here, issuer: test, rootcertbundle: {certificate}}}}}"
        )

    def token(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "test", "sub": "s", "aud": "here", "exp": now + 300, "nbf": now - 60, "iat": now, "jti": "1"}
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]}
        text = ".".join(_url64(json.dumps(part).encode()) for part in (head, {**claims, "access": access}))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True, capture_output=True
        )
        return f"{text}.{_url64(signed.stdout)}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
