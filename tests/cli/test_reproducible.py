"""``--reproducible``: one digest whatever the id mode, the order of files, the time and the store."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.conftest import REPO, Commands
from tests.idmodes import PLAIN, USERS, make_user
from tests.peers.images import busybox_archive

DOCKERFILE = """\
FROM busybox
COPY . /context/
RUN mkdir /made && for i in 1 2 3 4 5 6 7 8 9; do echo $i > /made/$i; done
RUN ln /made/1 /made/hard && ln -s 1 /made/soft
RUN rm -r /var/www /made/9 && mkdir /var/www && chown 5:6 /made/2 && chmod 4755 /made/3 && mkfifo /made/pipe
COPY --from=busybox --chown=7 /bin/busybox /copy
WORKDIR /work
CMD ["true"]
"""


def context(directory: Path, seed: int) -> Path:
    """The same files, made in another order, at other times."""
    names = [f"{folder}/file{number}" for folder in ("a", "b/c") for number in range(20)]
    random.Random(seed).shuffle(names)
    place = directory / f"context{seed}"
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (1_000_000_000 + seed * 1000, 1_000_000_000 + seed * 1000))
    (place / "Dockerfile").write_text(DOCKERFILE)
    return place


def digest_of(commands: Commands, name: str) -> str:
    return str(json.loads(commands("inspect", name).out)[0]["Descriptor"]["digest"])


def built(commands: Commands, seed: int, *words: str) -> str:
    name = f"made:{seed}"
    commands("build", "-q", "--reproducible", "-t", name, *words, str(context(commands.directory, seed)))
    return digest_of(commands, name)


@pytest.fixture
def loaded(commands: Commands) -> Commands:
    commands("load", "-i", str(busybox_archive(commands.directory / "busybox.tar")))
    return commands


@pytest.mark.alike
@pytest.mark.engine
def test_the_digest_is_the_same(loaded: Commands, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In another store, from files in another order with other times, without the cache, with another epoch not."""
    first = built(loaded, 1)
    assert built(loaded, 2, "--no-cache") == first
    fresh = Commands(loaded.home.parent / "fresh", loaded.directory)
    fresh("load", "-i", "busybox.tar")
    assert built(fresh, 3) == first
    dated = Commands(loaded.home, loaded.directory, {"SOURCE_DATE_EPOCH": "1000000500"})
    other = built(dated, 4)
    assert other != first
    assert built(dated, 5) == other
    created = json.loads(loaded("inspect", "made:5").out)[0]["Created"]
    assert created == "2001-09-09T01:55:00Z"
    archive = loaded.directory / "out.tar"
    output = f"--output=type=oci,dest={archive}"
    loaded("build", "-q", "--reproducible", output, str(context(loaded.directory, 6)))
    loaded("load", "-q", "-i", str(archive))
    assert first in loaded("images", "-a", "--digests", "--no-trunc").out


@pytest.mark.alike
@pytest.mark.engine
def test_the_environment_gives_a_build_its_time(loaded: Commands) -> None:
    """As buildx does: what is said with the command counts more."""
    dated = Commands(loaded.home, loaded.directory, {"SOURCE_DATE_EPOCH": "1000000500"})
    dated("build", "-q", "-t", "dated", "-", stdin=b"FROM busybox\nENV A=1\n")
    dated("build", "-q", "-t", "other", "--build-arg=SOURCE_DATE_EPOCH=5", "-", stdin=b"FROM busybox\nENV A=1\n")

    created = [each["Created"] for each in json.loads(loaded("inspect", "dated", "other").out)]
    assert created == ["2001-09-09T01:55:00Z", "1970-01-01T00:00:05Z"]


@pytest.mark.alike
@pytest.mark.engine
def test_what_is_not_the_same_is_named(loaded: Commands) -> None:
    text = "FROM busybox\nRUN head -c 20 /dev/urandom | od > /random; echo same > /same\n"
    for name in ("one", "two"):
        loaded("build", "-q", "--reproducible", "--no-cache", "-t", name, "-", stdin=text.encode())
    found = loaded("image", "diff", "one", "two", code=1).out.splitlines()
    assert [line.split()[1] for line in found if "content" in line] == ["/random"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build as everybody")
def test_everybody_gets_the_same_digest() -> None:
    """Root, a user with a range of ids, one with a single one, and PRoot; each with files in another order."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    try:
        archive = busybox_archive(place / "busybox.tar")
        digests = {}
        for number, mode in enumerate(("root", "range", "single", *PLAIN)):
            commands = [
                ["load", "-q", "-i", str(archive)],
                ["build", "-q", "--reproducible", "-t", "made", str(context(place, number))],
                ["inspect", "-f", "digest {{.Descriptor.digest}}", "made"],
            ]
            said = as_user(mode, place / mode, commands)
            digests[mode] = said.rpartition("digest ")[2]
        assert len(set(digests.values())) == 1, digests
    finally:
        shutil.rmtree(place)


def as_user(mode: str, home: Path, commands: list[list[str]]) -> str:
    """What commands print that run as the user of an id mode, on a store below a home of theirs."""
    home.mkdir()
    words = [sys.executable, str(REPO / "tests/robustness/commands.py"), json.dumps({"commands": commands})]
    if mode in USERS:
        uid, gid = make_user(mode)
        os.chown(home, uid, gid)
        user = [str(uid), str(gid), USERS[mode], str(REPO), "--"]
        words = [sys.executable, str(REPO / "tests/asuser.py"), *user, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "HOME": str(home), "DOCKERMAGIC_HOME": str(home / "store")}
    environment["DOCKERMAGIC_SANDBOX"] = mode if mode in PLAIN else ""
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
