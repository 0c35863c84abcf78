"""No text crashes the language, and none makes it slow: hypothesis, and texts made to hurt."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockermagic.dockerfile.commands import shell_commands
from dockermagic.dockerfile.gitref import parse_git_ref
from dockermagic.dockerfile.ignore import Matcher, PatternError
from dockermagic.dockerfile.ignore import parse as parse_ignore
from dockermagic.dockerfile.instructions import KEYWORDS, parse_instructions
from dockermagic.dockerfile.linter import check
from dockermagic.dockerfile.literals import csv_fields, duration, size
from dockermagic.dockerfile.outline import outline
from dockermagic.dockerfile.parser import Parsed, dump, parse, parse_fragment
from dockermagic.dockerfile.pattern import compile_pattern
from dockermagic.dockerfile.shell import expand, expand_text, expand_words
from dockermagic.dockerfile.stages import parse_dockerfile, reachable
from dockermagic.errors import DockerfileSyntaxError

PIECES = st.sampled_from(
    [
        *KEYWORDS,
        *("from", "As", "--from=", "--mount=type=", "--link", "--chown=a:b", "--platform=$", "--"),
        *(
            "\n",
            "\n",
            "\n",
            "\\\n",
            "`\n",
            "\r\n",
            " ",
            "\t",
            "\xa0",
            "#",
            "# escape=`\n",
            "# check=skip=",
            "# syntax=",
        ),
        *("<<", "<<-", "<<E", "\nE\n", "'", '"', "\\", "`", "$", "${", "}", ":-", "#", "%", "/", "(", ")", "$("),
        *("[", "]", '["a"', ",", '"b"]', "{", "1e999", "\\u00e9", "=", "a=b", "key=", "80/TCP", "x", "é", "😀", "\x00"),
        *("NONE", "CMD", "http://a", "git@b:c", "\ud800", ";", "&&", "|", "case", "esac"),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=80))


def everything(text: str) -> None:
    """All that is ever done to a text; only the language's own error may come out."""
    for function in (parse, parse_instructions, parse_dockerfile):
        try:
            result = function(text)
        except DockerfileSyntaxError as error:
            assert error.line is None or error.line >= 1
            assert error.render()
            continue
        if isinstance(result, Parsed):
            dump(result)
            for node in result.nodes:
                node.place()
                assert len(node.flag_ranges()) == len(node.flags)
                node.word_ranges()
    for found in check(text, teaching=True, ignore=["*.py", "a"]).diagnostics:
        assert found.line >= 1


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_no_text_crashes(text: str) -> None:
    everything(text)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS)
def test_no_text_behind_from_crashes(text: str) -> None:
    everything(f"FROM x AS y\n{text}")


@settings(deadline=None)
@given(st.lists(PIECES, max_size=20).map("".join), st.sampled_from(["\\", "`"]))
def test_no_word_crashes(word: str, escape: str) -> None:
    for function in (expand, expand_words):
        try:
            function(word, {"x": "a b", "a": ""}, escape)
        except DockerfileSyntaxError:
            continue
    try:
        expand_text(word, {})
    except DockerfileSyntaxError:
        pass
    shell_commands(word)
    try:
        parse_git_ref(word)
    except DockerfileSyntaxError:
        pass


@settings(deadline=None)
@given(st.text(max_size=40), st.text(alphabet="ab*?[]\\!^-/.", max_size=12), st.text(alphabet="ab/.", max_size=12))
def test_no_pattern_crashes(text: str, pattern: str, path: str) -> None:
    try:
        matcher = Matcher([*parse_ignore(text), pattern])
    except PatternError:
        return
    left_out = matcher.matches(path)
    if not left_out:
        assert matcher.may_include_below(path)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_no_literal_crashes(text: str) -> None:
    for function in (duration, size, csv_fields, compile_pattern):
        try:
            function(text)
        except ValueError:
            continue


@settings(deadline=None)
@given(st.lists(st.sampled_from(["RUN a", "RUN a \\\n  b", "# c", "", "ENV a=b", "COPY <<E /\nx\nE", "CMD []"])))
def test_fragments_add_up(lines: list[str]) -> None:
    """Cells parsed one by one are the text parsed as a whole, places included."""
    whole = parse_fragment("\n".join(lines), directives=False)
    line, found = 1, []
    for text in lines:
        found += parse_fragment(text, line=line, directives=False).nodes
        line += text.count("\n") + 1

    assert [(node.words, node.range) for node in found] == [(node.words, node.range) for node in whole.nodes]


