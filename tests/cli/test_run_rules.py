"""Docker's rules for what runs in a container: ENTRYPOINT and CMD, environment, volumes."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from dockermagic.containers.container import PATH, resolve
from dockermagic.containers.request import Bind, RunRequest, parse_volume
from dockermagic.errors import ContainerError, UsageError
from dockermagic.verbs.container import RUN, env_file, request_for
from dockermagic.verbs.options import parse

HERE = Path("/here")

COMMANDS: list[tuple[Any, Any, tuple[str, ...], tuple[str, ...] | None, tuple[str, ...]]] = [
    # ENTRYPOINT, CMD, words behind the image, --entrypoint, what runs
    (None, ["sh"], (), None, ("sh",)),
    (None, ["sh"], ("ls", "-l"), None, ("ls", "-l")),
    (["e"], None, (), None, ("e",)),
    (["e", "x"], ["c"], (), None, ("e", "x", "c")),
    (["e"], ["c"], ("d",), None, ("e", "d")),
    (["e"], ["c"], (), ("f",), ("f",)),
    (["e"], ["c"], ("d",), ("f",), ("f", "d")),
    (["e"], ["c"], ("d",), (), ("d",)),
    (None, ["c"], ("d",), ("f",), ("f", "d")),
    (["/bin/sh", "-c", "e"], ["/bin/sh", "-c", "c"], (), None, ("/bin/sh", "-c", "e", "/bin/sh", "-c", "c")),
    ([], ["c"], (), None, ("c",)),
]


@pytest.mark.parametrize(("entrypoint", "cmd", "words", "given", "runs"), COMMANDS)
def test_what_runs(
    entrypoint: Any, cmd: Any, words: tuple[str, ...], given: tuple[str, ...] | None, runs: tuple[str, ...]
) -> None:
    config = {"Entrypoint": entrypoint, "Cmd": cmd}

    assert resolve(config, RunRequest("i", command=words, entrypoint=given), "host").args == runs


@pytest.mark.parametrize(("config", "entrypoint"), [({}, None), ({"Entrypoint": ["e"], "Cmd": ["c"]}, ())])
def test_nothing_to_run(config: dict[str, Any], entrypoint: tuple[str, ...] | None) -> None:
    with pytest.raises(ContainerError) as caught:
        resolve(config, RunRequest("i", entrypoint=entrypoint), "host")

    assert (caught.value.message, caught.value.exit_code) == ("no command specified", 125)


ENVIRONMENTS: list[tuple[list[str], RunRequest, dict[str, str]]] = [
    ([], RunRequest("i"), {"PATH": PATH, "HOSTNAME": "host"}),
    (["PATH=/bin", "A=1"], RunRequest("i"), {"PATH": "/bin", "HOSTNAME": "host", "A": "1"}),
    (["A=1=2"], RunRequest("i", env=(("B", "x"), ("A", ""))), {"PATH": PATH, "HOSTNAME": "host", "A": "", "B": "x"}),
    (["A=1", "B=2"], RunRequest("i", env=(("A", None),)), {"PATH": PATH, "HOSTNAME": "host", "B": "2"}),
    ([], RunRequest("i", hostname="me", tty=True), {"PATH": PATH, "HOSTNAME": "me", "TERM": "xterm"}),
    (["TERM=vt100"], RunRequest("i", tty=True), {"PATH": PATH, "HOSTNAME": "host", "TERM": "vt100"}),
]


@pytest.mark.parametrize(("env", "request_", "expected"), ENVIRONMENTS)
def test_the_environment(env: list[str], request_: RunRequest, expected: dict[str, str]) -> None:
    assert resolve({"Env": env, "Cmd": ["x"]}, request_, "host").env == expected


@pytest.mark.parametrize(
    ("config", "request_", "expected"),
    [
        ({}, RunRequest("i"), ("/", "")),
        ({"WorkingDir": "/w", "User": "u"}, RunRequest("i"), ("/w", "u")),
        ({"WorkingDir": "/w", "User": "u"}, RunRequest("i", workdir="/x", user="1:2"), ("/x", "1:2")),
    ],
)
def test_directory_and_user(config: dict[str, Any], request_: RunRequest, expected: tuple[str, str]) -> None:
    launch = resolve({**config, "Cmd": ["x"]}, request_, "host")

    assert (launch.cwd, launch.user) == expected


def test_a_directory_is_absolute() -> None:
    with pytest.raises(ContainerError, match="the working directory 'x' is invalid"):
        resolve({"Cmd": ["x"]}, RunRequest("i", workdir="x"), "host")


VOLUMES = [
    ("/a:/b", Bind("/b", path=Path("/a"), copy=False)),
    ("/a:/b:ro", Bind("/b", path=Path("/a"), readonly=True, copy=False)),
    ("/a:/b:rw,z", Bind("/b", path=Path("/a"), copy=False)),
    (".:/b", Bind("/b", path=HERE / ".", copy=False)),
    ("./a:/b/", Bind("/b", path=HERE / "a", copy=False)),
    ("../a:/b", Bind("/b", path=HERE / "../a", copy=False)),
    (".cache/a:/b", Bind("/b", path=HERE / ".cache/a", copy=False)),
    ("data:/b", Bind("/b", volume="data")),
    ("data.1_x:/b:ro", Bind("/b", volume="data.1_x", readonly=True)),
    ("/b", Bind("/b")),
]


@pytest.mark.parametrize(("given", "expected"), VOLUMES)
def test_volumes(given: str, expected: Bind) -> None:
    assert parse_volume(given, HERE) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "invalid volume specification"),
        (":/b", "invalid volume specification"),
        ("/a:", "invalid volume specification"),
        ("a:b:c:d", "invalid volume specification"),
        ("/a:b", "mount path must be absolute"),
        ("data", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("a/b:/b", "includes invalid characters for a local volume name"),
        ("da ta:/b", "includes invalid characters for a local volume name"),
        ("x:/b", "includes invalid characters for a local volume name"),
        ("/b:ro", "invalid volume specification"),
    ],
)
def test_volumes_refused(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        parse_volume(given, HERE)


def test_the_words_of_run() -> None:
    line = "-it --rm --name n -e A=1 -e B -e C --entrypoint e -w /w -u 1:2 -v /a:/b:ro --read-only "
    words = shlex.split(line + "-h me --network none busybox sh -c x -e D=4")
    arguments = parse(RUN.options, words, interspersed=False)

    assert request_for(arguments, 7, {"B": "2"}) == RunRequest(
        image="busybox",
        command=("sh", "-c", "x", "-e", "D=4"),
        entrypoint=("e",),
        env=(("A", "1"), ("B", "2"), ("C", None)),
        workdir="/w",
        user="1:2",
        binds=(Bind("/b", path=Path("/a"), readonly=True, copy=False),),
        tty=True,
        stdin=7,
        open_stdin=True,
        hostname="me",
        read_only=True,
        network="none",
        name="n",
        remove=True,
    )


def test_an_empty_entrypoint_is_none_at_all() -> None:
    arguments = parse(RUN.options, ["--entrypoint=", "busybox", "x"], interspersed=False)

    assert request_for(arguments, None, {}).entrypoint == ()


@pytest.mark.parametrize(("words", "is_refused"), [([], False), (["-p", "80"], True), (["--network=none"], True)])
def test_the_hosts_gateway_is_for_who_shares_its_network(words: list[str], is_refused: bool) -> None:
    arguments = parse(RUN.options, ["--add-host=me:host-gateway", *words, "busybox"], interspersed=False)
    with pytest.raises(UsageError, match="does not lead to this machine") if is_refused else nullcontext():
        assert request_for(arguments, None, {}).add_hosts == (("me", "127.0.0.1"),)


def test_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("\ufeffA=1\n\n# a comment\n  B=b b # no comment\nC\nD\nE=\n", encoding="utf-8")

    assert env_file(str(file), {"C": "c"}) == [("A", "1"), ("B", "b b # no comment"), ("C", "c"), ("E", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"=x", "no variable name"), (b"A B=1", "contains whitespaces"), (b"A=\xff", "invalid utf8")],
)
def test_an_env_file_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        env_file(str(file), {})


def test_an_env_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        env_file(str(tmp_path / "env"), {})
