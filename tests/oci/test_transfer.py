"""Images to and from registries: a real one, and one that is watched."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockermagic.errors import RegistryError, StoreError
from dockermagic.oci import auth
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.registry import Repository
from dockermagic.oci.spec import MANIFEST, Descriptor, Index, Platform, encode
from dockermagic.oci.store import Store
from dockermagic.oci.transfer import pull, push
from tests.oci.servers import Handler, Server, serving
from tests.oci.transfers import PASSWORD, answer, image, patient, stocked
from tests.oci.transfers import no_credentials as no_credentials
from tests.oci.transfers import other as other
from tests.oci.transfers import server as server
from tests.oci.transfers import store as store
from tests.peers.registry import Registry

REPO = Path(__file__).parents[2]


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
        with pytest.raises(RegistryError) as caught:
            pull(other, reference.with_tag("none"))
        assert f"; its mirror http://{mirror.address}: not found" in caught.value.message


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


@pytest.mark.parametrize("forgets", [False, True])
def test_a_registry_that_takes_no_chunks_is_given_up(store: Store, server: Server, forgets: bool) -> None:
    """Whether it takes none at all, or forgets each time what it has taken."""
    made = image(store, layers=1, size=10_000_000)
    chunks = itertools.count()

    def trouble(request: Handler) -> bool:
        refused = request.command == "PATCH" and not (forgets and next(chunks) % 2 == 0)
        if refused or (request.command == "PUT" and len(request.content) > 9_000_000):
            server.pending = b""
            request.reply(416 if refused else 413)
            return True
        return False

    server.trouble = trouble
    with pytest.raises(RegistryError, match="416"):
        push(store, Reference.parse(f"{server.address}/x:1"), made, **patient([]))


def test_an_image_that_is_not_whole_is_not_pushed(store: Store, server: Server) -> None:
    made = image(store)
    store.blob(store.manifest(made).layers[0].digest).unlink()
    with pytest.raises(StoreError, match="missing"):
        push(store, Reference.parse(f"{server.address}/x:1"), made)

    assert server.manifests == {}
