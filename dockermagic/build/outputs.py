"""``--tag`` and ``--output``: an image in the store and registries, an archive or layout of it, or its files alone."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dockermagic.build.images import Packing
from dockermagic.build.internal import Internal, InternalStep
from dockermagic.build.request import BuildRequest, Output, StageResult
from dockermagic.errors import UsageError, full_disk_error, is_full
from dockermagic.oci.platform import Platform
from dockermagic.oci.reference import Reference
from dockermagic.oci.spec import INDEX, Descriptor, Index, encode
from dockermagic.values import dataclass, replace
from dockermagic.wholefile import whole_file

if TYPE_CHECKING:
    from dockermagic.build.builder import Builder

__all__ = ["Built", "check_output", "export"]

IMAGE_KINDS = ("docker", "image", "oci")
TREE_KINDS = ("local", "tar")
SWITCHES = (
    *("force-compression", "name-canonical", "oci-mediatypes", "platform-split", "push", "push-by-digest"),
    *("registry.insecure", "reproducible", "rewrite-timestamp", "tar"),
)
COMPRESSIONS = {"uncompressed": "none", "gzip": "gzip", "zstd": "zstd"}
IMAGE_OPTIONS = (
    *("compression", "compression-level", "force-compression", "name", "oci-mediatypes", "reproducible"),
    *("rewrite-timestamp", "tar"),
)
KNOWN = {
    **dict.fromkeys(IMAGE_KINDS, IMAGE_OPTIONS),
    "image": (*IMAGE_OPTIONS, "name-canonical", "push", "push-by-digest", "registry.insecure"),
    **dict.fromkeys(TREE_KINDS, ("platform-split",)),
    "cacheonly": (),
}


@dataclass(frozen=True, slots=True)
class Built:
    """A built target: ``platform`` as in ``linux/arm64``, ``epoch`` the SOURCE_DATE_EPOCH it was built with."""

    platform: str
    stage: StageResult
    epoch: float | None = None


def check_output(output: Output, tags: Sequence[str], platforms: int = 1) -> None:
    """Raises :class:`UsageError` for an output that could not be written, before anything is built.

    ``tags`` are the names of ``--tag``.
    """
    kind, options = output.type, output.options
    if kind not in KNOWN:
        raise UsageError(f"output type {kind} is not supported", hint=f"There are {', '.join(sorted(KNOWN))}.")
    for name in options:
        if name not in KNOWN[kind]:
            known = ", ".join(KNOWN[kind]) or "none"
            raise UsageError(f"output type {kind} has no option {name}", hint=f"Its options: {known}.")
    compression = options.get("compression", "gzip")
    if compression not in COMPRESSIONS:
        raise UsageError(
            f"unsupported layer compression type: {compression}", hint="There are uncompressed, gzip and zstd."
        )
    for name in SWITCHES:
        _switch(output, name, False)
    if _switch(output, "push", False) and not _names(output, tags):
        raise UsageError("tag is needed when pushing to registry", hint="Name the image: -t REGISTRY/NAME:TAG")
    level = options.get("compression-level", "0")
    if not level.lstrip("-").isdigit():
        raise UsageError(f"non-integer value {level} for compression-level")
    if kind == "local" and output.dest in ("", "-"):
        raise UsageError("dest is required for type local", hint="Name a directory: --output type=local,dest=DIR")
    if not _switch(output, "tar", True) and (kind != "oci" or output.dest in ("", "-")):
        raise UsageError("tar=false writes a directory", hint="Write --output type=oci,tar=false,dest=DIR")
    if platforms > 1 and kind == "docker" and output.dest:
        raise UsageError(
            "docker exporter does not currently support exporting manifest lists", hint="Write type=oci instead."
        )


def export(builder: Builder, built: Sequence[Built], request: BuildRequest, internal: Internal) -> str:
    """Tag and write what the request asks for; the id of the image, '' where none was made.

    Several platforms become a list of manifests, whose digest is the id. Every file appears whole or not at all.
    """
    stored = [one for one in request.outputs if one.type == "image" or (one.type == "docker" and not one.dest)]
    tags = [*request.tags, *(name for one in stored for name in _names(one, ()))]
    identity = ""
    if tags or stored or not request.outputs:
        identity = _stored(builder, built, request, tags, stored, internal)
    for output in request.outputs:
        if output.type in TREE_KINDS:
            _tree(builder, built, output, internal)
        elif output not in stored and output.type in IMAGE_KINDS:
            identity = _archive(builder, built, output, request, internal)
    return identity


def _stored(
    builder: Builder,
    built: Sequence[Built],
    request: BuildRequest,
    tags: Sequence[str],
    outputs: Sequence[Output],
    internal: Internal,
) -> str:
    """The image in the store, under its names; and in the registries that an output pushes it to."""
    references = [Reference.parse(tag) for tag in tags]
    with internal.step("exporting to image") as step, builder.store.lease():
        with step.part("exporting layers"):
            descriptor, identity = _image(builder, built, outputs[0] if outputs else Output("image", ""))
            if not references:
                builder.store.add(descriptor)
        with step.part(f"writing image {identity}"):
            pass
        for reference in references:
            with step.part(f"naming to {reference}"):
                builder.store.tag(reference, descriptor)
        for output in outputs:
            if _switch(output, "push", False):
                pushed = descriptor if output is outputs[0] else _image(builder, built, output)[0]
                _push(builder, pushed, output, _names(output, request.tags), step)
    return identity


def _push(builder: Builder, image: Descriptor, output: Output, names: Sequence[str], step: InternalStep) -> None:
    """Send the image to the registries of its names. Raises :class:`RegistryError`; the store has it all the same."""
    from dockermagic.oci.transfer import push

    options = {"insecure": True} if _switch(output, "registry.insecure", False) else {}
    for name in names:
        reference, shown = Reference.parse(name), f"{Reference.parse(name)}@{image.digest}"
        if _switch(output, "push-by-digest", False):
            reference = replace(reference, tag="", digest=image.digest)
            shown = str(reference)
        with step.part(f"pushing manifest for {shown}"):
            push(builder.store, reference, image, notify=step.transfer, **options)


def _archive(
    builder: Builder, built: Sequence[Built], output: Output, request: BuildRequest, internal: Internal
) -> str:
    from dockermagic.oci.archive import save_image
    from dockermagic.oci.layout import save_layout

    names = [Reference.parse(name) for name in _names(output, request.tags)]
    shown = "oci" if output.type == "oci" else "docker"
    with internal.step(f"exporting to {shown} image format") as step, builder.store.lease():
        with step.part("exporting layers"):
            descriptor, identity = _image(builder, built, output)
        with step.part(f"exporting manifest {descriptor.digest}"):
            pass
        if not _switch(output, "tar", True):
            with step.part("copying files"), _clear(output.dest):
                save_layout(builder.store, descriptor, names, Path(output.dest))
        else:
            with step.part("sending tarball"), _opened(output.dest) as file:
                save_image(builder.store, descriptor, names, file, format=shown)
    return identity


def _image(builder: Builder, built: Sequence[Built], output: Output) -> tuple[Descriptor, str]:
    """The manifest of one platform, or the list of several; and the image's id. Inside a lease."""
    manifests = []
    for one in built:
        image = builder.image(one.stage, _packing(output, one.epoch))
        manifests.append(replace(image.write(builder.store), platform=Platform.parse(one.platform)))
    if len(built) == 1:
        return replace(manifests[0], platform=None), image.id
    descriptor = builder.store.put(encode(Index(manifests=tuple(manifests))), INDEX)
    return descriptor, descriptor.digest


