"""The store as a registry: this engine, skopeo, podman and Docker pull from it and push to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.engine import Engine
from dockermagic.errors import ImageNotFoundError, RegistryError, UsageError
from dockermagic.oci import auth
from dockermagic.oci.image import Image
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.registry import Repository
from dockermagic.oci.serve import StoreServer
from dockermagic.oci.spec import INDEX, LAYER, Descriptor, HistoryEntry, Index, digest, encode, timestamp
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.oci.transfer import log_in, pull, push
from dockermagic.records import Records
from tests.oci.trees import tar
from tests.peers.docker import Docker
from tests.peers.tools import Tool

TOKEN = "swordfish-and-more"
HERE = Platform.host()


def stores(directory: Path) -> Iterator[Store]:
    records = Records(directory)
    yield Store(directory, records)
    records.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield from stores(tmp_path / "home")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    yield from stores(tmp_path / "other")


@pytest.fixture
def served(store: Store) -> Iterator[StoreServer]:
    server = StoreServer(store, token=TOKEN)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKERMAGIC_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def image(store: Store, *, size: int = 300_000) -> Descriptor:
    """An image of two layers that a real engine can unpack."""
    made = Image.empty(HERE)
    for number in range(2):
        content = tar(("file", f"file{number}", os.urandom(size)))
        layer = LayerBlob(store.put(content, LAYER), digest(content), len(content))
        made = made.append_layer(layer, HistoryEntry(created=timestamp(0), created_by=f"COPY {number} /"))
    return made.with_created(timestamp(0)).write(store)


def test_everybody_pulls_and_who_has_the_token_pushes(store: Store, other: Store, served: StoreServer) -> None:
    with store.lease():
        store.tag(Reference.parse("app:1"), made := image(store))
    reference = Reference.parse(f"{served.address}/app:1")
    assert pull(other, reference, HERE) == made
    assert pull(other, Reference.parse(f"{served.address}/library/app:1"), HERE) == made
    assert pull(other, Reference.parse(f"{served.address}/app@{made.digest}"), HERE) == made
    assert Repository(reference).tags() == ["1"]

    with other.lease():
        new = image(other)
        other.add(new)
    target = Reference.parse(f"{served.address}/mine/new:2")
    with pytest.raises(RegistryError, match="who we are"):
        push(other, target, new)
    with pytest.raises(RegistryError):
        log_in(served.address, auth.Credentials("anybody", "wrong"))
    log_in(served.address, auth.Credentials("anybody", TOKEN))
    auth.keep(served.address, auth.Credentials("anybody", TOKEN))
    push(other, target, new)
    assert store.resolve(Reference.parse("mine/new:2")) == new
    assert all(store.verify(each.digest) for each in store.reachable([new]))


def test_a_build_fetches_its_platform_where_another_one_is_here(
    store: Store, served: StoreServer, tmp_path: Path
) -> None:
    with store.lease():
        parts = []
        for name in ("linux/amd64", "linux/arm64"):
            made = Image.empty(Platform.parse(name)).with_created(timestamp(0)).write(store)
            parts.append(Descriptor(made.media_type, made.digest, made.size, platform=Platform.parse(name)))
        store.tag(Reference.parse("multi"), store.put(encode(Index(manifests=tuple(parts))), INDEX))
    name = f"{served.address}/multi:latest"
    with Engine(tmp_path / "third") as engine:
        engine.pull(name, lambda event: None, platform="linux/arm64")
        with pytest.raises(ImageNotFoundError):
            Image.load(engine.store, engine.store.find(name).descriptor, Platform.parse("linux/amd64"))
        found = engine.images_.resolve(name, "linux/amd64", lambda event: None)

    assert found.image.config.architecture == "amd64"


def test_nobody_pushes_without_a_token_and_nothing_unnamed_is_given(store: Store, other: Store) -> None:
    with store.lease():
        store.tag(Reference.parse("app:1"), image(store))
        secret = store.put(b"not for you", LAYER)
    server = StoreServer(store)
    try:
        auth.keep(server.address, auth.Credentials("anybody", ""))
        with pytest.raises(RegistryError, match="nobody may push here"):
            push(other, Reference.parse(f"{server.address}/x:1"), image(other))
        repository = Repository(Reference.parse(f"{server.address}/app:1"), credentials=lambda: None)
        with pytest.raises(RegistryError, match="not found"):
            repository.fetch(other, secret)
        with pytest.raises(UsageError, match="cannot listen"):
            StoreServer(store, port=int(server.address.rpartition(":")[2]))
    finally:
        server.close()


def test_what_is_wrong_is_refused(store: Store, served: StoreServer) -> None:
    """By the codes of the specification; nothing of it stays."""
    connection = http.client.HTTPConnection(served.address)

    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data or b"{}"), dict(answer.getheaders())

    basic = auth.Credentials("x", TOKEN).basic
    status, document, _ = ask("GET", "/token?scope=repository:x:pull,push", Authorization=basic)
    bearer = f"Bearer {document['token']}"
    _, _, headers = ask("POST", "/v2/x/blobs/uploads/", Authorization=bearer)
    place = headers["Location"]
    status, _, headers = ask("PATCH", place, b"abc", Authorization=bearer, **{"Content-Range": "0-2"})
    assert (status, headers["Range"]) == (202, "0-2")
    assert ask("PATCH", place, b"abc", Authorization=bearer, **{"Content-Range": "7-9"})[0] == 416
    status, document, _ = ask("PUT", f"{place}?digest={digest(b'other')}", Authorization=bearer)
    assert (status, document["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    missing = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x",'
    missing += b'"digest":"sha256:' + b"0" * 64 + b'","size":1},"layers":[]}'
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    status, document, _ = ask("PUT", "/v2/x/manifests/1", missing, Authorization=bearer, **kind)
    assert (status, document["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert ask("PUT", "/v2/x/manifests/1", b"{" * 5_000_000, Authorization=bearer, **kind)[0] == 413
    for length in ("-5", "many", "1" * 20):
        assert ask("PUT", "/v2/x/manifests/1", Authorization=bearer, **kind, **{"Content-Length": length})[0] == 413
    assert ask("GET", "/token")[1]["token"] == ask("GET", "/token")[1]["token"], "nothing is kept for who only pulls"
    connection = http.client.HTTPConnection(served.address)
    for method, path, expected in (
        ("GET", "/v2/../../etc/passwd", 401),
        ("GET", "/etc/passwd", 404),
        ("DELETE", "/v2/x/manifests/1", 401),
        ("PUT", "/v2/x/manifests/1", 401),
    ):
        assert ask(method, path)[0] == expected, (method, path)
    connection.close()
    assert store.references() == {}
    assert list((store.home / "ingest").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the peers are started by root")
def test_the_others_pull_and_push(
    store: Store,
    served: StoreServer,
    skopeo: Tool,
    podman: Tool,
    docker: Docker,
    tmp_path: Path,
) -> None:
    with store.lease():
        store.tag(Reference.parse("app:1"), made := image(store))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text("{}")  # podman wants one where DOCKER_CONFIG says
    name = f"{served.address}/app:1"
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/layout:x")
    skopeo(
        "copy", "--dest-tls-verify=false", f"--dest-creds=x:{TOKEN}", f"oci:{tmp_path}/layout:x",
        f"docker://{served.address}/from/skopeo:1",
    )  # fmt: skip
    assert store.resolve(Reference.parse("from/skopeo:1")) == made

    podman("pull", "--tls-verify=false", name)
    podman("tag", name, f"{served.address}/from/podman:1")
    podman("push", "--tls-verify=false", f"--creds=x:{TOKEN}", f"{served.address}/from/podman:1")
    docker("pull", name)
    docker("tag", name, f"{served.address}/from/docker:1")
    docker("login", "-u", "x", "--password-stdin", served.address, input=TOKEN)
    docker("push", f"{served.address}/from/docker:1")
    for source in ("podman", "docker"):
        found = store.resolve(Reference.parse(f"from/{source}:1"))
        assert found is not None
        assert Image.load(store, found).diff_ids == Image.load(store, made).diff_ids


def test_who_comes_when_all_connections_are_taken_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On IPv6, too: the address says so in brackets."""
    monkeypatch.setattr("dockermagic.oci.serve._MOST_CONNECTIONS", 2)
    server = StoreServer(store, "::1")
    host, _, port = server.address.rpartition(":")
    assert host == "[::1]"
    try:
        idle = [http.client.HTTPConnection("::1", int(port), timeout=60) for _ in range(2)]
        for one in idle:
            one.request("GET", "/v2/")
            one.getresponse().read()
        late = http.client.HTTPConnection("::1", int(port), timeout=60)
        late.request("GET", "/v2/")
        idle[0].close()
        assert late.getresponse().status == 401
        idle[1].close()
        late.close()
    finally:
        server.close()


def test_a_client_that_breaks_off_is_no_error(
    served: StoreServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone, end = threading.Event(), served._http.shutdown_request
    monkeypatch.setattr(served._http, "shutdown_request", lambda request: (end(request), gone.set()))
    host, _, port = served.address.rpartition(":")

    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
        client.sendall(b"GET /v2/")

    assert gone.wait(60)
    assert capfd.readouterr().err == ""
