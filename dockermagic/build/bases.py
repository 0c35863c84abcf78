"""Base images made on this machine, put into the store as images of one layer."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from dockermagic import bases
from dockermagic.build.builder import Builder
from dockermagic.build.config import timestamp
from dockermagic.build.images import Images
from dockermagic.build.internal import Internal
from dockermagic.build.request import BuildRequest
from dockermagic.errors import ImageNotFoundError
from dockermagic.events import Emit, Log, now
from dockermagic.hostfacts import host_certificates, host_codename, host_pip_settings
from dockermagic.oci import disk
from dockermagic.oci.lock import temporary_directory
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.sandbox.snapshot import Active
from dockermagic.standins import LABEL, Standin, find_standin

__all__ = ["can_make", "make_base"]


def can_make(name: str) -> bool:
    """Whether :func:`make_base` knows the name, on a host that is Linux."""
    return not disk.RECORDED and (bases.find_base(name) is not None or _standin(name) is not None)


def make_base(name: str, builder: Builder, emit: Emit) -> list[str]:
    """Make a base image or a stand-in and tag it; notes on what it was made of.

    Raises :class:`ImageNotFoundError` for a name that cannot be made, and where a program for it is missing. Call it
    inside a lease.
    """
    if disk.RECORDED:
        raise ImageNotFoundError(
            f"{name} cannot be made here: that takes the packages of a Linux machine",
            hint=f"Pull it, make it on Linux and save it there, or load another: dockermagic pull {name}",
        )
    base, standin = bases.find_base(name), _standin(name)
    if base is not None:
        return _make(base, builder.images(), emit)
    if standin is not None:
        return _build(standin, builder, emit)
    raise ImageNotFoundError(
        f"{name} cannot be made on this machine",
        hint="busybox, debian, ubuntu, alpine and python can. Load others: dockermagic load -i FILE",
    )


def _standin(name: str) -> Standin | None:
    certificates = host_certificates().get("etc/ssl/certs/ca-certificates.crt", b"")
    return find_standin(name, host_codename() or "bookworm", host_pip_settings(os.environ), certificates)


def _build(standin: Standin, builder: Builder, emit: Emit) -> list[str]:
    """A stand-in, on a base that is made first where it is not here."""
    notes = []
    base = bases.find_base(standin.base)
    if base is not None and builder.store.resolve(Reference.parse(standin.base)) is None:
        notes = _make(base, builder.images(), emit)[1:]
    with temporary_directory(builder.home / "contexts", "base-") as context:
        for name, content in standin.files.items():
            (Path(context) / name).write_bytes(content)
        request = BuildRequest(
            standin.text,
            context=Path(context),
            filename=f"{standin.reference} (stand-in)",
            tags=(standin.reference,),
            labels={LABEL: "a stand-in, made on this machine from Debian's packages"},
            trail=f"base {standin.reference}",
        )
        builder.build(request, emit)
    first = f"{standin.reference} is a stand-in, made on this machine; it is not the image of that name on Docker Hub"
    return [first, *standin.notes, *notes]


def _make(base: bases.Base, images: Images, emit: Emit) -> list[str]:
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
                "Labels": {LABEL: "made on this machine"},
            },
            "history": [{"created": timestamp(created), "created_by": base.created_by, "comment": "dockermagic base"}],
        }
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
