"""Files of containers and what can be seen of them: cp, diff, commit, volume, inspect, top, limits, toolbox."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from dockermagic.containers.volumes import Volumes
from tests.cli.conftest import Commands
from tests.containers.test_detached import until_logged

CHANGES = "echo 1 > /made; rm /etc/group; mkdir /d; echo x > /d/f; ln -s f /d/l; echo up; exec sleep 1000"


@pytest.fixture
def box(busybox: Commands) -> Commands:
    """A container ``box`` that runs and has changed something."""
    busybox("run", "-d", "--name", "box", "busybox", "sh", "-c", CHANGES)
    until_logged(busybox, "box", "up")
    return busybox


@pytest.mark.plain
@pytest.mark.parametrize("running", [True, False])
def test_copies_both_ways(box: Commands, running: bool) -> None:
    """Docker's rules for names; a running container and a stopped one do not differ."""
    if not running:
        box("stop", "-t", "0", "box")
    box("cp", "box:/d", ".")
    assert (box.directory / "d/f").read_text() == "x\n"
    assert (box.directory / "d/l").readlink().name == "f"
    box("cp", "box:/d/f", "renamed")
    assert (box.directory / "renamed").read_text() == "x\n"
    box.file("up/sub/file", "from here\n")
    box("cp", "up", "box:/")
    (box.directory / "up").chmod(0o700)
    box("cp", "up/.", "box:/d")
    box("cp", "renamed", "box:/etc/new")
    assert "Could not find the file /nosuch" in box("cp", "box:/nosuch", ".", code=1).err
    assert box("cp", "up", "box:/etc/new", code=1).err
    with tarfile.open(fileobj=io.BytesIO(box.raw("cp", "box:/up", "-").stdout)) as archive:
        assert archive.getnames() == ["up", "up/sub", "up/sub/file"]

    box("start", "box")
    done = box(
        "exec", "box", "sh", "-c", "cat /up/sub/file /d/sub/file /etc/new; stat -c %u /up/sub/file; stat -c %a /d"
    )
    assert done.out == "from here\nfrom here\nx\n0\n755\n"


def test_a_link_in_a_container_does_not_lead_out(box: Commands) -> None:
    """What a link of the container names is looked up inside of it, in both directions."""
    secret = box.file("secret", "of the host\n")
    box("exec", "box", "ln", "-s", str(secret), "/link")
    box("exec", "box", "ln", "-s", str(box.directory), "/out")
    assert box("cp", "-L", "box:/link", "got", code=1).err
    assert box("cp", "renamed" if (box.directory / "renamed").exists() else "secret", "box:/out/new", code=1).err
    assert not (box.directory / "new").exists()


def test_what_a_container_gives_does_not_lead_out(box: Commands) -> None:
    """A link that one copy brought is no way for the next, which its container may have prepared."""
    secret = box.file("secret/f", "of the host\n")
    box("exec", "box", "sh", "-c", f"mkdir -p /one/l /two/l/way; ln -s {secret.parent} /one/l/way; echo > /two/l/way/f")
    box("cp", "box:/one/l", ".")
    assert "cannot overwrite non-directory" in box("cp", "box:/two/l", ".", code=1).err
    assert secret.read_text() == "of the host\n"
    os.mkfifo(box.directory / "pipe")
    assert "must be a directory or a regular file" in box("cp", "box:/d/f", "pipe", code=1).err
    assert (box.directory / "pipe").is_fifo()


def test_a_copy_that_breaks_off_leaves_a_container_whole(box: Commands) -> None:
    """Its processes may be killed at any moment: what their overlay left is cleared for the next."""
    box("stop", "-t", "0", "box")
    (folder,) = (box.home / "containers").glob("[0-9a-f]*")
    (folder / "work/work/incompat/volatile").mkdir(parents=True)
    (box.directory / "d").write_text("in the way")

    assert box("cp", "box:/d", "d", code=1).err
    box("cp", "box:/d/f", "after")


def test_nothing_of_a_container_is_run_to_copy_its_files(box: Commands) -> None:
    """Names of users are not looked up: for that the C library loads modules that the container's files name."""
    with tarfile.open(fileobj=io.BytesIO(box.raw("cp", "box:/d", "-").stdout)) as archive:
        assert {(entry.uname, entry.gname) for entry in archive} == {("", "")}


def test_what_changed_becomes_an_image(box: Commands) -> None:
    assert box("diff", "box").out.splitlines() == ["A /d", "A /d/f", "A /d/l", "C /etc", "D /etc/group", "A /made"]
    box("commit", "-m", "a note", "box", "made:1")
    box("commit", "-c", "ENV X=5", "-c", 'CMD ["sh", "-c", "echo $X; cat /made; ls /etc/group"]', "box", "made:2")
    assert box("run", "--rm", "made:1", "sh", "-c", "cat /made; test -e /etc/group || echo gone").out == "1\ngone\n"
    assert box("run", "--rm", "made:2", code=1).out == "5\n1\n"
    assert "a note" in box("history", "made:1").out


@pytest.mark.plain
def test_the_size_of_one_whose_image_is_gone(busybox: Commands) -> None:
    busybox("create", "--name", "left", "busybox", "true")
    busybox("rmi", "-f", "busybox")
    assert re.fullmatch(r"0B \(virtual [0-9.]+MB\)\n", busybox("ps", "-a", "--format", "{{.Size}}").out)
    assert busybox("ps", "-aq", "--filter", "name=[").out == ""  # no expression at all


def test_triggers_are_kept_by_a_commit_and_not_pulled(box: Commands) -> None:
    box("commit", "-c", "ONBUILD COPY nothing /", "box", "triggers:1")
    box("create", "--name", "loaded", "triggers:1", "true")
    box("commit", "-c", "ONBUILD ENV A=b", "loaded", "triggers:2")
    config = json.loads(box("inspect", "triggers:2").out)[0]["Config"]
    assert config["OnBuild"] == ["COPY nothing /", "ENV A=b"]
    box("rm", "loaded")


