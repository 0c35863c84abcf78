"""Parser directives at the top of a file, ``# syntax=``, ``# escape=``, ``# check=``, and what a check says."""

from __future__ import annotations

import json
import re

from dockermagic.dockerfile.text import SPACE, quote
from dockermagic.values import dataclass

__all__ = ["KNOWN", "CheckOptions", "Directive", "find_directive", "parse_check", "read_directive"]

KNOWN = frozenset({"check", "escape", "syntax"})
_LINE = re.compile(r"#[\t\n\f\r ]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\Z")
_SLASHES = re.compile(r"//[\t\n\f\r ]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\Z")


@dataclass(frozen=True, slots=True)
class Directive:
    """``name`` is lower case, ``line`` 1-based."""

    name: str
    value: str
    line: int


def read_directive(text: str, line: int, *, pattern: re.Pattern[str] = _LINE) -> Directive | None:
    """The directive on a line without leading white space; an unknown name is none."""
    match = pattern.match(text)
    if not match or match[1].lower() not in KNOWN:
        return None
    return Directive(match[1].lower(), match[2], line)


def find_directive(text: str, name: str) -> Directive | None:
    """A directive in any form that picks a frontend: ``# name=``, ``// name=`` or a JSON object, after any shebang."""
    lines = text.removeprefix("\ufeff").split("\n")
    first = 1 if lines[0].startswith("#!") else 0
    for pattern in (_LINE, _SLASHES):
        for number, line in enumerate(lines[first:], first + 1):
            match = pattern.match(line.rstrip("\r"))
            if not match:
                break
            if match[1].lower() == name:
                return Directive(name, match[2], number)
    body = "\n".join(lines[first:])
    if body.lstrip().startswith("{"):
        try:
            value = json.loads(body).get(name)
        except (ValueError, AttributeError, RecursionError):
            return None
        if isinstance(value, str):
            return Directive(name, value, first + 1)
    return None


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which lint rules are off, which experimental ones are on ('all' is a name), and whether a finding is an error."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def allows(self, rule: str, experimental: bool) -> bool:
        """Whether findings of the rule are shown."""
        if experimental:
            return "all" in self.experimental or rule in self.experimental
        return "all" not in self.skip and rule not in self.skip

    def merge(self, other: CheckOptions) -> CheckOptions:
        """These and those of an instruction's own comment, whose ``error`` does not count."""
        return CheckOptions(self.skip | other.skip, self.experimental | other.experimental, self.error)


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_check(value: str) -> CheckOptions:
    """``skip=A,B;error=true;experimental=all``, up to the first white space. Raises ValueError for anything else."""
    words = value.strip(SPACE).split()
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error = False
    for part in words[0].split(";", 2) if words else ():
        key, equals, setting = part.partition("=")
        if not equals:
            raise ValueError(f"invalid check option {quote(part)}")
        if key == "skip":
            skip = frozenset(setting.split(","))
        elif key == "experimental":
            experimental = frozenset(setting.split(","))
        elif key == "error" and setting in _TRUE | _FALSE:
            error = setting in _TRUE
        elif key == "error":
            raise ValueError(f"failed to parse check option {quote(part)}")
        else:
            raise ValueError(f"invalid check option {quote(key)}")
    return CheckOptions(skip, experimental, error)
