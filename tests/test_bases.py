"""Base images made on this machine."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dockermagic.bases import Base, fill_debian, find_base, find_busybox, write_busybox
from dockermagic.errors import ImageNotFoundError
from dockermagic.standins import find_standin
from tests.differential.tree import merged_tree, read_image

linux = pytest.mark.skipif(sys.platform != "linux", reason="bases are made on Linux")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("busybox", ("busybox", "busybox:latest", "", False)),
        ("debian", ("debian", "debian:latest", "stable", False)),
        ("debian:12", ("debian", "debian:12", "bookworm", False)),
        ("debian:bookworm-slim", ("debian", "debian:bookworm-slim", "bookworm", True)),
        ("debian:13-slim", ("debian", "debian:13-slim", "trixie", True)),
        ("debian:nonsense", None),
        ("busybox:1.36", None),
        ("alpine", None),
    ],
)
def test_names_of_bases(name: str, expected: tuple[str, str, str, bool] | None) -> None:
    base = find_base(name)

    assert (base and (base.kind, base.reference, base.suite, base.slim)) == expected


def busybox_tar(epoch: int = 0) -> bytes:
    out = io.BytesIO()
    write_busybox(out, epoch=epoch)
    return out.getvalue()


@linux
def test_busybox_is_the_same_every_time() -> None:
    assert busybox_tar() == busybox_tar()
    assert busybox_tar() != busybox_tar(epoch=1)


@linux
def test_busybox_layer_is_one_program_and_a_small_tree(tmp_path: Path) -> None:
    """Every applet is a hard link to one file that comes before it; parents come before children."""
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    by_name = {member.name: member for member in members}
    programs = [member for member in members if member.isreg() and member.name.startswith("bin/")]

    assert len(names) == len(set(names))
    assert all("/" not in name or name.rpartition("/")[0] in names[: names.index(name)] for name in names)
    assert len(programs) == 1
    assert {member.linkname for member in members if member.islnk()} == {programs[0].name}
    assert by_name["bin/sh"].islnk()
    assert by_name["tmp"].mode == 0o1777
    assert by_name["root"].mode == 0o700
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="chroot needs root")
def test_busybox_runs_in_its_own_root(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as tar:
        # Debian 12's Python 3.11.2 knows no filters; later ones want one.
        tar.extractall(tmp_path, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    command = ["/bin/sh", "-c", "id -un; ls / | tr '\\n' ' '; /usr/bin/env echo ok"]

    done = subprocess.run(["/usr/sbin/chroot", tmp_path, *command], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["root", "bin dev etc home proc root sys tmp usr var ok"]


@linux
def test_without_a_static_busybox_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockermagic.bases._BUSYBOX_PLACES", ("/nonexistent/busybox",))

    with pytest.raises(ImageNotFoundError, match="apt-get install busybox-static"):
        find_busybox()


@linux
def test_a_dynamic_busybox_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockermagic.bases._BUSYBOX_PLACES", ("/bin/ls",))

    with pytest.raises(ImageNotFoundError, match="not statically linked"):
        find_busybox()


@linux
def test_without_mmdebstrap_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ImageNotFoundError, match="apt-get install mmdebstrap"):
        fill_debian(str(tmp_path), suite="bookworm")


def test_on_another_system_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(ImageNotFoundError, match="Linux program"):
        find_busybox()


FILL = """
import json, os, sys
from dockermagic.bases import fill_debian
print("notes " + json.dumps(fill_debian(sys.argv[1], suite="bookworm", slim=True, environment=os.environ, log=2)))
"""


@linux
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a mount namespace needs root")
def test_debian_is_a_root_that_can_install(tmp_path: Path) -> None:
    """A slim bookworm of the host's sources: no traces of its making, and its own apt reads the same sources."""
    assert shutil.which("mmdebstrap"), "apt-get install mmdebstrap"
    root = tmp_path / "root"
    root.mkdir()
    done = subprocess.run([sys.executable, "-c", FILL, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    assert "apt: sources taken over from this host" in done.stdout or "deb.debian.org" in done.stdout
    assert not list((root / "dev").iterdir())
    assert not (root / "etc/resolv.conf").exists()
    assert not list((root / "var/lib/apt/lists").glob("*Packages*"))
    assert not [path for path in (root / "usr/share/man").rglob("*") if path.is_file()]
    assert list((root / "usr/share/doc").glob("*/copyright"))
    assert not list((root / "etc/apt/apt.conf.d").glob("*mmdebstrap"))
    policy = subprocess.run(["/usr/sbin/chroot", root, "apt-cache", "policy"], capture_output=True, text=True)
    assert policy.returncode == 0, policy.stderr
    version = subprocess.run(["/usr/sbin/chroot", root, "cat", "/etc/debian_version"], capture_output=True, text=True)
    assert version.stdout.startswith("12")


OWNERS = {
    "/etc/shadow": "0:42",
    "/var/mail": "0:8",
    "/var/local": "0:50",
    "/usr/bin/chage": "0:42",
    "/etc/passwd": "0:0",
}


@linux
@pytest.mark.slow
def test_debian_has_its_owners_in_every_id_mode(id_mode: str, engine_home: Path, tmp_path: Path) -> None:
    """What mmdebstrap gives to other groups is theirs in the layer, even where the host has a single id for all."""

    def dockermagic(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "dockermagic", *words],
            env=os.environ | {"DOCKERMAGIC_HOME": str(engine_home)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM debian:bookworm\nRUN apt-get update && apt-get install -y jq && jq -n 1\n"
    )

    dockermagic("base", "debian:bookworm")
    dockermagic("build", f"--output=type=oci,dest={tmp_path}/out.tar", str(context))

    tree = merged_tree(read_image(tmp_path / "out.tar").layers)
    assert {path: tree[path]["owner"] for path in OWNERS} == OWNERS
    assert tree["/usr/bin/chage"]["mode"] == "2755"
    assert "/usr/bin/jq" in tree


def test_base_facts_are_those_of_an_image_config() -> None:
    base = find_base("debian:bookworm")

    assert isinstance(base, Base)
    assert base.command == ("bash",)
    assert dict(base.env)["PATH"].startswith("/usr/local/sbin:")


@pytest.mark.parametrize(
    ("name", "base", "note"),
    [
        ("python:3.9", "debian:bookworm-slim", "it holds Python 3.11 of Debian bookworm, with pip"),
        ("python", "debian:bookworm-slim", "it holds Python 3.11 of Debian bookworm, with pip"),
        ("python:3.12-slim-bookworm", "debian:bookworm-slim", "it holds Python 3.11 of Debian bookworm, with pip"),
        ("python:alpine", "debian:bookworm-slim", "it has apt-get instead of apk, and bash"),
        ("ubuntu:24.04", "debian:bookworm-slim", "it is Debian bookworm: apt-get installs Debian's packages"),
        ("alpine", "busybox", "it is this machine's busybox, without apk"),
        ("python:nonsense", "", ""),
        ("node:20", "", ""),
        ("example.org/python:3.9", "", ""),
    ],
)
def test_names_of_standins(name: str, base: str, note: str) -> None:
    standin = find_standin(name, "bookworm", {})

    assert (standin.base, standin.notes[-1]) == (base, note) if standin else base == ""


def test_pip_asks_in_a_standin_where_the_host_asks() -> None:
    standin = find_standin("python:3.9", "bookworm", {"index-url": "http://mirror.example/simple"})

    assert standin
    assert b"index-url = http://mirror.example/simple\n" in standin.files["pip.conf"]


@linux
@pytest.mark.slow
def test_standins_say_so_and_pip_works_in_them(id_mode: str, engine_home: Path, tmp_path: Path) -> None:
    """Without a registry at hand, `prepare` makes them; a second time there is nothing to do."""
    environment = os.environ | {
        "DOCKERMAGIC_HOME": str(engine_home),
        "DOCKERMAGIC_MIRRORS": "docker.io=http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }

    def dockermagic(*words: str, text: str = "") -> str:
        known = environment if words[0] == "prepare" else os.environ | {"DOCKERMAGIC_HOME": str(engine_home)}
        done = subprocess.run(
            [sys.executable, "-m", "dockermagic", *words], env=known, input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    made = dockermagic("prepare", "-q", "python:alpine", "alpine")
    again = dockermagic("prepare", "-q", "python:alpine", "alpine")
    dockermagic(
        "build", "-q", "-t", "app", "-",
        text="FROM python:alpine\nRUN pip install --quiet six && python -c 'import six, venv' && pip check\n"
        "RUN python -c "
        "\"import urllib.request; urllib.request.urlopen('https://pypi.org/simple/six/').close()\"\n",
    )  # fmt: skip

    assert "python:alpine is a stand-in, made on this machine; it is not the image of that name on Docker Hub" in made
    assert again.splitlines() == [
        f"{name} is here already: a stand-in, made on this machine from Debian's packages"
        for name in ("python:alpine", "alpine:latest")
    ]
    assert dockermagic("run", "--rm", "alpine", "sh", "-c", "apk add git || echo $?").splitlines()[-1:] == ["127"]
