"""``build``: from the words of a command line to a :class:`~dockermagic.build.request.BuildRequest` and its result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from dockermagic.build.request import BuildRequest, BuildResult, Output
from dockermagic.errors import ContextError, DockermagicError, UsageError
from dockermagic.verbs import values
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, Option, flag, many, text, unsupported
from dockermagic.verbs.outfile import cannot_write

__all__ = ["BUILD", "SOURCE_OPTIONS", "Source", "naming", "read_source", "request_for"]

MODES = ("auto", "plain", "quiet", "rawjson", "tty")
REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
ARCHIVE_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class Source:
    """What is built: the Dockerfile's text and name, the context, and the ignore patterns where they are known."""

    text: str
    filename: str
    context: Path | None
    ignore: tuple[str, ...] | None = None


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _read(path: Path) -> str:
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        raise ContextError(
            f"failed to read dockerfile: open {path}: no such file or directory", hint=_where(path)
        ) from None
    except IsADirectoryError:
        raise ContextError(f"failed to read dockerfile: {path} is a directory") from None
    except OSError as error:
        raise ContextError(f"failed to read dockerfile: open {path}: {os.strerror(error.errno or 0).lower()}") from None


def _where(path: Path) -> str:
    found = sorted(
        entry.name for entry in path.parent.glob("*") if "dockerfile" in entry.name.lower() and entry.is_file()
    )
    found = [name for name in found if not name.endswith(".dockerignore")]
    if found:
        return f"There is {', '.join(found[:5])} in {path.parent}: name it with -f."
    return "Name the Dockerfile with -f, or the directory that holds it."


def _stdin(console: Console) -> IO[bytes]:
    if console.stdin is None:
        raise UsageError("a cell has no standard input", hint="Give a directory, and the Dockerfile with -f.")
    return console.stdin


def _is_archive(start: bytes) -> bool:
    return start.startswith(ARCHIVE_MAGIC) or start[257:262] == b"ustar"


@contextmanager
def _unpacked(start: bytes, stream: IO[bytes]) -> Iterator[Path]:
    """A tar from stdin as a directory that is gone afterwards; entries that lead out of it are refused."""
    import io
    import tarfile
    import tempfile

    class Joined(io.RawIOBase):
        def __init__(self) -> None:
            self.start = start

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            view = memoryview(buffer)  # type: ignore[arg-type]
            if self.start:
                piece, self.start = self.start[: len(view)], self.start[len(view) :]
            else:
                piece = stream.read(len(view))
            view[: len(piece)] = piece
            return len(piece)

    def keep_mode(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        checked = tarfile.tar_filter(member, path)
        return checked.replace(mode=member.mode, deep=False) if checked else None

    with tempfile.TemporaryDirectory(prefix="dockermagic-context-") as directory:
        try:
            with tarfile.open(fileobj=io.BufferedReader(Joined()), mode="r|*") as archive:
                archive.extractall(directory, filter=keep_mode)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ContextError(f"the archive on standard input cannot be unpacked: {error}") from None
        yield Path(directory)


def _ignore_outside(path: Path | None, context: Path) -> tuple[str, ...] | None:
    """The patterns for a Dockerfile that does not lie in the context's root; None leaves them to the engine.

    ``NAME.dockerignore`` beside the Dockerfile wins over the context's ``.dockerignore``.
    """
    if path is not None and path.parent.resolve() == context.resolve():
        return None
    from dockermagic.dockerfile import ignore

    beside = [] if path is None else [path.with_name(f"{path.name}.dockerignore")]
    for candidate in [*beside, context / ".dockerignore"]:
        if candidate.is_file():
            try:
                return tuple(ignore.parse(_decode(candidate.read_bytes())))
            except OSError as error:
                raise ContextError(f"cannot read {candidate}: {os.strerror(error.errno or 0)}") from None
    return ()


@contextmanager
def read_source(console: Console, context: str, file: str) -> Iterator[Source]:
    """The Dockerfile and the context that the words name; ``-`` is standard input, as a Dockerfile or as a tar.

    A context from standard input is a temporary directory that lasts as long as the block. Raises ContextError and
    UsageError with what to do.
    """
    if context == "-" and file == "-":
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    if context.startswith(REMOTE):
        raise UsageError(
            f"a context from {context} is not supported yet",
            hint="Fetch it, for example with 'git clone', and give the directory.",
        )
    with ExitStack() as stack:
        if context == "-":
            stream = _stdin(console)
            if console.stdin_is_terminal:
                console.note("Reading the Dockerfile from the terminal; end it with Ctrl-D.")
            start = stream.read(1 << 16)
            if not _is_archive(start):
                if file:
                    raise UsageError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
                yield Source(_decode(start + stream.read()), "Dockerfile", None)
                return
            directory = stack.enter_context(_unpacked(start, stream))
            path = directory / (file or "Dockerfile")
        else:
            directory = Path(context)
            if not directory.exists():
                raise ContextError(
                    f'path "{context}" not found', hint="The last word is the build context: a directory, or '-'."
                )
            if not directory.is_dir():
                raise ContextError(
                    f"the build context must be a directory: {context}",
                    hint=f"Give the directory that holds it, and the file with -f: -f {context} {directory.parent}",
                )
            path = Path(file) if file else directory / "Dockerfile"
        if file == "-":
            yield Source(_decode(_stdin(console).read()), "Dockerfile", directory, _ignore_outside(None, directory))
            return
        if not file and not path.exists() and path.with_name("dockerfile").exists():
            path = path.with_name("dockerfile")
        yield Source(_read(path), path.name, directory, _ignore_outside(path, directory))


def _platform(value: str) -> str:
    import re

    for one in value.split(","):
        if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,2}(\([^)]*\))?", one.strip()):
            raise ValueError(f'"{one}" is an invalid platform: os/architecture[/variant]')
    return value


