"""``run``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dockermagic.containers.request import RunRequest, parse_volume
from dockermagic.errors import ContainerError, UsageError
from dockermagic.verbs import values
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, many, text, unsupported

__all__ = ["RUN", "env_file", "environment", "request_for"]


def env_file(path: str, known: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The lines of an ``--env-file``: ``NAME=value``, or ``NAME`` for what this process has; ``#`` begins a comment."""
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"env file {path} contains invalid utf8 bytes") from None
    except OSError as error:
        raise UsageError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from None
    found: list[tuple[str, str | None]] = []
    for line in content.splitlines():
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name:
            raise UsageError(f"no variable name on line '{line}' of {path}")
        if any(letter.isspace() for letter in name):
            raise UsageError(f"variable '{name}' contains whitespaces, in {path}")
        if equals:
            found.append((name, value))
        elif name in known:
            found.append((name, known[name]))
    return found


def environment(entries: tuple[str, ...], known: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The values of ``-e``: ``NAME=value``; a name alone is taken from here, or removed where it is not set here."""
    found: list[tuple[str, str | None]] = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        found.append((name, value if equals else known.get(name)))
    return found


def _env_entry(value: str) -> str:
    if not value.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {value}")
    return value


def _network(value: str) -> str:
    if value not in ("host", "none", "default", "bridge"):
        raise ValueError(f"network '{value}' is not supported: there is host, none")
    return value


def _volume(value: str) -> str:
    parse_volume(value, Path.cwd())
    return value


def request_for(arguments: Arguments, stdin: int | None, known: Mapping[str, str]) -> RunRequest:
    """The words as a request; ``known`` is the environment that ``-e NAME`` reads."""
    env = [entry for path in arguments.many("env-file") for entry in env_file(path, known)]
    entrypoint: tuple[str, ...] | None = None
    if arguments.given("entrypoint"):
        entrypoint = (arguments.text("entrypoint"),) if arguments.text("entrypoint") else ()
    return RunRequest(
        image=arguments.words[0],
        command=arguments.words[1:],
        entrypoint=entrypoint,
        env=tuple(env + environment(arguments.many("env"), known)),
        workdir=arguments.text("workdir"),
        user=arguments.text("user"),
        binds=tuple(parse_volume(value, Path.cwd()) for value in arguments.many("volume")),
        tty=arguments.flag("tty"),
        stdin=stdin,
        hostname=arguments.text("hostname"),
        read_only=arguments.flag("read-only"),
        network="none" if arguments.text("network") == "none" else "host",
        name=arguments.text("name"),
        remove=arguments.flag("rm"),
        add_hosts=tuple(values.host_entry(value) for value in arguments.many("add-host")),
        shm_size=values.size(arguments.text("shm-size")),
    )


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Hand every key on as it is, Ctrl-C too; the terminal is as before afterwards."""
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def run(console: Console, arguments: Arguments) -> int:
    """Run a container to its end; the exit code is the container's, or 125, 126, 127 where it could not be run."""
    stdin = console.stdin.fileno() if arguments.flag("interactive") and console.stdin is not None else None
    keyboard: AbstractContextManager[None] = nullcontext()
    if arguments.flag("tty") and stdin is not None:
        if not console.stdin_is_terminal:
            raise ContainerError(
                "the input device is not a TTY", exit_code=1, hint="Leave -t out, or run it in a terminal."
            )
        keyboard = _raw(stdin)
    request = request_for(arguments, stdin, os.environ)
    with keyboard:
        return console.engine.run(request, output=console.output).exit_code


RUN = Verb(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    (
        many("add-host", "", "Add a custom host-to-IP mapping (host:ip)", check=values.host_entry),
        text("entrypoint", "", "Overwrite the default ENTRYPOINT of the image"),
        many("env", "e", "Set environment variables", check=_env_entry),
        many("env-file", "", "Read in a file of environment variables"),
        text("hostname", "h", "Container host name"),
        flag("interactive", "i", "Keep STDIN open"),
        text("name", "", "Assign a name to the container"),
        text("network", "", "Network of the container: host or none", default="host", check=_network),
        flag("read-only", "", "Mount the container's root filesystem as read only"),
        flag("rm", "", "Automatically remove the container when it exits"),
        text("shm-size", "", "Size of /dev/shm", value="bytes", default="64m", check=values.size),
        flag("tty", "t", "Allocate a pseudo-TTY"),
        text("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
        many("volume", "v", "Bind mount a directory, or a named volume", check=_volume),
        text("workdir", "w", "Working directory inside the container"),
        flag("init", "", hidden=True),
        text("pull", "", default="missing", hidden=True),
        unsupported("detach", "d", "a container runs in the foreground, as long as the command does."),
        unsupported("publish", "p", "a container has the host's network, its ports are open without it."),
        unsupported("publish-all", "P", "a container has the host's network, its ports are open without it."),
        unsupported("mount", "", "use -v SOURCE:TARGET[:ro]."),
        unsupported("memory", "m", "there are no limits on memory."),
        unsupported("cpus", "", "there are no limits on processors."),
        unsupported("privileged", "", "a container has the rights that its sandbox gives."),
        unsupported("platform", "", "a container runs on this machine's own platform."),
    ),
    (1, None),
    interspersed=False,
    usage_exit_code=125,
)
