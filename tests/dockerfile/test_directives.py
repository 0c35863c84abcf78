"""Parser directives, in all the forms in which one may name a frontend, and the options of a check."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.directives import CheckOptions, Directive, find_directive, parse_check
from dockermagic.dockerfile.parser import parse

SYNTAX = {
    "# syntax=docker/dockerfile:1\nFROM x": "docker/dockerfile:1",
    "\ufeff#SYNTAX = a b c": "a b c",
    "#!/bin/sh\n# syntax=a": "a",
    "# escape=`\n# syntax=a": "a",
    "// syntax=a\n": "a",
    '{"syntax": "a", "b": [1]}': "a",
    "# hello\n# syntax=a": "",
    "\n# syntax=a": "",
    "# syntax=": "",
    '{"syntax": 1}': "",
    '{"syntax": "a"': "",
    "": "",
}


@pytest.mark.parametrize(("text", "expected"), SYNTAX.items(), ids=repr)
def test_syntax(text: str, expected: str) -> None:
    """The frontend that a file asks for."""
    found = find_directive(text, "syntax")

    assert (found.value if found else "") == expected


def test_parsed_directives() -> None:
    parsed = parse("# syntax=a\r\n# Check=skip=all // why\r\nFROM x")

    assert parsed.directives == (Directive("syntax", "a", 1), Directive("check", "skip=all // why", 2))
    assert (parsed.directive("check"), parsed.directive("escape")) == ("skip=all // why", None)
    assert find_directive("#!x\n# check=error=true", "check") == Directive("check", "error=true", 2)


CHECKS = {
    "": CheckOptions(),
    "skip=A,B": CheckOptions(frozenset({"A", "B"})),
    "skip=all;error=true;experimental=C // why": CheckOptions(frozenset({"all"}), frozenset({"C"}), True),
    "error=0": CheckOptions(),
}


@pytest.mark.parametrize(("value", "expected"), CHECKS.items(), ids=CHECKS)
def test_check(value: str, expected: CheckOptions) -> None:
    assert parse_check(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("skip", 'invalid check option "skip"'),
        ("some=1", 'invalid check option "some"'),
        ("error=maybe", 'failed to parse check option "error=maybe"'),
    ],
)
def test_bad_check(value: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_check(value)

    assert str(caught.value) == message
