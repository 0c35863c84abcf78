"""``SOURCE_DATE_EPOCH``: the time that an image's new parts have, for builds that give the same bits again."""

from __future__ import annotations

from pathlib import Path

from dockermagic.build.contexts import Contexts
from dockermagic.build.request import BuildRequest
from dockermagic.build.values import is_http_url
from dockermagic.dockerfile import model
from dockermagic.dockerfile.stages import Dockerfile, global_scope
from dockermagic.errors import BuildError

__all__ = ["source_date_epoch"]

HINT = "It is a number of seconds since 1970, `context`, or the name of a stage that only adds one remote file."


def source_date_epoch(dockerfile: Dockerfile, request: BuildRequest, contexts: Contexts, home: Path) -> float | None:
    """The epoch in seconds from the build arg or a global ARG's default; None where it is empty or not set.

    ``context`` stands for the time of a remote context, the name of a context for that one's, and a stage's name for
    that of the remote file it adds. Raises :class:`BuildError` for anything else.
    """
    name = "SOURCE_DATE_EPOCH"
    text = request.build_args[name] if name in request.build_args else _default(dockerfile, request)
    if not text:
        return None
    if text in request.build_contexts:
        return contexts.time(text)
    if text == "context":
        return contexts.time("")
    if text.isascii() and text.isdigit():
        return float(text)
    for stage in dockerfile.stages:
        if stage.name and stage.name == text:
            return _of_stage(stage.base, stage.instructions, request, home)
    raise BuildError(f"invalid SOURCE_DATE_EPOCH: {text}", hint=HINT)


def _default(dockerfile: Dockerfile, request: BuildRequest) -> str:
    declared = any(name == "SOURCE_DATE_EPOCH" for arg in dockerfile.global_args for name, _ in arg.args)
    return global_scope(dockerfile, request.build_args).values.get("SOURCE_DATE_EPOCH", "") if declared else ""


def _of_stage(
    base: model.From, instructions: tuple[model.Instruction, ...], request: BuildRequest, home: Path
) -> float | None:
    problem = "SOURCE_DATE_EPOCH stage does not meet source-only requirements"
    if base.image != "scratch":
        raise BuildError(f"{problem}: it must be FROM scratch", hint=HINT)
    for instruction in instructions:
        if not isinstance(instruction, model.Add):
            raise BuildError(f"{problem}: unsupported {instruction.name} instruction", hint=HINT)
    if len(instructions) != 1:
        raise BuildError(f"{problem}: it must have exactly one ADD", hint=HINT)
    (add,) = instructions
    assert isinstance(add, model.Add)
    if len(add.sources) != 1 or not is_http_url(add.sources[0]):
        raise BuildError(f"{problem}: its ADD must have one remote source", hint=HINT)
    from dockermagic.build.remote import Downloads

    mtime = Downloads(home / "downloads", request).get(add.sources[0], add.checksum or "").mtime
    return mtime / 1_000_000_000 if mtime else None
