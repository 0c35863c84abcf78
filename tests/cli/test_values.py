"""Values of options that have a grammar of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dockermagic.build.request import Output, Secret
from dockermagic.errors import UsageError
from dockermagic.sandbox.base import Ulimit, parse_ulimit
from dockermagic.verbs import values

HERE = Path.cwd()

READ: list[tuple[Any, str, object]] = [
    (values.size, "64m", 64 << 20),
    (values.size, "64MB", 64 << 20),
    (values.size, "1.5g", 3 << 29),
    (values.size, "100", 100),
    (values.size, "2 KiB", 2048),
    (values.comma_fields, 'type=oci,"dest=a,b",x=', {"type": "oci", "dest": "a,b", "x": ""}),
    (values.named_context, "base=docker-image://x=y", ("base", "docker-image://x=y")),
    (values.host_entry, "db:10.0.0.1", ("db", "10.0.0.1")),
    (values.host_entry, "db=::1", ("db", "::1")),
    (values.host_entry, "db:::1", ("db", "::1")),
    (values.host_entry, "db=[::1]", ("db", "::1")),
    (parse_ulimit, "nofile=10:20", Ulimit("nofile", 10, 20)),
    (parse_ulimit, "core=-1", Ulimit("core", -1, -1)),
    (values.output, "out", Output("local", "out")),
    (values.output, "-", Output("tar", "-")),
    (values.output, "type=oci", Output("oci", "-")),
    (
        values.output,
        "type=oci,dest=a.tar,rewrite-timestamp=true",
        Output("oci", "a.tar", {"rewrite-timestamp": "true"}),
    ),
    (values.output, "type=docker", Output("docker", "")),
    (values.host_entry, "db:host-gateway", ("db", "127.0.0.1")),
    (values.output, "type=registry,name=x", Output("image", "", {"push": "true", "name": "x"})),
]


@pytest.mark.parametrize(("function", "given", "expected"), READ)
def test_reads(function: Any, given: str, expected: object) -> None:
    assert function(given) == expected


REFUSED: list[tuple[Any, str, str]] = [
    (values.size, "much", "invalid size: 'much'"),
    (values.size, "-1m", "invalid size"),
    (values.comma_fields, "type", "invalid field 'type'"),
    (values.named_context, "base", "expected key=value"),
    (values.named_context, "=x", "expected key=value"),
    (values.host_entry, "db", "bad format for add-host"),
    (values.host_entry, "db:nowhere", "invalid IP address"),
    (parse_ulimit, "nofile", "invalid ulimit argument"),
    (parse_ulimit, "nofile=20:10", "soft limit must be less"),
    (parse_ulimit, "nosuch=1", "invalid ulimit type: nosuch"),
    (values.secret, "src=x", "secret without an id"),
    (values.secret, "id=a,colour=red", "unexpected key 'colour'"),
    (values.secret, "id=a,type=vault", "unsupported secret type"),
    (values.output, "dest=x", "type is required"),
]


@pytest.mark.parametrize(("function", "given", "message"), REFUSED)
def test_refuses(function: Any, given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        function(given)


SECRETS = [
    ("id=a,src=f", ("a", Secret(source=HERE / "f"))),
    ("id=a,source=/f", ("a", Secret(source=Path("/f")))),
    ("id=a,env=B", ("a", Secret(env="B"))),
    ("id=a,type=env,src=B", ("a", Secret(env="B"))),
    ("id=TOKEN", ("TOKEN", Secret(env="TOKEN"))),
    ("id=file", ("file", Secret(source=HERE / "file"))),
]


@pytest.mark.parametrize(("given", "expected"), SECRETS)
def test_a_secret_is_a_file_or_a_variable(given: str, expected: tuple[str, Secret]) -> None:
    assert values.secret(given, {"TOKEN": "x"}) == expected


def test_ssh_takes_the_agent_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("agent", "key", "other"):
        Path(name).touch()
    known = {"SSH_AUTH_SOCK": f"{tmp_path}/agent"}

    assert values.ssh_agent("default", known) == ("default", f"{tmp_path}/agent")
    assert values.ssh_agent("", known) == ("default", f"{tmp_path}/agent")
    assert values.ssh_agent(f"git=key,{tmp_path}/other", known) == ("git", f"{tmp_path}/key,{tmp_path}/other")
    with pytest.raises(ValueError, match="/none: no such file"):
        values.ssh_agent("git=key,none", known)
    with pytest.raises(ValueError, match="SSH_AUTH_SOCK is not set"):
        values.ssh_agent("default", {})
    with pytest.raises(ValueError, match="SSH_AUTH_SOCK is not set"):
        values.ssh_agent("default,raw=false", {})
    assert values.ssh_agent("git=key,raw=false", known) == ("git", f"{tmp_path}/key")
    with pytest.raises(ValueError, match="raw=true is not supported"):
        values.ssh_agent("default,raw=true", known)
    with pytest.raises(UsageError, match="invalid duplicate ID git"):
        values.ssh_agents(["git=key", "git=other"])


def test_build_arguments_without_a_value_come_from_the_environment() -> None:
    given = ("A=1", "B=", "C", "D", "A=2=3")

    assert values.with_environment(given, {"C": "c"}) == {"A": "2=3", "B": "", "C": "c"}
    assert values.pairs(("a=1", "b", "c=d=e")) == {"a": "1", "b": "", "c": "d=e"}
