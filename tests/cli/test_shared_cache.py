"""What another store has built is taken from its cache: a layout, a registry, an image, the shared store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Commands
from tests.peers.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.alike]

DOCKERFILE = """\
FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
RUN date +%N > /when
COPY --from=tools /tool /copied
RUN rm /etc/group && echo more >> /when
ENV A=b
"""


def cached(commands: Commands, *words: str) -> list[str]:
    """The steps that came from a cache, by their place in the stage."""
    done = commands.build(DOCKERFILE, "--progress=plain", "-t", "made", *words)
    steps = dict(re.findall(r"^#(\d+) \[(?:tools |stage-1 )?(\d/\d)\]", done.err, re.MULTILINE))
    return sorted(steps[number] for number in re.findall(r"^#(\d+) CACHED$", done.err, re.MULTILINE) if number in steps)


def fresh(busybox: Commands, name: str, **environment: str) -> Commands:
    """Another store with the same base image."""
    made = Commands(busybox.home.parent / name, busybox.directory, environment)
    archive = busybox.directory / "base.tar"
    if not archive.exists():
        busybox("save", "-o", str(archive), "busybox")
    made("load", "-q", "-i", str(archive))
    return made


def when(commands: Commands) -> str:
    return commands("run", "--rm", "made", "cat", "/when", "/copied").out


def test_from_a_directory(busybox: Commands) -> None:
    """mode=min has the target's steps, mode=max every stage's; what came from there runs and is exported again."""
    cached(busybox, "--cache-to=type=local,dest=small", "--cache-to=type=local,dest=large,mode=max,tag=x")
    other = fresh(busybox, "other")
    assert "2/4" in cached(other, "--cache-from=type=local,src=small")
    assert when(other) == when(busybox)
    third = fresh(busybox, "third")
    steps = cached(third, "--cache-from", "type=local,src=large,tag=x", "--cache-to=type=local,dest=again,mode=max")
    assert len(steps) == 4
    assert when(third) == when(busybox)
    assert third("inspect", "-f", "{{.Id}}", "made") == busybox("inspect", "-f", "{{.Id}}", "made")
    assert "clean" in third("fsck").out
    fourth = fresh(busybox, "fourth")
    assert len(cached(fourth, "--cache-from=type=local,src=again")) == 4


def test_through_a_registry_and_inside_an_image(busybox: Commands, registry: Registry) -> None:
    place = f"{registry.address}/cache/{busybox.home.parent.name[-30:].strip('_').lower()}"
    cached(
        busybox, f"--cache-to=type=registry,ref={place}:cache,mode=max", "--cache-to=type=inline", "-t", f"{place}:app"
    )
    busybox("push", "-q", f"{place}:app")
    other = fresh(busybox, "other")
    assert len(cached(other, f"--cache-from=type=registry,ref={place}:cache")) == 4
    assert when(other) == when(busybox)
    third = fresh(busybox, "third")
    assert "2/4" in cached(third, f"--cache-from={place}:app")
    assert when(third) == when(busybox)


def test_a_cache_that_is_not_there_or_broken_does_no_harm(busybox: Commands) -> None:
    done = busybox.build(DOCKERFILE, "--progress=plain", "--cache-from=type=local,src=nothing")
    assert "it cannot be used" in done.err
    cached(busybox, "--cache-to=type=local,dest=cache,mode=max")
    other = fresh(busybox, "other")
    for blob in (busybox.directory / "cache/blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(b"\x1f\x8b\x08" + b"x" * (blob.stat().st_size - 3))
    assert cached(other, "--cache-from=type=local,src=cache") == []
    assert "clean" in other("fsck").out
    for words, message in (
        (["--cache-to=type=s3"], "not supported"),
        (["--cache-from=type=local"], "src is required"),
        (["--cache-to=type=local,dest=x,mode=some"], "neither min nor max"),
        (["--cache-to=type=local,dest=x,compression=zstd"], "no option compression"),
    ):
        assert message in busybox.build(DOCKERFILE, *words, code=1).err


def test_a_shared_store_lies_below(busybox: Commands) -> None:
    """Base images without a download and layers without a build; nothing is written there."""
    cached(busybox, "--cache-to", f"type=local,dest={busybox.home}/cache,mode=max")
    expected = when(busybox)
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in Path(busybox.home).rglob("*"))
    own = Commands(busybox.home.parent / "own", busybox.directory, {"DOCKERMAGIC_SHARED_STORE": str(busybox.home)})
    listed = own("images", "--no-trunc").out
    assert "busybox" in listed
    assert len(cached(own)) == 4
    assert when(own) == expected
    assert own("run", "--rm", "busybox", "echo", "runs").out == "runs\n"
    assert "clean" in own("fsck").out
    own("save", "-o", "saved.tar", "busybox")
    after = sorted((str(path), path.lstat().st_mtime_ns) for path in Path(busybox.home).rglob("*"))
    assert after == before
