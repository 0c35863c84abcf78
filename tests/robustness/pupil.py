"""One of two kernels on one store: ``python pupil.py HOME WHO``; begins when a line comes.

It has a session of its own, in which it changes its mind, and adds a cell to one that is shared. It prints what its own
session came to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dockermagic.engine import Engine
from dockermagic.session import Cell, Session, SessionName


def main(home: Path, who: str) -> dict[str, object]:
    with Engine(home) as engine:
        own, shared = (Session(SessionName("named", name), engine) for name in (who, "shared"))
        own.run(Cell("1", "FROM busybox"))
        for round_ in range(3):
            own.run(Cell("2", f"RUN echo {who} {round_} > /a"))
            shared.run(Cell(f"{who}{round_}", f"RUN echo {who} >> /{who}"))
            own.run(Cell("3", "RUN cat /a /a > /b\nCMD cat /b"))
        own.run(Cell("2", f"RUN echo {who} end > /a"))
        stale = [standing.state for standing in own.status()]
        for _ in own.replay():
            pass
        states = [standing.state for standing in own.status()]
        run = own.build()
        assert run.result is not None
        engine.commit_image(run.result.stages[run.result.target], (who,))
    return {"stale": stale, "states": states, "text": own.script().text}


if __name__ == "__main__":
    sys.stdin.readline()
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
