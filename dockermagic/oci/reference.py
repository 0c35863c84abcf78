"""Image names: ``[registry/]repository[:tag][@digest]`` and the rules by which short ones are completed."""

from __future__ import annotations

import re

from dockermagic.errors import InvalidReferenceError
from dockermagic.values import dataclass, replace

__all__ = ["DEFAULT_REGISTRY", "DEFAULT_TAG", "Reference", "is_digest", "is_loopback"]

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_KNOWN_DIGESTS = {"sha256": r"[0-9a-f]{64}", "sha512": r"[0-9a-f]{128}"}
_LONGEST_NAME = 255


def is_digest(text: str) -> bool:
    """Whether the text is a whole digest, such as ``sha256:`` and 64 hex digits."""
    if not re.fullmatch(_DIGEST, text):
        return False
    algorithm, _, encoded = text.partition(":")
    known = _KNOWN_DIGESTS.get(algorithm)
    return known is None or re.fullmatch(known, encoded) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete image name. ``tag`` and ``digest`` are '' where absent; never both are.

    With a digest the tag is only a remark: the digest alone says which image it is.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Complete a name as a person writes it; raises InvalidReferenceError.

        ``busybox`` becomes ``docker.io/library/busybox:latest``. The first component is a registry if it has a dot,
        a colon or a capital letter, or is ``localhost``.
        """
        name, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _invalid(text, f"{digest!r} is not a digest")
        head, slash, rest = name.partition("/")
        if slash and (any(sign in head for sign in ".:") or head == "localhost" or head != head.lower()):
            registry, path = head, rest
        else:
            registry, path = DEFAULT_REGISTRY, name
        path, colon, tag = path.partition(":")
        if colon and not re.fullmatch(_TAG, tag):
            raise _invalid(text, f"{tag!r} is not a tag (letters, digits, '_', '.' and '-', at most 128)")
        if not re.fullmatch(_REGISTRY, registry):
            raise _invalid(text, f"{registry!r} is not a registry")
        if not re.fullmatch(_REPOSITORY, path):
            if re.fullmatch(_REPOSITORY, path.lower()):
                raise _invalid(text, "the repository name must be in lower case", hint=f"Try {text.lower()!r}.")
            raise _invalid(text, f"{path!r} is not a repository name" if path else "the repository name is empty")
        if re.fullmatch(r"[0-9a-f]{64}", name):
            raise _invalid(text, "64 hex digits are the id of an image, not a name")
        if registry == "index.docker.io":
            registry = DEFAULT_REGISTRY
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = _OFFICIAL + path
        if len(registry) + 1 + len(path) > _LONGEST_NAME:
            raise _invalid(text, f"the name is longer than {_LONGEST_NAME} characters")
        return cls(registry, path, tag or ("" if digest else DEFAULT_TAG), digest)

    @property
    def name(self) -> str:
        """Registry and repository, such as ``docker.io/library/busybox``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name without what :meth:`parse` would add, such as ``busybox``."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        rest = self.repository.removeprefix(_OFFICIAL)
        return self.repository if "/" in rest else rest

    def familiar(self) -> str:
        """The shortest form that means the same, always with its tag or digest: ``busybox:latest``."""
        return self.familiar_name + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag, without a digest."""
        return replace(self, tag=tag, digest="")

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _invalid(text: str, why: str, *, hint: str = "") -> InvalidReferenceError:
    return InvalidReferenceError(f"invalid image name {text!r}: {why}", hint=hint)


def is_loopback(host: str) -> bool:
    """Whether a registry's name means this machine, so that plain HTTP will do."""
    import ipaddress
    import urllib.parse

    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
