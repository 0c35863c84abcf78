"""``commit``: a container's image with what it changed as one more layer, and its own config."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dockermagic.oci.image import Image
from dockermagic.oci.spec import HistoryEntry, ImageConfig, layer_media_type
from dockermagic.oci.store import LayerBlob, Store
from dockermagic.values import replace

if TYPE_CHECKING:
    from dockermagic.containers.runtime import Containers

__all__ = ["commit"]


def commit(containers: Containers, store: Store, name: str, *, author: str = "", message: str = "") -> Image:
    """The image, with its layer in the store. Call it inside a lease. Raises ContainerError, ImageNotFoundError."""
    container = containers.get(name)
    base = Image.load(store, store.find(container.image_id).descriptor)
    with store.writer() as writer:
        done = containers.pack(name, writer.fileno())
        descriptor = writer.commit(layer_media_type("gzip"), digest=done["digest"], size=done["size"])
    blob = LayerBlob(descriptor, done["diff_id"], done["uncompressed_size"])
    store.remember_layer(blob)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    words = " ".join(container.command)
    made = base.append_layer(blob, HistoryEntry(created=now, created_by=words, author=author, comment=message))
    request = container.request
    document = made.config.to_json()
    config = dict(document.get("config") or {})
    config["Env"] = [entry for entry in container.env if "=" in entry]
    if request.entrypoint is not None:
        config["Entrypoint"], config["Cmd"] = list(request.entrypoint), []
    given = {"Cmd": list(request.command), "WorkingDir": request.workdir, "User": request.user}
    config |= {key: value for key, value in given.items() if value}
    config |= {"Labels": container.labels} if container.labels else {}
    if container.exposed:
        config["ExposedPorts"] = {str(port): {} for port in container.exposed}
    changed = ImageConfig.from_json({**document, "config": config, "created": now, "author": author})
    return replace(made, config=changed)
