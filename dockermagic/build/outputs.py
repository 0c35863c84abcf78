"""``--output``: the built image as an archive, or its root filesystem as a tar or a directory."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from dockermagic.build.request import BuildRequest, Output, StageResult
from dockermagic.errors import UsageError
from dockermagic.oci.reference import Reference

if TYPE_CHECKING:
    from dockermagic.build.builder import Builder

__all__ = ["write_output"]


def write_output(builder: Builder, stage: StageResult, output: Output, request: BuildRequest) -> str:
    """Write one output; the image's id, '' for an output that is no image. Raises :class:`UsageError`."""
    if output.type in ("oci", "docker"):
        from dockermagic.oci.archive import save_image

        options = _options(output, request)
        names = [Reference.parse(tag) for tag in request.tags]
        if output.options.get("name"):
            names = [Reference.parse(name) for name in output.options["name"].split(",")]
        with builder.store.lease():
            image = builder.image(stage, options)
            descriptor = image.write(builder.store)
            with _opened(output) as file:
                save_image(builder.store, descriptor, names, file, format=output.type)
        return image.id
    raise UsageError(
        f"output type {output.type} is not supported",
        hint="Write --output type=oci,dest=FILE or type=docker,dest=FILE.",
    )


def _options(output: Output, request: BuildRequest) -> dict[str, Any]:
    options: dict[str, Any] = {}
    epoch = request.build_args.get("SOURCE_DATE_EPOCH", "")
    if output.options.get("rewrite-timestamp", "").lower() in ("1", "true") and epoch:
        options["source_date_epoch"] = int(epoch)
    if "compression" in output.options:
        options["compression"] = {"uncompressed": "none"}.get(
            output.options["compression"], output.options["compression"]
        )
    return options


class _opened:
    """The destination: a file that appears when it is whole, or standard output."""

    def __init__(self, output: Output) -> None:
        self.dest = output.dest
        self.file: IO[bytes] | None = None
        self.aside = f"{self.dest}.partial"

    def __enter__(self) -> IO[bytes]:
        if self.dest in ("-", ""):
            return sys.stdout.buffer
        try:
            self.file = open(self.aside, "wb")
        except OSError as error:
            raise UsageError(f"cannot write {self.dest}: {error.strerror}") from error
        return self.file

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import os

        if self.file is None:
            sys.stdout.flush()
            return
        self.file.close()
        if error is None:
            os.replace(self.aside, self.dest)
        else:
            os.unlink(self.aside)
