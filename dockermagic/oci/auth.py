"""Who we are to a registry: the credentials that docker and podman keep, and the challenges that a registry sends.

Read are, in this order, ``$REGISTRY_AUTH_FILE``, podman's ``auth.json`` and docker's ``config.json`` with its helpers;
written is docker's. Passwords are in no error and no repr.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dockermagic.errors import RegistryError
from dockermagic.oci.reference import DEFAULT_REGISTRY
from dockermagic.values import dataclass, field
from dockermagic.wholefile import write_whole

__all__ = ["Challenge", "Credentials", "challenges", "find", "forget", "keep", "registry_name"]

_DOCKER_HUB = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
_HELPER_SECONDS = 30.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password, or an identity token in place of the password."""

    username: str
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way that a registry lets us in (RFC 9110, 11.3); ``scheme`` is in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header; what cannot be read is left out."""
    found: list[Challenge] = []
    pattern = re.compile(r'\s*,?\s*([\w!#$%&\'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?')
    at = 0
    while match := pattern.match(header, at):
        name, quoted, plain = match.groups()
        if quoted is None and plain is None:
            found.append(Challenge(name.lower(), {}))
        elif found:
            found[-1].parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = match.end()
    return found


def registry_name(server: str) -> str:
    """The registry that a person means with ``SERVER``: a name, a URL, or Docker Hub with ''. Raises RegistryError."""
    name = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if name in ("", "index.docker.io", "registry-1.docker.io"):
        return DEFAULT_REGISTRY
    if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?", name):
        raise RegistryError(f"{server!r:.200} is not a registry", hint="Write it as HOST or HOST:PORT.")
    return name


def find(registry: str) -> Credentials | None:
    """The credentials for a registry such as ``docker.io`` or ``localhost:5000``; None where there are none.

    Raises RegistryError for a file that cannot be read and a helper that fails.
    """
    for path in _files():
        config = _read(path)
        found = _from_config(config, registry)
        if found is not None:
            return found
    return None


def keep(registry: str, credentials: Credentials) -> str:
    """Store credentials as ``docker login`` does; returns where. Raises RegistryError."""
    path = _docker_config()
    config = _read(path)
    helper = _helper(config, registry)
    if helper:
        server = _server(registry)
        wanted = {"ServerURL": server, "Username": credentials.username, "Secret": credentials.password}
        _call_helper(helper, "store", json.dumps(wanted))
        return f"the helper {helper}"
    entry = {"auth": credentials.basic.removeprefix("Basic ")}
    _write(path, {**config, "auths": {**_auths(config), _server(registry): entry}})
    return str(path)


def forget(registry: str) -> bool:
    """Remove the credentials as ``docker logout`` does; False if there were none. Raises RegistryError."""
    path = _docker_config()
    config = _read(path)
    helper = _helper(config, registry)
    if helper:
        _call_helper(helper, "erase", _server(registry))
    auths = _auths(config)
    keys = [key for key in _keys(registry) if key in auths]
    if keys:
        _write(path, {**config, "auths": {key: auths[key] for key in auths if key not in keys}})
    return bool(keys or helper)


def _docker_config() -> Path:
    home = os.environ.get("DOCKER_CONFIG")
    return Path(home or os.path.expanduser("~/.docker")) / "config.json"


def _files() -> Iterator[Path]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        yield Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime) / "containers/auth.json"
    yield _docker_config()


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError) as error:
        raise RegistryError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise RegistryError(f"cannot read {path}: no JSON object")
    return config


def _write(path: Path, config: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, json.dumps(config, indent="\t").encode(), 0o600)
    except OSError as error:
        raise RegistryError(f"cannot write {path}: {error.strerror}") from error


def _server(registry: str) -> str:
    return _DOCKER_HUB if registry == DEFAULT_REGISTRY else registry


def _keys(registry: str) -> list[str]:
    """How tools have written a registry's name over the years."""
    names = [
        registry,
        f"https://{registry}",
        f"http://{registry}",
        f"https://{registry}/v1/",
        f"https://{registry}/v2/",
    ]
    if registry == DEFAULT_REGISTRY:
        return [_DOCKER_HUB, "https://index.docker.io/v1", "index.docker.io", "registry-1.docker.io", *names]
    return names


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    auths = config.get("auths")
    return auths if isinstance(auths, dict) else {}


def _helper(config: dict[str, Any], registry: str) -> str:
    helpers = config.get("credHelpers")
    for key in _keys(registry):
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return str(helpers[key])
    store = config.get("credsStore")
    return store if isinstance(store, str) else ""


def _from_config(config: dict[str, Any], registry: str) -> Credentials | None:
    helper = _helper(config, registry)
    if helper:
        for server in (_server(registry), registry):
            answer = _call_helper(helper, "get", server)
            if answer is not None:
                return _from_helper(answer, helper)
    auths = _auths(config)
    for key in _keys(registry):
        entry = auths.get(key)
        if isinstance(entry, dict):
            found = _from_entry(entry)
            if found is not None:
                return found
    return None


def _from_entry(entry: dict[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken") or ""
    username, password = entry.get("username") or "", entry.get("password") or ""
    try:
        text = base64.b64decode(entry.get("auth") or "", validate=False).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError):
        text = ""
    if ":" in text:
        username, _, password = text.rstrip("\0").partition(":")
    if not (username or token):
        return None
    return Credentials(str(username), str(password), str(token))


def _from_helper(answer: str, helper: str) -> Credentials:
    try:
        found = json.loads(answer)
        username, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"docker-credential-{helper} answered something else than credentials") from error
    return Credentials("", "", secret) if username == _TOKEN_USER else Credentials(username, secret)


def _call_helper(helper: str, verb: str, text: str) -> str | None:
    """What the helper answers; None where it has no credentials for the server."""
    if not _HELPER_NAME.fullmatch(helper):
        raise RegistryError(f"{helper!r} is not the name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text, capture_output=True, text=True, timeout=_HELPER_SECONDS)
    except OSError as error:  # PermissionError too: a directory of PATH that may not be read
        raise RegistryError(
            f"{program} is not installed", hint=f"docker's config.json names it; {_docker_config()} is where."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RegistryError(f"{program} did not answer within {_HELPER_SECONDS:.0f} seconds") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        if verb == "get" and ("not found" in said or "no credentials" in said.lower() or not said):
            return None
        raise RegistryError(f"{program} {verb} failed: {said[:300]}")
    return done.stdout
