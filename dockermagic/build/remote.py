"""Files from HTTP: fetched once a build, checked while they stream, kept under their digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dockermagic.build.request import BuildRequest
from dockermagic.errors import BuildError, BuildInterruptedError, full_disk_error, is_full
from dockermagic.oci import lock
from dockermagic.sandbox.base import Cancel
from dockermagic.values import dataclass

__all__ = ["Download", "Downloads", "abandonable", "shown", "size_limit"]

_CONNECT_SECONDS = 30.0
_ASIDE = ".download-"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Download:
    """A fetched file: where it is kept, its ``sha256:`` digest, the name it gets and its time (nanoseconds, 0:
    unknown).
    """

    path: Path
    digest: str
    name: str
    mtime: int


def size_limit() -> int:
    """The most bytes that a fetched file may have, and that an archive may unpack to: ``$DOCKERMAGIC_ADD_LIMIT``."""
    text = os.environ.get("DOCKERMAGIC_ADD_LIMIT", "")
    return int(text) if text.isdigit() else 8 << 30


def file_name(url: str) -> str:
    """The last part of the URL's path, without query; ``__unnamed__`` where there is none."""
    return posixpath.basename(unquote(urlsplit(url).path).rstrip("/")) or "__unnamed__"


def abandonable(call: Callable[[], T], cancel: Cancel | None) -> T:
    """The result of ``call``, which runs in a thread; when ``cancel`` is set it is left to itself.

    For what waits for the network and cannot be woken. Raises :class:`BuildInterruptedError`.
    """
    answers: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def fail(error: BaseException) -> T:
        raise error

    def run() -> None:
        try:
            found = call()
        except BaseException as error:
            answers.put(partial(fail, error))
        else:
            answers.put(lambda: found)

    threading.Thread(target=run, name="dockermagic-network", daemon=True).start()
    interrupted = BuildInterruptedError("interrupted")
    leave = cancel.subscribe(lambda: answers.put(lambda: fail(interrupted))) if cancel is not None else None
    try:
        return answers.get()()
    finally:
        if leave is not None:
            leave()


