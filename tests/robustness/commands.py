"""Many command lines in one process, which can be made to die at an exact place: ``python commands.py SPEC``.

SPEC is ``{"commands": [...], "die_at": N}``. Calls made by the package's own code are counted, and at the Nth the
process kills itself: so every step between two system calls can be the last one. Without N the number of calls is
written to the file ``count``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

REPO = Path(__file__).parents[2]
PACKAGE = str(REPO / "dockermagic")


class Counter:
    """Counts calls into the package and out of it, in every thread."""

    def __init__(self, die_at: int) -> None:
        self.calls = 0
        self.die_at = die_at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls += 1
            if self.calls == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the commands; the exit code is the first that is not 0."""
    spec = json.loads(sys.argv[1])
    from dockermagic import cli

    counter = Counter(spec.get("die_at", 0))
    if "count" in spec or counter.die_at:
        threading.setprofile(counter)
        sys.setprofile(counter)
    code = 0
    for words in spec["commands"]:
        code = cli.main(words)
        if code:
            print(f"{words}: {code}", file=sys.stderr)
            break
    sys.setprofile(None)
    if "count" in spec:
        Path(spec["count"]).write_text(str(counter.calls))
    sys.exit(code)


if __name__ == "__main__":
    main()
