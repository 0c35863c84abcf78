"""``prune``, ``df`` and ``reset``: it is told what goes, what somebody needs stays, and the store is whole."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from dockermagic.errors import UsageError
from dockermagic.verbs.prune import until
from tests.cli.conftest import Commands

pytestmark = [pytest.mark.engine, pytest.mark.alike]

APP = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=400 2>/dev/null\nRUN echo {0} > /{0}\n"


def built(commands: Commands, salt: str, *words: str) -> str:
    """The id of an image with a layer of 400 kB."""
    return commands.build(APP.format(salt), "-q", *words).out.strip()


def usage(commands: Commands) -> dict[str, dict[str, str]]:
    rows = [json.loads(line) for line in commands("system", "df", "--format", "json").out.splitlines()]
    return {row["Type"]: row for row in rows}


def reclaimed(text: str) -> str:
    found = re.search(r"^Total reclaimed space: (.+)$", text, re.MULTILINE)
    assert found, text
    return found[1]


def test_what_has_no_name_goes_and_the_rest_stays(busybox: Commands) -> None:
    """Dangling images with `image prune`, their layers with `builder prune`; the named image still runs."""
    old = built(busybox, "one", "-t", "app")
    built(busybox, "two", "-t", "app")
    assert f"deleted: {old}" in busybox("image", "prune", "-f").out
    assert old not in busybox("images", "-q", "--no-trunc").out
    before = usage(busybox)
    assert before["Build Cache"]["TotalCount"] == "1"
    assert "Deleted build cache objects" in busybox("builder", "prune", "-f").out
    assert usage(busybox)["Build Cache"]["TotalCount"] == "0"
    assert reclaimed(busybox("prune", "-f").out) == "0B"
    assert busybox("run", "--rm", "app", "cat", "/two").out == "two\n"
    assert "CACHED" in busybox.build(APP.format("two"), "--progress=plain").err
    assert "clean" in busybox("fsck").out


def test_it_is_asked_and_told_before_anything_goes(busybox: Commands) -> None:
    built(busybox, "one")
    for answer, code in ((b"", 1), (b"n\n", 0)):
        done = busybox("prune", code=code, stdin=answer)
        assert "It frees " in done.err
        assert "1 image" in done.err
    assert "-f" in busybox("prune", "--help").out
    assert len(busybox("images", "-aq").out.split()) == 2
    assert "Deleted Images:" in busybox("prune", stdin=b"y\n").out
    assert len(busybox("images", "-aq").out.split()) == 1


def test_all_takes_everything_but_what_a_container_stands_on(busybox: Commands) -> None:
    built(busybox, "one", "-t", "one")
    built(busybox, "two", "-t", "two")
    busybox("run", "--name", "stays", "one", "true")
    done = busybox("image", "prune", "-a", "-f")
    assert "two:latest" in done.out
    assert "one:latest" not in done.out
    busybox("builder", "prune", "-a", "-f")
    assert busybox("run", "--rm", "one", "cat", "/one").out == "one\n"
    assert "stays" in busybox("ps", "-a").out

    busybox("system", "prune", "-a", "-f")
    assert busybox("images", "-q").out == ""
    assert "stays" not in busybox("ps", "-a").out
    assert usage(busybox)["Build Cache"]["Size"] == "0B"
    assert usage(busybox)["Images"]["Size"] == "0B"
    assert os.listdir(busybox.home / "blobs/sha256") == []
    assert "clean" in busybox("fsck").out


def test_filters(busybox: Commands) -> None:
    """By age and label; `until` spares what was used since."""
    built(busybox, "one", "--label", "keep=yes")
    built(busybox, "two", "--label", "other=1")
    assert reclaimed(busybox("image", "prune", "-f", "--filter", "until=1h").out) == "0B"
    assert reclaimed(busybox("builder", "prune", "-f", "--filter", "until=1h").out) == "0B"
    done = busybox("image", "prune", "-f", "--filter", "label!=keep").out
    assert done.count("deleted: ") == 1
    for label in ("a=1", "a=2"):
        busybox("run", "--label", label, "busybox", "true")
    done = busybox("system", "prune", "-f", "--filter", "label=a=1").out
    assert done.startswith("Deleted Containers:") and "cache" not in done and done.count("\n\n") == 1
    assert usage(busybox)["Containers"]["TotalCount"] == "1"
    assert "Deleted Containers" not in busybox("container", "prune", "-f", "--filter", "label!=a").out
    assert "Deleted Containers" in busybox("container", "prune", "-f", "--filter", "until=0s").out
    assert "invalid filter" in busybox("prune", "-f", "--filter", "size=1", code=1).err
    assert "neither a duration" in busybox("prune", "-f", "--filter", "until=soon", code=1).err


def test_the_cache_is_kept_to_a_size(busybox: Commands) -> None:
    """What was not used for longest goes first; a bound in the config file does the same after each build."""
    for salt in ("one", "two", "three"):
        commands = f"FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=400 2>/dev/null; echo {salt}\n"
        busybox("build", "--output=type=cacheonly", "-", stdin=commands.encode())
    assert usage(busybox)["Build Cache"]["TotalCount"] == "3"
    busybox("builder", "prune", "-f", "--keep-storage", "900k")
    assert usage(busybox)["Build Cache"]["TotalCount"] == "2"
    kept = f"FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=400 2>/dev/null; echo {salt}\n"
    assert "CACHED" in busybox("build", "--progress=plain", "--output=type=cacheonly", "-", stdin=kept.encode()).err

    config = busybox.file("config.toml", '[store]\nkeep = "500k"\n')
    bounded = Commands(busybox.home, busybox.directory, {"DOCKERMAGIC_CONFIG": str(config)})
    bounded("build", "--output=type=cacheonly", "-", stdin=commands.replace("three", "four").encode())
    assert usage(busybox)["Build Cache"]["TotalCount"] == "1"
    assert "clean" in busybox("fsck").out


def test_the_layers_of_cells_stay_unless_all_is_asked(busybox: Commands) -> None:
    """What a notebook's session stands on is not cache that nobody needs."""
    built(busybox, "cell")
    busybox("image", "prune", "-f")
    rows = busybox("builder", "prune", code=1).err
    assert "2 layers" in rows
    snapshots = sorted(path.name for path in (busybox.home / "snapshots").iterdir() if path.name.isdigit())
    cell = {"id": "a", "text": "RUN x", "built": [f"sha256:k {snapshots[-1]}"]}
    sessions = busybox.home / "sessions"
    sessions.mkdir(exist_ok=True)
    document = {"version": 1, "kind": "named", "name": "s", "chain": {"cells": [cell], "on": ["a"]}, "past": []}
    (sessions / "s.json").write_text(json.dumps(document))

    assert reclaimed(busybox("builder", "prune", "-f").out) == "0B"
    assert reclaimed(busybox("builder", "prune", "-a", "-f").out) != "0B"


