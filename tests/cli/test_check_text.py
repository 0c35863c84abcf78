"""What ``check`` prints, as text and as JSON."""

from __future__ import annotations

import base64
import json

import pytest

from dockermagic.dockerfile.linter import lint
from dockermagic.errors import DockerfileSyntaxError, Place
from dockermagic.verbs.build import Source
from dockermagic.verbs.check import as_json, as_text, excerpt

EXCERPTS = [
    # lines of the file, first and last line of the place, the lines shown, those marked
    (9, 5, 5, [3, 4, 5, 6, 7], [5]),
    (9, 1, 1, [1, 2, 3], [1]),
    (9, 9, 9, [7, 8, 9], [9]),
    (9, 2, 2, [1, 2, 3, 4], [2]),
    (9, 4, 6, [3, 4, 5, 6, 7], [4, 5, 6]),
    (1, 1, 1, [1], [1]),
    (2, 1, 9, [1, 2], [1, 2]),
]


@pytest.mark.parametrize(("lines", "first", "last", "shown", "marked"), EXCERPTS)
def test_an_excerpt_holds_the_lines_around(
    lines: int, first: int, last: int, shown: list[int], marked: list[int]
) -> None:
    text = "\n".join(f"RUN {number}" for number in range(1, lines + 1))
    rows = [f" {number:3d} | {'>>>' if number in marked else '   '} RUN {number}" for number in shown]

    assert excerpt(text, first, last) == "\n".join(["-" * 20, *rows, "-" * 20])


def test_there_is_no_excerpt_of_a_line_that_is_not_there() -> None:
    assert excerpt("FROM a", 2, 2) == ""


TEXT = "FROM scratch\nMAINTAINER me\nCMD echo hi\n"


def test_warnings_as_docker_prints_them() -> None:
    source = Source(TEXT, "Dockerfile", None)

    assert as_text(source, lint(TEXT), None) == (
        "Check complete, 2 warnings have been found!\n"
        "\n"
        "WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n"
        "Maintainer instruction is deprecated in favor of using label\n"
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM scratch\n"
        "   2 | >>> MAINTAINER me\n"
        "   3 |     CMD echo hi\n"
        "   4 |     \n"
        "--------------------\n"
        "\n"
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:3\n"
        "--------------------\n"
        "   1 |     FROM scratch\n"
        "   2 |     MAINTAINER me\n"
        "   3 | >>> CMD echo hi\n"
        "   4 |     \n"
        "--------------------\n"
    )


def test_nothing_found() -> None:
    assert as_text(Source("FROM scratch\n", "Dockerfile", None), [], None) == "Check complete, no warnings found.\n"


def test_an_error_names_its_place() -> None:
    source = Source("FROM scratch\nRAN x\n", "my.Dockerfile", None)
    error = DockerfileSyntaxError("unknown instruction: RAN", place=Place(2, text="RAN x"), hint="Did you mean RUN?")
    shown = as_text(source, [], error)

    assert shown.startswith("ERROR: unknown instruction: RAN\nmy.Dockerfile:2\n")
    assert "   2 | >>> RAN x\n" in shown
    assert shown.endswith("Did you mean RUN?\n")


def test_json_has_the_shape_of_buildkit() -> None:
    source = Source(TEXT, "Dockerfile", None)
    error = DockerfileSyntaxError("no", place=Place(3))
    document = json.loads(as_json(source, lint(TEXT)[:1], error))

    assert document["warnings"] == [
        {
            "ruleName": "MaintainerDeprecated",
            "description": document["warnings"][0]["description"],
            "url": "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
            "detail": "Maintainer instruction is deprecated in favor of using label",
            "location": {
                "sourceIndex": 0,
                "ranges": [{"start": {"line": 2, "character": 0}, "end": {"line": 2, "character": 0}}],
            },
        }
    ]
    assert document["buildError"]["message"] == "no"
    assert document["buildError"]["location"]["ranges"][0]["start"]["line"] == 3
    assert base64.b64decode(document["sources"][0]["data"]).decode() == TEXT
    assert "buildError" not in json.loads(as_json(source, [], None))
