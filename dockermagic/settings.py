"""The config file: what a machine's administrator and a user have decided once, for every command.

``/etc/dockermagic/config.toml`` first, then ``$DOCKERMAGIC_CONFIG`` or ``$XDG_CONFIG_HOME/dockermagic/config.toml``.
The user's mirrors are asked before the machine's; of two sizes the smaller one counts, so that a bound that an
administrator has set holds::

    [registries]
    insecure = ["registry.lab:5000"]          # plain HTTP will do, as it does on loopback

    [registries.mirrors]
    "docker.io" = ["http://127.0.0.1:5000"]

    [store]
    keep = "20GB"                             # a build that leaves more takes away what was not used for longest
    shared = "/srv/dockermagic"               # a read-only store below each user's own

    [limits]
    layer = "100GB"                           # what one layer may unpack to (1 TB)

    [sandbox]
    use = "proot"                             # instead of the best that 'dockermagic info' finds
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockermagic.errors import UsageError
from dockermagic.values import dataclass, field, replace

__all__ = ["Settings", "config_files", "parse_size", "settings"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_KNOWN: dict[str, tuple[str, ...]] = {
    "registries": ("insecure", "mirrors"),
    "store": ("keep", "shared"),
    "limits": ("layer",),
    "sandbox": ("use",),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config files and the environment say. Sizes in bytes, None where there is no bound.

    ``mirrors`` has for a registry the addresses to ask before it, in order; ``shared`` is the home of a store that is
    only read.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    insecure: frozenset[str] = frozenset()
    keep: int | None = None
    shared: Path | None = None
    layer_limit: int = 1 << 40
    sandbox: str = ""


def parse_size(text: str) -> int:
    """``64m`` or ``1.5GB`` in bytes, units of 1024 as Docker's options have them; raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", text.strip().lower())
    if not match:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2]])


def config_files() -> tuple[Path, ...]:
    """Where the settings are looked for, the machine's first."""
    own = os.environ.get("DOCKERMAGIC_CONFIG")
    if not own:
        base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        own = os.path.expanduser(f"{base}/dockermagic/config.toml")
    return Path("/etc/dockermagic/config.toml"), Path(own)


def settings() -> Settings:
    """The settings as they stand now: ``$DOCKERMAGIC_MIRRORS`` and ``$DOCKERMAGIC_SHARED_STORE`` come before the files.

    Raises UsageError for a file or a variable that cannot be understood; warns, once, of a file that may not be read.
    """
    found = Settings()
    for path in config_files():
        found = _merged(found, path)
    return _with_environment(found)


def _merged(below: Settings, path: Path) -> Settings:
    document = _document(path)
    registries, store, limits, sandbox = (document.get(name, {}) for name in _KNOWN)
    mirrors = dict(below.mirrors)
    for name, addresses in _table(registries, "mirrors", path).items():
        mirrors[name] = (*_words(addresses, f"mirrors of {name}", path), *mirrors.get(name, ()))
    shared = _text(store, "shared", path)
    return Settings(
        mirrors,
        below.insecure | set(_words(registries.get("insecure", []), "insecure", path)),
        _smaller(below.keep, _size(store, "keep", path)),
        Path(shared).expanduser() if shared else below.shared,
        _smaller(below.layer_limit, _size(limits, "layer", path)) or below.layer_limit,
        _text(sandbox, "use", path) or below.sandbox,
    )


def _document(path: Path) -> dict[str, dict[str, Any]]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        if os.path.lexists(path):  # else it is in a directory that is not ours: a home taken over with $HOME
            warnings.warn(f"{path} may not be read: nothing of it counts", stacklevel=1)
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    import tomllib

    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    for name, table in document.items():
        if name not in _KNOWN or not isinstance(table, dict):
            raise UsageError(f"{path}: there is no table [{name}]", hint=f"There are: {', '.join(_KNOWN)}.")
        for key in table:
            if key not in _KNOWN[name]:
                raise UsageError(f"{path}: [{name}] has no key {key}", hint=f"It has: {', '.join(_KNOWN[name])}.")
    return document


def _table(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {name} is not a table")
    return found


def _words(found: object, name: str, path: Path) -> list[str]:
    words = [found] if isinstance(found, str) else found
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{path}: {name} is not a list of strings")
    return words


def _text(document: Mapping[str, Any], name: str, path: Path) -> str:
    found = document.get(name, "")
    if not isinstance(found, str):
        raise UsageError(f"{path}: {name} is not a string")
    return found


def _size(document: Mapping[str, Any], name: str, path: Path) -> int | None:
    if name not in document:
        return None
    try:
        return parse_size(str(document[name]))
    except ValueError as error:
        raise UsageError(f"{path}: {name}: {error}", hint='Write it like "20GB".') from None


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((size for size in (one, other) if size is not None), default=None)


def _with_environment(found: Settings) -> Settings:
    mirrors, named = dict(found.mirrors), dict[str, tuple[str, ...]]()
    for item in os.environ.get("DOCKERMAGIC_MIRRORS", "").split(","):
        name, equals, address = item.strip().partition("=")
        if item.strip() and not (equals and address):
            raise UsageError(f"$DOCKERMAGIC_MIRRORS: {item.strip()!r} is not REGISTRY=URL")
        if equals:
            named[name] = (*named.get(name, ()), address)
    for name, addresses in named.items():
        mirrors[name] = (*addresses, *mirrors.get(name, ()))
    shared = os.environ.get("DOCKERMAGIC_SHARED_STORE", "")
    return replace(found, mirrors=mirrors, shared=Path(shared) if shared else found.shared)
