"""A full disk: every writer says so in a few words, the store stays whole, and going on works once there is room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.containers.request import RunRequest
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError, RunFailedError, StoreFullError
from dockermagic.records import Records
from dockermagic.session import Cell, Session, SessionName
from dockermagic.wholefile import whole_file
from tests.robustness.watched import REPO

pytestmark = pytest.mark.alike

Writer = Callable[[Engine, Path], object]


@pytest.fixture
def disk(id_mode: str, small_disk: Path) -> Path:
    """A small disk with a store that has a base and an image of one layer."""
    with Engine(small_disk / "home") as engine:
        engine.base("busybox")
        engine.build(BuildRequest("FROM busybox\nRUN echo one > /one\n", tags=("one",)))
    return small_disk


def leave(disk: Path, free: int, *, reserve: bool = False) -> None:
    """Fill the disk up to so many bytes, and take the store's reserve unless it may be kept."""
    if not reserve:
        (disk / "home/reserve").unlink(missing_ok=True)
    with (disk / "filler").open("ab") as file:
        status = os.statvfs(disk)
        begin = file.tell()
        os.posix_fallocate(file.fileno(), begin, max(1, status.f_bavail * status.f_frsize - free))


def built(text: str, **options: object) -> Writer:
    """A build in a context of twenty files."""

    def write(engine: Engine, context: Path) -> object:
        return engine.build(BuildRequest(text, context=context, **options))  # type: ignore[arg-type]

    return write


def saved(engine: Engine, context: Path) -> None:
    with whole_file(engine.home.parent / "saved.tar") as file:
        engine.save(["one"], file)


def loaded(engine: Engine, context: Path) -> None:
    with (context / "archive.tar").open("rb") as file:
        engine.load(file)


def in_session(engine: Engine, context: Path) -> None:
    Session(SessionName("named", "full"), engine).run(Cell("1", "FROM one\nRUN echo cell > /cell"))


def in_container(engine: Engine, context: Path) -> None:
    request = RunRequest("one", ("dd", "if=/dev/zero", "of=/filled", "bs=1k", "count=300"), remove=True)
    if engine.run(request).exit_code:
        raise StoreFullError("the disk that holds the container is full", hint="dd says so.")


WRITERS: dict[str, Writer] = {
    "RUN": built("FROM one\nRUN dd if=/dev/zero of=/two bs=1k count=200\n"),
    "COPY": built("FROM one\nCOPY files /files\n"),
    "WORKDIR": built("FROM one\nWORKDIR /a/b/c\n"),
    "image": built("FROM one\nRUN dd if=/dev/urandom of=/three bs=1k count=100\n", tags=("three",)),
    "tag": lambda engine, context: engine.tag("one", "another"),
    "save": saved,
    "load": loaded,
    "session": in_session,
    "container": in_container,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_says_it_and_goes_on_once_there_is_room(disk: Path, tmp_path: Path, writer: str) -> None:
    context = tmp_path / "context"
    (context / "files").mkdir(parents=True)
    for number in range(20):
        (context / f"files/{number}").write_bytes(os.urandom(4096))
    with Engine(disk / "home") as engine:
        with (context / "archive.tar").open("wb") as file:
            engine.save(["one"], file)
        if writer == "load":
            engine.remove_image("one")
    refused = 0
    for free in (0, 8192, 32768, *(1 << power for power in range(16, 24))):
        leave(disk, free)
        try:
            with Engine(disk / "home") as engine:
                WRITERS[writer](engine, context)
        except RunFailedError as error:
            assert "The disk is full" in error.hint
        except OSError as error:
            assert error.errno == errno.ENOSPC, "only the file that the caller opened"
        except DockermagicError as error:
            assert isinstance(error, StoreFullError), error
            assert "is full" in error.message
            assert error.hint
        else:
            break
        refused += 1
        (disk / "filler").unlink()
        with Engine(disk / "home") as engine:
            # A blob that was whole when the next one found no room stays until the next removal.
            assert {(one.kind, one.place) for one in engine.fsck().findings} <= {("leftover", "blobs")}
    assert refused
    with Engine(disk / "home") as engine:
        assert engine.fsck().findings == ()
    assert not [path for path in (disk / "home/contexts").glob("*") if path.suffix == ".d"]


def test_a_run_that_fills_the_disk_is_named(disk: Path) -> None:
    """Also where the build cannot write down any more what it has learnt."""
    text = "FROM one\nRUN true\nRUN dd if=/dev/zero of=/two bs=1M count=1000\n"
    with Engine(disk / "home") as engine, pytest.raises(RunFailedError) as caught:
        engine.build(BuildRequest(text))
    assert caught.value.line == 3
    assert "The disk is full" in caught.value.hint


def test_a_container_that_fills_the_disk_ends_by_itself(disk: Path) -> None:
    """Its state cannot be written any more; how it ended is known all the same."""
    words = ("sh", "-c", "dd if=/dev/zero of=/two bs=1M count=1000; exit 7")
    with Engine(disk / "home") as engine:
        done = engine.run(RunRequest("one", words))
        found = engine.running.get(done.id).state
        engine.remove_container(done.id)
    assert (done.exit_code, found.status, found.exit_code) == (7, "exited", 7)


def test_what_makes_room_works_on_a_disk_without_any(disk: Path) -> None:
    leave(disk, 0, reserve=True)
    environment = os.environ | {"DOCKERMAGIC_HOME": str(disk / "home"), "PYTHONPATH": str(REPO)}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "dockermagic", *words]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    assert "one" in command("images").stdout
    assert command("rmi", "one").returncode == 0
    refused = command("build", "-q", "-f", os.devnull, str(disk))
    assert refused.returncode
    assert "Traceback" not in refused.stderr


def test_the_reserve_is_made_again(disk: Path) -> None:
    leave(disk, 0, reserve=True)
    Records(disk / "home").rows("SELECT 1")
    assert not (disk / "home/reserve").exists()
    (disk / "filler").unlink()
    Records(disk / "home").rows("SELECT 1")

    assert (disk / "home/reserve").stat().st_blocks
