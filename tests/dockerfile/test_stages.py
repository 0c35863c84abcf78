"""Stages: names, targets, who reads whom, circles, and the scopes of ARG."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.stages import (
    argument_value,
    find_target,
    global_scope,
    parse_dockerfile,
    platform_arguments,
    reachable,
    references,
)
from dockermagic.errors import DockerfileSyntaxError

CHAIN = """\
ARG VERSION=12
FROM debian:$VERSION AS base
RUN a
FROM base AS Build
COPY --from=tools /x /x
FROM alpine AS tools
RUN --mount=from=base,target=/b b
FROM scratch
COPY --from=1 /y /y
"""


def test_stages() -> None:
    """Where they begin, what they are called, what is in them."""
    dockerfile = parse_dockerfile(CHAIN)
    shape = [(stage.index, stage.name, stage.base.image, len(stage.instructions)) for stage in dockerfile.stages]

    assert shape == [
        (0, "base", "debian:$VERSION", 1),
        (1, "build", "base", 1),
        (2, "tools", "alpine", 1),
        (3, "", "scratch", 1),
    ]
    assert [made.name for made in dockerfile.instructions()] == [
        *("ARG", "FROM", "RUN", "FROM", "COPY", "FROM", "RUN", "FROM", "COPY")
    ]


def test_references() -> None:
    """A stage stands on a base and reads others, by name or by index, earlier or later."""
    dockerfile = parse_dockerfile(CHAIN)
    found = references(dockerfile, global_scope(dockerfile))

    assert [(reference.base, reference.base_stage) for reference in found] == [
        ("debian:12", None),
        ("base", 0),
        ("alpine", None),
        ("scratch", None),
    ]
    assert [[(link.kind, link.name, link.stage) for link in reference.links] for reference in found] == [
        [],
        [("copy", "tools", 2)],
        [("mount", "base", 0)],
        [("copy", "1", 1)],
    ]


@pytest.mark.parametrize(
    ("target", "expected"), [("", [0, 1, 2, 3]), ("BUILD", [0, 1, 2]), ("tools", [0, 2]), ("base", [0])]
)
def test_reachable(target: str, expected: list[int]) -> None:
    """Only what the target needs, in the order of the text."""
    assert reachable(parse_dockerfile(CHAIN), target) == expected


def test_named_context_hides_a_stage() -> None:
    dockerfile = parse_dockerfile(CHAIN)
    found = references(dockerfile, global_scope(dockerfile), contexts=["base"])

    assert found[1].base_stage is None
    assert found[2].links[0].stage is None


def test_later_stage_of_a_name_wins() -> None:
    dockerfile = parse_dockerfile("FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x c d")
    found = references(dockerfile, global_scope(dockerfile))

    assert (found[2].base_stage, found[2].links[0].stage, find_target(dockerfile, "x")) == (1, 1, 1)


def test_a_stage_may_be_called_like_its_image() -> None:
    dockerfile = parse_dockerfile("FROM debian AS debian\nRUN a")
    found = references(dockerfile, global_scope(dockerfile))

    assert found[0].base_stage is None


REFUSED = {
    "no stage": ("ARG a", "dockerfile contains no stages to build", 1),
    "blank base": ("ARG a\nFROM $a", "base name ($a) should not be blank", 2),
    "itself": ("FROM a AS x\nRUN b\nCOPY --from=x c d", "circular dependency detected on stage: x", 3),
    "each other": (
        "FROM a AS x\nCOPY --from=y c d\nFROM b AS y\nRUN --mount=from=x e",
        "circular dependency detected on stage: x",
        4,
    ),
    "no such index": ("FROM a\nCOPY --from=7 c d", "invalid stage index 7", 2),
    "a variable": ("FROM a\nCOPY --from=$x c d", "variable expansion is not supported for --from", 2),
    "no platform": ("FROM --platform=$BUILDPLATFROM a", "empty platform value from expression $BUILDPLATFROM", 1),
    "half a platform": (
        "FROM --platform=linux/$x a",
        'failed to parse platform linux/$x: "" is an invalid component',
        1,
    ),
}


@pytest.mark.parametrize(("text", "message", "line"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, message: str, line: int) -> None:
    """What BuildKit refuses, in its words, at the instruction."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        dockerfile = parse_dockerfile(text)
        references(dockerfile, global_scope(dockerfile))

    assert message in caught.value.message
    assert caught.value.line == line
    assert caught.value.hint


def test_unknown_target() -> None:
    """The index of a stage is no target, and near names are suggested."""
    dockerfile = parse_dockerfile("FROM a AS build\nFROM b AS test")

    with pytest.raises(DockerfileSyntaxError, match='target stage "0" could not be found') as caught:
        find_target(dockerfile, "0")
    assert caught.value.hint == "The stages are build, test."
    with pytest.raises(DockerfileSyntaxError, match=r"did you mean build\?"):
        find_target(dockerfile, "biuld")


def test_global_scope() -> None:
    """Defaults use what is above them; a build argument beats a default."""
    dockerfile = parse_dockerfile("ARG a=1\nARG b=$a-$TARGETARCH c\nARG d=${c:-none}\nFROM x")
    plain = global_scope(dockerfile, automatic={"TARGETARCH": "arm64"})
    given = global_scope(dockerfile, {"a": "2", "c": "3", "TARGETARCH": "amd64"}, {"TARGETARCH": "arm64"})

    assert dict(plain.values) == {"TARGETARCH": "arm64", "a": "1", "b": "1-arm64", "d": "none"}
    assert dict(given.values) == {"TARGETARCH": "amd64", "a": "2", "b": "2-amd64", "c": "3", "d": "3"}
    assert plain.declared == {"TARGETARCH", "a", "b", "c", "d"}


def test_argument_in_a_stage() -> None:
    """Build argument, own default, global value, in this order; nothing leaves the name alone."""
    scope = global_scope(parse_dockerfile("ARG a=1\nFROM x"))

    assert argument_value("a", None, scope) == "1"
    assert argument_value("a", "2", scope) == "2"
    assert argument_value("a", "2", scope, {"a": "3"}) == "3"
    assert argument_value("b", None, scope) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/arm64/v8", ("linux/arm64", "linux", "arm64", "")),
        ("linux/aarch64", ("linux/arm64", "linux", "arm64", "")),
        ("linux/arm", ("linux/arm/v7", "linux", "arm", "v7")),
        ("linux/x86_64", ("linux/amd64", "linux", "amd64", "")),
        ("arm/v6", ("arm/v6", "arm", "v6", "")),
    ],
)
def test_platform_arguments(text: str, expected: tuple[str, str, str, str]) -> None:
    """TARGETPLATFORM and its parts, normalised."""
    found = platform_arguments(text, "linux/amd64", "test")
    names = ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT")

    assert tuple(found[name] for name in names) == expected
    assert (found["BUILDPLATFORM"], found["TARGETSTAGE"]) == ("linux/amd64", "test")