def test_volumes(busybox: Commands) -> None:
    assert busybox("volume", "create", "data").out == "data\n"
    busybox("create", "--name", "user", "-v", "data:/data", "busybox", "true")
    assert busybox("volume", "ls", "-q").out == "data\n"
    assert "volume is in use" in busybox("volume", "rm", "data", code=1).err
    mount = json.loads(busybox("volume", "inspect", "data").out)[0]["Mountpoint"]
    assert mount.startswith(str(busybox.home))
    busybox("rm", "user")
    digits = 64 * "a"
    busybox("volume", "create", "--label", "for=test", digits)
    (Path(mount).parent / "volume.json").write_bytes(b"")  # what a power cut may leave of its record
    nameless = busybox("volume", "create").out
    assert busybox("volume", "ls", "-q", "--filter", "label=for=test").out == f"{digits}\n"
    freed = "\nTotal reclaimed space: 0B\n"
    assert busybox("volume", "prune", "-f").out == f"Deleted Volumes:\n{nameless}{freed}"
    busybox("volume", "rm", digits)
    assert busybox("volume", "prune", "-af").out == f"Deleted Volumes:\ndata\n{freed}"
    assert "no such volume" in busybox("volume", "rm", "data", code=1).err
    assert "requires at least 1 argument" in busybox("volume", "rm", code=1).err
    assert busybox("volume").out.startswith("Usage:  dockermagic volume COMMAND")


@pytest.mark.alike
def test_inspect_top_and_stats(box: Commands) -> None:
    found = json.loads(box("inspect", "box").out)[0]
    assert (found["Name"], found["State"]["Status"], found["Path"]) == ("/box", "running", "sh")
    assert box("inspect", "-f", "{{.State.Running}} {{.HostConfig.NetworkMode}}", "box").out == "true host\n"
    assert "sleep 1000" in box("top", "box").out
    row = json.loads(box("stats", "--no-stream", "--format", "json", "box").out)
    assert (row["Name"], row["PIDs"]) == ("box", "1")


def test_options_of_a_process(busybox: Commands) -> None:
    """tmpfs, capabilities, limits, resolver, init, toolbox: as the process sees them."""
    script = "grep -c ' /t tmpfs' /proc/mounts; ulimit -n; grep CapEff /proc/self/status; cat /etc/resolv.conf"
    words = ("--tmpfs", "/t:size=1m", "--ulimit", "nofile=99", "--cap-drop", "ALL", "--dns", "9.9.9.9")
    done = busybox("run", "--rm", *words, "busybox", "sh", "-c", script)
    assert done.out.splitlines() == ["1", "99", "CapEff:\t0000000000000000", "nameserver 9.9.9.9"]
    script = "echo 1.2.3.4 x >> /etc/hosts && tail -n 1 /etc/hosts"
    assert busybox("run", "--rm", "busybox", "sh", "-c", script).out == "1.2.3.4 x\n"
    assert "Read-only" in busybox("run", "--rm", "--read-only", "busybox", "sh", "-c", script, code=1).err
    done = busybox("run", "--rm", "--init", "busybox", "sh", "-c", "head -c 11 /proc/1/cmdline; echo; exit 5", code=5)
    assert done.out == "docker-init\n"
    assert "bin" in busybox("run", "--rm", "--debug-image", "busybox", "busybox", "ls", "/.debug").out
    for option, value in (("-m", "1m"), ("--restart", "sometimes"), ("--stop-signal", "NOSUCH"), ("--cpus", "x")):
        assert "invalid argument" in busybox("run", option, value, "busybox", "true", code=125).err


def test_limits_hold_or_are_said_not_to(busybox: Commands) -> None:
    """A fork bomb ends at its limit of processes; where a limit cannot be had, a note says so."""
    script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
    done = busybox("run", "--rm", "--pids-limit", "30", "busybox", "sh", "-c", script, code=None)
    assert done.out != "all\n" or "--pids-limit has no effect" in done.err
    done = busybox("run", "--rm", "--cpus", "0.5", "busybox", "true")
    assert done.err in ("", "WARNING: --cpus has no effect: no control group can be made here\n")


@pytest.mark.alike
def test_health(busybox: Commands) -> None:
    """starting, unhealthy after its retries, healthy again."""
    words = (
        "--health-cmd",
        "test -e /ok || { echo no; exit 1; }",
        "--health-interval",
        "50ms",
        "--health-retries",
        "2",
    )
    busybox("run", "-d", "--name", "sick", *words, "busybox", "sleep", "1000")

    def until(state: str) -> None:
        for _ in range(300):
            if busybox("inspect", "-f", "{{.State.Health.Status}}", "sick").out.strip() == state:
                return
        raise AssertionError(state)

    until("unhealthy")
    assert "(unhealthy)" in busybox("ps").out
    assert json.loads(busybox("inspect", "sick").out)[0]["State"]["Health"]["Log"][-1]["Output"] == "no\n"
    busybox("exec", "sick", "touch", "/ok")
    until("healthy")


@pytest.mark.parametrize("record", [None, "", "{}", "[]"])
def test_a_volume_without_a_record_can_be_seen_and_removed(tmp_path: Path, record: str | None) -> None:
    volumes = Volumes(tmp_path, shutil.rmtree, list)
    data = volumes.make("some")
    (data.parent / "volume.json").unlink()
    if record is not None:
        (data.parent / "volume.json").write_text(record)
    assert [one.name for one in volumes.all()] == ["some"]
    volumes.remove("some")
    assert volumes.all() == []
