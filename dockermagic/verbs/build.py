"""``build``: from the words of a command line to a :class:`~dockermagic.build.request.BuildRequest` and its result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dockermagic.build.request import BuildRequest, BuildResult, Output
from dockermagic.errors import DockermagicError, UsageError
from dockermagic.sandbox.base import parse_ulimit
from dockermagic.values import replace
from dockermagic.verbs import values
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, Option, flag, many, text, unsupported
from dockermagic.verbs.outfile import cannot_write
from dockermagic.verbs.source import Source, read_source

__all__ = ["BUILD", "SOURCE_OPTIONS", "naming", "request_for"]

MODES = ("auto", "plain", "quiet", "rawjson", "tty")


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
    """The part of a request that a build and a check share. $SOURCE_DATE_EPOCH is a build argument, as for buildx."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return BuildRequest(
        text=source.text,
        context=source.context,
        filename=source.filename,
        ignore=source.ignore,
        context_from=source.origin,
        context_time=source.time,
        build_args={
            **({"SOURCE_DATE_EPOCH": epoch} if epoch else {}),
            **values.with_environment(arguments.many("build-arg"), os.environ),
        },
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


def _pushed(request: BuildRequest) -> BuildRequest:
    """The same request for an image that goes to the registries of its names, too."""
    outputs = tuple(
        replace(one, options={**one.options, "push": "true"}) if one.type == "image" else one for one in request.outputs
    )
    if not any(one.type == "image" for one in outputs):
        outputs = (Output("image", "", {"push": "true"}), *outputs)
    return replace(request, outputs=outputs)


def _reproducible(request: BuildRequest) -> BuildRequest:
    """The same request for an image that is the same bit by bit, whoever builds it, where and when."""
    outputs = tuple(
        replace(one, options={**one.options, "reproducible": "true"}) if one.type in ("docker", "image", "oci") else one
        for one in request.outputs
    )
    is_stored = any(one.type == "image" or (one.type == "docker" and not one.dest) for one in outputs)
    if not is_stored and (request.tags or not outputs):
        outputs = (Output("image", "", {"reproducible": "true"}), *outputs)
    return replace(request, build_args={"SOURCE_DATE_EPOCH": "0", **request.build_args}, outputs=outputs)


def _stages(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for value in values for name in value.split(",") if name)


def _options(request: BuildRequest, console: Console, arguments: Arguments) -> BuildRequest:
    shm = arguments.text("shm-size")
    ca = arguments.text("ca")
    if ca and not Path(ca).is_file():
        raise UsageError(f"--ca {ca}: no such file")
    asked = replace(
        request,
        tags=arguments.many("tag"),
        no_cache=arguments.flag("no-cache"),
        no_cache_stages=_stages(arguments.many("no-cache-filter")),
        labels=values.pairs(arguments.many("label")),
        secrets=dict(values.secret(value) for value in arguments.many("secret")),
        ssh=values.ssh_agents(arguments.many("ssh")),
        network=arguments.text("network"),
        hostname=arguments.text("hostname"),
        add_hosts=tuple(values.host_entry(value) for value in arguments.many("add-host")),
        ulimits=arguments.many("ulimit"),
        shm_size=values.size(shm) if shm else None,
        ca=Path(ca).absolute() if ca else None,
        pull=arguments.flag("pull"),
        cache_from=tuple(values.cache(value) for value in arguments.many("cache-from")),
        cache_to=tuple(values.cache(value) for value in arguments.many("cache-to")),
        outputs=_outputs(console, arguments),
    )
    asked = _pushed(asked) if arguments.flag("push") else asked
    return _reproducible(asked) if arguments.flag("reproducible") else asked


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
    method, form = values.call_method(arguments.text("call"))
    if arguments.flag("check") or method == "check":
        from dockermagic.verbs.check import check

        return check(console, arguments, form)
    if method != "build":
        from dockermagic.verbs.call import describe

        return describe(console, arguments, method, form)
    if name := arguments.text("sandbox"):
        console.engine.use_sandbox(name)
    quiet = arguments.flag("quiet")
    mode = "quiet" if quiet else arguments.text("progress")
    iidfile = arguments.text("iidfile")
    if iidfile:
        Path(iidfile).unlink(missing_ok=True)
    asked = _options(request_for(Source("", "", None), arguments), console, arguments)
    with read_source(console, arguments.words[0], arguments.text("file"), asked) as source:
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
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    build,
    (
        *SOURCE_OPTIONS,
        many("add-host", "", 'Add a custom host-to-IP mapping (format: "host:ip")', check=values.host_entry),
        many(
            "cache-from",
            "",
            'External cache sources (e.g., "type=registry,ref=user/app:cache", "type=local,src=path/to/dir")',
            value="string",
            check=values.cache,
        ),
        many(
            "cache-to",
            "",
            'Cache export destinations (e.g., "type=registry,ref=...", "type=local,dest=path/to/dir", "type=inline")',
            value="string",
            check=values.cache,
        ),
        text("ca", "", "Certificates that RUN trusts while it builds; they reach no layer", value="file"),
        text(
            "call",
            "",
            'Set method for evaluating build ("check", "outline", "targets"; ",format=json")',
            default="build",
            check=values.call_method,
        ),
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
        flag("push", "", 'Shorthand for "--output=type=registry"'),
        flag("pull", "", "Always attempt to pull all referenced images"),
        flag("quiet", "q", "Suppress the build output and print image ID on success"),
        flag(
            "reproducible", "", "The same image bit by bit: times of $SOURCE_DATE_EPOCH (or 1970), a pinned compressor"
        ),
        text("sandbox", "", "What runs a RUN, from now on ('info' tells which there are)", value="name"),
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
            'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")',
            value="string",
            check=values.ssh_agent,
        ),
        many("tag", "t", 'Name and optionally a tag (format: "name:tag")', value="list"),
        many("ulimit", "", "Ulimit options", value="ulimit", check=parse_ulimit),
        flag("compress", "", hidden=True),
        flag("force-rm", "", hidden=True),
        flag("load", "", hidden=True),
        flag("rm", "", hidden=True),
        text("builder", "", hidden=True),
        text("provenance", "", hidden=True),
        text("sbom", "", hidden=True),
        unsupported("squash", "", "layers are kept as they were built."),
        unsupported("memory", "m", "there are no limits on memory."),
    ),
    (1, 1),
    more=(
        "PATH is the build context, a directory or a tar; URL is a tar, a Dockerfile or a git repository\n"
        "(URL#branch:directory); '-' reads a Dockerfile, or a tar of a context, from standard input.\n"
        "The exit code is 0 when the image was built, and 1 with --check when there are warnings."
    ),
)
