"""ADD of a URL: fetched once, checked while it streams, kept under its digest."""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import posixpath
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dockermagic.build.graph import RemoteFile
from dockermagic.build.request import BuildRequest
from dockermagic.errors import BuildError, BuildInterruptedError
from dockermagic.sandbox.base import Cancel

__all__ = ["Download", "fetch"]

CONNECT_SECONDS = 30.0
READ_SECONDS = 120.0
MAX_BYTES = int(os.environ.get("DOCKERMAGIC_ADD_LIMIT", str(8 << 30)))


@dataclass(frozen=True, slots=True)
class Download:
    """A fetched file: where it is kept, its ``sha256:`` digest, the name it gets and its time (nanoseconds, 0:
    unknown).
    """

    path: Path
    digest: str
    name: str
    mtime: int


_this_build: dict[tuple[int, str], Download] = {}


def file_name(url: str) -> str:
    """The last part of the URL's path, without query. Raises :class:`BuildError` when there is none."""
    return posixpath.basename(unquote(urlsplit(url).path))


def fetch(item: RemoteFile, folder: Path, request: BuildRequest, *, cancel: Cancel | None = None) -> Download:
    """Fetch the file, or find that the copy from last time is still good (ETag, Last-Modified).

    Raises :class:`BuildError` for an answer other than 200, a wrong checksum, a connection that breaks off, or a file
    of more than ``$DOCKERMAGIC_ADD_LIMIT`` bytes. Limits of time: 30 s to connect, 120 s without a byte.
    """
    known = _this_build.get((id(request), item.url))
    if known is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / (hashlib.sha256(item.url.encode()).hexdigest() + ".json")
    found = _fetch(item, folder, note, request, cancel)
    if item.checksum and found.digest != item.checksum:
        raise BuildError(
            f"digest mismatch {found.digest}: {item.checksum}",
            hint="The file is not the one that --checksum names: it changed, or the checksum is wrong.",
        )
    _this_build.clear()
    _this_build[id(request), item.url] = found
    return found


def _fetch(item: RemoteFile, folder: Path, note: Path, request: BuildRequest, cancel: Cancel | None) -> Download:
    import urllib3

    headers = _authorization(item.url, request)
    before: dict[str, Any] = {}
    try:
        before = json.loads(note.read_text())
    except (OSError, ValueError):
        pass
    if before and (folder / before["digest"].removeprefix("sha256:")).exists():
        if before.get("etag"):
            headers["If-None-Match"] = before["etag"]
        elif before.get("modified"):
            headers["If-Modified-Since"] = before["modified"]
    name = file_name(item.url)
    try:
        pool = _pool(item.url)
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        answer = pool.request("GET", item.url, headers=headers, preload_content=False, timeout=timeout)
        try:
            if answer.status == 304:
                path = folder / before["digest"].removeprefix("sha256:")
                return Download(path, before["digest"], name, before["mtime"])
            if answer.status != 200:
                raise BuildError(
                    f"failed to load {item.url}: invalid response status {answer.status}",
                    hint="Open the address in a browser to see what is wrong with it.",
                )
            path, digest = _stream(answer, item.url, folder, cancel)
            modified = answer.headers.get("Last-Modified", "")
            etag = answer.headers.get("ETag", "")
        finally:
            answer.release_conn()
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise BuildError(
            f"failed to load {item.url}: {_plain(error)}", hint="Check the address and the network connection."
        ) from error
    mtime = _seconds(modified) * 1_000_000_000
    note.write_text(json.dumps({"digest": digest, "etag": etag, "modified": modified, "mtime": mtime}))
    return Download(path, digest, name, mtime)


def _pool(url: str) -> Any:
    """A pool for this URL, through the proxy of the environment, with the machine's certificates."""
    import urllib.request

    import urllib3

    parts = urlsplit(url)
    proxy = None
    if not urllib.request.proxy_bypass(parts.hostname or ""):
        proxy = urllib.request.getproxies().get(parts.scheme)
    retries = urllib3.Retry(
        3, redirect=10, status_forcelist=(429, 502, 503, 504), backoff_factor=0.2, raise_on_status=False
    )
    options: dict[str, Any] = {"retries": retries}
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _authorization(url: str, request: BuildRequest) -> dict[str, str]:
    """The secrets HTTP_AUTH_HEADER_<host> and HTTP_AUTH_TOKEN_<host>."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    for name, form in ((f"HTTP_AUTH_HEADER_{host}", "{}"), (f"HTTP_AUTH_TOKEN_{host}", "Bearer {}")):
        secret = request.secrets.get(name)
        if secret is not None:
            return {"Authorization": form.format(secret.read().decode().strip())}
    return {}


def _stream(answer: Any, url: str, folder: Path, cancel: Cancel | None) -> tuple[Path, str]:
    total = hashlib.sha256()
    size = 0
    handle, aside = tempfile.mkstemp(dir=folder, prefix=".download-")
    try:
        with open(handle, "wb") as file:
            for block in answer.stream(1 << 18, decode_content=False):
                size += len(block)
                if size > MAX_BYTES:
                    raise BuildError(
                        f"{url} is larger than {MAX_BYTES} bytes", hint="Raise $DOCKERMAGIC_ADD_LIMIT to allow it."
                    )
                if cancel is not None and cancel.is_set():
                    raise BuildInterruptedError("interrupted")
                total.update(block)
                file.write(block)
        digest = total.hexdigest()
        path = folder / digest
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path, f"sha256:{digest}"


def _seconds(modified: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(modified).timestamp())
    except (ValueError, TypeError):
        return 0


def _plain(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error)
