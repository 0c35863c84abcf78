"""What FROM may name: is a text an image reference, is it a platform. Raises ValueError in BuildKit's words."""

from __future__ import annotations

import re

from dockermagic.dockerfile.text import quote
from dockermagic.values import dataclass

__all__ = ["Platform", "check_image_name", "parse_platform"]

_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_DOMAIN}/)?{_PATH}(?:/{_PATH})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    rf"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{{32,}})?\Z"
)
_HEX = re.compile(r"[a-f0-9]{64}\Z")
_LONGEST = 4096  # no reference is longer; the expression above need not look at more


def check_image_name(text: str) -> None:
    """Raises ValueError when the text cannot name an image."""
    if _HEX.match(text):
        raise ValueError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, slash, rest = text.partition("/")
    if not slash or not (set(domain) & set(".:") or domain == "localhost" or domain.lower() != domain):
        domain, rest = "docker.io", text
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    path = rest.partition(":")[0]
    if path.lower() != path:
        raise ValueError(f"invalid reference format: repository name ({path}) must be lowercase")
    if len(text) > _LONGEST or not _REFERENCE.match(f"{domain}/{rest}"):
        raise ValueError("invalid reference format")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a machine, in the words of the OCI."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


_PART = re.compile(r"[A-Za-z0-9_.-]+\Z")
_OPERATING_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
        "zos",
    ]
)
_MACHINES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}


def parse_platform(text: str, default: Platform | None = None) -> Platform:
    """``linux/arm64/v8``, ``arm64``, ``linux``; what is missing comes from ``default``, else linux/amd64."""
    here = default or Platform("linux", "amd64")
    if "*" in text:
        raise ValueError(f"{quote(text)}: wildcards not yet supported: invalid argument")
    parts = text.split("/", 3)
    for part in parts:
        name = part.partition("(")[0] if part is parts[0] else part
        if not _PART.match(name):
            raise ValueError(
                f"{quote(part)} is an invalid component of {quote(text)}: "
                'platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise ValueError(f"{quote(text)}: cannot parse platform specifier: invalid argument")
    os = parts[0].partition("(")[0].lower()
    os = "darwin" if os == "macos" else os
    if len(parts) == 1:
        if os in _OPERATING_SYSTEMS:
            return Platform(os, here.architecture, here.variant)
        architecture, variant = _machine(os, "")
        if architecture not in _KNOWN_MACHINES:
            raise ValueError(f"{quote(text)}: unknown operating system or architecture: invalid argument")
        return Platform(here.os, architecture, variant)
    return Platform(os, *_machine(parts[1].lower(), parts[2].lower() if len(parts) == 3 else ""))


_KNOWN_MACHINES = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)


def _machine(architecture: str, variant: str) -> tuple[str, str]:
    architecture, implied = _MACHINES.get(architecture, (architecture, ""))
    variant = implied or variant
    if architecture == "amd64" and variant == "v1":
        variant = ""
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    if architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return architecture, variant
