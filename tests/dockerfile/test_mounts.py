"""Mounts, and the values that Go's libraries read: durations, sizes, CSV."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.literals import csv_fields, duration, format_duration, size
from dockermagic.dockerfile.mounts import Mount, parse_mount, resolve_mount
from dockermagic.dockerfile.shell import expand
from dockermagic.errors import DockerfileSyntaxError

ENV = {"T": "cache", "D": "/data"}


def resolve(text: str) -> Mount:
    return resolve_mount(parse_mount(text), lambda word: expand(word, ENV))


MOUNTS = {
    "target=/a": Mount(target="/a"),
    "type=bind,src=a,dst=/b,rw,from=base": Mount("bind", "a", "/b", False, from_="base"),
    "type=$T,target=$D": Mount("cache", target="/data", readonly=False),
    "type=cache,target=/a,id=x,sharing=LOCKED,mode=0770,uid=1,gid=2,ro": Mount(
        "cache", target="/a", readonly=True, id="x", sharing="locked", mode=0o770, uid=1, gid=2
    ),
    "type=tmpfs,target=/a,size=64m": Mount("tmpfs", target="/a", readonly=False, size=64 * 2**20),
    "type=secret,id=a,env=A,required": Mount("secret", id="a", env="A", required=True),
    "type=ssh": Mount("ssh"),
    'type=bind,"target=/a,b"': Mount("bind", target="/a,b"),
    "type=bind,target=/a,readonly=false": Mount("bind", target="/a", readonly=False),
}


@pytest.mark.parametrize(("text", "expected"), MOUNTS.items(), ids=MOUNTS)
def test_mount(text: str, expected: Mount) -> None:
    """What a mount says once its variables are replaced."""
    assert resolve(text) == expected


REFUSED = {
    "type=nfs": 'unsupported mount type "nfs"',
    "type=cahce,target=/a": 'unsupported mount type "cahce" (did you mean cache?)',
    "target=/a,foo": "invalid field 'foo' must be a key=value pair",
    "target=/a,sorce=b": "unexpected key 'sorce' in 'sorce=b' (did you mean source?)",
    "type=bind,mode=700": 'mode not allowed for "bind" type mounts',
    "type=bind,sharing=shared": "invalid cache sharing set for bind mount",
    "type=cache,sharing=some": 'unsupported sharing value "some"',
    "type=cache,size=1": "unexpected key 'size' for mount type 'cache'",
    "type=cache,required": "unexpected key 'required' for mount type 'cache'",
    "type=cache,mode=8": "invalid value 8 for mode",
    "type=tmpfs,size=big": "invalid value for size: big",
    "type=secret": "invalid secret mount",
    "type=secret,id=a,from=b": "secret mount should not have a from",
    "target=/a,ro=perhaps": "invalid value for ro: perhaps",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_refused(text: str, message: str) -> None:
    """What a mount may not say."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        resolve(text)

    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0", 0, "0s"),
        ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("90s", 90_000_000_000, "1m30s"),
        ("1.5ms", 1_500_000, "1.5ms"),
        ("-2s", -2_000_000_000, "-2s"),
        (".5s", 500_000_000, "500ms"),
        ("100us", 100_000, "100µs"),
        ("7ns", 7, "7ns"),
        ("60m", 3_600_000_000_000, "1h0m0s"),
    ],
)
def test_duration(text: str, nanoseconds: int, shown: str) -> None:
    """Go's durations, read and written."""
    assert duration(text) == nanoseconds
    assert format_duration(nanoseconds) == shown


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s2", ".s", "-", "9999999999h"])
def test_bad_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^time: "):
        duration(text)


@pytest.mark.parametrize(("text", "expected"), [("512", 512), ("1k", 1024), ("1.5 GB", 1610612736), ("2GiB", 2**31)])
def test_size(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a,b", ["a", "b"]), ('"a,b",c', ["a,b", "c"]), ('"a""b"', ['a"b']), ("a,", ["a", ""])]
)
def test_csv(text: str, expected: list[str]) -> None:
    assert csv_fields(text) == expected


@pytest.mark.parametrize("text", ["", '"a', '"a"b', 'a"b'])
def test_bad_csv(text: str) -> None:
    with pytest.raises(ValueError, match=r"EOF|parse error on line 1"):
        csv_fields(text)
