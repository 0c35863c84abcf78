"""``run``, ``create``, ``exec``, ``start``, ``attach``: what has a process at the other end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from dockermagic.containers.request import ExecRequest, RunRequest
from dockermagic.errors import ContainerError, ContainerNotFoundError, DockermagicError, UsageError
from dockermagic.sandbox.terminal import LetGoError
from dockermagic.values import replace
from dockermagic.verbs.base import Console, Shown, Verb, each
from dockermagic.verbs.container_options import OPTIONS, env_file, environment, request_for
from dockermagic.verbs.options import Arguments, flag, many, text

if TYPE_CHECKING:
    from dockermagic.sandbox.running import Running
    from dockermagic.sandbox.terminal import Terminal

__all__ = ["ATTACH", "CREATE", "EXEC", "RUN", "START"]


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Hand every key on as it is, Ctrl-C too; the terminal is as before afterwards."""
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSANOW)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _keyboard(console: Console, interactive: bool, tty: bool) -> tuple[int | None, AbstractContextManager[None]]:
    """Where input comes from, and what makes that terminal hand on every key. Raises ContainerError as Docker does."""
    stdin = console.stdin.fileno() if interactive and console.stdin is not None else None
    if not tty or stdin is None:
        return stdin, nullcontext()
    if not console.stdin_is_terminal:
        raise ContainerError(
            "the input device is not a TTY", exit_code=1, hint="Leave -t out, or run it in a terminal."
        )
    return stdin, _raw(stdin)


@contextmanager
def _window(stdin: int | None) -> Iterator[Callable[[Terminal], None]]:
    """Gives what is to be told of a process's terminal: its window then follows that of this one."""
    terminals: list[Terminal] = []

    def changed(*_: object) -> None:
        for terminal in terminals:
            terminal.resize()

    if stdin is None:
        yield terminals.append
        return
    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield terminals.append
    finally:
        signal.signal(signal.SIGWINCH, before)


def _detach_keys(value: str) -> bytes:
    """``ctrl-p,ctrl-q``: letters, and letters with ctrl, as what a terminal sends; raises ValueError."""
    keys = b""
    for key in (value or _DETACH_KEYS).split(","):
        if match := re.fullmatch(r"ctrl-([a-z@\[\\\]^_])", key):
            keys += bytes([ord(match[1].upper()) & 0x1F])
        elif len(key) == 1 and key.isascii():
            keys += key.encode()
        else:
            raise ValueError(f"invalid detach keys ({value}): Unknown character: '{key}'")
    return keys


def run(console: Console, arguments: Arguments) -> int:
    """Run a container to its end; the exit code is the container's, or 125, 126, 127 where it could not be run."""
    if name := arguments.text("sandbox"):
        console.engine.use_sandbox(name)
    if not (arguments.flag("detach") or arguments.flag("tty")):
        console.engine.begin()
    if notice := console.engine.sandbox_notice():
        console.note(notice)
    if arguments.flag("detach"):
        request = _request(console, arguments, None)
        identity = console.engine.run_detached(request)
        with suppress(ContainerError):  # one that goes at its end may be gone
            container = console.engine.running.get(identity)
            _note(console, container.state.notes)
            console.show(Shown("started", container, f"{identity}\n"))
            return 0
        console.write(f"{identity}\n")
        return 0
    stdin, keyboard = _keyboard(console, arguments.flag("interactive"), arguments.flag("tty"))
    request = _request(console, arguments, stdin)
    if request.tty and stdin is not None:
        return _run_at_terminal(console, arguments, request, stdin)
    with keyboard:
        result = console.engine.run(request, output=console.output)
    _note(console, result.notes)
    if result.interrupted and result.exit_code == 137:
        return 128 + result.interrupted
    return result.exit_code


def _run_at_terminal(console: Console, arguments: Arguments, request: RunRequest, stdin: int) -> int:
    """Somebody may let go of it and come back: it is started as a detached one is, and attached to at once."""
    columns, rows = os.get_terminal_size(stdin)
    name = console.engine.create_container(replace(request, window=(rows, columns)))
    with suppress(LetGoError):
        return _attached(console, arguments, name, interactive=True, start=True)
    return 0


