"""``python -m dockermagic``, and the command ``dockermagic``."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

__all__ = ["start"]


def start() -> NoReturn:
    """Run this process's command line and end the process.

    A cached build takes a few milliseconds: looking through the imports for garbage, and taking them down one by one at
    the end, would take longer.
    """
    gc.set_threshold(50_000, 20, 100)

    try:
        from dockermagic.cli import main

        code = main()
    except KeyboardInterrupt:  # before or after all that has to be ended with care
        sys.stderr.write("ERROR: interrupted\n")
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    start()
