"""Requests to one registry: tries again, follows redirects, and answers challenges (distribution-spec, token auth).

Credentials go to the registry and to the token server that it names, and nowhere else: not to the host of a redirect,
and not in the clear to another machine.
"""

from __future__ import annotations

import contextlib
import json
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Mapping
from email.utils import parsedate_to_datetime

import urllib3

from dockermagic.errors import RegistryError
from dockermagic.oci import auth
from dockermagic.oci.connection import PATIENCE, cause, open_pool, trusted
from dockermagic.oci.reference import DEFAULT_REGISTRY, is_loopback

__all__ = ["TRY_AGAIN", "Answer", "BrokenOff", "Transport", "discard", "reason"]

Answer = urllib3.BaseHTTPResponse

_TRIES = 5
_REDIRECTS = 5
_LONGEST_WAIT = 60.0
TRY_AGAIN = (429, 500, 502, 503, 504)
_LARGEST_ERROR = 16 << 10
_LARGEST_TOKEN = 1 << 20
_TIMEOUT = urllib3.Timeout(connect=20.0, read=PATIENCE)
_BLOCK = 1 << 20


class BrokenOff(RegistryError):
    """No answer came: the connection could not be made, or broke."""


class Transport:
    """HTTP to a registry. Thread-safe.

    ``address`` is ``host[:port]`` or a whole ``http://`` or ``https://`` URL; ``credentials`` is asked once, when the
    registry wants to know.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: Callable[[], auth.Credentials | None] = lambda: None,
        insecure: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if "://" not in address:
            host = "registry-1.docker.io" if address == DEFAULT_REGISTRY else address
            address = f"{'http' if insecure or is_loopback(host) else 'https'}://{host}"
        self.base = address.rstrip("/")
        self._host = urllib.parse.urlsplit(self.base).netloc
        self._find = credentials
        self._sleep = sleep
        self._has_answered = False
        self._known: list[auth.Credentials | None] = []
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | bytes | None = None,
        allow: Iterable[int] = (200,),
        tries: int = _TRIES,
        what: str,
    ) -> Answer:
        """Send a request, as often as it takes; the answer's body is not read yet, the caller does or closes it.

        ``path`` may be a whole URL. ``body`` as a function is called for each try. Raises RegistryError for a status
        that is not in ``allow``, BrokenOff where no answer came; ``what`` says in it what was wanted. A challenge does
        not count as a try.
        """
        url = urllib.parse.urljoin(f"{self.base}/", path)
        allowed = set(allow)
        challenged = False
        number = 0
        for _ in range(tries + 1):
            number += 1
            before = self._token(scope)
            try:
                answer = self._follow(method, url, scope, dict(headers or {}), body)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if _is_final(error, self._has_answered) or number >= tries:
                    raise BrokenOff(f"{what}: {reason(error)}", hint=_hint(error)) from error
                self.wait(number, "")
                continue
            self._has_answered = True
            if answer.status in allowed:
                return answer
            if answer.status == 401 and not challenged:
                challenged = True
                number -= 1
                header = answer.headers.get("WWW-Authenticate", "")
                discard(answer)
                if self._authorize(header, scope, before, what):
                    continue
                raise self._refused(answer, what, "")
            said = self._said(answer)
            if answer.status in TRY_AGAIN and number < tries:
                self.wait(number, answer.headers.get("Retry-After", ""))
                continue
            raise self._refused(answer, what, said)
        raise RegistryError(f"{what}: it does not stop asking who we are")

    def check(self, what: str) -> None:
        """Ask the registry whether it is one, and whether it lets us in. Raises RegistryError."""
        discard(self.request("GET", "/v2/", scope="", what=what))

    def blocks(self, answer: Answer) -> Generator[bytes, None, None]:
        """The bytes of an answer as they come; it is closed in the end."""
        try:
            while block := answer.read1(_BLOCK):
                yield block
        finally:
            discard(answer)

    def content(self, answer: Answer, limit: int) -> bytes:
        """The first ``limit`` bytes of an answer, which is closed."""
        found = bytearray()
        with contextlib.closing(self.blocks(answer)) as blocks:
            for block in blocks:
                found += block
                if len(found) >= limit:
                    break
        return bytes(found[:limit])

    def close(self) -> None:
        """Close the connections. Idempotent."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    # -- one try

    def _follow(
        self,
        method: str,
        url: str,
        scope: str,
        headers: dict[str, str],
        body: Callable[[], Iterable[bytes]] | bytes | None,
    ) -> Answer:
        for _ in range(_REDIRECTS + 1):
            parts = urllib.parse.urlsplit(url)
            sent = dict(headers)
            if parts.netloc == self._host and (token := self._token(scope)):
                sent["Authorization"] = token
            content = body() if callable(body) else body
            answer = self._pool(url).request(
                method, url, headers=sent, body=content, redirect=False, retries=False, preload_content=False,
                decode_content=False, timeout=_TIMEOUT,
            )  # fmt: skip
            target = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            discard(answer)
            following = urllib.parse.urljoin(url, target)
            if parts.scheme == "https" and not following.startswith("https://"):
                raise RegistryError(f"{self._host} sends us from https to {following.partition('?')[0]}")
            url = following
        raise RegistryError(f"{self._host} sends us in a circle")

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urllib.parse.urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if key not in self._pools:
                context = trusted(parts.netloc) if parts.scheme == "https" else None
                self._pools[key] = open_pool(url, maxsize=8, block=False, ssl_context=context)
            return self._pools[key]

    # -- who we are

    def _token(self, scope: str) -> str:
        with self._lock:
            return self._tokens.get(scope) or self._tokens.get("*", "")

    def credentials(self) -> auth.Credentials | None:
        """The credentials for this registry, looked up once."""
        with self._lock:
            if not self._known:
                self._known.append(self._find())
            return self._known[0]

    def _authorize(self, header: str, scope: str, before: str, what: str) -> bool:
        """Get what the challenge asks for; False if all we have to say was said ``before``."""
        found = {challenge.scheme: challenge.parameters for challenge in auth.challenges(header)}
        credentials = self.credentials()
        if "bearer" in found and found["bearer"].get("realm"):
            token = self._fetch_token(found["bearer"], scope, credentials, what)
            with self._lock:
                self._tokens[scope] = f"Bearer {token}"
            return True
        if "basic" in found and credentials is not None and credentials.username:
            self._not_in_the_clear(self.base)
            with self._lock:
                self._tokens["*"] = credentials.basic
            return before != credentials.basic
        return False

    def _fetch_token(
        self, parameters: Mapping[str, str], scope: str, credentials: auth.Credentials | None, what: str
    ) -> str:
        realm = parameters["realm"]
        wanted = [("service", parameters.get("service", "")), *(("scope", each) for each in scope.split(" ") if each)]
        query = urllib.parse.urlencode([pair for pair in wanted if pair[1]])
        headers: dict[str, str] = {}
        if not realm.startswith(("http://", "https://")):
            raise RegistryError(f"{what}: the registry names a strange token server: {realm[:100]!r}")
        if credentials is not None:
            self._not_in_the_clear(realm)
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "dockermagic",
                **dict(wanted[:1]),
                "scope": scope,
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._ask(realm, "POST", headers, urllib.parse.urlencode(form).encode(), what)
        else:
            if credentials is not None:
                headers["Authorization"] = credentials.basic
            answer = self._ask(f"{realm}{'&' if '?' in realm else '?'}{query}", "GET", headers, None, what)
        try:
            found = json.loads(answer)
            token = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError) as error:
            raise RegistryError(f"{what}: the token server answered something else than a token") from error
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError(f"{what}: the token server gave no token")
        return token

    def _ask(self, url: str, method: str, headers: dict[str, str], body: bytes | None, what: str) -> bytes:
        for number in range(1, _TRIES + 1):
            try:
                answer = self._pool(url).request(
                    method, url, headers=headers, body=body, redirect=False, retries=False, preload_content=False,
                    timeout=_TIMEOUT,
                )  # fmt: skip
                content = self.content(answer, _LARGEST_TOKEN)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if _is_final(error) or number == _TRIES:
                    raise RegistryError(f"{what}: token server: {reason(error)}", hint=_hint(error)) from error
                self.wait(number, "")
                continue
            if answer.status == 200:
                return content
            if answer.status not in TRY_AGAIN or number == _TRIES:
                raise self._refused(answer, what, _message(content))
            self.wait(number, answer.headers.get("Retry-After", ""))
        raise AssertionError("unreachable")

    def _not_in_the_clear(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" and not is_loopback(parts.netloc) and parts.netloc != self._host:
            raise RegistryError(f"the password for {self._host} is not sent in the clear to {parts.netloc}")

    # -- answers that are none

    def wait(self, number: int, retry_after: str = "") -> None:
        """Wait before the next try, longer after each one, or as long as the registry asks for."""
        seconds = min(2.0 ** (number - 1), 16.0) * (0.5 + random.random() / 2)
        self._sleep(min(_asked_for(retry_after, seconds), _LONGEST_WAIT))

    def _said(self, answer: Answer) -> str:
        try:
            return _message(self.content(answer, _LARGEST_ERROR))
        except (urllib3.exceptions.HTTPError, OSError):
            return ""

    def _refused(self, answer: Answer, what: str, said: str) -> RegistryError:
        known = answer.status in (401, 403) and self.credentials() is not None
        reason = {
            401: f"the registry {'does not take the login' if known else 'wants to know who we are'}",
            403: "access is denied",
            404: "not found",
            407: "the proxy wants to know who we are",
            413: "the registry says that it is too large",
            429: "the registry says that we ask too often",
        }.get(answer.status, f"the registry answered {answer.status}")
        hint = ""
        if answer.status in (401, 403):
            hint = f"Log in first: dockermagic login {self._host}" if not known else "Check the login."
        elif answer.status == 407:
            hint = "HTTP_PROXY takes a name and a password: http://NAME:PASSWORD@HOST:PORT."
        return RegistryError(f"{what}: {reason}" + (f" ({said})" if said else ""), hint=hint)


def _asked_for(retry_after: str, otherwise: float) -> float:
    """The seconds that a Retry-After header asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError):
        return otherwise


def _is_final(error: Exception, has_answered: bool = False) -> bool:
    """Whether trying again is of no use. A registry that has answered before may be starting again."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, (ssl.SSLCertVerificationError, urllib3.exceptions.LocationValueError)):
            return True
        if _speaks_plainly(behind):
            return True
        if isinstance(behind, (urllib3.exceptions.NameResolutionError, ConnectionRefusedError)) and not has_answered:
            return True
        if str(behind).startswith("Tunnel connection failed: 4"):  # so says http.client where a proxy refuses
            return True
        behind = behind.__cause__ or behind.__context__
    return False


def reason(error: Exception) -> str:
    """Why nothing came, in a few words."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the name of its host cannot be resolved"
    found = cause(error)
    if _speaks_plainly(found):
        return "the server speaks HTTP, not HTTPS"
    text = (found.strerror if isinstance(found, OSError) else "") or str(found) or type(found).__name__
    return f"the proxy: {text}" if isinstance(error, urllib3.exceptions.ProxyError) else text


def _speaks_plainly(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def _hint(error: Exception) -> str:
    if _speaks_plainly(cause(error)):
        return 'If that is as it should be, say so in the config file: [registries] insecure = ["HOST:PORT"].'
    if isinstance(error, urllib3.exceptions.SSLError):
        return (
            "A registry with a certificate of its own: put its CA in /etc/docker/certs.d/HOST/ca.crt, in your own"
            " ~/.config/docker/certs.d/HOST/ca.crt, or name it in $SSL_CERT_FILE."
        )
    if isinstance(error, urllib3.exceptions.ProxyError):
        return "HTTPS_PROXY or HTTP_PROXY names the proxy, and NO_PROXY the hosts that are asked without it."
    if isinstance(cause(error), ConnectionRefusedError):
        return "No registry listens there. Is its address right? 'dockermagic registry' serves one on this machine."
    return "Is the network there? Behind a proxy set HTTPS_PROXY."


def discard(answer: Answer) -> None:
    """Be done with an answer. Its connection is kept for the next request where all has been said on it.

    An error may come before the request was sent as a whole: after one the connection is closed.
    """
    if answer.length_remaining == 0 and answer.status < 300:
        answer.drain_conn()  # reads nothing, which is how it learns of the end
    else:
        answer.close()
    answer.release_conn()


def _message(content: bytes) -> str:
    """The registry's own words (distribution-spec, error codes), in one printable line."""
    try:
        errors = json.loads(content)["errors"]
        text = "; ".join(str(item.get("message") or item.get("code")) for item in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]
