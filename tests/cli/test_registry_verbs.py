"""``pull``, ``push``, ``login`` and ``logout`` against Debian's registry on loopback; a base that comes by itself."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import ImageNotFoundError
from tests.cli.conftest import Commands
from tests.peers import PeerUnavailable
from tests.peers.registry import Registry
from tests.peers.tokens import TokenServer

pytestmark = pytest.mark.alike

USER, PASSWORD = "someone", "swordfish-and-more"
HASH = "$2b$05$5usn0Me4vnX8mJHALTu2MuKIuFHXuQ5FKFByOgwBjsw/xOmGRpKKC"


@pytest.fixture
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Docker's config file of nobody in particular."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKERMAGIC_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


@pytest.fixture(params=["htpasswd", "token"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """A registry that lets nobody in without the password, told in Basic or fetched as a token."""
    directory = tmp_path / "registry"
    directory.mkdir()
    tokens = None
    if request.param == "htpasswd":
        (directory / "passwords").write_text(f"{USER}:{HASH}\n")
        more = f"auth: {{htpasswd: {{realm: test, path: {directory}/passwords}}}}"
    else:
        tokens = TokenServer(directory, USER, PASSWORD)
        more = tokens.configuration
    try:
        server = Registry(directory, more)
    except PeerUnavailable as problem:
        pytest.skip(str(problem))
    yield server
    server.stop()
    if tokens is not None:
        tokens.close()


def lines(text: str) -> list[str]:
    """Digests and sizes differ from machine to machine."""
    text = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)
    return re.sub(r"^[0-9a-f]{12}:", "LAYER:", text, flags=re.MULTILINE).replace("size: 405", "size: N").splitlines()


def test_push_pull_and_from(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one store pushes another pulls, with the same digest; FROM pulls what is not here, by digest too."""
    name = f"{registry.address}/library/busybox:latest"
    with Engine(tmp_path / "one") as one:
        one.base("busybox")
        one.tag("busybox", name)
        digest = one.push(name).digest
        identity = one.inspect(name)["Id"]
    with Engine(tmp_path / "two") as two:
        assert two.pull(name) == digest
        assert two.images()[0].id == identity
    monkeypatch.setenv("DOCKERMAGIC_MIRRORS", f"docker.io=http://{registry.address}")
    with Engine(tmp_path / "three") as three:
        result = three.build(BuildRequest("FROM busybox\nRUN test -x /bin/busybox\n", tags=("made",)))
        assert result.image_id
        assert three.inspect("busybox")["Id"] == identity
    with Engine(tmp_path / "four") as four:
        four.build(BuildRequest(f"FROM busybox:ignored@{digest}\nRUN test -x /bin/busybox\n"))
        assert four.inspect(f"busybox@{digest}")["Id"] == identity


def test_unknown_base_says_why_it_could_not_be_pulled(registry: Registry, tmp_path: Path) -> None:
    with Engine(tmp_path / "store") as engine, pytest.raises(ImageNotFoundError) as caught:
        engine.build(BuildRequest(f"FROM {registry.address}/no/such:tag\n"))

    assert "could not be pulled" in caught.value.message
    assert caught.value.line == 1


@pytest.mark.engine
def test_the_lines_are_dockers(busybox: Commands, registry: Registry, docker_config: Path) -> None:
    """Push, push again, pull, pull again, quietly; all tags at once."""
    name = f"{registry.address}/lines/{busybox.home.parent.name[-40:].strip('_').lower()}"
    busybox("tag", "busybox", name)
    sent = busybox("push", name).out
    assert lines(sent) == [
        "Using default tag: latest",
        f"The push refers to repository [{name}]",
        "LAYER: Preparing",
        "LAYER: Pushed",
        "latest: digest: DIGEST size: N",
    ]
    assert "LAYER: Layer already exists" in lines(busybox("push", f"{name}:latest").out)
    busybox("tag", "busybox", f"{name}:2")
    assert lines(busybox("push", "-q", "-a", name).out) == [name]
    fresh = Commands(busybox.home.parent / "fresh", busybox.directory)
    assert lines(fresh("pull", name).out) == [
        "Using default tag: latest",
        f"latest: Pulling from {name}",
        "LAYER: Pulling fs layer",
        "LAYER: Download complete",
        "LAYER: Pull complete",
        "Digest: DIGEST",
        f"Status: Downloaded newer image for {name}:latest",
        f"{name}:latest",
    ]
    again = lines(fresh("pull", f"{name}:latest").out)
    assert "LAYER: Already exists" in again
    assert "LAYER: Pulling fs layer" not in again
    assert f"Status: Image is up to date for {name}:latest" in again
    assert fresh("pull", "-q", f"{name}:2").out == f"{name}:2\n"
    assert fresh("rmi", f"{name}:2", f"{name}:latest").code == 0
    everything = lines(fresh("pull", "-a", name).out)
    assert [line for line in everything if "Pulling from" in line] == [
        f"2: Pulling from {name}",
        f"latest: Pulling from {name}",
    ]
    assert "can't be used with --all-tags" in fresh("pull", "-a", f"{name}:2", code=1).err
    assert fresh("run", "--rm", name, "echo", "runs").out == "runs\n"


