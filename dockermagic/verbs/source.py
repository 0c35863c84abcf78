"""What ``build`` and ``check`` look at: the Dockerfile and the context that the words of a command line name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from dockermagic.build.request import BuildRequest
from dockermagic.dockerfile import ignore
from dockermagic.dockerfile.gitref import parse_git_ref
from dockermagic.errors import ContextError, UsageError
from dockermagic.values import dataclass
from dockermagic.verbs.base import Console

__all__ = ["Source", "read_source"]

LARGEST = 16 << 20
AMBIGUOUS = "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"


@dataclass(frozen=True, slots=True)
class Source:
    """What is built: the Dockerfile's text and name, the context, and the ignore patterns where they are known.

    ``origin`` is what the context was made of for this command alone, and ``time`` when that was made.
    """

    text: str
    filename: str
    context: Path | None
    ignore: tuple[str, ...] | None = None
    origin: str = ""
    time: float | None = None


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _read(path: Path, shown: str = "") -> str:
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ContextError(
            f"failed to read dockerfile: open {shown}: no such file or directory", hint=_where(path)
        ) from None
    except IsADirectoryError:
        raise ContextError(f"failed to read dockerfile: {shown} is a directory") from None
    except OSError as error:
        said = os.strerror(error.errno or 0).lower()
        raise ContextError(f"failed to read dockerfile: open {shown}: {said}") from None
    if len(data) > LARGEST:
        raise ContextError(f"failed to read dockerfile: {shown} is larger than {LARGEST >> 20} MB")
    return _decode(data)


def _where(path: Path) -> str:
    found = sorted(
        entry.name for entry in path.parent.glob("*") if "dockerfile" in entry.name.lower() and entry.is_file()
    )
    found = [name for name in found if not name.endswith(".dockerignore")]
    if found:
        return f"There is {', '.join(found[:5])} beside it: name it with -f."
    return "Name the Dockerfile with -f, or the directory that holds it."


def _stdin(console: Console) -> IO[bytes]:
    if console.stdin is None:
        raise UsageError("a cell has no standard input", hint="Give a directory, and the Dockerfile with -f.")
    if console.stdin_is_terminal:
        console.note("Reading from the terminal; end it with Ctrl-D.")
    return console.stdin


def _ignore_outside(path: Path | None, context: Path, *, whose: Path | None = None) -> tuple[str, ...] | None:
    """The patterns for a Dockerfile that does not lie in the context's root; None leaves them to the engine.

    ``NAME.dockerignore`` beside the Dockerfile wins over the context's ``.dockerignore``. ``whose`` is the context
    where it is a stranger's: then no link leads out of it.
    """
    if whose is None and path is not None and path.parent.resolve() == context.resolve():
        return None
    beside = [] if path is None else [path.with_name(f"{path.name}.dockerignore")]
    for candidate in [*beside, context / ".dockerignore"]:
        if candidate.is_file() and (whose is None or _is_inside(candidate, whose)):
            try:
                return tuple(ignore.parse(_decode(candidate.read_bytes())))
            except OSError as error:
                raise ContextError(f"cannot read {candidate}: {os.strerror(error.errno or 0)}") from None
    return ()


def _is_inside(path: Path, directory: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())


def _has_to_be_opened(context: str) -> bool:
    """Whether it is a URL, a repository or a file; a directory is none of these, whatever its name."""
    if context.startswith(("http://", "https://")):
        return True
    ref = parse_git_ref(context)
    if ref is not None and not (ref.maybe_local and os.path.exists(context)):
        return True
    return os.path.isfile(context)


@contextmanager
def read_source(console: Console, context: str, file: str, asked: BuildRequest | None = None) -> Iterator[Source]:
    """The Dockerfile and the context that the words name.

    A context is a directory, a tar, a URL, a git repository, or ``-``: standard input, as a Dockerfile or as a tar.
    What is no directory becomes one that lasts as long as the block; ``asked`` has the secrets for fetching it. Raises
    ContextError and UsageError with what to do.
    """
    if context == "-" and file == "-":
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    if context != "-" and not _has_to_be_opened(context):
        yield _in_directory(console, context, file)
        return
    with ExitStack() as stack:
        stream: str | IO[bytes] = _stdin(console) if context == "-" else context
        opened = stack.enter_context(console.engine.open_context(stream, asked or BuildRequest("")))
        if opened.directory is None:
            if os.path.isfile(context):
                directory = os.path.dirname(context) or "."
                raise ContextError(
                    f"the build context must be a directory or a tar: {context}",
                    hint=f"Give the directory that holds it, and the file with -f: -f {context} {directory}",
                )
            if file:
                raise UsageError(AMBIGUOUS)
            yield Source(_decode(opened.dockerfile or b""), "Dockerfile", None, None, context, opened.time)
            return
        if file == "-":
            text, path = _decode(_stdin(console).read()), None
        else:
            path = _dockerfile(opened.directory, file)
            if not _is_inside(path, opened.directory):
                raise ContextError(f"{file or path.name} leads out of the build context")
            text = _read(path, file or path.name)
        ignored = _ignore_outside(path, opened.directory, whose=opened.directory)
        yield Source(text, path.name if path else "Dockerfile", opened.directory, ignored, context, opened.time)


def _in_directory(console: Console, context: str, file: str) -> Source:
    directory = Path(context)
    if not directory.exists():
        raise ContextError(
            f'path "{context}" not found', hint="The last word is the build context: a directory, or '-'."
        )
    if not directory.is_dir():
        raise ContextError(f"the build context must be a directory or a tar: {context}")
    if file == "-":
        return Source(_decode(_stdin(console).read()), "Dockerfile", directory, _ignore_outside(None, directory))
    path = Path(file) if file else _dockerfile(directory, "")
    return Source(_read(path), path.name, directory, _ignore_outside(path, directory))


def _dockerfile(directory: Path, file: str) -> Path:
    """Where the Dockerfile lies; without a name it may be in small letters."""
    path = directory / (file or "Dockerfile")
    small = directory / "dockerfile"
    return small if not file and not path.exists() and small.exists() else path
