"""The wildcards of ignore files as regular expressions: ``*``, ``?``, classes, ``**`` across directories."""

from __future__ import annotations

import posixpath
import re

__all__ = ["PatternError", "clean", "expression", "is_well_formed"]


class PatternError(ValueError):
    """A pattern that is none: an open bracket, an escape of nothing, a lone ``!``."""


def clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def is_well_formed(pattern: str) -> bool:
    """Whether every class is closed and every escape has something after it, as Go's ``filepath.Match`` wants."""
    place = 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if letter == "\\":
            place += 1
            if place > len(pattern):
                return False
        elif letter == "[":
            end = _end_of_class(pattern, place)
            if end is None:
                return False
            place = end
    return True


def _end_of_class(pattern: str, place: int) -> int | None:
    """Where the class that begins before ``place`` ends, behind its bracket; None where it does not."""
    if pattern[place : place + 1] == "^":
        place += 1
    filled = False
    while not (filled and pattern[place : place + 1] == "]"):
        after = _after_character(pattern, place)
        if after is not None and pattern[after : after + 1] == "-":
            after = _after_character(pattern, after + 1)
        if after is None:
            return None
        place, filled = after, True
    return place + 1


def _after_character(pattern: str, place: int) -> int | None:
    if pattern[place : place + 1] == "\\":
        place += 1
    elif pattern[place : place + 1] in ("-", "]"):
        return None
    return place + 1 if place + 1 < len(pattern) else None


_PIECE = re.compile(r"\*\*/?|\*|\?|\\(.)|(\[\^?(?:\\.|[^\\\]])*\])|([^*?\\\[]+)", re.DOTALL)


def expression(pattern: str) -> str:
    """The pattern as a regular expression for a path itself, without its parents."""
    if pattern.startswith("**") and not re.search(r"[*?\\\[]", pattern[2:]):
        rest = pattern[2:]
        return "(?:.*/)?" + re.escape(rest[1:]) if rest.startswith("/") else ".*" + re.escape(rest)
    pieces = []
    for match in _PIECE.finditer(pattern):
        escaped, bracket, plain = match.groups()
        if plain is not None:
            pieces.append(re.escape(plain))
        elif escaped is not None:
            pieces.append(re.escape(escaped))
        elif bracket is not None:
            pieces.append(_class(bracket))
        elif match.group().startswith("**"):
            pieces.append(".*" if match.end() == len(pattern) else "(?:.*/)?")
        else:
            pieces.append("[^/]*" if match.group() == "*" else "[^/]")
    return "".join(pieces)


def _class(bracket: str) -> str:
    negated = bracket.startswith("[^")
    inner = bracket[2 if negated else 1 : -1]
    inner = re.sub(r"\\(.)|([\[&~|\^])", lambda found: "\\" + (found[1] or found[2]), inner)
    return f"[{'^' if negated else ''}{inner}]"
