"""What has to work on macOS and Windows: all that runs no program of an image. See tests/elsewhere.py for what is seen.

An image that is built there is compared, digest by digest, with the one that this machine builds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dockermagic.engine import Engine
from dockermagic.oci import disk
from dockermagic.oci.serve import StoreServer

REPO = Path(__file__).parents[1]
TIME = "1700000000"
BASE = """
FROM scratch
COPY <<X /etc/passwd
app:x:1234:77::/:/bin/sh
X
COPY --chmod=4711 run.sh /usr/bin/
COPY a A /both/
ADD links.tar /
"""
ON_IT = """
FROM base AS first
ENV WHO=world
COPY --chown=app . /work/
ADD links.tar /unpacked/
COPY run.sh /lib/deep/
WORKDIR /made/here
FROM first
COPY --from=first --chown=5:6 /work/sub /again
COPY --from=base /both /both2
CMD ["/run.sh"]
"""


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Place:
    """Commands on one store, all in one process: of this machine, or of one that is not Linux."""

    def __init__(self, platform: str, home: Path, directory: Path) -> None:
        self.platform, self.home, self.directory = platform, home, directory
        self.process = subprocess.Popen(
            [sys.executable, str(REPO / "tests" / "elsewhere.py"), platform],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, "DOCKERMAGIC_HOME": str(home), "HOME": str(home.parent), "PYTHONPATH": str(REPO)},
            text=True,
        )

    def __call__(self, line: str) -> Said:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        said = Said(*json.loads(self.process.stdout.readline()))
        assert "Traceback" not in said.err, said.err
        return said

    def right(self, line: str) -> str:
        said = self(line)
        assert said.code == 0, said
        return said.out

    def layers(self, name: str) -> Any:
        return json.loads(self.right(f"inspect {name}"))[0]["RootFS"]["Layers"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with modes, links and names that only Linux tells apart."""
    place = tmp_path_factory.mktemp("there") / "context"
    (place / "sub").mkdir(parents=True)
    for name in ("a", "A", "sub/con", "sub/x:y"):
        (place / name).write_text(name)
    (place / "run.sh").write_text("#!/bin/sh\n")
    (place / "run.sh").chmod(0o755)
    os.link(place / "a", place / "sub" / "a")
    with tarfile.open(place / "links.tar", "w") as archive:
        for name, target in (("lib", "usr/lib"), ("usr/lib/x", "../lib")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname, link.uid = tarfile.SYMTYPE, target, 9
            archive.addfile(link)
    (place / "Dockerfile").write_text(ON_IT)
    (place / "base.Dockerfile").write_text(BASE)
    (place / "run.Dockerfile").write_text("FROM base\nCOPY a /\nRUN echo hi\n")
    return place


BUILD = f"build -q --build-arg SOURCE_DATE_EPOCH={TIME} --output type=docker,rewrite-timestamp=true"


@pytest.fixture(scope="module")
def here(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The layers as this machine builds them, and a registry that serves the base."""
    home = tmp_path_factory.mktemp("here")
    env = {**os.environ, "DOCKERMAGIC_HOME": str(home), "PYTHONPATH": str(REPO)}
    for words in (
        f"{BUILD} -t base -f context/base.Dockerfile context",
        f"{BUILD} -t made context",
        "save -o base.tar base",
    ):
        subprocess.run([sys.executable, "-m", "dockermagic", *words.split()], check=True, cwd=context.parent, env=env)
    with Engine(home) as engine, closing(engine.serve(token="secret")) as server:
        made = engine.inspect("made")["RootFS"]["Layers"]
        engine.remove_image("made")
        yield {"layers": made, "server": server}


@pytest.fixture(scope="module", params=["darwin", "win32"])
def place(
    request: pytest.FixtureRequest, context: Path, here: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    place = Place(request.param, tmp_path_factory.mktemp(request.param) / "home", context.parent)
    place.right("load -i base.tar")
    place.right(f"{BUILD} -t made context")
    yield place
    assert place.process.stdin is not None
    place.process.stdin.close()
    place.process.wait(60)


LAYERS = "filefind filetree flatten growing overlay pack rooted treediff unpack"


@pytest.mark.parametrize("module", LAYERS.split())
def test_layers_are_read_and_written_in_one_way(module: str) -> None:
    """What calls the system itself would not find them where they are records."""
    text = (REPO / "dockermagic" / "oci" / f"{module}.py").read_text(encoding="utf-8")
    asked = re.findall(r"(?<![\w.])os\.(\w+)\(", text)

    assert not {name for name in asked if name in disk.__all__} - {"dup", "close"}


def test_who_waits_for_a_lock_is_in_nobodys_way() -> None:
    """Windows removes no file that somebody else has open."""
    program = """if 1:
        import sys, tempfile, threading
        from pathlib import Path
        from tests import elsewhere
        elsewhere.hide("win32")
        from dockermagic.build.locks import Lock
        path, inside, most = Path(tempfile.mkdtemp(), "lock"), [], []
        def work():
            for _ in range(100):
                with Lock(path, "name"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
        workers = [threading.Thread(target=work) for _ in range(3)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        print(len(most), max(most))
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("300 1\n", "")


def test_an_image_built_elsewhere_is_the_same(place: Place, here: dict[str, Any]) -> None:
    """Windows has no modes to copy, so that there all files of the context are 0755."""
    layers = place.layers("made")

    assert len(layers) == len(here["layers"])
    same = [one == other for one, other in zip(layers, here["layers"], strict=True)]
    copies = [4, 8]  # layers with files of the context as they are
    assert same == [place.platform == "darwin" or number not in copies for number in range(len(same))]


def test_a_second_build_is_cached(place: Place) -> None:
    said = place("build -t again context")

    assert said.code == 0
    assert said.err.count("CACHED") == 7


def test_a_run_is_refused_before_anything_is_done(place: Place) -> None:
    before = place.right("images -aq")
    for line in ("build -f context/run.Dockerfile context", "run --rm base", "create base", "run -d base", "demo"):
        said = place(line)
        assert said.code and "nothing can be run here" in said.err
        assert ("WSL 2" if place.platform == "win32" else "virtual machine") in said.err
    said = place("build -f context/run.Dockerfile context")

    assert "run.Dockerfile:3: RUN echo hi" in said.err
    assert "COPY" not in said.err.partition("ERROR")[0]
    assert place.right("images -aq") == before


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("ps -a", "CONTAINER ID"),
        ("df", "Local Volumes"),
        ("volume ls", "VOLUME NAME"),
        ("stats --no-stream", "CPU %"),
        ("images", "made"),
        ("history made", "COPY /both /both2"),
        ("image diff made made", "The images are the same."),
        ("info", "nothing: a RUN is not possible here"),
        ("check context", "Check complete"),
        ("fsck", "clean"),
        ("prune -f", "Total reclaimed space"),
        ("logout localhost:1", "Not logged in"),
        ("export made -o made-root.tar", ""),
        ("save --format oci -o made.tar made", ""),
        ("load -i made.tar", "Loaded image: made:latest"),
        ("import made-root.tar imported", "sha256:"),
        ("build -o type=tar,dest=root.tar context", ""),
        ("tag made other", ""),
        ("rmi other", "Untagged: other:latest"),
        ("convert --force context/Dockerfile made.ipynb", ""),
    ],
)
def test_verbs(place: Place, line: str, shown: str) -> None:
    assert shown in place.right(line)


def test_a_registry(place: Place, here: dict[str, Any]) -> None:
    server: StoreServer = here["server"]
    name = f"{server.address}/made-on-{place.platform}"
    place.right(f"login -u any -p secret {server.address}")
    place.right(f"tag made {name}")
    place.right(f"push {name}")
    layers = place.layers(name)
    place.right(f"rmi {name}")
    place.right("rmi base")
    place.right(f"pull {server.address}/base")
    place.right(f"tag {server.address}/base base")
    place.right(f"pull {name}")

    assert place.layers(name) == layers
    assert place.layers(f"{server.address}/base") == layers[:4]
    place.right(f"logout {server.address}")


def test_files_for_the_host(place: Place, tmp_path: Path) -> None:
    """What it cannot hold is said, and what it can hold is written; the way there may be a link, as a Mac's /tmp is."""
    (tmp_path / "link").symlink_to(".")
    said = place(f"build -o type=local,dest={tmp_path}/link context")

    assert (tmp_path / "both" / "A").read_text() == "A"
    if place.platform == "darwin":
        assert said.code == 0
        assert (tmp_path / "lib").is_symlink()
    else:
        assert said.code == 1
        assert "Developer Mode" in said.err


def test_the_store_is_taken_away(place: Place) -> None:
    place.right("reset -f")

    assert not place.home.exists()
