"""What a Debian base image takes over from the host it is made on: apt sources and settings, and certificates.

A base image fetches packages where its host does: behind a mirror or a proxy nothing else would work. Only the entries
of the suite itself are taken over; third-party ones stay on the host. Reads files below a given root, writes nothing.
"""

from __future__ import annotations

import base64
import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dockermagic.values import dataclass, replace

__all__ = [
    "DEBIAN_KEYRING",
    "AptSource",
    "choose_sources",
    "host_apt_settings",
    "host_certificates",
    "host_codename",
    "host_pip_settings",
    "parse_apt_config",
    "read_apt_sources",
    "render_deb822",
]

DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_MOVING_NAMES = ("stable", "oldstable", "testing")
_POCKETS = ("", "-updates", "-security")
_NO_POCKETS = ("sid", "unstable")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One enabled ``deb`` entry: every URI serves every suite.

    ``signed_by`` is the path of a keyring or an embedded key, '' for the keyrings that apt trusts anyway.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    signed_by: str = ""
    trusted: bool = False

    @property
    def local(self) -> bool:
        """Whether a URI is a place on this machine, which a container does not see."""
        return any(uri.startswith(("file:", "copy:", "cdrom:", "mirror+file:")) for uri in self.uris)


def host_codename(root: Path = Path("/")) -> str:
    """``VERSION_CODENAME`` of the host's os-release when the host is a Debian, else ''."""
    try:
        text = (root / "etc/os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if fields.get("ID", "").strip("\"'") != "debian":
        return ""
    return fields.get("VERSION_CODENAME", "").strip("\"'")


def read_apt_sources(root: Path = Path("/")) -> list[AptSource]:
    """The enabled binary entries of sources.list and sources.list.d, in apt's order; unreadable files are left out."""
    directory = root / "etc/apt"
    found: list[AptSource] = []
    for path in [directory / "sources.list", *sorted(directory.glob("sources.list.d/*"))]:
        if path.suffix not in (".list", ".sources"):
            continue
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found += _parse_deb822(text) if path.suffix == ".sources" else _parse_lines(text)
    return found


def _parse_lines(text: str) -> Iterator[AptSource]:
    pattern = re.compile(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>(?:cdrom:\[[^]]*\])?\S+)\s+(?P<rest>.+)")
    for line in text.splitlines():
        match = pattern.match(line.split("#", 1)[0])
        if not match:
            continue
        suite, *components = match["rest"].split()
        options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
        yield AptSource(
            (match["uri"],),
            (suite,),
            tuple(components),
            options.get("signed-by", ""),
            options.get("trusted", "") == "yes",
        )


def _parse_deb822(text: str) -> Iterator[AptSource]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", without_comments):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        yield AptSource(
            tuple(fields.get("uris", "").split()),
            tuple(fields.get("suites", "").split()),
            tuple(fields.get("components", "").split()),
            fields.get("signed-by", ""),
            fields.get("trusted", "").lower() == "yes",
        )


def choose_sources(
    suite: str, sources: Iterable[AptSource], codename: str = ""
) -> tuple[list[AptSource], tuple[str, ...]]:
    """The entries for ``suite`` and notes that say where they come from.

    Entries of the suite itself win; else those of the host's own release ``codename`` with the suite put in its place
    (the same mirrors hold every release); else Debian's public mirrors.
    """
    usable = [source for source in sources if not source.local]
    for wanted in (suite, codename, *_MOVING_NAMES):
        chosen = [kept for source in usable if wanted and (kept := _renamed(source, wanted, suite))]
        if chosen:
            break
    else:
        return _public(suite), ("apt: this host has no Debian sources; deb.debian.org is used",)
    places = sorted({uri for source in chosen for uri in source.uris})
    notes = [f"apt: sources taken over from this host ({', '.join(places)})"]
    left_out = sorted({_host(uri) for source in usable for uri in source.uris} - {_host(uri) for uri in places})
    if left_out:
        notes.append(f"apt: left out, not part of Debian {suite}: {', '.join(left_out)}")
    return chosen, tuple(notes)


