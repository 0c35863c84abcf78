"""Words with a grammar of their own: modes, ports and signals."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockermagic.build.values import apply_chmod, check_signal, expose_ports, parse_chmod, summary
from dockermagic.errors import DockerfileSyntaxError

CLAUSES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "ugo"]),
    st.sampled_from(["+", "-", "="]),
    st.sampled_from(["r", "w", "x", "X", "rw", "rwX", "u", "g", "o", "rx", ""]),
)


@pytest.mark.skipif(os.name != "posix", reason="only on macOS and Linux there is chmod")
@given(
    st.lists(CLAUSES, min_size=1, max_size=3).map(",".join),
    st.sampled_from([0o644, 0o755, 0o600, 0o777, 0]),
    st.booleans(),
)
def test_symbolic_modes_are_those_of_chmod(
    tmp_path_factory: pytest.TempPathFactory, text: str, mode: int, is_directory: bool
) -> None:
    place = tmp_path_factory.mktemp("mode") / "x"
    place.mkdir() if is_directory else place.touch()
    place.chmod(mode if not is_directory else mode & 0o1777)
    subprocess.run(["chmod", text, place], check=True)

    assert apply_chmod(text, mode if not is_directory else mode & 0o1777, is_directory) == place.stat().st_mode & 0o7777


@pytest.mark.parametrize("text", ["0", "755", "+t", "ug+s", "07777", "u=rwX,go=rX", "+x", "a-w,u+s", "g=u", "u+r-w=x"])
def test_modes(text: str) -> None:
    parse_chmod(text)


@pytest.mark.parametrize("text", ["", "8", "10000", "u", "rwx", "u=z", "u=rw,", "x+r", "-1"])
def test_no_modes(text: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match="invalid chmod parameter"):
        parse_chmod(text)


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ("80", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("8000-8002/sctp", ["8000/sctp", "8001/sctp", "8002/sctp"]),
        ("127.0.0.1:8080:80", ["80/tcp"]),
        ("8080:80/tcp", ["80/tcp"]),
        ("7-7", ["7/tcp"]),
    ],
)
def test_ports(spec: str, ports: list[str]) -> None:
    assert expose_ports(spec) == ports


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("80/icmp", "invalid proto: icmp"),
        ("/tcp", "no port specified"),
        ("65536", "invalid containerPort: 65536"),
        ("9-8", "invalid containerPort: 9-8"),
        ("x", "invalid containerPort: x"),
        ("-1", "invalid containerPort: -1"),
    ],
)
def test_no_ports(spec: str, message: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match=message):
        expose_ports(spec)


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "sigquit", "9", "RTMIN+3", "SIGRTMAX-14"])
def test_signals(name: str) -> None:
    check_signal(name)


@pytest.mark.parametrize("name", ["", "0", "NOPE", "RTMIN+16", "RTMAX-15", "-9", "SIG"])
def test_no_signals(name: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match="invalid signal"):
        check_signal(name)


def test_summary() -> None:
    assert [summary(text) for text in ("one\n", "one\ntwo\n", "")] == ["one", "one...", ""]
