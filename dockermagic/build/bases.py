"""Base images made on this machine, put into the store as images of one layer."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from dockermagic import bases
from dockermagic.build.config import timestamp
from dockermagic.build.images import Images
from dockermagic.build.internal import Internal
from dockermagic.errors import ImageNotFoundError
from dockermagic.events import Emit, Log, now
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.sandbox.snapshot import Active

__all__ = ["make_base"]


def make_base(name: str, images: Images, emit: Emit) -> list[str]:
    """Make ``busybox`` or ``debian:SUITE`` and tag it; notes on what it was made of.

    Raises :class:`ImageNotFoundError` for a name that cannot be made, and where a program for it is missing.
    """
    base = bases.find_base(name)
    if base is None:
        raise ImageNotFoundError(
            f"{name} cannot be made on this machine",
            hint="busybox and debian:bookworm (or another suite) can. Load others: dockermagic load -i FILE",
        )
    with Internal(emit).step(f"make {base.reference} from this machine's own packages") as step:
        active = images.snapshotter.prepare(None)
        try:
            if base.kind == "busybox":
                notes = _busybox(images, active)
            else:
                notes = _debian(base, images, active, step.digest, emit)
            created = bases.find_busybox().stat().st_mtime if base.kind == "busybox" else time.time()
            snapshot = images.snapshotter.commit(active, f"base:{base.reference}:{os.urandom(8).hex()}")
        except BaseException:
            images.snapshotter.discard(active)
            raise
        platform = Platform.host()
        config: dict[str, Any] = {
            "architecture": platform.architecture,
            "os": platform.os,
            "created": timestamp(created),
            "config": {
                "Env": [f"{key}={value}" for key, value in base.env],
                "Cmd": list(base.command),
                "Labels": {"org.dockermagic.base": "made on this machine"},
            },
            "history": [{"created": timestamp(created), "created_by": base.created_by, "comment": "dockermagic base"}],
        }
        with images.store.lease():
            snapshot = images.same_layer(snapshot)
            descriptor = images.assemble(config, [snapshot], None).write(images.store)
            images.store.tag(Reference.parse(base.reference), descriptor)
    return [f"{base.reference} is made; it is not the image of that name on Docker Hub", *notes]


def _busybox(images: Images, active: Active) -> list[str]:
    with tempfile.TemporaryFile(dir=images.store.home / "ingest") as file:
        notes = bases.write_busybox(file)
        file.flush()
        file.seek(0)
        images.sandbox.call("dockermagic.oci.unpack:unpack", fds={"blob": file.fileno()}, directory=str(active.upper))
    return list(notes)


def _debian(base: bases.Base, images: Images, active: Active, vertex: str, emit: Emit) -> list[str]:
    """mmdebstrap in the sandbox; its output is the step's log."""
    read, write = os.pipe()
    import threading

    def forward() -> None:
        with open(read, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                emit(Log(vertex, 2, data, now()))

    reader = threading.Thread(target=forward, name="dockermagic-base", daemon=True)
    reader.start()
    try:
        done = images.sandbox.call(
            "dockermagic.bases:fill_debian",
            fds={"log": write},
            root=str(active.upper),
            suite=base.suite,
            slim=base.slim,
            environment={name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        )
    finally:
        os.close(write)
        reader.join()
    return list(done["notes"])
