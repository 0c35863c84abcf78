"""What a Debian base takes over from its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockermagic.hostfacts import (
    DEBIAN_KEYRING,
    AptSource,
    choose_sources,
    host_certificates,
    host_codename,
    parse_apt_config,
    read_apt_sources,
    render_deb822,
)

DEB822 = f"""\
# the distribution
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
 contrib
Signed-By: {DEBIAN_KEYRING}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/
Suites: bookworm
Components: main
"""
LINES = """\
deb http://old.example/debian bookworm main non-free # trailing
#deb http://commented.example/debian bookworm main
deb-src http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://packages.example/apt stable main
deb cdrom:[Debian 12 disc]/ bookworm main
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    apt = tmp_path / "etc/apt/sources.list.d"
    apt.mkdir(parents=True)
    (apt / "debian.sources").write_text(DEB822)
    (apt / "other.list").write_text(LINES)
    (apt / "other.list.save").write_text("deb http://saved.example/ bookworm main\n")
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return tmp_path


def test_both_formats_are_read(host: Path) -> None:
    """Disabled entries, source entries and files that apt ignores are left out."""
    uris = [source.uris[0] for source in read_apt_sources(host)]

    assert uris == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
        "http://old.example/debian",
        "https://packages.example/apt",
        "cdrom:[Debian 12 disc]/",
    ]


def test_the_hosts_own_suite_keeps_its_entries(host: Path) -> None:
    chosen, notes = choose_sources("bookworm", read_apt_sources(host), host_codename(host))

    assert chosen == [
        AptSource(
            ("http://mirror.example/debian",), ("bookworm", "bookworm-updates"), ("main", "contrib"), DEBIAN_KEYRING
        ),
        AptSource(("http://mirror.example/debian-security",), ("bookworm-security",)),
        AptSource(("http://old.example/debian",), ("bookworm",), ("main", "non-free")),
    ]
    assert "mirror.example" in notes[0]
    assert "packages.example" in notes[1]


@pytest.mark.parametrize(
    ("suite", "suites"),
    [
        ("trixie", [("trixie", "trixie-updates"), ("trixie-security",), ("trixie",)]),
        ("sid", [("sid",), ("sid",)]),
    ],
)
def test_another_suite_comes_from_the_same_mirrors(host: Path, suite: str, suites: list[tuple[str, ...]]) -> None:
    chosen, _ = choose_sources(suite, read_apt_sources(host), "bookworm")

    assert [source.suites for source in chosen] == suites


def test_a_host_that_is_no_debian_uses_the_public_mirrors(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=fedora\nVERSION_CODENAME=\n")

    chosen, notes = choose_sources("bookworm", read_apt_sources(tmp_path), host_codename(tmp_path))

    assert {uri for source in chosen for uri in source.uris} == {
        "http://deb.debian.org/debian",
        "http://deb.debian.org/debian-security",
    }
    assert "deb.debian.org" in notes[0]


def test_rendered_sources_read_back_the_same(host: Path, tmp_path: Path) -> None:
    chosen, _ = choose_sources("bookworm", read_apt_sources(host), "bookworm")
    other = tmp_path / "image"
    (other / "etc/apt/sources.list.d").mkdir(parents=True)
    (other / "etc/apt/sources.list.d/debian.sources").write_text(render_deb822(chosen))

    assert read_apt_sources(other) == chosen


def test_apt_config_lines() -> None:
    dump = 'APT "";\nAcquire::http::Proxy "http://proxy:3128";\nDir::Bin:: "x";\nbroken\n'

    assert parse_apt_config(dump) == {"APT": "", "Acquire::http::Proxy": "http://proxy:3128", "Dir::Bin::": "x"}


def pem(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_certificates_that_debian_does_not_ship_get_files_of_their_own(tmp_path: Path) -> None:
    """Line breaks inside a certificate make no difference."""
    shipped = tmp_path / "usr/share/ca-certificates/mozilla/A.crt"
    shipped.parent.mkdir(parents=True)
    shipped.write_text(pem("QUJDRA=="))
    bundle = tmp_path / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_text(pem("QUJD\nRA==") + pem("T1dO"))

    assert host_certificates(tmp_path) == {
        "etc/ssl/certs/ca-certificates.crt": bundle.read_bytes(),
        "usr/local/share/ca-certificates/host-1.crt": pem("T1dO").encode(),
    }


def test_a_host_without_a_bundle_gives_nothing(tmp_path: Path) -> None:
    assert host_certificates(tmp_path) == {}
