"""What ADD fetches: kept and asked for again, tried again, refused, and never given what is another server's."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from dockermagic.build.remote import Downloads
from dockermagic.build.request import BuildRequest, Secret
from dockermagic.errors import BuildError, BuildInterruptedError
from dockermagic.sandbox.base import Cancel
from tests.build.servers import Answer, send, serving


def fetched(folder: Path, url: str, checksum: str = "", **request: object) -> bytes:
    """The content that one build gets."""
    return Downloads(folder, BuildRequest("", **request)).get(url, checksum).path.read_bytes()  # type: ignore[arg-type]


def test_a_copy_is_asked_for_again_and_not_sent_again(tmp_path: Path) -> None:
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("If-None-Match"))
        send(handler, b"" if seen[-1] else b"content", 304 if seen[-1] else 200, ETag='"one"')

    with serving(answer) as url:
        assert [fetched(tmp_path, f"{url}/f") for _ in range(2)] == [b"content"] * 2
    assert seen == [None, '"one"']


def test_a_server_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    answers = [503, 429, 200]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b"at last", answers.pop(0))

    with serving(answer) as url:
        assert fetched(tmp_path, f"{url}/f") == b"at last"
    assert answers == []


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:  # until the other side hangs up
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda handler: send(handler, b"", 404), "invalid response status 404"),
        (lambda handler: send(handler, b"", 302, Location="/again"), "too many redirects"),
        (broken, "broke off"),
        (endless, "is larger than 1000000 bytes"),
    ],
    ids=["missing", "redirects in a circle", "broken off", "endless"],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, message: str) -> None:
    """Nothing stays of it, and no password is told."""
    monkeypatch.setenv("DOCKERMAGIC_ADD_LIMIT", "1000000")
    with serving(answer) as url:
        with pytest.raises(BuildError, match=message) as caught:
            fetched(tmp_path, f"{url.replace('//', '//me:hushword@')}/f")
    assert "hushword" not in caught.value.render()
    assert list(tmp_path.iterdir()) == []


def test_interrupted(tmp_path: Path) -> None:
    """It ends though the server goes on, and nothing stays; what a killed process left goes, too."""
    cancel = Cancel()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:  # until the other side hangs up
            handler.wfile.write(b"x" * 65536)
            cancel.set()

    (tmp_path / ".download-killed").touch()
    with serving(answer) as url, pytest.raises(BuildInterruptedError):
        Downloads(tmp_path, BuildRequest(""), cancel).get(f"{url}/f")
    for thread in threading.enumerate():
        if thread.name == "dockermagic-network":
            thread.join(60)
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum(tmp_path: Path) -> None:
    with serving(lambda handler: send(handler, b"content")) as url:
        with pytest.raises(BuildError, match="digest mismatch sha256:ed70"):
            fetched(tmp_path, f"{url}/f", f"sha256:{'0' * 64}")


def test_a_token_stays_with_its_server(tmp_path: Path) -> None:
    seen: dict[str, str | None] = {}

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen["other"] = handler.headers.get("Authorization")
        send(handler, b"from there")

    with serving(other) as there:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            seen["own"] = handler.headers.get("Authorization")
            send(handler, b"", 302, Location=f"{there.replace('127.0.0.1', 'localhost')}/g")

        with serving(answer) as url:
            (tmp_path / "token").write_text("hushword\n")
            secrets = {f"HTTP_AUTH_TOKEN_{url.removeprefix('http://')}": Secret(tmp_path / "token")}
            assert fetched(tmp_path / "d", f"{url}/f", secrets=secrets) == b"from there"

    assert seen == {"own": "Bearer hushword", "other": None}