class Downloads:
    """The files that one build fetches; the copies from earlier builds are asked for again (ETag, Last-Modified)."""

    def __init__(self, folder: Path, request: BuildRequest, cancel: Cancel | None = None) -> None:
        self.folder = folder
        self.request = request
        self.cancel = cancel
        self._known: dict[str, Download] = {}
        self._aside: Path | None = None
        self._lock = threading.Lock()

    def get(self, url: str, checksum: str = "") -> Download:
        """Fetch a file.

        Raises :class:`BuildError` for an answer other than 200, a wrong checksum, a connection that breaks off, or a
        file of more than ``$DOCKERMAGIC_ADD_LIMIT`` bytes; BuildInterruptedError. Limits of time: 30 s to connect, a
        minute without a byte, or with less than 60 kB.
        """
        with self._lock:
            if url not in self._known:
                self.folder.mkdir(parents=True, exist_ok=True)
                for left in self.folder.glob(f"{_ASIDE}*"):
                    lock.is_alive(left)  # what a killed process left is removed
                try:
                    self._known[url] = abandonable(lambda: self._fetch(url), self.cancel)
                finally:
                    # Also where the thread was left to itself.
                    if self._aside is not None:
                        with contextlib.suppress(OSError):
                            self._aside.unlink(missing_ok=True)
            found = self._known[url]
        if checksum and found.digest != checksum:
            raise BuildError(
                f"digest mismatch {found.digest}: {checksum}",
                hint="The file is not the one that --checksum names: it changed, or the checksum is wrong.",
            )
        return found

    def _fetch(self, url: str) -> Download:
        import urllib3

        from dockermagic.oci.connection import PATIENCE

        note = self.folder / (hashlib.sha256(url.encode()).hexdigest() + ".json")
        before = self._before(note)
        headers = _authorization(url, self.request)
        if before.get("etag"):
            headers["If-None-Match"] = before["etag"]
        elif before.get("modified"):
            headers["If-Modified-Since"] = before["modified"]
        name = file_name(url)
        try:
            timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=PATIENCE)
            pool = _pool(url, self.request)
            answer = pool.request("GET", url, headers=headers, preload_content=False, timeout=timeout)
            try:
                if answer.status == 304 and before:
                    return Download(self._place(before["digest"]), before["digest"], name, before["mtime"])
                if answer.status != 200:
                    raise BuildError(
                        f"failed to load {shown(url)}: invalid response status {answer.status}",
                        hint="Open the address in a browser to see what is wrong with it.",
                    )
                digest = self._keep(answer, url)
                modified, etag = answer.headers.get("Last-Modified", ""), answer.headers.get("ETag", "")
            finally:
                answer.close()
                pool.clear()
        except urllib3.exceptions.HTTPError as error:
            raise BuildError(
                f"failed to load {shown(url)}: {_plain(error)}", hint="Check the address and the network connection."
            ) from error
        mtime = _seconds(modified) * 1_000_000_000
        note.write_text(json.dumps({"digest": digest, "etag": etag, "modified": modified, "mtime": mtime}))
        return Download(self._place(digest), digest, name, mtime)

    def _place(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    def _before(self, note: Path) -> dict[str, Any]:
        """What the last answer said, if its file is still here."""
        try:
            before: dict[str, Any] = json.loads(note.read_text())
            return before if self._place(before["digest"]).exists() else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _keep(self, answer: Any, url: str) -> str:
        """The body as a file under its digest, which is returned."""
        total = hashlib.sha256()
        handle, aside = lock.new_file(self.folder, _ASIDE)
        self._aside = aside
        try:
            with open(handle, "wb", closefd=False) as file:
                for block in _blocks(answer, url):
                    if self.cancel is not None and self.cancel.is_set():
                        raise BuildInterruptedError("interrupted")
                    total.update(block)
                    file.write(block)
                file.flush()
                digest = f"sha256:{total.hexdigest()}"
                lock.publish(handle, aside, self._place(digest))  # while it is locked: else it might be swept before
        except BaseException as error:
            if isinstance(error, OSError) and is_full(error):
                raise full_disk_error(self.folder) from None
            raise
        finally:
            lock.discard(handle, aside)
        return digest


def shown(url: str) -> str:
    """The URL without a password, for messages."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url
    return parts._replace(netloc=f"{user.partition(':')[0]}:xxxxx@{host}" if ":" in user else parts.netloc).geturl()


def _blocks(answer: Any, url: str) -> Iterator[bytes]:
    """The body as it comes, within the limit of size."""
    limit = size_limit()
    size = 0
    while block := answer.read1(1 << 18, decode_content=False):
        size += len(block)
        if size > limit:
            raise BuildError(
                f"{shown(url)} is larger than {limit} bytes", hint="Raise $DOCKERMAGIC_ADD_LIMIT to allow it."
            )
        yield block
    expected = answer.headers.get("Content-Length", "")
    if expected.isdigit() and int(expected) != size:
        raise BuildError(
            f"failed to load {shown(url)}: the connection broke off after {size} of {expected} bytes", hint="Try again."
        )


def _pool(url: str, request: BuildRequest) -> Any:
    """Connections for this URL, with the certificates of the request."""
    import ssl

    import urllib3

    from dockermagic.oci.connection import open_pool

    retries = urllib3.Retry(
        total=None,  # else it would count redirects, too
        connect=3,
        read=3,
        redirect=10,
        status=3,
        other=0,
        status_forcelist=(429, 502, 503, 504),
        backoff_factor=0.2,
        raise_on_status=False,
    )
    options: dict[str, Any] = {"retries": retries}
    if request.ca is not None:
        options["ssl_context"] = ssl.create_default_context()
        options["ssl_context"].load_verify_locations(request.ca)
    return open_pool(url, **options)


def _authorization(url: str, request: BuildRequest) -> dict[str, str]:
    """The secrets HTTP_AUTH_HEADER_<host> and HTTP_AUTH_TOKEN_<host>, or what the URL itself says."""
    import urllib3

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    for name, form in ((f"HTTP_AUTH_HEADER_{host}", "{}"), (f"HTTP_AUTH_TOKEN_{host}", "Bearer {}")):
        secret = request.secrets.get(name)
        if secret is not None:
            return {"Authorization": form.format(secret.read().decode().strip())}
    return {**urllib3.make_headers(basic_auth=unquote(user))} if at else {}


def _seconds(modified: str) -> int:
    try:
        import email.utils

        return int(email.utils.parsedate_to_datetime(modified).timestamp())
    except (ValueError, TypeError):
        return 0


def _plain(error: Exception) -> str:
    import urllib3

    from dockermagic.oci.connection import cause

    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke off"
    slow = cause(error)
    return str(slow if isinstance(slow, TimeoutError) else getattr(error, "reason", None) or error)
