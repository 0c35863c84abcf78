"""Docker's verbs, written once: ``dockermagic VERB`` in a terminal and ``%docker VERB`` in a cell call :func:`run`.

A verb is imported when it is used, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from dockermagic.errors import UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import closest, flag, help_text, parse

__all__ = ["GROUPS", "SUMMARIES", "find", "overview", "run", "verb", "verb_help"]

SUMMARIES: dict[str, str] = {
    "build": "Build an image from a Dockerfile",
    "check": "Check a Dockerfile without building it",
    "expect": "Check that an image is as it shall be",
    "run": "Create and run a new container from an image",
    "create": "Create a new container",
    "ps": "List containers",
    "logs": "Fetch the logs of a container",
    "exec": "Execute a command in a running container",
    "attach": "Attach local standard input, output, and error streams to a running container",
    "start": "Start one or more stopped containers",
    "stop": "Stop one or more running containers",
    "restart": "Restart one or more containers",
    "kill": "Kill one or more running containers",
    "wait": "Block until one or more containers stop, then print their exit codes",
    "rename": "Rename a container",
    "cp": "Copy files/folders between a container and the local filesystem",
    "diff": "Inspect changes to files or directories on a container's filesystem",
    "commit": "Create a new image from a container's changes",
    "top": "Display the running processes of a container",
    "stats": "Display what containers use",
    "port": "List port mappings or a specific mapping for the container",
    "rm": "Remove one or more containers",
    "images": "List images",
    "history": "Show the history of an image",
    "inspect": "Return low-level information on containers and images",
    "tag": "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "rmi": "Remove one or more images",
    "pull": "Download an image from a registry",
    "push": "Upload an image to a registry",
    "login": "Authenticate to a registry",
    "logout": "Log out from a registry",
    "save": "Save one or more images to a tar archive (streamed to STDOUT by default)",
    "load": "Load an image from a tar archive or STDIN",
    "import": "Import the contents from a tarball to create a filesystem image",
    "export": "Export a container's filesystem as a tar archive",
    "registry": "Serve the store as a registry",
    "base": "Make a base image on this machine, without a registry",
    "bundle": "Pack a lesson with its images and layers, for a classroom without network",
    "unbundle": "Unpack a lesson that was bundled: it runs without network, all CACHED",
    "prepare": "Get the base images of a lesson: pulled, or made on this machine",
    "prune": "Remove unused data",
    "df": "Show disk usage",
    "reset": "Remove the store with all that is in it",
    "info": "Show what this machine can do, and why not more",
    "fsck": "Check the store, and clear what processes that died left behind",
    "demo": "Build the first notebook, run its image and show what was made",
    "lab": "Open JupyterLab on the notebooks",
    "convert": "Make a notebook of a Dockerfile, or a Dockerfile of a notebook",
    "kernel": "Make the Dockerfile kernel of this environment known to Jupyter",
    "version": "Show the version",
}

MODULES: dict[str, str] = {
    "build": "build",
    "check": "check",
    "expect": "expect",
    "run": "container",
    "create": "container",
    "ps": "containers",
    "logs": "containers",
    "exec": "container",
    "attach": "container",
    "start": "container",
    "stop": "containers",
    "restart": "containers",
    "kill": "containers",
    "wait": "containers",
    "rename": "containers",
    "cp": "container_files",
    "diff": "container_look",
    "commit": "container_look",
    "top": "container_look",
    "stats": "container_look",
    "port": "container_look",
    "rm": "containers",
    "images": "images",
    "history": "history",
    "inspect": "inspect",
    "tag": "names",
    "rmi": "names",
    "pull": "registry",
    "push": "registry",
    "login": "login",
    "logout": "login",
    "save": "archives",
    "load": "archives",
    "import": "archives",
    "export": "archives",
    "registry": "serve",
    "base": "host",
    "bundle": "lesson",
    "unbundle": "lesson",
    "prepare": "lesson",
    "info": "host",
    "fsck": "fsck",
    "prune": "prune",
    "image_diff": "imagediff",
    "image_prune": "prune",
    "builder_prune": "prune",
    "container_prune": "prune",
    "volume_create": "volumes",
    "volume_inspect": "volumes",
    "volume_ls": "volumes",
    "volume_prune": "volumes",
    "volume_rm": "volumes",
    "df": "prune",
    "reset": "prune",
    "demo": "learn",
    "lab": "learn",
    "convert": "convert",
    "kernel": "kernel",
    "version": "host",
}

GROUPS: dict[str, dict[str, str]] = {
    "image": {
        "build": "build",
        "diff": "image_diff",
        "history": "history",
        "import": "import",
        "inspect": "inspect",
        "list": "images",
        "load": "load",
        "prune": "image_prune",
        "pull": "pull",
        "push": "push",
        "ls": "images",
        "remove": "rmi",
        "rm": "rmi",
        "save": "save",
        "tag": "tag",
    },
    "container": {
        **{
            name: name for name in ("run", "create", "ps", "logs", "exec", "attach", "start", "stop", "restart", "kill")
        },
        **{name: name for name in ("wait", "rename", "rm", "cp", "diff", "commit", "top", "stats", "port", "inspect")},
        "export": "export",
        "list": "ps",
        "ls": "ps",
        "prune": "container_prune",
        "remove": "rm",
    },
    "volume": {
        "create": "volume_create",
        "inspect": "volume_inspect",
        "list": "volume_ls",
        "ls": "volume_ls",
        "prune": "volume_prune",
        "remove": "volume_rm",
        "rm": "volume_rm",
    },
    "builder": {"build": "build", "prune": "builder_prune"},
    "buildx": {"build": "build", "b": "build", "prune": "builder_prune"},
    "system": {"df": "df", "info": "info", "prune": "prune", "reset": "reset"},
}
"""Docker's management commands: ``image ls`` is ``images``."""


