"""A registry that misbehaves, and a network that does: a clear error, and nothing wrong in the store."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from dockermagic.errors import RegistryError
from dockermagic.oci.connection import _proxy, open_pool
from dockermagic.oci.reference import Reference
from dockermagic.oci.registry import Repository
from dockermagic.oci.spec import MANIFEST, Descriptor, Index, Platform, digest, encode
from dockermagic.oci.store import Store
from dockermagic.oci.transfer import pull
from tests.oci.servers import Handler, Server
from tests.oci.transfers import answer, image, patient, stocked
from tests.oci.transfers import no_credentials as no_credentials
from tests.oci.transfers import other as other
from tests.oci.transfers import server as server
from tests.oci.transfers import store as store


def test_a_cut_connection_goes_on_where_it_was_cut(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store, layers=1, size=3_000_000)
    layer = store.manifest(made).layers[0]

    def trouble(request: Handler) -> bool:
        data = server.blobs[layer.digest]
        if not request.path.endswith(layer.digest) or request.command != "GET":
            return False
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if start >= 2_000_000:
            return False
        body = data[start : start + 1_000_000]
        extra = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        request.cut(206 if start else 200, body, len(data) - start, **extra)
        return True

    server.trouble = trouble
    assert pull(other, reference, Platform.parse("linux/amd64"), **patient([])) == made
    assert other.verify(layer.digest) == layer.size
    assert len([path for path in server.paths("GET") if path.endswith(layer.digest)]) == 3


def test_a_registry_without_ranges_starts_again(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store, layers=1, size=3_000_000)
    layer = store.manifest(made).layers[0]
    tries: list[str] = []

    def trouble(request: Handler) -> bool:
        if not request.path.endswith(layer.digest):
            return False
        tries.append(request.path)
        data = server.blobs[layer.digest]
        if len(tries) == 1:
            request.cut(200, data[:1_500_000], len(data))
        else:
            request.reply(200, data)
        return True

    server.trouble = trouble
    assert pull(other, reference, Platform.parse("linux/amd64"), **patient([])) == made
    assert other.verify(layer.digest) == layer.size


def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait for bytes takes ten seconds."""
    clock = itertools.count(step=10.0)
    monkeypatch.setattr("dockermagic.oci.connection._clock", lambda: next(clock))


