"""Everything that can go wrong, as one tree.

::

    DockermagicError
    ├── DockerfileSyntaxError      the text is not a Dockerfile
    ├── BuildError                 a valid Dockerfile that cannot be built
    │   ├── ContextError           a file of the build context is missing, unreadable or outside
    │   ├── RunFailedError         a RUN ended with a non-zero exit code, or its command was not found
    │   └── BuildInterruptedError  stopped by the user
    ├── InvalidReferenceError      not a valid image name
    ├── ImageNotFoundError         no such image here, and none could be pulled
    ├── RegistryError              a registry refused, broke off or sent something wrong
    ├── ArchiveError               an archive or layer is broken, or tries to leave its target
    ├── StoreError                 the store cannot be read or written
    │   └── StoreFullError         the disk is full
    ├── SandboxError               a process could not be isolated or started
    │   └── SandboxUnavailableError  this host has no way to run a RUN
    ├── ContainerError             a container cannot do what was asked
    │   └── ContainerNotFoundError  there is none of that name
    ├── SessionError               a notebook's chain of cells cannot do what was asked
    └── UsageError                 a command or magic was called with wrong words

Each is a value with a place and a hint, and renders itself: as a short clean error in IPython, as text in a terminal.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from dockermagic.values import dataclass

__all__ = [
    "ArchiveError",
    "BuildError",
    "BuildInterruptedError",
    "ContainerError",
    "ContainerNotFoundError",
    "ContextError",
    "DockerfileSyntaxError",
    "DockermagicError",
    "ImageNotFoundError",
    "InvalidReferenceError",
    "Place",
    "RegistryError",
    "RunFailedError",
    "SandboxError",
    "SandboxUnavailableError",
    "SessionError",
    "StoreError",
    "StoreFullError",
    "UsageError",
    "explained",
    "full_disk_error",
    "is_full",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text something is: 1-based ``line``, 0-based ``column``; ``end_column`` is exclusive.

    ``text`` is the line itself. ``file`` is a path or the name of a cell.
    """

    line: int
    column: int = 0
    end_column: int | None = None
    text: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"

    def parts(self) -> tuple[str, str, str]:
        """The line without the blanks around it: what stands before the part that is meant, that part, and the rest.

        Where none is named, the whole line is meant.
        """
        text = self.text.rstrip()
        start = min(self.column, len(text))
        end = len(text) if self.end_column is None else max(start, min(self.end_column, len(text)))
        meant = text[start:end]
        return (text[:start].lstrip(), meant, text[end:]) if meant.strip() else ("", text.strip(), "")

    def marked(self, mark: Callable[[str], str]) -> str:
        """The line without the blanks around it, with ``mark`` laid over the part that is meant, if it is a part."""
        before, meant, after = self.parts()
        return before + mark(meant) + after if before or after else meant.strip()


def _ansi(text: str, codes: str) -> str:
    return f"\x1b[{codes}m{text}\x1b[0m" if text else ""


def _plain(text: str, codes: str) -> str:
    return text


class DockermagicError(Exception):
    """The root of the tree: ``message`` says what happened, ``place`` where, ``hint`` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    @property
    def line(self) -> int | None:
        """The 1-based line, where one is known."""
        return self.place.line if self.place else None

    def details(self) -> list[str]:
        """Further lines between the message and the hint; subclasses add theirs."""
        return []

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """What happened, where, and what to do, as a few lines of plain text."""
        lines = [self.message]
        if self.place:
            lines.append(f"  {self.place}: {self.place.text.strip()}" if self.place.text else f"  {self.place}")
        lines += self.details()
        if self.hint:
            lines.append(self.hint)
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the error without a Python traceback; the reply is an error all the same.

        What is wrong in a line is underlined, by a terminal's sequences; there are none where NO_COLOR is set.
        """
        paint = _plain if os.environ.get("NO_COLOR") else _ansi
        first, *more = self.message.split("\n")
        lines = [f"{paint(type(self).__name__, '1')}: {paint(first, '1')}", *more]
        if self.place:
            text = self.place.marked(lambda words: paint(words, "1;4"))
            lines.append(f"  {self.place}" + (f": {text}" if text else ""))
        lines += [paint(line, "2") if line.startswith("  | ") else line for line in self.details()]
        lines += [line for line in self.hint.split("\n") if line]
        return ["\n".join(lines)]


