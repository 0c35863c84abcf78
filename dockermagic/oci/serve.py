"""The store as a registry (distribution-spec): pull for everybody, push for who has the token.

A repository here is what a person would call it: ``busybox`` and ``library/busybox`` are both Docker Hub's. Only images
with a name are served. Clients get a bearer token first, as from any registry: one that lets them pull without a
password, one that lets them push with it.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

from dockermagic.errors import UsageError
from dockermagic.oci.blobs import BlobWriter
from dockermagic.oci.serve_requests import TOKEN_SECONDS, Handler, Refused, reference_of
from dockermagic.oci.store import Store
from dockermagic.values import dataclass, field

__all__ = ["StoreServer"]

_IDLE_SECONDS = 600
_MOST_CONNECTIONS = 128
_MOMENT = 0.2
_NEVER = -1.0


@dataclass
class _Upload:
    writer: BlobWriter
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Listening(ThreadingHTTPServer):
    """One thread for each connection, up to a bound: who comes then waits until another has gone."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler], tick: Callable[[], None]) -> None:
        self._tick = tick
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.Semaphore(_MOST_CONNECTIONS)
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        if not self._free.acquire(timeout=_MOMENT):  # the loop looks whether it shall end, and comes back
            raise BlockingIOError
        try:
            return super().get_request()
        except OSError:
            self._free.release()
            raise

    def shutdown_request(self, request: Any) -> None:
        self._free.release()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody who goes away in the middle of a request is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def service_actions(self) -> None:
        self._tick()


class StoreServer:
    """Serves a store from a thread until :meth:`close`. ``address`` is ``HOST:PORT``.

    ``token`` is the password for a push (any user name will do); '' lets nobody push. Raises UsageError where the
    address cannot be had.
    """

    def __init__(self, store: Store, host: str = "127.0.0.1", port: int = 0, *, token: str = "") -> None:
        self.store = store
        self._token = token
        self._pull_token = secrets.token_urlsafe(24)
        self._push_tokens: dict[str, float] = {}
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()
        self._lease = contextlib.ExitStack()
        self._uploaded = _NEVER
        self._served: tuple[int, dict[str, set[str]]] = (-1, {})
        server = self

        class Bound(Handler):
            registry = server

        host = host.removeprefix("[").removesuffix("]")
        shown = f"[{host}]" if ":" in host else host
        try:
            self._http = _Listening((host, port), Bound, self.tick)
        except OSError as error:
            raise UsageError(f"cannot listen at {shown}:{port}: {error.strerror}", hint="Try another --port.") from None
        self.address = f"{shown}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until somebody closes it; an interrupt passes."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """End it, and throw away what was not uploaded to its end. Idempotent."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            for upload in self._uploads.values():
                upload.writer.close()
            self._uploads.clear()
            self._lease.close()

    # -- who may what

    @property
    def is_read_only(self) -> bool:
        """Whether nobody may push."""
        return not self._token

    def new_token(self, authorization: str, wants_push: bool) -> str:
        """A bearer token; '' where the password is wrong. Where nobody may push there is none to be wrong."""
        may_push = False
        if authorization and not self.is_read_only:
            try:
                given = base64.b64decode(authorization.removeprefix("Basic "), validate=True).partition(b":")[2]
            except ValueError:
                return ""
            may_push = hmac.compare_digest(given, self._token.encode())
            if not may_push:
                return ""
        if not (may_push and wants_push):
            return self._pull_token
        now = time.monotonic()
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._push_tokens = {key: until for key, until in self._push_tokens.items() if until > now}
            self._push_tokens[token] = now + TOKEN_SECONDS
        return token

    def may(self, authorization: str, *, push: bool) -> bool:
        """Whether the bearer of this header may pull, or push."""
        token = authorization.removeprefix("Bearer ")
        with self._lock:
            may_push = self._push_tokens.get(token, _NEVER) > time.monotonic()
        return may_push or (not push and hmac.compare_digest(token.encode(), self._pull_token.encode()))

    # -- what there is

    def digests(self, repository: str) -> set[str]:
        """Every blob that a named image of the repository refers to."""
        generation = self.store.generation()
        with self._lock:
            if self._served[0] != generation:
                self._served = (generation, {})
            known = self._served[1].get(repository)
        if known is None:
            name = reference_of(repository).name
            roots = [found for reference, found in self.store.references().items() if reference.name == name]
            known = {each.digest for each in self.store.reachable(roots)}
            if roots:  # whoever asks can think of any number of names
                with self._lock:
                    self._served[1][repository] = known
        return known

    # -- uploads

    def begin(self) -> str:
        """A new upload; its id."""
        with self._lock:
            if self._uploaded == _NEVER:
                # What is uploaded is kept until a manifest speaks of it, or nothing more comes.
                self._lease.enter_context(self.store.lease())
            self._uploaded = time.monotonic()
            name = secrets.token_urlsafe(16)
            self._uploads[name] = _Upload(self.store.writer())
            return name

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[BlobWriter]:
        """The upload of that id, for one request at a time."""
        with self._lock:
            found = self._uploads.get(name)
        if found is None:
            raise Refused("BLOB_UPLOAD_UNKNOWN")
        with found.lock:
            found.used = time.monotonic()
            yield found.writer

    def end(self, name: str) -> None:
        """The upload is a blob now, or given up."""
        with self._lock:
            found = self._uploads.pop(name, None)
        if found is not None:
            found.writer.close()

    def tick(self) -> None:
        """Give up uploads that nothing comes for any more, and let go of what was kept for their manifests."""
        limit = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            idle = [name for name, upload in self._uploads.items() if upload.used < limit]
        for name in idle:
            self.end(name)
        with self._lock:
            if self._uploaded != _NEVER and not self._uploads and self._uploaded < limit:
                self._lease.close()
                self._uploaded = _NEVER