def test_reset_leaves_nothing_and_touches_nothing_else(busybox: Commands) -> None:
    built(busybox, "one", "-t", "app")
    busybox("run", "--name", "stays", "app", "true")
    mine = busybox.home / "somebody's file"
    mine.write_text("x")
    busybox("system", "reset", "-f")
    assert [path.name for path in busybox.home.iterdir()] == [mine.name]
    assert busybox("images", "-q").out == ""
    busybox("base", "-q", "busybox")
    assert busybox("run", "--rm", "busybox", "echo", "again").out == "again\n"


def test_until() -> None:
    assert until("24h", 100_000.0) == 100_000.0 - 86_400
    assert until("1h30m", 10_000.0) == 10_000.0 - 5_400
    assert until("1700000000") == 1_700_000_000
    assert until("2024-01-01T00:00:00Z") == 1_704_067_200
    assert abs(until("0s") - time.time()) < 60
    with pytest.raises(ValueError, match="neither"):
        until("soon")


def test_the_config_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dockermagic.settings import settings

    path = tmp_path / "config.toml"
    monkeypatch.setenv("DOCKERMAGIC_CONFIG", str(path))
    monkeypatch.setenv("DOCKERMAGIC_MIRRORS", "docker.io=http://first")
    path.write_text('[store]\nkeep = "1GB"\n[registries.mirrors]\n"docker.io" = ["http://second"]\n')
    assert settings().keep == 1 << 30
    assert settings().mirrors == {"docker.io": ("http://first", "http://second")}
    for text, message in (
        ("[store]\nkeep = 'much'\n", "invalid size"),
        ("[strange]\n", "no table"),
        ("[store]\nkep = 1\n", "no key kep"),
        ("[store\n", "config.toml"),
        ("[registries]\nmirrors = 3\n", "not a table"),
        ("[registries]\ninsecure = [3]\n", "not a list"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            settings()


@pytest.mark.engine
def test_a_config_file_that_may_not_be_read_is_said_once(commands: Commands) -> None:
    path = commands.file("config.toml", "[store]\n")
    path.chmod(0)
    own = Commands(commands.home, commands.directory, {"DOCKERMAGIC_CONFIG": str(path)})
    warning = f"WARNING: {path} may not be read: nothing of it counts\n"
    assert own("images").err == ("" if os.geteuid() == 0 else warning)  # root reads everything