def seconds(function: Callable[[], object]) -> float:
    """Of this process alone, however busy the machine is."""
    start = time.process_time()
    try:
        function()
    except DockerfileSyntaxError:
        pass
    return time.process_time() - start


LONG = 60_000
HOSTILE = {
    "10 000 instructions": "FROM x\n" + "RUN echo hello && echo world\n" * 10_000,
    "10 000 continued lines": "FROM x\nRUN a" + " \\\n  b" * 10_000,
    "10 000 stages": "".join(f"FROM x AS s{number}\nCOPY --from=s{number - 1} a b\n" for number in range(10_000)),
    "3 000 stages on one another": "FROM x AS s0\n"
    + "".join(f"FROM s{number} AS s{number + 1}\nENV A{number}=1\n" for number in range(3_000)),
    "3 000 undefined variables": "FROM x\n" + "".join(f"ENV A{number}=$B{number}\n" for number in range(3_000)),
    "10 000 empty continuations": "FROM x\nRUN a \\\n" + "\n" * 10_000 + "b",
    "10 000 comments": "#\n" * 5_000 + "# a\n" * 5_000 + "FROM x",
    "a long line": "FROM x\nRUN " + "x" * LONG,
    "quotes": "FROM x\nENV a=" + "'\"" * (LONG // 2),
    "escapes": "FROM x\nENV a=" + "\\" * LONG,
    "blanks behind an escape": "FROM x\nRUN a\\" + " " * LONG + "b",
    "blanks": "FROM x\nCOPY" + " " * LONG + "a",
    "words": "FROM x\nENV " + "a=b " * (LONG // 4),
    "flags": "FROM x\nRUN " + "--mount=a " * (LONG // 10),
    "open brackets": "FROM x\nCMD " + "[" * LONG,
    "nested JSON": "FROM x\nCMD " + "[" * (LONG // 2) + "]" * (LONG // 2),
    "a long number": "FROM x\nCMD [" + "1" * LONG + "]",
    "almost an array of strings": "FROM x\nCMD [" + '"a",' * (LONG // 4) + "]",
    "heredocs": "FROM x\nCOPY " + "<<E " * 5_000 + "/\n" + "E\n" * 5_000,
    "marks of heredocs": "FROM x\nRUN " + "<<- " * (LONG // 4),
    "ONBUILD": "FROM x\n" + "ONBUILD " * (LONG // 8) + "RUN a",
    "substitutions": "FROM x\nENV a=" + "${b:-" * (LONG // 5),
    "nested substitutions": "FROM x\nENV a=" + "${b:-" * 100 + "c" + "}" * 100,
    "nested too deeply": "FROM x\nENV a=" + "${b:-" * 5_000 + "c" + "}" * 5_000,
    "dollars": "FROM x\nENV a=" + "$" * LONG,
    "braces": "FROM x\nUSER " + "${a}" * (LONG // 4),
    "parentheses": "FROM x\nRUN " + "$(" * (LONG // 2),
    "backquotes": "FROM x\nRUN " + "`a " * (LONG // 3),
    "operators": "FROM x\nRUN " + "a|" * (LONG // 2),
    "ports": "FROM x\nEXPOSE " + "80/TCP " * (LONG // 7),
    "a long name": "FROM " + "a-" * (LONG // 2),
    "dots in a name": "FROM " + "a." * (LONG // 2) + "/",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_is_slow(text: str) -> None:
    """What would take minutes if anything in it were quadratic, the rules that read shell commands, too."""
    assert seconds(lambda: check(text, teaching=True)) < 10
    assert seconds(lambda: outline(text)) < 10


@pytest.mark.parametrize("pattern", ["*a" * 50 + "b", "a" * 500, "?" * 500, "*"])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Stars do not multiply."""
    compiled, text = compile_pattern(pattern), "a" * 20_000

    assert seconds(lambda: compiled.without_prefix(text, longest=True)) < 1
    assert seconds(lambda: compiled.without_suffix(text, longest=True)) < 1
    assert seconds(lambda: compiled.replace(text, "-", every=True)) < 1


def test_a_cell_feels_instant() -> None:
    """A hundred instructions take some milliseconds, typed and checked."""
    text = "FROM x\n" + "ENV A=x$PATH B='y z'\nCOPY --chown=1 a b /c/\nRUN d && \\\n  e\n" * 33

    assert min(seconds(lambda: parse_dockerfile(text)) for _ in range(5)) < 0.03
    assert min(seconds(lambda: check(text)) for _ in range(5)) < 0.06
    assert reachable(parse_dockerfile(text)) == [0]
