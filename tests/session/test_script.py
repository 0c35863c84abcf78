"""Cells as one Dockerfile, and the way back from its lines to the cells."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.linter import check, lint
from dockermagic.dockerfile.parser import parse
from dockermagic.errors import BuildError, DockerfileSyntaxError, Place
from dockermagic.events import Log, Vertex, Warning
from dockermagic.session.chain import Cell
from dockermagic.session.script import Script


def script(*texts: str) -> Script:
    return Script.of([Cell(str(number), text, number=number) for number, text in enumerate(texts, 1)])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ""),
        (["FROM a"], "FROM a\n"),
        (["FROM a\n\n\n", "RUN b"], "FROM a\n\nRUN b\n"),
        (["# escape=`\nFROM a", "RUN b `\n  c"], "# escape=`\nFROM a\n\nRUN b `\n  c\n"),
        (["\ufeffFROM a", "\ufeffRUN b"], "FROM a\n\nRUN b\n"),
        (["FROM a", "COPY <<X /x\n  y\n\nX\n"], "FROM a\n\nCOPY <<X /x\n  y\n\nX\n"),
    ],
)
def test_the_text_is_the_cells_one_after_another(texts: list[str], expected: str) -> None:
    assert script(*texts).text == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["FROM a"], [(0, ("from",), (0,))]),
        (["ARG V=1", "FROM a:$V"], [(0, ("arg",), ()), (1, ("from",), (0,))]),
        (["# nothing yet", "FROM a"], [(0, (), ()), (0, ("from",), (0,))]),
        (["FROM a\nRUN b", "RUN c\nFROM d\nRUN e"], [(0, ("from", "run"), (0,)), (2, ("run", "from", "run"), (0, 1))]),
        (
            ["FROM a", "FROM b", "FROM c\nFROM d"],
            [(0, ("from",), (0,)), (1, ("from",), (1,)), (2, ("from",) * 2, (2, 3))],
        ),
        (["FROM a", "", "RUN b"], [(0, ("from",), (0,)), (1, (), ()), (1, ("run",), (0,))]),
        (["FROM a", "RUN <<X\nFROM b\nX", "RUN c"], [(0, ("from",), (0,)), (1, ("run",), (0,)), (2, ("run",), (0,))]),
    ],
)
def test_each_cell_knows_its_instructions_and_the_stages_that_it_touches(
    texts: list[str], expected: list[tuple[int, tuple[str, ...], tuple[int, ...]]]
) -> None:
    made = script(*texts)

    assert [(part.first, part.words, part.stages) for part in made.parts] == expected
    if made.parts[-1].after >= 0:
        nodes = parse(made.text).nodes
        assert [line for part in made.parts for line in part.lines] == [node.range.start_line for node in nodes]
        assert [word for part in made.parts for word in part.words] == [node.keyword for node in nodes]


@pytest.mark.parametrize(
    ("texts", "message", "place", "text"),
    [
        (["FROM a", "RUN b \\"], "the cell ends in the middle of an instruction", "cell [2]:2", "RUN b \\"),
        (["FROM a", "RUN b \\\n\n"], "the cell ends in the middle of an instruction", "cell [2]:2", "RUN b \\"),
        (["FROM a", "RUN b \\\n# c"], "the cell ends in the middle of an instruction", "cell [2]:3", "# c"),
        (["# escape=`\nFROM a", "RUN b `"], "the cell ends in the middle of an instruction", "cell [2]:2", "RUN b `"),
        (["FROM a", "\nRUN <<X\nb"], "unterminated heredoc", "cell [2]:3", "RUN <<X"),
        (["FROM a", "RUN <<X\nb", "X"], "unterminated heredoc", "cell [2]:2", "RUN <<X"),
        (["RUN b"], "RUN before any FROM: there is no image yet to build on", "cell [1]:2", "RUN b"),
        (["ARG a\nRUN b"], "RUN before any FROM: there is no image yet to build on", "cell [1]:3", "RUN b"),
        (["# c", "RUN b"], "RUN before any FROM: there is no image yet to build on", "cell [2]:2", "RUN b"),
        (["FORM a"], "unknown instruction: FORM (did you mean FROM?)", "cell [1]:2", "FORM a"),
        (["# c", "\nARG"], "ARG requires at least one argument", "cell [2]:3", "ARG"),
        (["FROM a", "ENV x"], "ENV must have two arguments", "cell [2]:2", "ENV x"),
    ],
)
def test_what_is_wrong_in_a_cell_is_that_cells_error(texts: list[str], message: str, place: str, text: str) -> None:
    with pytest.raises(DockerfileSyntaxError) as caught:
        script(*texts)

    assert (caught.value.message, str(caught.value.place)) == (message, place)
    assert caught.value.place is not None and caught.value.place.text == text


def test_only_the_first_cell_can_set_the_escape_character() -> None:
    assert script("FROM a", "# escape=`\nRUN b \\\n c").parts[1].words == ("run",)


@pytest.mark.parametrize(
    ("line", "expected"), [(1, "cell [1]:2"), (2, "cell [1]:3"), (4, "cell [2]:2"), (5, "cell [2]:3"), (7, "cell x:1")]
)
def test_a_line_of_the_dockerfile_is_found_in_its_cell(line: int, expected: str) -> None:
    made = Script.of(
        [Cell("a", "FROM a\nRUN b", number=1), Cell("b", "RUN c\nRUN d", number=2), Cell("c", "RUN e", "x", above=0)]
    )

    assert str(made.place(Place(line, 3, 9, "text"))) == expected


def test_an_error_of_the_build_points_into_the_cell() -> None:
    error = BuildError("cannot do what line 4 says, nor line 40", place=Place(4, text="RUN c", file="Dockerfile"))

    script("FROM a\nRUN b", "RUN c").replaced(error, "Dockerfile")

    assert error.render() == "cannot do what line 2 says, nor line 40\n  cell [2]:2: RUN c"
    assert error.args == ("cannot do what line 2 says, nor line 40",)


def test_an_error_in_another_file_keeps_its_place() -> None:
    error = BuildError("bad pattern", place=Place(4, file=".dockerignore"))

    script("FROM a").replaced(error, "Dockerfile")

    assert str(error.place) == ".dockerignore:4"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (  # one stage over two cells
            ["FROM a", "RUN b\nWORKDIR c\nLABEL d=1 \\\n  e=$f"],
            ["cell [2]:3 WorkdirRelativePath WORKDIR c", "cell [2]:5 UndefinedVar $f"],
        ),
        (  # arguments in a cell of their own
            ["ARG BASE=a\nARG other", "FROM a$BSE AS Stage"],
            ["cell [2]:2 StageNameCasing Stage", "cell [2]:2 UndefinedArgInFrom BSE"],
        ),
        (  # a directive in the first cell is for all of them
            ["# check=skip=StageNameCasing\nFROM a AS B", "FROM a AS C\nrun d"],
            ["cell [2]:3 ConsistentInstructionCasing run"],
        ),
        (  # further down it is a comment, for the instruction below it
            ["FROM a", "# check=skip=all\nEXPOSE 80/TCP\nEXPOSE 81/TCP"],
            ["cell [2]:4 ExposeProtoCasing 81/TCP"],
        ),
    ],
)
def test_what_the_linter_finds_is_underlined_in_the_cell(texts: list[str], expected: list[str]) -> None:
    made = script(*texts)
    places = [(found.rule, made.place(found.place(made.text.split("\n")))) for found in lint(made.text)]

    assert sorted(f"{place} {rule} {place.parts()[1]}" for rule, place in places) == expected


def test_an_error_behind_the_first_look_is_underlined_in_the_cell() -> None:
    made = script("FROM a", "RUN b\nRUN --network=none --mount=type=cash,target=/c d")
    error = check(made.text).error
    assert error is not None

    made.replaced(error, "Dockerfile")

    assert error.place is not None
    assert (str(error.place), error.place.parts()[1]) == ("cell [2]:3", "--mount=type=cash,target=/c")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Vertex("d", "RUN c", line=3), Vertex("d", "RUN c", line=2)),
        (Vertex("d", "load"), Vertex("d", "load")),
        (Warning("d", 1, "odd", line=4), Warning("d", 1, "odd", line=3)),
        (
            Warning("d", 1, "odd", line=3, place=Place(4, 4, 5, "RUN d")),
            Warning("d", 1, "odd", line=2, place=Place(3, 4, 5, "RUN d", "cell [2]")),
        ),
        (Log("d", 1, b"x", 0.0), Log("d", 1, b"x", 0.0)),
    ],
)
def test_events_count_lines_in_the_cell(event: Vertex | Warning | Log, expected: Vertex | Warning | Log) -> None:
    assert script("FROM a", "RUN c\nRUN d").event(event) == expected