def _packing(output: Output, epoch: float | None) -> Packing:
    level = output.options.get("compression-level", "")
    if _switch(output, "reproducible", False):
        from dockermagic.oci.compression import PINNED_LEVEL

        kind = COMPRESSIONS[output.options.get("compression", "gzip")]
        return Packing(kind, int(level) if level else PINNED_LEVEL, int(epoch or 0), one_time=True)
    return Packing(
        COMPRESSIONS[output.options.get("compression", "gzip")],
        int(level) if level else None,
        int(epoch) if epoch is not None and _switch(output, "rewrite-timestamp", False) else None,
        _switch(output, "force-compression", False),
    )


def _names(output: Output, tags: Sequence[str]) -> list[str]:
    given = output.options.get("name", "")
    return [name.strip() for name in given.split(",") if name.strip()] or list(tags)


def _switch(output: Output, name: str, default: bool) -> bool:
    text = output.options.get(name, "").lower()
    if text not in ("", "1", "0", "t", "f", "true", "false"):
        raise UsageError(f"non-bool value {text} for {name}")
    return text in ("1", "t", "true") if text else default


# the root filesystem


def _tree(builder: Builder, built: Sequence[Built], output: Output, internal: Internal) -> None:
    split = _switch(output, "platform-split", len(built) > 1)
    if len(built) > 1 and not (split and output.type == "local"):
        raise UsageError(
            f"--output type={output.type} of several platforms needs a directory for each",
            hint="Write type=local,dest=DIR, or build one platform at a time.",
        )
    kind = "directory" if output.type == "local" else "tarball"
    with internal.step(f"exporting to client {kind}") as step:
        for one in built:
            with step.part("copying files" if output.type == "local" else "sending tarball"):
                latest = int(one.epoch) if one.epoch is not None else None
                layers = [str(builder.snapshotter().base / str(number) / "fs") for number in one.stage.snapshots]
                if output.type == "local":
                    place = Path(output.dest, one.platform.replace("/", "_")) if split else Path(output.dest)
                    left_out = _to_directory(builder, layers, latest, place)
                    if left_out:
                        step.status(f"left out {left_out} devices, which only root can make", 0)
                else:
                    with _opened(output.dest) as file:
                        for block in _flat(builder, layers, latest):
                            file.write(block)


