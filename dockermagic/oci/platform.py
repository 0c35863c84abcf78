"""What an image runs on: operating system, architecture and variant, under Go's names."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from dockermagic.errors import UsageError
from dockermagic.oci.document import STRINGS, TEXT, Document, member
from dockermagic.values import dataclass, field

__all__ = ["Platform"]

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
}
_SYSTEMS = {"macos": "darwin", "win32": "windows"}
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


@dataclass(frozen=True, slots=True)
class Platform(Document):
    """``os`` and ``architecture`` under Go's names; ``variant`` is '' where there is none (image-index.md)."""

    os: str = field(default="", metadata=member("os", TEXT, keep=True))
    architecture: str = field(default="", metadata=member("architecture", TEXT, keep=True))
    variant: str = field(default="", metadata=member("variant", TEXT))
    os_version: str = field(default="", metadata=member("os.version", TEXT))
    os_features: tuple[str, ...] = field(default=(), metadata=member("os.features", STRINGS))
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``os/arch[/variant]``, an operating system or an architecture alone; raises UsageError."""
        words = text.strip().lower().split("/")
        if not 1 <= len(words) <= 3 or not all(re.fullmatch(_WORD, word) for word in words):
            raise UsageError(f"invalid platform {text!r}", hint="Write it as os/arch or os/arch/variant: linux/arm64.")
        here = cls.host()
        if len(words) == 1:
            if words[0] in ("linux", "darwin", "windows", "macos", "freebsd"):
                return cls(words[0], here.architecture, here.variant).normalized()
            return cls(here.os, words[0]).normalized()
        return cls(words[0], words[1], words[2] if len(words) == 3 else "").normalized()

    @classmethod
    def host(cls) -> Platform:
        """This machine, as images for it are named: Linux everywhere, since that is what a container sees."""
        system = "linux" if sys.platform in ("linux", "darwin", "win32") else sys.platform
        return cls(system, _machine().lower()).normalized()

    def normalized(self) -> Platform:
        """Under Go's names: aarch64 is arm64, x86_64 is amd64, armhf is arm/v7, arm64's v8 goes without saying."""
        architecture, implied = _ARCHITECTURES.get(self.architecture, (self.architecture, ""))
        variant = self.variant or implied
        if architecture == "arm64" and variant in ("v8", "8"):
            variant = ""
        if architecture == "arm":
            variant = f"v{variant}" if variant.isdigit() else variant or "v7"
        if architecture == "amd64" and variant == "v1":
            variant = ""
        system = _SYSTEMS.get(self.os, self.os)
        return Platform(system, architecture, variant, self.os_version, self.os_features, self.extra)

    def distance(self, wanted: Platform) -> int | None:
        """How far an image for this platform is from the wanted one: 0 is exact, None does not run there."""
        mine, theirs = self.normalized(), wanted.normalized()
        if mine.os != theirs.os:
            return None
        if mine.architecture != theirs.architecture:
            runs = (theirs.architecture, mine.architecture) in (("amd64", "386"), ("arm64", "arm"))
            return 100 if runs else None
        if mine.variant == theirs.variant:
            return 0
        if mine.architecture in ("arm", "amd64") and theirs.variant >= (mine.variant or "v1"):
            return 1 + _level(theirs.variant) - _level(mine.variant)
        return 50 if not mine.variant or not theirs.variant else None

    def __str__(self) -> str:
        return "/".join(word for word in (self.os, self.architecture, self.variant) if word)


def _machine() -> str:
    if hasattr(os, "uname"):  # what the module says, too, without the time that its import takes
        return os.uname().machine
    import platform

    return platform.machine()


def _level(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() else 1
