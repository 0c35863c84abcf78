"""A command that ends with who started it, as a program that changes into it: ``main(PARENT, COMMAND...)``."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from dockermagic.sandbox import syscalls

__all__ = ["main"]


def main(parent: str, *command: str) -> NoReturn:
    """Become ``command``, which gets SIGTERM when the thread of the process ``parent`` that started it ends."""
    # A program with a set-id bit, as ssh-agent often is, would be untied with its new id.
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        os._exit(0)
    os.execvp(command[0], command)
