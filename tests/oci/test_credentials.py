"""Who may in: passwords, tokens, challenges, and where Docker keeps them."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import RegistryError
from dockermagic.oci import auth
from dockermagic.oci.connection import open_pool, trusted
from dockermagic.oci.spec import Platform
from dockermagic.oci.store import Store
from dockermagic.oci.transfer import pull, push
from dockermagic.oci.transport import Transport
from tests.oci.servers import Handler, Server, serving
from tests.oci.transfers import PASSWORD, image, stocked
from tests.oci.transfers import no_credentials as no_credentials
from tests.oci.transfers import other as other
from tests.oci.transfers import server as server
from tests.oci.transfers import store as store


@pytest.mark.parametrize("bearer", [False, True])
def test_a_password_opens_the_door_and_nothing_else_does(
    store: Store, other: Store, server: Server, no_credentials: Path, bearer: bool
) -> None:
    reference, made = stocked(server, store)
    server.user, server.bearer = f"someone:{PASSWORD}", bearer
    with pytest.raises(RegistryError, match="who we are") as caught:
        pull(other, reference)
    assert "dockermagic login" in caught.value.hint

    auth.keep(server.address, auth.Credentials("someone", "wrong"))
    with pytest.raises(RegistryError, match=r"not take the login|denied") as caught:
        pull(other, reference)
    assert "wrong" not in str(caught.value)

    auth.keep(server.address, auth.Credentials("someone", PASSWORD))
    assert pull(other, reference, Platform.parse("linux/amd64")) == made
    push(store, reference.with_tag("2"), image(store))
    assert stat.S_IMODE(no_credentials.stat().st_mode) == 0o600
    assert PASSWORD not in repr(auth.find(server.address))

    assert auth.forget(server.address)
    assert not auth.forget(server.address)
    assert auth.find(server.address) is None


def test_a_registry_that_gives_tokens_to_everybody(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    server.bearer = True

    assert pull(other, reference, Platform.parse("linux/amd64")) == made
    tokens = [path for path in server.paths("GET") if path.startswith("/token")]
    assert all("scope=repository%3Ax%3Apull" in path and "service=test" in path for path in tokens)


def test_an_identity_token_is_exchanged(store: Store, other: Store, server: Server, no_credentials: Path) -> None:
    reference, made = stocked(server, store)
    server.bearer, server.user = True, "someone:else"
    no_credentials.parent.mkdir(exist_ok=True)
    no_credentials.write_text(json.dumps({"auths": {server.address: {"identitytoken": "the-token"}}}))

    assert pull(other, reference, Platform.parse("linux/amd64")) == made
    assert server.paths("POST") == ["/token"] * len(server.paths("POST")) != []


@pytest.mark.parametrize(
    ("registry_name", "config", "expected"),
    [
        ("docker.io", {"auths": {"https://index.docker.io/v1/": {"auth": "YTpiOmM="}}}, ("a", "b:c")),
        ("example.org", {"auths": {"https://example.org": {"auth": "YTpi"}}}, ("a", "b")),
        ("example.org:5000", {"auths": {"example.org:5000": {"username": "a", "password": "b"}}}, ("a", "b")),
        ("example.org", {"auths": {"other.org": {"auth": "YTpi"}}}, None),
        ("example.org", {"auths": {"example.org": {"auth": "!"}}}, None),
        ("example.org", {"auths": {"example.org": {}}}, None),
        ("example.org", {"auths": []}, None),
        ("example.org", {"credHelpers": {"example.org": "test"}}, ("helped", "secret of example.org")),
        ("docker.io", {"credsStore": "test"}, ("helped", "secret of https://index.docker.io/v1/")),
        ("unknown.org", {"credsStore": "test"}, None),
        ("unknown.org", {"credsStore": "test", "auths": {"unknown.org": {"auth": "YTpi"}}}, ("a", "b")),
    ],
)
def test_credentials_are_found_where_docker_keeps_them(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    no_credentials: Path,
    registry_name: str,
    config: dict[str, Any],
    expected: tuple[str, str] | None,
) -> None:
    helper = tmp_path / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\nread server\n"
        'case "$server" in unknown*) echo "credentials not found in native keychain"; exit 1;; esac\n'
        'printf \'{"Username": "helped", "Secret": "secret of %s"}\' "$server"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    no_credentials.parent.mkdir()
    no_credentials.write_text(json.dumps(config))
    found = auth.find(registry_name)

    assert (found and (found.username, found.password)) == expected


def test_a_config_that_is_a_link_stays_one(no_credentials: Path, tmp_path: Path) -> None:
    """A person keeps it elsewhere; what is in it besides stays, and nobody else can read it."""
    kept = tmp_path / "dotfiles.json"
    kept.write_text('{"detachKeys": "ctrl-x"}')
    no_credentials.parent.mkdir()
    no_credentials.symlink_to(kept)
    auth.keep("example.org", auth.Credentials("a", "b"))

    assert no_credentials.is_symlink()
    assert json.loads(kept.read_text()) == {"detachKeys": "ctrl-x", "auths": {"example.org": {"auth": "YTpi"}}}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"auths"', "cannot read"),
        ("[]", "no JSON object"),
        ('{"credsStore": "not-installed-here"}', "not installed"),
        ('{"credsStore": "../evil"}', "not the name"),
    ],
)
def test_credentials_that_cannot_be_read_are_said_to_be(no_credentials: Path, config: str, message: str) -> None:
    no_credentials.parent.mkdir()
    no_credentials.write_text(config)
    with pytest.raises(RegistryError, match=message):
        auth.find("example.org")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://a/t?x=1,2",service="b c",scope="d"',
            [("bearer", {"realm": "https://a/t?x=1,2", "service": "b c", "scope": "d"})],
        ),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        (
            'Basic realm="a\\"b", Bearer realm=c, x="y"',
            [("basic", {"realm": 'a"b'}), ("bearer", {"realm": "c", "x": "y"})],
        ),
        ("", []),
        ("=?", []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(challenge.scheme, challenge.parameters) for challenge in auth.challenges(header)] == expected


def test_credentials_do_not_follow_a_redirect_to_another_host(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    server.user = f"someone:{PASSWORD}"
    auth.keep(server.address, auth.Credentials("someone", PASSWORD))
    with serving() as elsewhere:
        elsewhere.blobs = server.blobs

        def trouble(request: Handler) -> bool:
            if "/blobs/" not in request.path or not request.headers.get("Authorization"):
                return False
            request.reply(307, Location=f"http://localhost:{elsewhere.address.split(':')[1]}{request.path}")
            return True

        server.trouble = trouble
        assert pull(other, reference, Platform.parse("linux/amd64")) == made
        assert {authorization for _, _, authorization in elsewhere.seen} == {""}
        assert len(elsewhere.seen) == 4


def test_basic_authentication_is_base64() -> None:
    assert auth.Credentials("a", "b:ü").basic == "Basic " + base64.b64encode("a:b:ü".encode()).decode()


@pytest.mark.parametrize("rest", ["se#cret@host:1", "se/cret@host:1", "se[cret@host:1", "secret@host:99999"])
def test_a_proxy_that_is_no_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setenv("https_proxy", f"http://someone:{rest}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(RegistryError, match="is no URL") as caught:
        Transport("registry.example.org", sleep=lambda seconds: None).check("look")
    assert "someone" not in str(caught.value) + caught.value.hint


def test_a_proxys_password_may_be_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://someone:%E2%82%AC@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    pool = open_pool("https://registry.example.org/")
    assert base64.b64decode(pool.proxy_headers["proxy-authorization"].split()[1]) == "someone:\u20ac".encode()


def test_nobody_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    trusted("registry.example.org")
