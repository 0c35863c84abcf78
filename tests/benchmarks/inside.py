"""Timings inside one IPython process, as a notebook feels them; prints one JSON object of seconds.

``python -m tests.benchmarks.inside load_ext | cells WORD``
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from typing import Any

CHAIN = 20


def shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    made = InteractiveShell.instance()
    made.history_manager.enabled = False
    return made


def load_ext() -> dict[str, float]:
    ipython = shell()
    start = time.perf_counter()
    ipython.run_line_magic("load_ext", "dockermagic")
    return {"load_ext": time.perf_counter() - start}


def run_cell(ipython: Any, text: str, cell: str = "") -> float:
    """Seconds of one cell, known by an id as in a notebook; its output is swallowed, its error is raised."""
    ipython.get_parent = lambda: {"metadata": {"cellId": cell}}
    os.sync()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = ipython.run_cell(text)
    taken = time.perf_counter() - start
    result.raise_error()
    return taken


def cells(word: str) -> dict[str, float]:
    """A chain of RUNs in one cell, new and cached; one new RUN in a cell of its own; a container."""
    ipython = shell()
    ipython.run_line_magic("load_ext", "dockermagic")
    run_cell(ipython, "%%dockerfile\nFROM busybox\nRUN true warm " + word, "warm")
    lines = "".join(f"RUN true {word} {number}\n" for number in range(CHAIN))
    text = f"%%dockerfile\nFROM busybox\n{lines}"
    first = run_cell(ipython, text, "chain")
    cached = min(run_cell(ipython, text, "chain") for _ in range(3))
    one = run_cell(ipython, f"%%dockerfile\nRUN true one {word}", "one")
    taken = {"chain": first, "cached": cached, "one": one}
    run_cell(ipython, "%docker run --rm busybox true")
    taken["run"] = min(run_cell(ipython, "%docker run --rm busybox true") for _ in range(3))
    return taken


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps({"load_ext": load_ext, "cells": cells}[what](*arguments)))
