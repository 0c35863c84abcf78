"""What the linter finds in the Dockerfile of a build, with what the store knows of base images."""

from __future__ import annotations

from collections.abc import Sequence

from dockermagic.build.contexts import context_name
from dockermagic.build.internal import InternalStep
from dockermagic.build.platforms import platforms_of
from dockermagic.build.request import BuildRequest
from dockermagic.dockerfile.linter import BaseImage, Report, check
from dockermagic.errors import BuildError, InvalidReferenceError, Place
from dockermagic.events import Warning
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.store import Store

__all__ = ["review", "warn"]


def review(store: Store, request: BuildRequest, ignored: Sequence[str], *, reachable_only: bool) -> Report:
    """The linter's findings; ``ignored`` are the patterns of what the context leaves out."""
    return check(
        request.text,
        ignore=list(ignored),
        reachable_only=reachable_only,
        build_args=request.build_args,
        target=request.target or None,
        platform=platforms_of(request)[0],
        bases=lambda name: _known_base(store, name),
        contexts=tuple(map(context_name, request.build_contexts)),
    )


def _known_base(store: Store, name: str) -> BaseImage | None:
    """What the linter can use of a base image that is here already."""
    try:
        descriptor = store.resolve(Reference.parse(name))
    except InvalidReferenceError:
        return None
    if descriptor is None:
        return None
    image = Image.load(store, descriptor)
    env = dict(entry.split("=", 1) for entry in image.config.config.env if "=" in entry)
    made = image.config.config
    return BaseImage(env, str(image.config.platform), made.shell, made.onbuild)


def warn(report: Report, request: BuildRequest, step: InternalStep) -> None:
    """Tell the warnings that concern a build. Raises where ``# check=error=true`` makes errors of them."""
    lines = request.text.split("\n")
    for found in report.diagnostics:
        short = f"{found.rule}: {found.detail} (line {found.line})"
        detail = (found.description,) if found.description else ()
        place = found.place(lines)
        step.emit(Warning(step.digest, 1, short, detail, found.url, found.line, found.rule, place))
    if report.violation and report.error is None:
        first = report.diagnostics[0]
        raise BuildError(
            report.message,
            place=Place(first.line, file=request.filename),
            hint="Mend them, or take error=true out of the # check= line.",
        )