def _to_directory(builder: Builder, layers: list[str], latest: int | None, place: Path) -> int:
    from dockermagic.build.localdir import write_directory

    with contextlib.closing(_flat(builder, layers, latest)) as blocks:
        return write_directory(blocks, place)


def _flat(builder: Builder, layers: list[str], latest: int | None) -> Generator[bytes, None, None]:
    """The tree of layers as the blocks of a tar, which the sandbox's worker writes into a pipe meanwhile."""
    reading, writing = os.pipe()
    problems: list[BaseException] = []

    def produce() -> None:
        try:
            call = builder.sandbox().call
            call("dockermagic.oci.flatten:flatten", fds={"out": writing}, layers=layers, latest=latest)
        except BaseException as error:
            problems.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=produce, name="dockermagic-flatten", daemon=True)
    thread.start()
    try:
        while data := os.read(reading, 1 << 20):
            yield data
    finally:
        os.close(reading)
        thread.join()
    if problems:
        raise problems[0]


# the destination


@contextlib.contextmanager
def _clear(dest: str) -> Iterator[None]:
    """What the system refuses, in words."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk_error(dest, "Make room there, or write to another place.") from None
        raise UsageError(f"cannot write {dest}: {os.strerror(error.errno or 0)}") from None


@contextlib.contextmanager
def _opened(dest: str) -> Iterator[IO[bytes]]:
    """The destination: a file that appears when it is whole, a device or pipe as it is, or standard output ('-')."""
    if dest in ("-", ""):
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    path = Path(dest)
    with _clear(dest):
        if path.is_dir():
            raise UsageError(
                f"destination directory {dest} cannot be a directory", hint="Name a file, or use type=local."
            )
        with whole_file(path) as file:
            yield file