def verb(name: str) -> Verb:
    """The verb of that name; raises KeyError."""
    found: Verb = getattr(import_module(f"dockermagic.verbs.{MODULES[name]}"), name.upper())
    return found


def find(words: Sequence[str], program: str) -> tuple[str, list[str]]:
    """The verb's name and the words after it; raises UsageError for a verb that there is not."""
    first, rest = words[0], list(words[1:])
    if first in SUMMARIES:
        return first, rest
    if first in GROUPS:
        if rest and rest[0] in GROUPS[first]:
            return GROUPS[first][rest[0]], rest[1:]
        said = " ".join((first, *rest[:1]))
        known = ", ".join(f"{first} {name}" for name in sorted(GROUPS[first]))
        raise UsageError(f"unknown command: {program} {said}", hint=f"There is: {known}.")
    guess = closest(first, SUMMARIES) or closest(first, GROUPS)
    hint = f"Did you mean '{program} {guess}'?\n" if guess else ""
    raise UsageError(f"unknown command: {program} {first}", hint=f"{hint}Run '{program} --help' for the commands.")


def group_help(name: str, program: str) -> str:
    """What a management command prints where no command of it is named."""
    by_verb: dict[str, list[str]] = {}
    for word, known in sorted(GROUPS[name].items(), key=lambda item: (-len(item[0]), item[0])):
        by_verb.setdefault(known, []).append(word)
    rows = [(", ".join(reversed(words)), verb(known).summary) for known, words in by_verb.items()]
    width = max(len(words) for words, _ in rows)
    lines = "".join(f"  {words:<{width}}  {summary}\n" for words, summary in sorted(rows))
    return (
        f"Usage:  {program} {name} COMMAND\n\nCommands:\n{lines}\n"
        f"Run '{program} {name} COMMAND --help' for more information on a command.\n"
    )


def verb_help(known: Verb, program: str, width: int = 80) -> str:
    """What ``VERB --help`` prints."""
    text = f"Usage:  {program} {known.name} {known.usage}".rstrip() + f"\n\n{known.summary}\n"
    if known.options:
        text += f"\nOptions:\n{help_text(known.options, width or 80)}\n"
    if known.more:
        text += f"\n{known.more}\n"
    return text


def _arity(known: Verb, count: int, program: str) -> None:
    least, most = known.words
    if count < least or (most is not None and count > most):
        if least == most:
            wanted = f"exactly {least} argument{'s' if least != 1 else ''}" if least else "no arguments"
        elif count < least:
            wanted = f"at least {least} argument{'s' if least != 1 else ''}"
        else:
            wanted = f"at most {most} argument{'s' if most != 1 else ''}"
        raise UsageError(f"'{program} {known.name}' requires {wanted}")


def overview(program: str) -> str:
    """What ``--help`` without a verb prints."""
    lines = "\n".join(f"  {name:<9} {summary}" for name, summary in SUMMARIES.items())
    return (
        f"Usage:  {program} COMMAND\n\n"
        "Dockerfiles cell by cell: Docker's verbs on an engine of its own, without Docker or root.\n\n"
        f"Commands:\n{lines}\n\nManagement commands:\n  {', '.join(GROUPS)}\n\n"
        "The store is $DOCKERMAGIC_HOME, else $XDG_DATA_HOME/dockermagic.\n"
        f"Run '{program} COMMAND --help' for more information on a command.\n"
    )


def run(words: Sequence[str], console: Console) -> int:
    """Run one command line, without the program's name, and return its exit code; raises DockermagicError."""
    if not words or words[0] in ("-h", "--help") or list(words) == ["help"]:
        console.write(overview(console.program))
        return 0
    if words[0] in GROUPS and list(words[1:]) in ([], ["-h"], ["--help"]):
        console.write(group_help(words[0], console.program))
        return 0
    if words[0] in ("-v", "--version"):
        words = ["version"]
    elif words[0] == "help":
        words = [*words[1:], "--help"]
    elif words[0].startswith("-"):
        try:
            parse((), words[:1])
        except UsageError as error:
            error.hint = f"Options stand behind a command: '{console.program} --help' lists them."
            raise
    name, rest = find(words, console.program)
    return _run_verb(verb(name), rest, console)


def _run_verb(known: Verb, rest: list[str], console: Console) -> int:
    taken = any(option.short == "h" for option in known.options)
    try:
        help_flag = flag("help", "" if taken else "h")
        arguments = parse((*known.options, help_flag), rest, interspersed=known.interspersed)
        if arguments.flag("help"):
            console.write(verb_help(known, console.program, console.width))
            return 0
        _arity(known, len(arguments.words), console.program)
    except UsageError as error:
        usage = f"\nUsage:  {console.program} {known.name} {known.usage}".rstrip()
        error.hint = f"{usage}\n\nRun '{console.program} {known.name} --help' for more information"
        raise
    try:
        return known.function(console, arguments)
    except KeyboardInterrupt:
        if not known.watches or console.stdin is None:  # in a cell it also says that those below are not to run
            raise
        return 130
