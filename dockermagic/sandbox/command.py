"""What a command names, found as Docker's runtime finds it, and its words for what cannot be run."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence

__all__ = ["CannotRunError", "find_command", "not_executed"]


class CannotRunError(Exception):
    """There is nothing to execute: the message for the error stream, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def find_command(
    args: Sequence[str],
    environment: Mapping[str, str],
    look: Callable[[str], os.stat_result] = os.stat,
    may_run: Callable[[str], bool] = lambda path: os.access(path, os.X_OK),
) -> str:
    """The path to execute; ``look`` and ``may_run`` answer for paths of the root filesystem. Raises CannotRunError."""
    if "" in environment:
        raise CannotRunError("invalid environment variable: name cannot be empty", 1)
    if any("\0" in text for text in (*args, *environment, *environment.values())):
        raise CannotRunError("a command and its environment cannot hold a null byte", 1)
    if not args or not args[0]:
        raise CannotRunError('exec: "": executable file not found in $PATH', 127)
    name = args[0]
    if "/" not in name:
        # An empty entry is no directory: execvp would take the current one for it, and Docker does not.
        places = [f"{folder}/{name}" for folder in environment.get("PATH", "").split(":") if folder]
        present = [place for place in places if _is_file(place, look)]
        for place in present:
            if may_run(place):
                return place
        if present:
            raise CannotRunError(f'exec: "{name}": permission denied', 126)
        raise CannotRunError(f'exec: "{name}": executable file not found in $PATH', 127)
    try:
        mode = look(name).st_mode
    except OSError as error:
        reason = (error.strerror or "").lower()
        code = 126 if error.errno == errno.EACCES else 127
        raise CannotRunError(f'exec: "{name}": stat {name}: {reason}', code) from None
    if stat.S_ISDIR(mode):
        raise CannotRunError(f'exec: "{name}": is a directory', 126)
    if not may_run(name):
        raise CannotRunError(f'exec: "{name}": permission denied', 126)
    return name


def not_executed(path: str, error: OSError) -> CannotRunError:
    """What execve refused."""
    reason = (error.strerror or "").lower()
    return CannotRunError(f"exec {path}: {reason}", 126 if error.errno == errno.EACCES else 255)


def _is_file(path: str, look: Callable[[str], os.stat_result]) -> bool:
    try:
        return stat.S_ISREG(look(path).st_mode)
    except OSError:
        return False
