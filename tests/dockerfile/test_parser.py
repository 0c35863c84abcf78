"""The parser: continuations, comments, directives, heredocs, the shapes of words, and where all of it stands."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.parser import dump, parse, parse_fragment
from dockermagic.dockerfile.text import Range
from dockermagic.errors import DockerfileSyntaxError

DUMPS = {
    "one line": ("FROM debian:12\n", '(from "debian:12")'),
    "no newline at the end": ("FROM debian:12", '(from "debian:12")'),
    "CRLF": ("FROM debian\r\nRUN a \\\r\n b\r\n", '(from "debian")\n(run "a  b")'),
    "byte order mark": ("\ufeffFROM debian", '(from "debian")'),
    "lower case": ("from debian", '(from "debian")'),
    "leading blanks": ("\t FROM debian", '(from "debian")'),
    "continuation keeps its indentation": ("RUN a \\\n   b", '(run "a    b")'),
    "blanks behind the escape": ("RUN a \\  \t\n b", '(run "a  b")'),
    "two escapes do not continue": ("RUN a \\\\\nENV b=c", '(run "a \\\\\\\\")\n(env "b" "c" "=")'),
    "comment inside a continuation": ("RUN a \\\n  # why\n b", '(run "a  b")'),
    "empty line inside a continuation": ("RUN a \\\n\n b", '(run "a  b")'),
    "continuation at the end of the file": ("RUN a \\", '(run "a ")'.replace("a ", "a")),
    "a hash later is data": ("RUN echo # no comment", '(run "echo # no comment")'),
    "JSON": ('CMD ["a b", "c"]', '(cmd "a b" "c")'),
    "JSON with trailing words is text": ('CMD ["a"] b', '(cmd "[\\"a\\"] b")'),
    "single quotes are no JSON": ("CMD ['a']", "(cmd \"['a']\")"),
    "JSON escapes": (r'CMD ["\u00e9\n", "\ud83d\ude00", "\ud800"]', '(cmd "é\\n" "😀" "\N{REPLACEMENT CHARACTER}")'),
    "COPY splits at blanks, not at quotes": ('COPY "a b" c', '(copy "\\"a" "b\\"" "c")'),
    "ENV pairs": ("ENV a=b c='d e' f=g\\ h", '(env "a" "b" "=" "c" "\'d e\'" "=" "f" "g\\\\ h" "=")'),
    "ENV with a space": ("ENV a b c", '(env "a" "b c" "")'),
    "ARG": ('ARG a b="c d"', '(arg "a" "b=\\"c d\\"")'),
    "flags": ("COPY --from=a --link b c", '(copy ["--from=a" "--link"] "b" "c")'),
    "a flag in quotes": ("RUN --mount='type=cache, x' b", '(run ["--mount=type=cache, x"] "b")'),
    "two dashes end flags": ("RUN --network=none -- --b", '(run ["--network=none"] "--b")'),
    "HEALTHCHECK": ("HEALTHCHECK --retries=2 CMD a b", '(healthcheck ["--retries=2"] "CMD" "a b")'),
    "ONBUILD": ("ONBUILD COPY a b", '(onbuild (copy "a" "b"))'),
    "unknown words are kept": ("FROMM x", '(fromm "")'),
    "heredoc": ("RUN <<A\nx\nA\nENV b=c", '(run "<<A")\n(env "b" "c" "=")'),
    "two heredocs": ("COPY <<A <<B /\na\nA\nb\nB\n", '(copy "<<A" "<<B" "/")'),
    "no heredoc for USER": ("USER <<A\nENV b=c", '(user "<<A")\n(env "b" "c" "=")'),
    "escape directive": ("# escape=`\nRUN a `\n b", '(run "a  b")'),
    "a directive after a comment is a comment": ("# hello\n# escape=`\nRUN a \\\n b", '(run "a  b")'),
    "a directive after an empty line is a comment": ("\n# escape=`\nRUN a \\\n b", '(run "a  b")'),
}


@pytest.mark.parametrize(("text", "expected"), DUMPS.values(), ids=DUMPS)
def test_dump(text: str, expected: str) -> None:
    """The nodes of a text."""
    actual = dump(parse(text))

    assert actual == expected


ERRORS = {
    "empty": ("", "file with no instructions", 1),
    "comments only": ("# a\n\n# b\n", "file with no instructions", 1),
    "an open heredoc": ("FROM x\nRUN <<END\na\n", "unterminated heredoc", 2),
    "a number in JSON": ("FROM x\n\nCMD [1]", "arrays must be comprised of strings only", 3),
    "ENV without a value": ("FROM x\nENV a", "ENV must have two arguments", 2),
    "ENV with half a pair": ("ENV a=b c", 'can\'t find = in "c"', 1),
    "a bad escape": ("# escape=x\nFROM y", "invalid escape token 'x'", 1),
    "a directive twice": ("# check=skip=all\n# check=skip=all\nFROM y", "only one check parser directive", 2),
}


@pytest.mark.parametrize(("text", "message", "line"), ERRORS.values(), ids=ERRORS)
def test_refused(text: str, message: str, line: int) -> None:
    """What is no Dockerfile, and the line that says so."""
    with pytest.raises(DockerfileSyntaxError, match=message.replace("[", r"\[")) as caught:
        parse(text)

    assert caught.value.line == line


def test_longest_line() -> None:
    """A line may have 65535 bytes, not one more; they are bytes, not characters."""
    assert parse("RUN " + "x" * (65535 - 4)).nodes
    with pytest.raises(DockerfileSyntaxError, match="65535"):
        parse("RUN " + "x" * (65535 - 3))
    with pytest.raises(DockerfileSyntaxError, match="65535"):
        parse("RUN " + "é" * 32766)


def test_fragment_may_be_empty() -> None:
    """A cell need not hold an instruction, and its lines are counted from where it stands."""
    assert parse_fragment("# nothing yet").nodes == ()
    assert parse_fragment("RUN a", line=7).nodes[0].range == Range(7, 0, 7, 5)


HEREDOCS = {
    "RUN <<A": ("A", "x\n", True, False, 0),
    "RUN <<-A": ("A", "x\n", True, True, 0),
    "RUN <<'A'": ("A", "x\n", False, False, 0),
    'RUN 3<<"A"': ("A", "x\n", False, False, 3),
    "RUN cat << A": ("A", "x\n", True, False, 0),
    "ONBUILD RUN <<A": ("A", "x\n", True, False, 0),
}


@pytest.mark.parametrize(("line", "expected"), HEREDOCS.items(), ids=HEREDOCS)
def test_heredoc(line: str, expected: tuple[str, str, bool, bool, int]) -> None:
    """The word that begins a heredoc says how it is read."""
    node = parse(f"{line}\nx\nA\n").nodes[0]
    found = node.heredocs[0]

    assert (found.name, found.content, found.expand, found.chomp, found.fd) == expected
    assert (node.range.end_line, found.range.start_line, found.range.end_line) == (3, 2, 3)


def test_heredoc_text_loses_tabs_only() -> None:
    """``<<-`` takes leading tabs away and leaves blanks."""
    node = parse("COPY <<-A /\n\t\tx\n  \ty\n\tA\n").nodes[0]

    assert node.heredocs[0].text == "x\n  \ty\n"


def test_heredoc_keeps_carriage_returns() -> None:
    """The terminator is found in a CRLF file; the body is what it is."""
    node = parse("COPY <<A /\r\nx\r\nA\r\n").nodes[0]

    assert node.heredocs[0].content == "x\r\n"


def test_comments_above() -> None:
    """Comments belong to the instruction below them; an empty one lets go of those above it."""
    nodes = parse("# one\n\n# two\nFROM x\n# gone\n#\n# three\nRUN y\nRUN z").nodes

    assert [node.comments for node in nodes] == [("one", "two"), ("three",), ()]


def test_empty_continuation_is_noticed_at_its_end() -> None:
    parsed = parse("FROM x\nRUN a \\\n\n  b\n")

    assert [notice.line for notice in parsed.notices] == [4]


TEXT = """\
FROM  --platform=linux/arm64 debian AS base
COPY --from=a \\
  # a comment
  --link x \\
    "y z" /dest