def test_a_build_is_pushed(registry: Registry, docker_config: Path, tmp_path: Path) -> None:
    """``--push`` sends every tag, ``type=registry`` and ``push=true`` theirs; by digest there is no tag."""
    commands, name = Commands(tmp_path / "home", tmp_path), f"{registry.address}/built/app"
    text = "FROM scratch\nLABEL made=here\n"
    told = commands.build(text, "--progress=plain", "--push", "-t", f"{name}:1", "-t", f"{name}:2").err
    digest = json.loads(commands("inspect", f"{name}:1").out)[0]["Descriptor"]["digest"]
    assert f"pushing manifest for {name}:1@{digest}" in told
    commands.build(text, "-q", "--output", f"type=registry,name={name}:3")
    commands.build("FROM scratch\nLABEL a=b\n", "-q", f"-otype=image,push=true,push-by-digest=true,name={name}")
    with Engine(tmp_path / "other") as other:
        assert sorted(other.remote_tags(name)) == ["1", "2", "3"]
        assert {other.pull(f"{name}:{tag}") for tag in "123"} == {digest}
        assert other.pull(f"{name}@{digest}") == digest
        assert sorted(row.tag for row in other.images()) == ["1", "2", "3"]
        for tag in "12":
            assert other.remove_image(f"{name}:{tag}") == [f"Untagged: {name}:{tag}"]
        said = other.remove_image(f"{name}:3")
        assert said[:2] == [f"Untagged: {name}:3", f"Untagged: {name}@{digest}"] and said[2].startswith("Deleted: ")
        pinned = json.loads(commands("inspect", name).out)[0]["Descriptor"]["digest"]
        assert other.pull(f"{name}@{pinned}") == pinned
    assert "tag is needed when pushing" in commands.build(text, "--push", code=1).err


@pytest.mark.engine
def test_a_container_pulls_its_image(busybox: Commands, registry: Registry, docker_config: Path) -> None:
    """As Docker does: told on stderr, once; always, never, quietly; and for ``create``."""
    name = f"{registry.address}/wanted/{busybox.home.parent.name[-40:].strip('_').lower()}"
    busybox("tag", "busybox", name)
    busybox("push", "-q", name)
    fresh = Commands(busybox.home.parent / "fresh", busybox.directory)
    assert "No such image" in fresh("run", "--pull", "never", name, code=125).err
    pulled = [
        f"latest: Pulling from {name}",
        "LAYER: Pulling fs layer",
        "LAYER: Download complete",
        "LAYER: Pull complete",
        "Digest: DIGEST",
        f"Status: Downloaded newer image for {name}:latest",
    ]
    done = fresh("run", "--rm", name, "echo", "runs")
    assert done.out == "runs\n"
    assert lines(done.err)[:7] == [f"Unable to find image '{name}:latest' locally", *pulled]
    assert "Pull" not in fresh("run", "--rm", name, "true").err
    again = lines(fresh("run", "--rm", "--pull", "always", name, "true").err)
    assert again[0] == pulled[0] and f"Status: Image is up to date for {name}:latest" in again
    fresh("rmi", name)
    created = fresh("create", "-q", name, "true")
    assert len(created.out) == 65 and "Pull" not in created.err
    fresh("rm", created.out.strip())


@pytest.mark.engine
def test_a_container_whose_image_cannot_be_pulled(commands: Commands, docker_config: Path) -> None:
    """The error says why, and what makes the image here."""
    commands.environment["DOCKERMAGIC_MIRRORS"] = "docker.io=http://127.0.0.1:9"
    commands.environment["HTTPS_PROXY"] = "http://127.0.0.1:9"
    done = commands("run", "python:3.9", code=125)

    assert done.err.startswith("Unable to find image 'python:3.9' locally\n3.9: Pulling from library/python\nERROR: ")
    assert "dockermagic base python:3.9" in done.err
    assert commands("create", "python:3.9", code=1).out == ""


@pytest.mark.engine
def test_a_password_is_kept_where_docker_keeps_it(busybox: Commands, guarded: Registry, docker_config: Path) -> None:
    """Nothing without it, not stored where it is wrong, readable for nobody else, gone after logout."""
    name = f"{guarded.address}/private/app:1"
    busybox("tag", "busybox", name)
    refused = busybox("push", name, code=1)
    assert f"dockermagic login {guarded.address}" in refused.err
    login = ("login", "-u", USER, "--password-stdin", guarded.address)
    wrong = busybox(*login, stdin=b"wrong-password\n", code=1)
    assert "wrong-password" not in wrong.err
    assert not docker_config.exists()

    right = busybox(*login, stdin=f"{PASSWORD}\n".encode())
    assert right.out == "Login Succeeded\n"
    assert PASSWORD not in right.out + right.err
    assert stat.S_IMODE(docker_config.stat().st_mode) == 0o600
    assert list(json.loads(docker_config.read_text())["auths"]) == [guarded.address]
    busybox("push", name)
    fresh = Commands(busybox.home.parent / "fresh", busybox.directory)
    fresh("pull", name)
    assert fresh.build(f"FROM {name}\nRUN true\n", "--pull", "-t", "x").code == 0

    assert busybox("logout", guarded.address).out == f"Removing login credentials for {guarded.address}\n"
    assert busybox("logout", guarded.address).out == f"Not logged in to {guarded.address}\n"
    assert "who we are" in busybox("pull", name, code=1).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["login", "--password-stdin"], "Must provide --username"),
        (["login", "-u", "a", "-p", "b", "--password-stdin"], "mutually exclusive"),
        (["login", "-u", "a"], "nobody can be asked here: Password:"),
        (["login"], "nobody can be asked here: Username:"),
        (["login", "-u", "a", "-p", "b", "not a host"], "is not a registry"),
    ],
)
def test_a_login_that_cannot_be(tmp_path: Path, docker_config: Path, words: list[str], message: str) -> None:
    assert message in Commands(tmp_path / "home", tmp_path)(*words, code=None).err
    assert not docker_config.exists()