def _mode(value: str) -> str:
    if value not in MODES:
        raise ValueError(f"invalid progress mode {value}: there is {', '.join(MODES)}")
    return value


def _call(value: str) -> str:
    if value not in ("build", "check", "lint"):
        raise ValueError("only build and check are supported yet")
    return value


def _network(value: str) -> str:
    if value not in ("default", "host", "none"):
        raise ValueError(f"network mode '{value}' is not supported: there is default, host, none")
    return value


SOURCE_OPTIONS: tuple[Option, ...] = (
    text("file", "f", 'Name of the Dockerfile (default: "PATH/Dockerfile"); "-" reads it from standard input'),
    many("build-arg", "", "Set build-time variables"),
    text("target", "", "Set the target build stage to build"),
    text("platform", "", "Set target platform for build", check=_platform),
    many(
        "build-context",
        "",
        "Additional build contexts (e.g., name=path)",
        value="name=value",
        check=values.named_context,
    ),
)


def request_for(source: Source, arguments: Arguments) -> BuildRequest:
    """The part of a request that a build and a check share."""
    return BuildRequest(
        text=source.text,
        context=source.context,
        filename=source.filename,
        ignore=source.ignore,
        build_args=values.with_environment(arguments.many("build-arg"), os.environ),
        target=arguments.text("target"),
        platform=arguments.text("platform"),
        build_contexts=dict(values.named_context(value) for value in arguments.many("build-context")),
    )


def _outputs(console: Console, arguments: Arguments) -> tuple[Output, ...]:
    found = tuple(values.output(value) for value in arguments.many("output"))
    if any(one.dest == "-" for one in found) and console.stdout_is_terminal:
        raise UsageError(
            "dest file is required for this output; refusing to write to a terminal", hint="Add dest=FILE, or redirect."
        )
    return found


def _stages(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for value in values for name in value.split(",") if name)