ENV one=1 \\
    two="2 2"
RUN  echo hello \\
  world
CMD ["a", "b c"]
HEALTHCHECK --retries=1 CMD curl x
USER nobody
"""


def cut(text: str, where: Range) -> str:
    """The piece of the text that a range covers."""
    lines = text.splitlines()[where.start_line - 1 : where.end_line]
    lines[-1] = lines[-1][: where.end_column]
    lines[0] = lines[0][where.start_column :]
    return "\n".join(lines)


def test_ranges() -> None:
    """Every keyword, flag and word can be underlined where it was written."""
    nodes = parse(TEXT).nodes
    flags = [[cut(TEXT, where) for where in node.flag_ranges()] for node in nodes]
    words = [[cut(TEXT, where) for where in node.word_ranges()] for node in nodes]

    assert [cut(TEXT, node.keyword_range()) for node in nodes] == [node.written for node in nodes]
    assert flags == [["--platform=linux/arm64"], ["--from=a", "--link"], [], [], [], ["--retries=1"], []]
    assert words == [
        ["debian", "AS", "base"],
        ["x", '"y', 'z"', "/dest"],
        ["one=1", 'two="2 2"'],
        ["echo hello \\\n  world"],
        ['"a"', '"b c"'],
        ["CMD", "curl x"],
        ["nobody"],
    ]


def test_node_ranges() -> None:
    """A node reaches from its keyword to the end of its last line."""
    nodes = parse("\n  RUN a \\\n   b\n").nodes

    assert nodes[0].range == Range(2, 2, 3, 4)


def test_error_place_is_the_line_as_written() -> None:
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse("FROM x\n   ENV a=b \\\n  c")

    place = caught.value.place
    assert place is not None
    assert (place.line, place.column, place.text) == (2, 3, "   ENV a=b \\")
    assert "two words" in caught.value.hint
