"""Images to and from registries: a real one, and one that misbehaves."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import RegistryError, StoreError
from dockermagic.oci import auth
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.registry import Repository
from dockermagic.oci.spec import (
    LAYER,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    HistoryEntry,
    Index,
    Platform,
    digest,
    encode,
    timestamp,
)
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.oci.transfer import pull, push
from dockermagic.records import Records
from tests.oci.servers import Handler, Server, serving
from tests.peers.registry import Registry

PASSWORD = "swordfish-and-more"
REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing of the person who runs the tests."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKERMAGIC_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


def stores(tmp_path: Path, name: str) -> Iterator[Store]:
    records = Records(tmp_path / name)
    yield Store(tmp_path / name, records)
    records.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield from stores(tmp_path, "home")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    yield from stores(tmp_path, "other")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def image(store: Store, *, layers: int = 3, size: int = 300_000, platform: str = "linux/amd64") -> Descriptor:
    made = Image.empty(Platform.parse(platform))
    for number in range(layers):
        content = os.urandom(size) + bytes([number])
        layer = LayerBlob(store.put(content, LAYER), digest(content), len(content))
        made = made.append_layer(layer, HistoryEntry(created=timestamp(0), created_by=f"COPY {number} /"))
    return made.with_config(ContainerConfig(cmd=(platform,))).with_created(timestamp(0)).write(store)


def stocked(server: Server, store: Store, **options: Any) -> tuple[Reference, Descriptor]:
    """A server that has an image, and the image's name there."""
    reference = Reference.parse(f"{server.address}/x:1")
    made = image(store, **options)
    push(store, reference, made)
    server.seen.clear()
    return reference, made


def patient(waits: list[float]) -> dict[str, Any]:
    """Options for a client that notes how long it would wait."""
    return {"sleep": waits.append}


# -- a real registry


def test_an_image_goes_to_a_registry_and_comes_back(store: Store, other: Store, registry: Registry) -> None:
    reference = Reference.parse(f"{registry.address}/team/app:1.0")
    made = image(store)
    told: list[tuple[str, str]] = []
    pushed = push(store, reference, made, notify=lambda digest, state, *_: told.append((digest, state)))
    pulled = pull(other, reference, Platform.parse("linux/amd64"))

    assert pushed == pulled == made
    assert Image.load(other, pulled, Platform.parse("linux/amd64")).config == Image.load(store, made).config
    assert other.resolve(reference) == made
    assert all(other.verify(each.digest) == each.size for each in other.reachable([made]))
    for blob in store.manifest(made).layers:
        states = [state for digest, state in told if digest == blob.digest]
        assert (states[0], states[-1]) == ("waiting", "done")


def test_what_is_there_is_neither_sent_nor_fetched_again(store: Store, other: Store, registry: Registry) -> None:
    reference = Reference.parse(f"{registry.address}/team/twice:1.0")
    made = image(store)
    push(store, reference, made)
    pull(other, reference, Platform.parse("linux/amd64"))
    told: list[str] = []
    push(store, reference.with_tag("2.0"), made, notify=lambda digest, state, *_: told.append(state))
    pull(
        other, reference.with_tag("2.0"), Platform.parse("linux/amd64"), notify=lambda d, state, *_: told.append(state)
    )

    assert set(told) == {"waiting", "exists"}
    assert Repository(reference).tags() == ["1.0", "2.0"]


def test_a_list_of_images_is_sent_whole_and_one_platform_fetched(
    store: Store, other: Store, registry: Registry
) -> None:
    reference = Reference.parse(f"{registry.address}/team/multi:1")
    names = ("linux/amd64", "linux/arm64", "linux/arm/v7")
    parts = [image(store, layers=1, size=100, platform=name) for name in names]
    index = Index(
        manifests=tuple(
            Descriptor(MANIFEST, part.digest, part.size, platform=Platform.parse(name))
            for part, name in zip(parts, names, strict=True)
        )
    )
    top = store.put(encode(index), index.media_type)
    push(store, reference, top)
    pull(other, reference, Platform.parse("linux/arm64"))

    assert other.resolve(reference) == top
    assert Image.load(other, top, Platform.parse("linux/arm64")).config.config.cmd == ("linux/arm64",)
    assert not other.has(parts[0].digest)
    assert pull(other, replace(reference, digest=parts[2].digest)) == parts[2]
    with pytest.raises(RegistryError, match="no image for windows/amd64") as caught:
        pull(other, reference, Platform.parse("windows/amd64"))
    assert "linux/arm64" in caught.value.hint


