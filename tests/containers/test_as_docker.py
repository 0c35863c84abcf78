"""What scripts read of containers (exit codes, states, what is left) beside Docker itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.conftest import Commands
from tests.peers.docker import Docker

pytestmark = pytest.mark.slow

STATUS = ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Path}} {{.Args}} {{.Name}}", "box")
NAMES = ("ps", "-a", "--format", "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Ports}}")
RUN = ("run", "--network", "host", "--name", "box")
SLEEPER = "trap 'exit 5' TERM; while :; do sleep 0.1; done"
CASES = {
    "well": [(*RUN, "busybox", "true"), STATUS, NAMES],
    "own code": [(*RUN, "busybox", "sh", "-c", "exit 300"), STATUS, ("logs", "box"), ("wait", "box")],
    "output": [(*RUN, "busybox", "echo", "out"), ("logs", "box"), ("start", "-a", "box")],
    "not there": [(*RUN, "busybox", "nosuch"), STATUS, NAMES, ("start", "box"), ("rm", "box")],
    "not executable": [(*RUN, "busybox", "/etc/passwd"), STATUS, NAMES],
    "a directory": [(*RUN, "--entrypoint", "/etc", "busybox"), STATUS],
    "empty": [(*RUN, "busybox", ""), STATUS, NAMES],
    "no command": [(*RUN, "--entrypoint", "", "busybox"), NAMES],
    "relative directory": [(*RUN, "-w", "relative", "busybox", "true"), NAMES],
    "no such user": [(*RUN, "-u", "nobodyatall", "busybox", "true"), NAMES],
    "no such source": [(*RUN, "--mount", "type=bind,src=/none,dst=/x", "busybox"), NAMES],
    "nothing left": [(*RUN, "--rm", "busybox", "nosuch"), NAMES],
    "made, then started": [
        ("create", "--network", "host", "--name", "box", "busybox", "sh", "-c", "exit 3"),
        *(STATUS, NAMES, ("start", "-a", "box"), ("wait", "box"), ("start", "box"), ("wait", "box"), STATUS),
    ],
    "stopped and killed": [
        (*RUN[:1], "-q", "-d", *RUN[1:], "busybox", "sh", "-c", SLEEPER),
        *(NAMES, ("rm", "box"), ("exec", "box", "sh", "-c", "exit 9"), ("stop", "box"), STATUS, ("stop", "box")),
        *(("kill", "box"), ("exec", "box", "true"), ("restart", "-t", "0", "box"), ("kill", "box"), STATUS),
    ],
    "exec": [
        (*RUN[:1], "-q", "-d", "-e", "A=1", *RUN[1:], "busybox", "sleep", "1000"),
        *(("exec", *words) for words in (("box", "id", "-u"), ("-u", "5:7", "box", "id", "-g"), ("box", "nosuch"))),
        *(("exec", *words, "box", "true") for words in (("-w", "/nosuch"), ("-u", "nobodyatall"), ("-w", "relative"))),
        *(("exec", "-d", *words) for words in (("box", "nosuch"), ("box", "true"))),
        ("inspect", "-f", "{{.Config.Env}} {{.Config.Entrypoint}} {{json .Config.Entrypoint}}", "box"),
    ],
    "nothing there": [
        *(("rm", "-f", "box"), ("rm", "-f", "box", "other"), ("volume", "rm", "-f", "nosuch")),
        *(("volume", "inspect", "nosuch"), ("start", "box"), ("inspect", "box")),
    ],
    "options": [
        *((*RUN, *words, "busybox", "true") for words in (("--dns", "x"), ("--cpus", "1000"), ("-v", "rel/x:/b"))),
        *((*RUN, *words, "busybox", "true") for words in (("-v", "/a:/b", "--tmpfs", "/b"), ("--ulimit", "nosuch=1"))),
        (*RUN, "--init", "busybox", "cat", "/proc/1/comm"),
    ],
    "usage": [
        *(("run",), ("run", "--nosuch", "busybox"), ("exec", "box"), ("rm",), ("ps", "--nosuch"), ("volume", "rm")),
        *(("nosuch",), ("--nosuch",), ("volume", "nosuch"), ("logs", "a", "b"), ("stop", "-t", "x", "box")),
        *(("ps", "-f", "nosuch=1"), ("ps", "-f", "status=nosuch"), ("ps", "-f", "nosuch"), ("kill", "-s", "NO", "box")),
    ],
    "looked at": [
        (*RUN[:1], "-q", "-d", "--label", "a=b", *RUN[1:], "--tmpfs", "/t:uid=5,mode=700", "busybox", "sleep", "1000"),
        *(("ps", "--format", "{{.Names}}", "-f", text) for text in ("name=^/box$", "name=^bo", "label=a=c", "id=zz")),
        *(("ps", "--format", text) for text in ("{{.LocalVolumes}}|{{.Mounts}}", "{{json .Networks}}")),
        *(
            ("exec", "box", *words)
            for words in (("stat", "-c", "%u %a", "/t"), ("grep", "-c", "/t .*noexec", "/proc/mounts"))
        ),
        ("commit", "-a", "me", "-m", "a note", "-c", "ENV A=1", "box", "made"),
        *(
            ("inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Env}}", "made"),
            ("rmi", "nosuch"),
            ("rm", "-f", "box"),
        ),
    ],
    "copies": [
        (*RUN, "busybox", "sh", "-c", "mkdir -p /d/s; echo 1 > /d/a; ln -s /d /ld; ln -s d/a /la; ln -s /new /dangles"),
        *(("cp", "-", f"box:{path}") for path in ("/nosuch", "/d/a")),
        *(("cp", f"box:{path}", "/dev/null/x") for path in ("/nosuch", "/d/a/", "/d", "/la")),
        *(("cp", *words) for words in (("/nosuch", "box:/d"), ("box:/d", "box:/e"), ("/etc/hostname", "box:/nosuch/"))),
        *(("cp", "/etc/hostname", f"box:{path}") for path in ("/dangles", "/ld", "/ld/new", "relative", "/d/s/x/y")),
        *(
            ("commit", "box", "copied"),
            ("run", "--rm", "--network", "host", "copied", "sh", "-c", "ls -R /d /new /relative"),
        ),
    ],
    "name": [("run", "--name", "_bad", "busybox", "true"), ("rename", "box", "box"), ("rm", "box"), ("logs", "box")],
}


def test_as_docker(busybox: Commands, docker: Docker, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    busybox("save", "-o", str(archive), "busybox")
    docker.load(archive)
    differ = []
    for name, steps in CASES.items():
        for step in steps:
            ours, theirs = busybox(*step, code=None), docker(*step, check=False)
            # An id is one's own; what an error says besides is, too, and where it is said of an exec.
            mine, other = ours.out.strip(), theirs.stdout.strip()
            if step[0] == "exec" and ours.code == 126:
                other = ""
            if (ours.code, mine) != (theirs.returncode, other) and not len(mine) == len(other) in (64, 71):
                differ.append((name, " ".join(step), (ours.code, mine), (theirs.returncode, other), ours.err))
        busybox("rm", "-f", "box", code=None)
        docker("rm", "-f", "box", check=False)
    docker("rmi", "-f", "busybox", "made", "copied", check=False)
    assert differ == []
