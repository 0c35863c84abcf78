"""Connections over HTTP: through the proxy of the environment, with the certificates of the host, and not for ever."""

from __future__ import annotations

import base64
import http.client
import io
import os
import ssl
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import urllib3

from dockermagic.errors import RegistryError
from dockermagic.oci.reference import is_loopback

__all__ = ["LEAST", "PATIENCE", "cause", "open_pool", "trusted"]

PATIENCE = 60.0
"""How many seconds a connection may be silent."""
LEAST = 60 << 10
"""How many bytes must come in that time once an answer has begun: 1 kB a second."""
_LARGEST_HEAD = 1 << 20
_clock = time.monotonic


class _Patient(io.RawIOBase):
    """What comes on a connection. Raises TimeoutError where next to nothing does.

    That there is a bound for each wait does not suffice: a server that sends a byte now and then, in its headers or
    anywhere, would keep us as long as it likes. Only the time in which somebody waits for it counts.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._has_begun = False
        self._waited, self._came = 0.0, 0
        self.head: int | None = 0  # its size so far; None when it is over

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, into: Any) -> int | None:
        begun = _clock()
        count: int = self._raw.readinto(into) or 0
        if self._has_begun:  # how long it thinks about its answer is the server's affair
            self._waited += _clock() - begun
        self._has_begun = True
        self._came += count
        if self._waited >= PATIENCE:
            if count and self._came < LEAST:
                raise TimeoutError(f"only {self._came} bytes came in {PATIENCE:.0f} seconds")
            self._waited, self._came = 0.0, 0
        if self.head is not None:
            self.head += count
            if self.head > _LARGEST_HEAD:
                raise http.client.HTTPException(f"headers of more than {_LARGEST_HEAD >> 20} MB")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patient = _Patient(self.fp.detach())
        self.fp = io.BufferedReader(self._patient)

    def begin(self) -> None:
        super().begin()
        self._patient.head = None


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _TLSConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def open_pool(url: str, **options: Any) -> urllib3.PoolManager:
    """Connections for requests like this one. The caller clears it; ``options`` are those of urllib3's pools."""
    proxy = _proxy(url)
    if proxy:
        try:
            user = urllib.parse.urlsplit(proxy).netloc.rpartition("@")[0]
            word = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
            sent = {"proxy-authorization": f"Basic {word}"} if user else None
            pool: urllib3.PoolManager = urllib3.ProxyManager(proxy, proxy_headers=sent, **options)
        except urllib3.exceptions.ProxySchemeUnknown:
            host, kind = urllib.parse.urlsplit(url).hostname, urllib.parse.urlsplit(proxy).scheme
            raise RegistryError(
                f"the proxy that the environment names for {host} speaks {kind}, which is not known here",
                hint="Set HTTPS_PROXY=http://HOST:PORT, or name the host in NO_PROXY to reach it without one.",
            ) from None
        except (urllib3.exceptions.LocationValueError, ValueError):  # whose words may hold the password
            raise RegistryError(
                "the proxy that the environment names is no URL",
                hint="http://NAME:PASSWORD@HOST:PORT; # in a password is written as %23, @ as %40 and so on.",
            ) from None
    else:
        pool = urllib3.PoolManager(**options)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return pool


def _proxy(url: str) -> str:
    """The proxy that the environment names for a URL, '' for none. This machine itself is asked without."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # with a name and password before it, no_proxy would not match
    if not parts.hostname or is_loopback(host) or urllib.request.proxy_bypass(host):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def trusted(host: str) -> ssl.SSLContext:
    """Which certificates of a host are believed, and ours for it, from where Docker and podman have them.

    Raises RegistryError for one that cannot be read.
    """
    context = ssl.create_default_context()
    home = os.path.expanduser("~/.config")  # as it is where nobody knows of a home
    for folder in ("/etc/docker", "/etc/containers", f"{home}/docker", f"{home}/containers"):
        try:
            names = sorted(os.listdir(f"{folder}/certs.d/{host}"))
        except OSError:  # there is none, or it is not for us
            continue
        for file in (Path(folder, "certs.d", host, name) for name in names):
            try:
                if file.suffix == ".crt":
                    context.load_verify_locations(file)
                elif file.suffix == ".cert":
                    context.load_cert_chain(file, file.with_suffix(".key"))
            except OSError as error:
                raise RegistryError(
                    f"{host}: the certificate {file} cannot be used: {error.strerror or error}",
                    hint="*.crt are certificates to believe, client.cert and client.key are shown to the registry.",
                ) from error
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and Path(bundle).is_file():
        context.load_verify_locations(bundle)
    return context


def cause(error: BaseException) -> BaseException:
    """What is behind an error of urllib3's."""
    while isinstance(error, urllib3.exceptions.HTTPError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__ or error
    return error