def test_a_server_that_drips_is_given_up(
    store: Store, other: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only a byte comes now and then it is tried again, from where it was, and not for ever."""
    reference, made = stocked(server, store, layers=1)
    layer = store.manifest(made).layers[0]
    seen: list[threading.Semaphore] = []  # each answer waits for its own bytes

    def trouble(request: Handler) -> bool:
        if not request.path.endswith(layer.digest):
            return False
        seen.append(mine := threading.Semaphore(0))
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        request.reply(206 if start else 200, Content_Length=str(layer.size - start), Content_Range=f"bytes {start}-/*")
        for byte in server.blobs[layer.digest][start : start + 10]:
            request.wfile.write(bytes([byte]))
            mine.acquire()
        request.close_connection = True
        return True

    def notify(digest: str, state: str, done: int, total: int) -> None:
        if state == "transfer":
            seen[-1].release()

    server.trouble = trouble
    slow_clock(monkeypatch)
    waits: list[float] = []
    with pytest.raises(RegistryError, match=r"only \d+ bytes came in 60 seconds, after \d+ of 300001 bytes"):
        pull(other, reference, notify=notify, **patient(waits))

    assert len(waits) == 4
    assert list((other.home / "ingest").iterdir()) == []


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "only .* bytes came in 60 seconds"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000, "only .* bytes came in 60 seconds"),
        (b"HTTP/1.1 100 Continue\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n", "headers"),
    ],
    ids=["never says more", "a line that never ends", "says ever more"],
)
def test_headers_that_do_not_end_are_given_up(
    other: Store, server: Server, monkeypatch: pytest.MonkeyPatch, head: bytes, message: str
) -> None:
    def trouble(request: Handler) -> bool:
        with contextlib.suppress(OSError):
            while True:  # until the other side hangs up
                request.wfile.write(head)
        request.close_connection = True
        return True

    server.trouble = trouble
    slow_clock(monkeypatch)
    with pytest.raises(RegistryError, match=message):
        pull(other, Reference.parse(f"{server.address}/x:1"), **patient([]))


def test_a_registry_that_asks_us_to_wait_is_asked_again_then(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    refused: list[int] = []

    def trouble(request: Handler) -> bool:
        if "manifests" in request.path and len(refused) < 3:
            refused.append((429, 503, 500)[len(refused)])
            asked = {1: "7", 2: formatdate(time.time() + 3600, usegmt=True)}
            request.reply(refused[-1], Retry_After=asked.get(len(refused), ""))
            return True
        return False

    server.trouble = trouble
    waits: list[float] = []
    assert pull(other, reference, Platform.parse("linux/amd64"), **patient(waits)) == made
    assert waits[:2] == [7, 60]
    assert len(waits) == 3


def only(part: str, trouble: Callable[[Handler], bool]) -> Callable[[Handler], bool]:
    return lambda request: part in request.path and trouble(request)


HUGE = b"{" + b" " * (5 << 20) + b"}"


SELF = json.dumps(
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
).encode()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        pytest.param(
            answer(401, WWW_Authenticate='Bearer realm="nonsense"'), "strange token server", id="a strange realm"
        ),
        pytest.param(answer(401), "who we are", id="401 without a challenge"),
        pytest.param(
            answer(403, b'{"errors":[{"message":"go away\\u001b[31m"}]}'), r"denied \(go away \[31m\)", id="403"
        ),
        pytest.param(answer(500), "answered 500", id="500 for ever"),
        pytest.param(answer(429, Retry_After="1"), "too often", id="429 for ever"),
        pytest.param(answer(200, b"<html>", Content_Type="text/html"), "not valid JSON", id="a web page"),
        pytest.param(answer(200, b"{}", Content_Type="text/html"), "not an image", id="something else"),
        pytest.param(answer(200, b'{"schemaVersion":1}', Content_Type="x/y"), "schema 1", id="an old image"),
        pytest.param(answer(200, HUGE, Content_Type=MANIFEST), "more than 4 MB", id="a huge manifest"),
        pytest.param(answer(200, b'{"layers":7}', Content_Type=MANIFEST), "expected a list", id="a broken manifest"),
        pytest.param(
            answer(200, b"{}", Content_Type=MANIFEST, Docker_Content_Digest="sha256:" + "0" * 64),
            "digest mismatch",
            id="another digest than it says",
        ),
        pytest.param(answer(200, SELF), "no image for linux", id="an empty index"),
        pytest.param(answer(307, Location="/v2/x/manifests/1"), "in a circle", id="redirects in a circle"),
        pytest.param(only("blobs", answer(200, b"x")), "too early|mismatch|breaks", id="short blobs"),
        pytest.param(only("blobs", answer(200, b"x" * 4_000_000)), "longer than", id="long blobs"),
        pytest.param(only("blobs", answer(404)), "not found", id="missing blobs"),
        pytest.param(
            only("blobs", answer(206, b"x", Content_Range="bytes 5-6/9")), "asked from byte", id="other bytes"
        ),
    ],
)
def test_a_misbehaving_registry_ends_in_a_clear_error_and_nothing_is_recorded(
    store: Store, other: Store, server: Server, trouble: Callable[[Handler], bool], message: str
) -> None:
    reference, _ = stocked(server, store)
    server.trouble = trouble
    with pytest.raises((RegistryError, Exception), match=message) as caught:
        pull(other, reference, Platform.parse("linux/amd64"), **patient([]))

    assert type(caught.value).__name__ in ("RegistryError", "ArchiveError")
    assert other.references() == {}
    assert list((other.home / "ingest").iterdir()) == []


def test_changed_bytes_are_not_stored(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    layer = store.manifest(made).layers[1]
    server.blobs[layer.digest] = b"x" * layer.size
    with pytest.raises(RegistryError, match="digest mismatch"):
        pull(other, reference, Platform.parse("linux/amd64"))

    assert not other.has(layer.digest)
    assert other.references() == {}


def test_what_a_power_cut_left_short_is_fetched_again(store: Store, other: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    pull(other, reference, Platform.parse("linux/amd64"))
    blobs = [each.digest for each in other.reachable([made])]
    for each in blobs:
        os.truncate(other.blob(each), 5)

    pull(other, reference, Platform.parse("linux/amd64"))

    assert [other.verify(each) for each in blobs] == [store.size(each) for each in blobs]


def test_a_digest_that_cannot_be_checked_is_refused(other: Store, server: Server) -> None:
    with pytest.raises(RegistryError, match="only digests of sha256"):
        pull(other, Reference.parse(f"{server.address}/x@sha512:{'0' * 128}"))


def test_an_index_that_names_itself_ends(store: Store, other: Store, server: Server) -> None:
    nested = encode(Index())
    for _ in range(5):
        entry = Descriptor(Index().media_type, digest(nested), len(nested), platform=Platform("linux", "amd64"))
        server.manifests[digest(nested)] = (Index().media_type, nested)
        nested = encode(Index(manifests=(entry,)))
    server.manifests["1"] = (Index().media_type, nested)
    with pytest.raises(RegistryError, match="lists of lists"):
        pull(other, Reference.parse(f"{server.address}/x:1"), Platform.parse("linux/amd64"))


def test_a_layer_that_may_not_be_passed_on_is_refused(store: Store, other: Store, server: Server) -> None:
    made = store.manifest(image(store, layers=1))
    foreign = Descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", digest(b"1"), 1)
    data = encode({**made.to_json(), "layers": [foreign.to_json()]})
    server.manifests["1"] = (MANIFEST, data)
    server.blobs[made.config.digest] = store.read(made.config.digest)
    with pytest.raises(RegistryError, match="let registries pass on"):
        pull(other, Reference.parse(f"{server.address}/x:1"))


def test_a_registry_nobody_answers_at_is_said_at_once(other: Store) -> None:
    waits: list[float] = []
    with pytest.raises(RegistryError, match="refused"):
        pull(other, Reference.parse("127.0.0.1:1/x"), **patient(waits))

    assert waits == []


def test_a_registry_that_goes_away_is_waited_for(store: Store, other: Store, server: Server) -> None:
    reference, _ = stocked(server, store)

    def trouble(request: Handler) -> bool:
        if "blobs" not in request.path:
            return False
        server.http.server_close()  # nobody listens any more
        request.close_connection = True
        return True

    server.trouble = trouble
    waits: list[float] = []
    with pytest.raises(RegistryError, match="refused"):
        pull(other, reference, Platform.parse("linux/amd64"), **patient(waits))

    assert len(waits) >= 4


def test_a_registry_that_speaks_plain_http_is_said_to(other: Store, server: Server) -> None:
    waits: list[float] = []
    with pytest.raises(RegistryError, match="speaks HTTP, not HTTPS") as caught:
        Repository(Reference.parse("example.org/x"), address=f"https://{server.address}", **patient(waits)).manifest(
            "1"
        )

    assert "insecure" in caught.value.hint
    assert waits == []


def test_a_proxy_gets_its_password_and_is_blamed_itself(
    store: Store, other: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is asked for whole addresses, which the server answers here by their paths."""
    reference, made = stocked(server, store)
    there = Reference.parse(f"registry.invalid/{reference.repository}:{reference.tag}")
    seen: set[str] = set()

    def trouble(request: Handler) -> bool:
        seen.add(f"{request.parts.netloc} {request.headers['Proxy-Authorization']}")
        return False

    server.trouble = trouble
    monkeypatch.setenv("HTTP_PROXY", f"http://pupil:a%3Ab@{server.address}")

    assert pull(other, there, Platform.parse("linux/amd64"), insecure=True, **patient([])) == made
    assert seen == {f"registry.invalid Basic {base64.b64encode(b'pupil:a:b').decode()}"}

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(RegistryError, match="the proxy: Connection refused") as caught:
        pull(other, there, insecure=True, **patient([]))
    assert "HTTP_PROXY" in caught.value.hint


def test_no_proxy_holds_for_an_address_with_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the password would go to the proxy."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "intern.example")

    assert [_proxy(f"http://{host}/f") for host in ("u:p@intern.example", "u:p@intern.example:80")] == ["", ""]
    assert _proxy("http://u:p@other.example/f") == "http://proxy.example:3128"


def test_a_proxy_of_another_kind_is_refused_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://proxy.example:1080")
    monkeypatch.setenv("no_proxy", "intern.example")
    open_pool("https://intern.example/f").clear()

    with pytest.raises(RegistryError, match=r"for other\.example speaks socks5"):
        open_pool("https://other.example/f")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a certificate with openssl")
def test_a_certificate_is_believed_where_docker_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in the home directory; without it, and where it cannot be read, that is said."""
    import http.server
    import ssl

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    host = f"localhost:{httpd.server_address[1]}"
    place = tmp_path / ".config/docker/certs.d" / host
    place.mkdir(parents=True)
    waits: list[float] = []

    def refused(message: str) -> str:
        with pytest.raises(RegistryError, match=message) as caught:
            Repository(Reference.parse("example.org/x"), address=f"https://{host}", **patient(waits)).manifest("1")
        return caught.value.hint

    try:
        assert "ca.crt" in refused("certificate verify failed")
        (place / "ca.crt").write_bytes((tmp_path / "cert").read_bytes())
        refused("not found")
        (place / "client.cert").write_text("nothing")
        assert "client.key" in refused("client.cert cannot be used")
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()

    assert waits == []
