"""What a Dockerfile offers: targets, and the arguments, secrets and agents of one of them."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.outline import Argument, Demand, Target, list_targets, outline
from dockermagic.errors import DockerfileSyntaxError

TEXT = """\
ARG REGISTRY=docker.io
ARG IMAGE=$REGISTRY/base
ARG UNUSED=1
# compile does the work
FROM $IMAGE AS compile
# VERSION of the compiler
ARG VERSION=1.0
ENV NEXT=${VERSION}.1
ARG FULL=$NEXT OTHER
RUN --mount=type=secret,target=/run/keys/token,required=true \\
    --mount=type=secret,id=$OTHER,target=/x --mount=type=ssh true

FROM scratch AS other
ARG LONELY=1

#
# run is not described, since a line stands between
#
FROM compile AS run
ARG REGISTRY
ARG VERSION=2.0
COPY --from=compile /a /b
RUN --mount=type=ssh,id=github,required true
"""


def arguments(target: str, **given: str) -> list[tuple[str, str, str]]:
    return [(one.name, one.value, one.description) for one in outline(TEXT, target=target, build_args=given).arguments]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            "compile",
            [
                ("REGISTRY", "docker.io", ""),
                ("IMAGE", "docker.io/base", ""),
                ("VERSION", "1.0", "of the compiler"),
                ("FULL", "1.0.1", ""),
                ("OTHER", "", ""),
            ],
        ),
        ("other", [("LONELY", "1", "")]),
        (
            "run",
            [
                ("REGISTRY", "docker.io", ""),
                ("IMAGE", "docker.io/base", ""),
                ("FULL", "1.0.1", ""),
                ("OTHER", "", ""),
                ("VERSION", "2.0", ""),
            ],
        ),
    ],
)
def test_arguments(target: str, expected: list[tuple[str, str, str]]) -> None:
    """Those that the stage and what it needs use; global ones where FROM or ARG names them, and what they stand on."""
    assert arguments(target) == expected


def test_given_arguments() -> None:
    """A value that is given shows in all that is made of it."""
    found = {name: value for name, value, _ in arguments("compile", REGISTRY="r", VERSION="3")}

    assert (found["IMAGE"], found["VERSION"], found["FULL"]) == ("r/base", "3", "3.1")


def test_secrets_and_agents() -> None:
    """By id, else by the name of the file; the first mention counts."""
    found = outline(TEXT, target="run")

    assert [(one.name, one.required) for one in found.secrets] == [("token", True), ("x", False)]
    assert [(one.name, one.required) for one in found.agents] == [("default", False), ("github", True)]


def test_head() -> None:
    assert (outline(TEXT, target="compile").name, outline(TEXT, target="compile").description) == (
        "compile",
        "does the work",
    )
    assert outline("FROM scratch\n").name == ""


def test_targets() -> None:
    """Every stage as written; the last one is the default."""
    found = list_targets(TEXT)

    assert found[0] == Target("compile", False, "does the work", "$IMAGE", "", found[0].range)
    assert [(one.name, one.is_default, one.description) for one in found[1:]] == [
        ("other", False, ""),
        ("run", True, ""),
    ]
    assert [one.range.start_line for one in found] == [5, 13, 19]


@pytest.mark.parametrize("text", ["", "FORM x", "ARG a", "FROM a AS x\n--bad"])
def test_no_dockerfile(text: str) -> None:
    with pytest.raises(DockerfileSyntaxError):
        outline(text)
    with pytest.raises(DockerfileSyntaxError):
        list_targets(text)


def test_unknown_target() -> None:
    with pytest.raises(DockerfileSyntaxError, match='target stage "nope" could not be found'):
        outline(TEXT, target="nope")


def test_values() -> None:
    """Two that say the same are equal."""
    assert Argument("A") == Argument("A", "")
    assert Demand("s") != Demand("s", True)
