"""One of many processes on one store: ``python neighbour.py HOME NUMBER ROUNDS``; begins when a line comes.

It builds what all others build, and what is its own; it names images, takes names away, runs and saves. Whatever it
sees must be right. What it built itself, and not found, it prints as JSON.
"""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path

from dockermagic.build.request import BuildRequest
from dockermagic.containers.request import RunRequest
from dockermagic.engine import Engine
from dockermagic.errors import ImageNotFoundError

SHARED = """\
FROM busybox AS one
RUN --mount=type=cache,target=/c,id=log,sharing=locked echo shared {number} >> /c/log && echo {number} > /shared
RUN rm /etc/group && mkdir -p /a/b && echo {number} > /a/b/c

FROM busybox AS two
RUN --mount=type=cache,target=/c,id=log,sharing=locked echo two {number} >> /c/log && echo {number} > /two

FROM one
COPY --from=two /two /copied
"""
OWN = "FROM shared:{number}\nRUN echo {who} {number} > /own\n"


def shown(engine: Engine, image: str, *command: str) -> str:
    """What a command prints in a container of the image."""
    out: list[bytes] = []
    code = engine.run(RunRequest(image, command, remove=True), output=lambda stream, data: out.append(data)).exit_code
    assert code == 0, out
    return b"".join(out).decode()


def main(home: Path, who: int, rounds: int) -> list[str]:
    dice = random.Random(who)
    built = []
    with Engine(home) as engine:
        engine.base("busybox")
        for number in range(rounds):
            text = SHARED.format(number=number)
            names = (f"shared:{number}", f"mine{who}:{number}")
            result = engine.build(BuildRequest(text, tags=names))
            built += [step.key for step in result.steps if not step.cached and step.text.startswith(("RUN", "COPY"))]
            assert shown(engine, f"mine{who}:{number}", "cat", "/shared", "/a/b/c", "/copied") == f"{number}\n" * 3

            result = engine.build(BuildRequest(OWN.format(number=number, who=who), tags=(f"own{who}:{number}",)))
            assert [step.cached for step in result.steps][1:] == [False]
            assert shown(engine, f"own{who}:{number}", "cat", "/own", "/shared") == f"{who} {number}\n{number}\n"

            engine.tag(f"own{who}:{number}", f"passing:{dice.randrange(3)}")
            engine.save([f"own{who}:{number}"], io.BytesIO())
            for _ in range(2):
                try:
                    engine.remove_image(f"passing:{dice.randrange(3)}")
                except ImageNotFoundError:
                    pass
            engine.remove_image(f"mine{who}:{number}")
            if dice.random() < 0.5:
                engine.remove_image(f"own{who}:{number}")
            else:
                built.append(f"own{who}:{number}")
    return built


if __name__ == "__main__":
    sys.stdin.readline()
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
