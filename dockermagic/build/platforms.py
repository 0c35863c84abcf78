"""``--platform`` with several platforms: one build for each, side by side in one list of manifests."""

from __future__ import annotations

import hashlib

from dockermagic.build.request import BuildRequest
from dockermagic.errors import UsageError
from dockermagic.events import Emit, Event, Log, Status, Vertex, Warning
from dockermagic.oci.platform import Platform
from dockermagic.values import replace

__all__ = ["labelled", "platforms_of"]

ONCE = ("[internal] load build definition", "[internal] load .dockerignore", "[internal] load build context")


def platforms_of(request: BuildRequest) -> list[str]:
    """The platforms that a request asks for, in their order and each once; this machine's where it names none.

    ``local`` stands for this machine's. Raises :class:`UsageError`.
    """
    words = [word.strip() for word in request.platform.split(",")] if request.platform else ["local"]
    if not all(words):
        raise UsageError(f"invalid platform list {request.platform!r}", hint="For example linux/amd64,linux/arm64.")
    found = (Platform.host() if word.lower() == "local" else Platform.parse(word) for word in words)
    return list(dict.fromkeys(str(platform) for platform in found))


def labelled(emit: Emit, platform: str, *, first: bool) -> Emit:
    """Events of one platform's build among others: steps are named ``[linux/arm64 2/3] RUN ...``.

    What concerns the build as a whole is told by the ``first`` alone.
    """
    silent: set[str] = set()

    def rename(digest: str) -> str:
        return "sha256:" + hashlib.sha256(f"{platform}\0{digest}".encode()).hexdigest()

    def forward(event: Event) -> None:
        match event:
            case Vertex():
                if not first and event.name.startswith(ONCE):
                    silent.add(event.digest)
                if event.digest in silent:
                    return
                name = event.name
                if name.startswith("[") and not name.startswith(ONCE):
                    name = f"[{platform} {name[1:]}"
                emit(replace(event, digest=rename(event.digest), name=name))
            case Status() | Log():
                if event.vertex not in silent:
                    emit(replace(event, vertex=rename(event.vertex)))
            case Warning():
                if first:
                    emit(replace(event, vertex=rename(event.vertex)))

    return forward
