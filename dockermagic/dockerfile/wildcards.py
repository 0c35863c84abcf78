"""The wildcards of ignore files as regular expressions: ``*``, ``?``, classes, ``**`` across directories."""

from __future__ import annotations

import posixpath
import re

__all__ = ["PatternError", "clean", "expression"]


class PatternError(ValueError):
    """A pattern that is none: an open bracket, an escape of nothing, a lone ``!``."""


def clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


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