def _renamed(source: AptSource, wanted: str, suite: str) -> AptSource | None:
    pockets = ("",) if suite in _NO_POCKETS else _POCKETS
    suites = tuple(suite + pocket for pocket in pockets if wanted + pocket in source.suites)
    return replace(source, suites=suites) if suites else None


def _public(suite: str) -> list[AptSource]:
    if suite in _NO_POCKETS:
        return [AptSource(("http://deb.debian.org/debian",), (suite,), ("main",), DEBIAN_KEYRING)]
    return [
        AptSource(("http://deb.debian.org/debian",), (suite, f"{suite}-updates"), ("main",), DEBIAN_KEYRING),
        AptSource(("http://deb.debian.org/debian-security",), (f"{suite}-security",), ("main",), DEBIAN_KEYRING),
    ]


def _host(uri: str) -> str:
    return uri.split("://", 1)[-1].split("/", 1)[0]


def render_deb822(sources: Iterable[AptSource]) -> str:
    """The text of a ``.sources`` file."""
    stanzas = []
    for source in sources:
        lines = [
            "Types: deb",
            f"URIs: {' '.join(source.uris)}",
            f"Suites: {' '.join(source.suites)}",
            f"Components: {' '.join(source.components)}",
        ]
        if source.signed_by:
            lines.append(f"Signed-By: {source.signed_by}")
        if source.trusted:
            lines.append("Trusted: yes")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def parse_apt_config(dump: str) -> dict[str, str]:
    """``apt-config dump``'s lines as a dictionary."""
    settings = {}
    for line in dump.splitlines():
        words = shlex.split(line.removesuffix(";"), posix=True) if line.count('"') >= 2 else []
        if len(words) == 2:
            settings[words[0]] = words[1]
    return settings


_APT_SETTINGS = re.compile(
    r"Acquire::(?:(?:https?|ftp)::(?:Proxy|No-Proxy)(?:::.*)?|Check-Valid-Until|Check-Date|Retries)$"
)


def host_apt_settings() -> dict[str, str]:
    """The host's apt proxies and checks of dates, which an image on the same network needs too."""
    program = shutil.which("apt-config")
    if not program:
        return {}
    dump = subprocess.run([program, "dump"], capture_output=True, text=True, check=False).stdout
    return {name: value for name, value in parse_apt_config(dump).items() if value and _APT_SETTINGS.match(name)}


_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host")


def host_pip_settings(environment: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """The package index that this host's pip asks, as settings of a ``pip.conf``; empty where it is pypi.org.

    From ``PIP_INDEX_URL`` and its like, else ``/etc/pip.conf``. Left out is what an image must not or cannot use: an
    address with a password, or of this machine's files.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(root / "etc/pip.conf", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        parser = configparser.ConfigParser()
    found = {}
    for name in _PIP_SETTINGS:
        variable = f"PIP_{name.upper().replace('-', '_')}"
        words = environment.get(variable, parser.get("global", name, fallback="")).split()
        kept = [word for word in words if "@" not in word and not word.startswith("file:")]
        if kept:
            found[name] = " ".join(kept)
    return found


_BUNDLES = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


def host_certificates(host: Path = Path("/")) -> dict[str, bytes]:
    """Files for an image: the host's CA bundle, and one file for each certificate in it that Debian does not ship.

    Those single files live on when the image's own ca-certificates package writes the bundle anew.
    """
    bundle = next((host / name for name in _BUNDLES if (host / name).is_file()), None)
    if not bundle:
        return {}
    content = bundle.read_bytes()
    files = {"etc/ssl/certs/ca-certificates.crt": content}
    shipped: set[bytes] = set()
    for path in (host / "usr/share/ca-certificates").rglob("*.crt"):
        shipped |= _certificates(path.read_bytes()).keys()
    if not shipped:
        return files
    own = {body: pem for body, pem in _certificates(content).items() if body not in shipped}
    for number, pem in enumerate(own.values(), 1):
        files[f"usr/local/share/ca-certificates/host-{number}.crt"] = pem
    return files


def _certificates(content: bytes) -> dict[bytes, bytes]:
    found = {}
    for match in _PEM.finditer(content):
        with_newline = match[0] + b"\n"
        found[base64.b64decode(b"".join(match[1].split()))] = with_newline
    return found