def test_skopeo_reads_what_was_pushed_and_what_it_pushes_is_pulled(
    store: Store, other: Store, registry: Registry, skopeo: Callable[..., Any], tmp_path: Path
) -> None:
    reference = Reference.parse(f"{registry.address}/team/skopeo:1")
    made = image(store)
    push(store, reference, made)
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path}/layout:x")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:x", f"docker://{reference.with_tag('2')}")

    assert pull(other, reference.with_tag("2"), Platform.parse("linux/amd64")).digest == made.digest


@pytest.mark.parametrize("name", ["team/nothing:1", "team/multi:nothing"])
def test_what_a_registry_does_not_have_is_not_found(other: Store, registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match=r"not found.*unknown"):
        pull(other, Reference.parse(f"{registry.address}/{name}"))
    assert other.references() == {}


# -- who we are


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


# -- a registry that misbehaves


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
            request.reply(refused[-1], Retry_After="7" if len(refused) == 1 else "")
            return True
        return False

    server.trouble = trouble
    waits: list[float] = []
    assert pull(other, reference, Platform.parse("linux/amd64"), **patient(waits)) == made
    assert waits[0] == 7
    assert len(waits) == 3


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], bool]:
    def trouble(request: Handler) -> bool:
        request.reply(status, body, **headers)
        return True

    return trouble


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


def test_the_mirror_is_asked_first_and_the_registry_where_it_has_nothing(
    store: Store, other: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, made = stocked(server, store)
    server.user = f"someone:{PASSWORD}"
    auth.keep(server.address, auth.Credentials("someone", PASSWORD))
    with serving() as mirror:
        monkeypatch.setenv("DOCKERMAGIC_MIRRORS", f"docker.io=http://nowhere,{server.address}=http://{mirror.address}")
        assert pull(other, reference, Platform.parse("linux/amd64")) == made
        assert {authorization for _, _, authorization in mirror.seen} == {""}
        mirror.blobs, mirror.manifests = server.blobs, server.manifests
        server.seen.clear()
        assert pull(other, reference, Platform.parse("linux/amd64")) == made
        assert server.seen == []


def test_two_processes_that_want_the_same_image_fetch_it_once(store: Store, other: Store, server: Server) -> None:
    """They begin together: the first layer is not given before both have asked for the manifest."""
    reference, _ = stocked(server, store, size=2_000_000)
    asked, both = threading.Semaphore(0), threading.Event()

    def trouble(request: Handler) -> bool:
        if "/manifests/" in request.path:
            asked.release()
        elif not both.is_set():
            assert asked.acquire(timeout=60) and asked.acquire(timeout=60)
            both.set()
        return False

    server.trouble = trouble
    program = (
        "import sys; from pathlib import Path\n"
        "from dockermagic.oci.reference import Reference; from dockermagic.oci.store import Store\n"
        "from dockermagic.oci.transfer import pull; from dockermagic.records import Records\n"
        "pull(Store(Path(sys.argv[1]), Records(Path(sys.argv[1]))), Reference.parse(sys.argv[2]))\n"
    )
    words = [sys.executable, "-c", program, str(other.home), str(reference)]
    running = [subprocess.Popen(words, cwd=REPO) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    fetched = [path for path in server.paths("GET") if "/blobs/" in path]

    assert len(fetched) == len(set(fetched)) == 4


def test_a_failing_notification_stops_everything(store: Store, other: Store, server: Server) -> None:
    """What an interrupt does: no thread goes on, nothing is recorded."""
    reference, _ = stocked(server, store, size=3_000_000)

    def notify(digest: str, state: str, done: int, total: int) -> None:
        if state == "transfer":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(other, reference, Platform.parse("linux/amd64"), notify=notify)

    assert other.references() == {}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("transfer")]


# -- pushing


def test_blobs_are_taken_from_another_repository_where_the_registry_can(store: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    target = Reference.parse(f"{server.address}/y:1")
    told: list[str] = []
    server.trouble = lambda request: request.command == "HEAD" and bool(request.reply(404) or True)
    store.tag(reference, made)
    push(store, target, made, notify=lambda digest, state, *_: told.append(state))

    assert sorted(set(told)) == ["mounted", "waiting"]
    assert server.paths("PUT") == ["/v2/y/manifests/1"]


def test_connections_are_used_again(store: Store, other: Store, server: Server) -> None:
    """There are no more of them than threads, and a failure's own."""
    reference = Reference.parse(f"{server.address}/x:1")
    made = image(store, layers=12, size=1000)
    ports: list[int] = []

    def trouble(request: Handler) -> bool:
        ports.append(request.client_address[1])
        return False

    server.trouble = trouble
    push(store, reference, made)
    assert len(ports) > 36
    assert len(set(ports)) <= 8
    ports.clear()
    pull(other, reference)
    assert len(ports) == 14
    assert len(set(ports)) <= 8


def test_what_may_not_be_taken_from_there_is_sent(store: Store, server: Server) -> None:
    reference, made = stocked(server, store)
    store.tag(reference, made)
    server.trouble = lambda request: (
        (request.command == "HEAD" and answer(404)(request)) or ("mount=" in request.path and answer(403)(request))
    )
    push(store, Reference.parse(f"{server.address}/y:1"), made)

    assert len(server.paths("PUT")) == 5


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        pytest.param(lambda request: request.command == "PUT" and answer(413)(request), "too large", id="too large"),
        pytest.param(lambda request: request.command == "POST" and answer(403)(request), "denied", id="denied"),
        pytest.param(
            lambda request: request.command == "POST" and answer(202)(request), "where to upload", id="no place"
        ),
        pytest.param(
            lambda request: (
                request.command == "PUT"
                and "manifests" in request.path
                and answer(201, Docker_Content_Digest="sha256:" + "0" * 64)(request)
            ),
            "something else",
            id="another manifest",
        ),
    ],
)
def test_a_push_that_is_refused_says_why(
    store: Store, server: Server, trouble: Callable[[Handler], bool], message: str
) -> None:
    server.trouble = trouble
    with pytest.raises(RegistryError, match=message):
        push(store, Reference.parse(f"{server.address}/x:1"), image(store), **patient([]))


