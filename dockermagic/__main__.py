"""``python -m dockermagic``, and the command ``dockermagic``."""

from __future__ import annotations

import gc
import os
import sys

from dockermagic import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["start"]


def start() -> NoReturn:
    """Run this process's command line and end the process.

    A cached build takes a few milliseconds: looking through the imports for garbage, and taking them down one by one at
    the end, would take longer. What runs a container imports as much as this process does, and beside it.
    """
    gc.set_threshold(50_000, 20, 100)

    try:
        _have_streams()
        if _runs(sys.argv[1:]):
            from dockermagic.sandbox import interpreters

            interpreters.begin_ahead()
        from dockermagic.cli import main

        code = main()
    except KeyboardInterrupt:  # before or after all that has to be ended with care
        sys.stderr.write("ERROR: interrupted\n")
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _have_streams() -> None:
    """A stream that this process was started without leads nowhere, before another file gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            void = os.open(os.devnull, os.O_RDWR)
            if void != number:
                os.dup2(void, number)
                os.close(void)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _runs(words: Sequence[str]) -> bool:
    """Whether these words plainly run a container and wait for it. Where that is not sure it begins a little later."""
    if sys.platform != "linux" or words[:1] != ["run"]:
        return False
    short = {letter for word in words if word.startswith("-") and not word.startswith("--") for letter in word}
    return not short & set("dht") and not any(word.startswith(("--detach", "--help", "--tty")) for word in words)


if __name__ == "__main__":
    start()
