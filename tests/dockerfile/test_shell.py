"""Word expansion, its patterns, and the words of ``EXPOSE $PORTS``."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.pattern import compile_pattern
from dockermagic.dockerfile.shell import expand, expand_text, expand_with_matches, expand_words
from dockermagic.errors import DockerfileSyntaxError

ENV = {"name": "world", "empty": "", "file": "src/app.tar.gz", "spaced": "a  b ", "glob": "*.gz", "ümlaut": "u"}

EXPANSIONS = {
    "plain": "plain",
    "hello $name": "hello world",
    "${name}s": "worlds",
    "$unset": "",
    "$nam e": " e",
    "$name_": "",
    "$ümlaut": "u",
    "$12a": "a",
    "$@$?$$": "",
    "$": "$",
    "$.": "$.",
    r"\$name": "$name",
    r"a\b": "ab",
    "a\\": "a",
    "'$name'": "$name",
    '"$name"': "world",
    r'"\$name \" \\ \n"': r'$name " \ \n',
    "${unset:-x}": "x",
    "${empty:-x}": "x",
    "${empty-x}": "",
    "${unset-$name}": "world",
    "${unset:-${empty:-${name}}}": "world",
    "${name:+x}": "x",
    "${empty:+x}": "",
    "${empty+x}": "x",
    "${name:?no}": "world",
    "${file#*/}": "app.tar.gz",
    "${file##*.}": "gz",
    "${file%.*}": "src/app.tar",
    "${file%%.*}": "src/app",
    "${file%$glob}": "src/app.tar",
    "${file/a/A}": "src/App.tar.gz",
    "${file//a/A}": "src/App.tAr.gz",
    "${file//[a]/-}": "src/app.tar.gz",
    "${file/s?c/lib}": "lib/app.tar.gz",
    r"${file/\//:}": "src:app.tar.gz",
    "${unset/a/b}": "",
    "${empty//x/y}": "",
    "${name//*/x}": "x",
}


@pytest.mark.parametrize(("word", "expected"), EXPANSIONS.items(), ids=EXPANSIONS)
def test_expand(word: str, expected: str) -> None:
    """What a word becomes."""
    assert expand(word, ENV) == expected


REFUSED = {
    "'a": "matching single-quote",
    '"a': "matching double-quote",
    "${": "missing '}'",
    "${}": "bad substitution",
    "${name": "missing '}'",
    "${name:": "missing '}'",
    "${name:=x}": "unsupported modifier (:=)",
    "${name^}": "unsupported modifier (^)",
    "${name:0:1}": "unsupported modifier (:0)",
    "${unset:?say why}": "unset: say why",
    "${empty:?}": "empty: is not allowed to be empty",
    "${file/x}": "missing '/' in ${}",
    r"${file#\x}": r"invalid escape '\x'",
}


@pytest.mark.parametrize(("word", "message"), REFUSED.items(), ids=REFUSED)
def test_refused(word: str, message: str) -> None:
    """What cannot be expanded, and the word that the error names."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        expand(word, ENV)

    assert caught.value.message.startswith("failed to process ")
    assert message in caught.value.message


def test_backtick_as_escape() -> None:
    """With another escape character the backslash is a letter like others."""
    assert expand(r"C:\$name`$", ENV, "`") == r"C:\world$"


def test_keep_unset() -> None:
    """For messages: a variable that nothing has set stays as written."""
    assert expand("$name $unset ${unset} ${unset:-x}", ENV, keep_unset=True) == "world $unset ${unset} ${unset:-x}"


def test_matches() -> None:
    """Names that were looked up, found or not."""
    assert expand_with_matches("$name${unset:-$empty}", ENV) == ("world", {"name", "empty"}, {"unset"})
    assert expand_with_matches("plain", ENV) == ("plain", set(), set())


WORDS = {
    "a  b": ["a", "b"],
    "x$spaced-y": ["xa", "b", "-y"],
    '"$spaced"y': ["a  b y"],
    r"a\ b": ["a b"],
    "''": [],
    "$unset": [],
    "": [],
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items(), ids=WORDS)
def test_words(text: str, expected: list[str]) -> None:
    """Unquoted white space separates, that of a value, too."""
    assert expand_words(text, ENV) == expected


def test_heredoc_text() -> None:
    """In the text of a file quotes are quotes, and unset names are told."""
    text, unset = expand_text("'$name' \"${unset}\" \\$name \\\\ it's", ENV)

    assert (text, unset) == ("'world' \"\" $name \\ it's", {"unset"})


PATTERNS = [
    ("a*c", "abcabc", 3, 6),
    ("*", "abc", 0, 3),
    ("", "abc", 0, 0),
    ("?b", "abc", 2, 2),
    ("x", "abc", 0, 0),
    ("a**c", "abcabc", 3, 6),
]


@pytest.mark.parametrize(("pattern", "text", "shortest", "longest"), PATTERNS)
def test_pattern_prefix(pattern: str, text: str, shortest: int, longest: int) -> None:
    """The shortest and the longest beginning that matches, from both ends."""
    compiled, mirrored = compile_pattern(pattern), compile_pattern(pattern[::-1])

    assert compiled.without_prefix(text, longest=False) == text[shortest:]
    assert compiled.without_prefix(text, longest=True) == text[longest:]
    assert mirrored.without_suffix(text[::-1], longest=False) == text[shortest:][::-1]
    assert mirrored.without_suffix(text[::-1], longest=True) == text[longest:][::-1]


@pytest.mark.parametrize(
    ("pattern", "text", "first", "all_of_them"),
    [
        ("a", "banana", "b-nana", "b-n-n-"),
        ("an*n", "banana", "b-a", "b-a"),
        ("??", "banana", "-nana", "---"),
        ("", "ab", "-ab", "-a-b-"),
        ("*", "ab", "-", "-"),
        ("x", "ab", "ab", "ab"),
    ],
)
def test_pattern_replace(pattern: str, text: str, first: str, all_of_them: str) -> None:
    """The leftmost match, and of those the longest."""
    compiled = compile_pattern(pattern)

    assert compiled.replace(text, "-", every=False) == first
    assert compiled.replace(text, "-", every=True) == all_of_them