def _note(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.note(f"WARNING: {note}")


@contextmanager
def _exiting(code: int) -> Iterator[None]:
    """Errors inside the block that concern a container end the command with this code."""
    try:
        yield
    except ContainerError as error:
        error.exit_code = code
        raise


def _request(console: Console, arguments: Arguments, stdin: int | None, *, exit_code: int = 125) -> RunRequest:
    """What is asked for, with its images in the store where they may be pulled."""
    try:
        request = request_for(arguments, stdin, os.environ)
    except UsageError as error:
        error.exit_code = exit_code
        raise
    for name in filter(None, (request.image, request.debug_image)):
        if request.pull == "always" or (request.pull == "missing" and not console.engine.is_here(name)):
            from dockermagic.verbs.registry import fetch

            try:
                fetch(console, name, missing=request.pull == "missing", quiet=arguments.flag("quiet"))
            except DockermagicError as error:
                error.exit_code = exit_code
                raise
    return replace(request, pull="never")


def create(console: Console, arguments: Arguments) -> int:
    """Make a container that is not started."""
    request = _request(console, arguments, None, exit_code=1)
    with _exiting(1):
        console.write(f"{console.engine.create_container(request)}\n")
    return 0


def execute(console: Console, arguments: Arguments) -> int:
    """Run one more command in a container that runs."""
    name, *command = arguments.words
    env = [entry for path in arguments.many("env-file") for entry in env_file(path, os.environ)]
    request = ExecRequest(
        command=tuple(command),
        env=tuple(env + environment(arguments.many("env"), os.environ)),
        workdir=arguments.text("workdir"),
        user=arguments.text("user"),
        tty=arguments.flag("tty"),
        privileged=arguments.flag("privileged"),
    )
    if arguments.flag("detach"):
        console.engine.running.execute_detached(name, request)
        return 0
    stdin, keyboard = _keyboard(console, arguments.flag("interactive"), arguments.flag("tty"))
    keys = _detach_keys(arguments.text("detach-keys"))

    with _letting_go(console), keyboard, _window(stdin) as follow:
        request = replace(request, stdin=stdin)

        def began(running: Running) -> None:
            if running.terminal is not None:
                follow(running.terminal)

        return console.engine.running.execute(name, request, output=console.output, began=began, keys=keys)


def start(console: Console, arguments: Arguments) -> int:
    """Start containers that are there."""
    if not (arguments.flag("attach") or arguments.flag("interactive")):
        with _exiting(1):
            return each(console, arguments.words, console.engine.running.start)
    if len(arguments.words) > 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    with _exiting(1), _letting_go(console):
        return _attached(console, arguments, arguments.words[0], arguments.flag("interactive"), start=True)


def attach(console: Console, arguments: Arguments) -> int:
    """Show what a container writes from now on, and give it what is typed."""
    with _letting_go(console):
        return _attached(console, arguments, arguments.words[0], not arguments.flag("no-stdin"), start=False)


@contextmanager
def _letting_go(console: Console) -> Iterator[None]:
    """Whoever lets go of a process is told so, and the command has not ended well, as Docker's has not."""
    try:
        yield
    except LetGoError:
        raise ContainerError("read escape sequence", exit_code=1) from None


def _attached(console: Console, arguments: Arguments, name: str, interactive: bool, *, start: bool) -> int:
    """Attach, and return the exit code. Raises LetGoError when the keys for that were typed."""
    container = console.engine.running.get(name)
    open_stdin = interactive and container.request.open_stdin
    stdin, keyboard = _keyboard(console, open_stdin, container.request.tty)
    keys = _detach_keys(arguments.text("detach-keys"))
    notes: list[str] = []
    with keyboard, _window(stdin) as follow:

        def opened(terminal: Terminal) -> None:
            follow(terminal)
            with suppress(ContainerNotFoundError):  # it may have ended, and be gone
                notes.extend(console.engine.running.get(name).state.notes if start else ())

        code = console.engine.running.attach(
            name,
            output=console.output,
            stdin=stdin,
            start=start,
            keys=keys,
            passes_signals=start or arguments.flag("sig-proxy"),
            opened=opened,
        )
    _note(console, notes)
    return code


_DETACH_KEYS = "ctrl-p,ctrl-q"
_KEYS = text(
    "detach-keys", "", "Override the key sequence for detaching a container", default=_DETACH_KEYS, check=_detach_keys
)
RUN = Verb(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    (
        *OPTIONS,
        flag("detach", "d", "Run container in background and print container ID"),
        _KEYS,
        text("sandbox", "", "What runs it, from now on ('info' tells which there are)", value="name"),
    ),
    (1, None),
    interspersed=False,
)
CREATE = Verb(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    create,
    OPTIONS,
    (1, None),
    interspersed=False,
)
EXEC = Verb(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    execute,
    (
        flag("detach", "d", "Run command in the background"),
        _KEYS,
        many("env", "e", "Set environment variables"),
        many("env-file", "", "Read in a file of environment variables"),
        flag("interactive", "i", "Keep STDIN open even if not attached"),
        flag("privileged", "", "Give all capabilities that the sandbox itself has"),
        flag("tty", "t", "Allocate a pseudo-TTY"),
        text("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
        text("workdir", "w", "Working directory inside the container"),
    ),
    (2, None),
    interspersed=False,
)
START = Verb(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    start,
    (
        flag("attach", "a", "Attach STDOUT/STDERR"),
        _KEYS,
        flag("interactive", "i", "Attach container's STDIN"),
    ),
    (1, None),
)
ATTACH = Verb(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    attach,
    (
        _KEYS,
        flag("no-stdin", "", "Do not attach STDIN"),
        flag("sig-proxy", "", "Proxy all received signals to the process", default=True),
    ),
    (1, 1),
    more="The keys let go of a container with a terminal; Ctrl-C goes to it.",
)