def _options(request: BuildRequest, console: Console, arguments: Arguments) -> BuildRequest:
    shm = arguments.text("shm-size")
    ca = arguments.text("ca")
    if ca and not Path(ca).is_file():
        raise UsageError(f"--ca {ca}: no such file")
    return replace(
        request,
        tags=arguments.many("tag"),
        no_cache=arguments.flag("no-cache"),
        no_cache_stages=_stages(arguments.many("no-cache-filter")),
        labels=values.pairs(arguments.many("label")),
        secrets=dict(values.secret(value) for value in arguments.many("secret")),
        ssh=dict(values.ssh_agent(value) for value in arguments.many("ssh")),
        network=arguments.text("network"),
        hostname=arguments.text("hostname"),
        add_hosts=tuple(values.host_entry(value) for value in arguments.many("add-host")),
        ulimits=arguments.many("ulimit"),
        shm_size=values.size(shm) if shm else None,
        ca=Path(ca).absolute() if ca else None,
        pull=arguments.flag("pull"),
        outputs=_outputs(console, arguments),
    )


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Errors inside the block name the Dockerfile, where they know only its line."""
    try:
        yield
    except DockermagicError as error:
        if error.place is not None and not error.place.file:
            error.place = replace(error.place, file=source.filename)
        raise


def _image_id(console: Console, request: BuildRequest, result: BuildResult) -> str:
    """The id of the image that was built; one is made where neither a tag nor an output asked for it."""
    if result.image_id or request.outputs:
        return result.image_id
    return console.engine.commit_image(result.stages[result.target], ())


def build(console: Console, arguments: Arguments) -> int:
    """Build an image. Its id goes to stdout with ``-q`` and to a file with ``--iidfile``."""
    if arguments.flag("check") or arguments.text("call") in ("check", "lint"):
        from dockermagic.verbs.check import check

        return check(console, arguments)
    quiet = arguments.flag("quiet")
    mode = "quiet" if quiet else arguments.text("progress")
    iidfile = arguments.text("iidfile")
    if iidfile:
        Path(iidfile).unlink(missing_ok=True)
    with read_source(console, arguments.words[0], arguments.text("file")) as source:
        request = _options(request_for(source, arguments), console, arguments)
        with console.progress(mode, source.filename) as emit, naming(source):
            result = console.engine.build(request, emit)
            image_id = _image_id(console, request, result)
    if quiet and image_id:
        console.write(f"{image_id}\n")
    if iidfile:
        try:
            Path(iidfile).write_text(image_id, encoding="ascii")
        except OSError as error:
            raise cannot_write(iidfile, error) from None
    return 0


BUILD = Verb(
    "build",
    "[OPTIONS] PATH | -",
    "Build an image from a Dockerfile",
    build,
    (
        *SOURCE_OPTIONS,
        many("add-host", "", 'Add a custom host-to-IP mapping (format: "host:ip")', check=values.host_entry),
        text("ca", "", "Certificates that RUN trusts while it builds; they reach no layer", value="file"),
        text("call", "", 'Set method for evaluating build ("check")', default="build", check=_call),
        flag("check", "", 'Shorthand for "--call=check"'),
        text("hostname", "", "Host name inside of RUN"),
        text("iidfile", "", "Write the image ID to a file"),
        many("label", "", "Set metadata for an image", value="list"),
        text("network", "", "Set the networking mode for the RUN instructions", default="default", check=_network),
        flag("no-cache", "", "Do not use cache when building the image"),
        many("no-cache-filter", "", "Do not cache specified stages", value="stage"),
        many("output", "o", 'Output destination (format: "type=oci,dest=path")', value="string", check=values.output),
        text(
            "progress",
            "",
            'Set type of progress output ("auto", "plain", "quiet", "rawjson", "tty")',
            default="auto",
            check=_mode,
        ),
        flag("pull", "", "Always attempt to pull all referenced images"),
        flag("quiet", "q", "Suppress the build output and print image ID on success"),
        many(
            "secret",
            "",
            'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")',
            check=values.secret,
        ),
        text("shm-size", "", 'Shared memory size for RUN (format: "64m")', value="bytes", check=values.size),
        many(
            "ssh",
            "",
            'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>]")',
            value="string",
        ),
        many("tag", "t", 'Name and optionally a tag (format: "name:tag")', value="list"),
        many("ulimit", "", "Ulimit options", value="ulimit", check=values.ulimit),
        flag("compress", "", hidden=True),
        flag("force-rm", "", hidden=True),
        flag("load", "", hidden=True),
        flag("rm", "", hidden=True),
        text("builder", "", hidden=True),
        text("provenance", "", hidden=True),
        text("sbom", "", hidden=True),
        unsupported("push", "", "tag the image and push it."),
        unsupported("cache-from", "", "the cache is local."),
        unsupported("cache-to", "", "the cache is local."),
        unsupported("squash", "", "layers are kept as they were built."),
        unsupported("memory", "m", "there are no limits on memory."),
    ),
    (1, 1),
    more=(
        "PATH is the build context, a directory; '-' reads a Dockerfile, or a tar of a context, from standard input.\n"
        "The exit code is 0 when the image was built, and 1 with --check when there are warnings."
    ),
)