@pytest.mark.parametrize("how", ["too large", "broken off", "busy"])
def test_what_does_not_go_in_one_piece_goes_in_chunks(store: Store, server: Server, how: str) -> None:
    """A chunk that is cut is sent again from where the registry has it, and nothing else is."""
    made = image(store, layers=1, size=20_000_000)
    layer = store.manifest(made).layers[0]
    cuts: list[str] = []

    def trouble(request: Handler) -> bool:
        if request.command == "PUT" and len(request.content) > 10_000_000:
            if how == "broken off":
                request.close_connection = True
            else:
                request.reply(413 if how == "too large" else 503)
            return True
        if request.command == "PATCH" and len(cuts) < 2 and request.headers["Content-Range"].startswith("8388608-"):
            cuts.append(request.headers["Content-Range"])
            server.pending += request.content[:1000] if len(cuts) == 1 else b""
            request.close_connection = True
            return True
        return False

    server.trouble = trouble
    push(store, Reference.parse(f"{server.address}/x:1"), made, **patient([]))
    assert server.blobs[layer.digest] == store.blob(layer.digest).read_bytes()
    assert len(cuts) == 1
    assert len(server.paths("PATCH")) == 4


def test_an_image_that_is_not_whole_is_not_pushed(store: Store, server: Server) -> None:
    made = image(store)
    store.blob(store.manifest(made).layers[0].digest).unlink()
    with pytest.raises(StoreError, match="missing"):
        push(store, Reference.parse(f"{server.address}/x:1"), made)

    assert server.manifests == {}


def test_a_registry_nobody_answers_at_is_said_at_once(other: Store) -> None:
    waits: list[float] = []
    with pytest.raises(RegistryError, match="refused"):
        pull(other, Reference.parse("127.0.0.1:1/x"), **patient(waits))

    assert waits == []


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


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_trusted_is_said_so(other: Store, tmp_path: Path) -> None:
    import http.server
    import ssl

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True,
    )  # fmt: skip
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        waits: list[float] = []
        with pytest.raises(RegistryError, match="certificate") as caught:
            Repository(
                Reference.parse("example.org/x"),
                address=f"https://localhost:{httpd.server_address[1]}",
                **patient(waits),
            ).manifest("1")
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()

    assert "ca.crt" in caught.value.hint
    assert waits == []


def test_basic_authentication_is_base64() -> None:
    assert auth.Credentials("a", "b:ü").basic == "Basic " + base64.b64encode("a:b:ü".encode()).decode()