class DockerfileSyntaxError(DockermagicError):
    """The text is not a valid Dockerfile."""


class BuildError(DockermagicError):
    """A valid Dockerfile that cannot be built."""


class ContextError(BuildError):
    """A file of the build context is missing, unreadable or outside of it."""


class RunFailedError(BuildError):
    """A RUN ended with a non-zero exit code.

    ``command`` is the text of the instruction, ``process_exit_code`` the process's own code and ``log_tail`` the last
    lines of its output. ``failed`` is the engine's hold on the half-made layer, for a look into it.
    """

    def __init__(
        self,
        message: str,
        *,
        command: str,
        process_exit_code: int,
        log_tail: tuple[str, ...] = (),
        place: Place | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.command = command
        self.process_exit_code = process_exit_code
        self.log_tail = log_tail
        self.failed: object = None

    def details(self) -> list[str]:
        return [f"  | {line}" for line in self.log_tail]


class BuildInterruptedError(BuildError):
    """The user stopped the build."""

    exit_code = 130


class InvalidReferenceError(DockermagicError):
    """Not a valid image name."""


class ImageNotFoundError(DockermagicError):
    """No such image here, and none could be pulled."""


class RegistryError(DockermagicError):
    """A registry refused, broke off or sent something wrong."""


class ArchiveError(DockermagicError):
    """An archive or layer is broken, or tries to leave its target."""


class StoreError(DockermagicError):
    """The store cannot be read or written."""


class StoreFullError(StoreError):
    """The disk that holds the store, or a file that was asked for, is full."""


class SandboxError(DockermagicError):
    """A process could not be isolated or started."""


class SandboxUnavailableError(SandboxError):
    """This host has no way to run a RUN."""


class ContainerError(DockermagicError):
    """A container cannot do what was asked; ``exit_code`` is the one that ``docker run`` gives (125, 126, 127)."""

    def __init__(self, message: str, *, exit_code: int = 125, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message, place=place, hint=hint)
        self.exit_code = exit_code


class ContainerNotFoundError(ContainerError):
    """There is no container of that name or id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}", exit_code=1, hint="`ps -a` lists the containers.")


class SessionError(DockermagicError):
    """A notebook's chain of cells cannot do what was asked."""


class UsageError(DockermagicError):
    """A command or magic was called with wrong words; options that cannot be read have Docker's 125."""


def is_full(error: OSError) -> bool:
    """Whether the system refused for want of room: the disk is full, or a quota is used up."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def full_disk_error(where: object = "", hint: str = "") -> StoreFullError:
    """The error for a full disk that holds ``where``: a path, or what it is to the user, where that is known."""
    room = "Make room there, for example with `dockermagic prune`, then try again."
    return StoreFullError(f"the disk that holds {where} is full" if where else "the disk is full", hint=hint or room)


def explained(error: OSError) -> DockermagicError:
    """What the system refused, in words, where no room had words for it: a full disk, a path that is closed to us.

    Raises ``error`` itself where it names no path, as the bug it is, and where DOCKERMAGIC_DEBUG is set.
    """
    path = os.fsdecode(error.filename) if error.filename is not None else ""
    if is_full(error):
        return full_disk_error(path)
    if not path or os.environ.get("DOCKERMAGIC_DEBUG"):
        raise error
    return DockermagicError(f"{path}: {error.strerror}", hint="DOCKERMAGIC_DEBUG=1 shows where it happened.")
