"""What this host allows: found by doing, remembered until the next start, explained in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.errors import SandboxUnavailableError
from dockermagic.sandbox import idmap
from dockermagic.sandbox.namespaces import open_sandbox
from dockermagic.sandbox.probe import Probe, Trial, choose, probe


def test_the_best_mode_is_chosen(id_mode: str, engine_home: Path) -> None:
    found = probe(engine_home)

    assert found.mode == id_mode
    assert choose(engine_home).works
    assert open_sandbox(engine_home).mode == id_mode
    assert list((engine_home / "snapshots").iterdir()) == []


def test_it_is_remembered(id_mode: str, engine_home: Path) -> None:
    found = probe(engine_home)
    file = next(engine_home.glob("probe-*.json"))
    changed = json.loads(file.read_text())
    changed["kernel"] = "remembered"
    file.write_text(json.dumps(changed))

    assert probe(engine_home).kernel == "remembered"
    assert probe(engine_home, fresh=True).kernel == found.kernel


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1, "boot": "another", "trials": []}'])
def test_a_broken_or_old_memory_is_made_again(id_mode: str, engine_home: Path, text: str) -> None:
    (engine_home / f"probe-{os.geteuid()}.json").write_text(text)

    assert probe(engine_home).mode == id_mode


def test_explanation(id_mode: str, engine_home: Path) -> None:
    told = probe(engine_home).explain()

    assert told["mode"] == id_mode
    assert "overlayfs" in told["runs_with"]
    assert any("network" in line for line in told["not_isolated"])
    assert bool(told["improve"]) == (id_mode == "single")
    json.dumps(told)


def test_ids_are_no_advice_where_no_namespace_may_be_made() -> None:
    trials = (
        Trial("range", False, failed="subordinate ids", hint="usermod"),
        Trial("single", False, failed="user namespace", hint="sysctl"),
        Trial("proot", True),
    )
    assert Probe("", 1000, "", trials).explain()["improve"] == ["sysctl"]
    assert Probe("", 1000, "", (trials[0], Trial("single", True))).explain()["improve"] == ["usermod"]


def test_another_mode_can_be_asked_for(id_mode: str, engine_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody has a single id; only root is root."""
    monkeypatch.setenv("DOCKERMAGIC_SANDBOX", "single")
    assert choose(engine_home).mode == "single"
    assert "single" in next(engine_home.glob("probe-*.json")).read_text()  # and is not tried again

    monkeypatch.delenv("DOCKERMAGIC_SANDBOX")
    assert choose(engine_home).mode == id_mode

    monkeypatch.setenv("DOCKERMAGIC_SANDBOX", "root")
    if id_mode != "root":
        with pytest.raises(SandboxUnavailableError, match="not root"):
            choose(engine_home)

    monkeypatch.setenv("DOCKERMAGIC_SANDBOX", "nonsense")
    with pytest.raises(SandboxUnavailableError, match="'nonsense' is not a sandbox"):
        choose(engine_home)


def test_a_store_that_cannot_be_written(id_mode: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SandboxUnavailableError) as caught:
        choose(tmp_path / "file" / "store")

    assert "DOCKERMAGIC_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("{name}:1000:10\nother:2000:5\n{uid}:3000:1\n", [(1000, 10), (3000, 1)]),
        ("{name}x:1:1\n#{name}:1:1\n\nbroken\n{name}:a:b\n{name}:5:0\n", []),
    ],
)
def test_subordinate_ids(tmp_path: Path, text: str, ranges: list[tuple[int, int]]) -> None:
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    (tmp_path / "subuid").write_text(text.format(name=name, uid=os.getuid()))

    assert idmap.ranges(str(tmp_path / "subuid")) == ranges
    assert idmap.mapping(7, str(tmp_path / "subuid"))[0] == (0, 7, 1)
    assert idmap.ranges(str(tmp_path / "nothing")) == []


def test_no_more_namespaces_are_not_a_full_disk(tmp_path: Path) -> None:
    """Linux refuses both with the same number; the hint names the switch. It is set in a user namespace of our own."""
    steps = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    trial = "import sys; from dockermagic.sandbox.trial import main; main('single', *sys.argv[1:])"
    command = [sys.executable, "-c", trial, str(tmp_path), str(tmp_path), "60"]
    done = subprocess.run(["unshare", "-Ur", "sh", "-c", steps, "sh", *command], capture_output=True, text=True)

    answer = json.loads(done.stdout)
    assert (answer["works"], answer["failed"], "full" in answer) == (False, "user namespace", False)
    assert "sysctl user.max_user_namespaces" in answer["hint"]


def test_what_does_not_come_back_is_refused(tmp_path: Path) -> None:
    """A PRoot that hangs, as where its tracing is held up, is given up, and no way is left waiting for it."""
    (tmp_path / "proot").write_text("#!/bin/sh\nsleep 1000\n")
    (tmp_path / "proot").chmod(0o755)
    trial = "import sys; from dockermagic.sandbox.trial import main; main('proot', *sys.argv[1:])"
    command = [sys.executable, "-c", trial, str(tmp_path), str(tmp_path), "0.2"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    answer = json.loads(done.stdout)
    assert (answer["works"], answer["reason"]) == (False, "it did not end in time")
