"""Stores, a server that misbehaves on demand, and an image there: what tests of transfers begin with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import LAYER, ContainerConfig, Descriptor, HistoryEntry, Platform, digest, timestamp
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.oci.transfer import push
from dockermagic.records import Records
from tests.oci.servers import Handler, Server, serving

PASSWORD = "swordfish-and-more"


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


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], bool]:
    def trouble(request: Handler) -> bool:
        request.reply(status, body, **headers)
        return True

    return trouble
