"""``.dockerignore``: its lines as patterns, and which paths they leave out.

A pattern matches a path or a parent of it, and the last one that matches decides; ``!`` takes back in. Unlike in a
gitignore, a pattern without a slash stands for a path at the root only.
"""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Sequence

from pathspec import PathSpec
from pathspec.pattern import RegexPattern

from dockermagic.dockerfile.text import SPACE, quote

__all__ = ["Matcher", "PatternError", "parse"]


class PatternError(ValueError):
    """A pattern that is none: an open bracket, an escape of nothing, a lone ``!``."""


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def parse(text: str) -> list[str]:
    """The patterns of an ignore file, cleaned, with their ``!``. A comment's ``#`` is the very first character."""
    patterns = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip(SPACE)
        if not pattern:
            continue
        mark = "!" if pattern.startswith("!") else ""
        pattern = pattern[len(mark) :].strip(SPACE)
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append(mark + pattern)
    return patterns


_VALID = re.compile(
    r"(?:[^\[\\]|\\.|\[\^?(?:(?:\\.|[^\\\]\-])(?:-(?:\\.|[^\\\]\-]))?)++\])*+\Z",
    re.DOTALL,
)
_PIECE = re.compile(r"\*\*/?|\*|\?|\\(.)|(\[\^?(?:\\.|[^\\\]])*\])|([^*?\\\[]+)", re.DOTALL)


def _expression(pattern: str) -> str:
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


class _Pattern(RegexPattern):
    """One line of an ignore file; ``include`` says that what it matches is left out."""

    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: str) -> tuple[str, bool]:  # type: ignore[override]
        """Raises PatternError."""
        taken_back = pattern.startswith("!")
        body = pattern[1:] if taken_back else pattern
        if taken_back and not body:
            raise PatternError('illegal exclusion pattern: "!"')
        body = _clean(body)
        if not _VALID.match(body):
            raise PatternError(f"syntax error in pattern {quote(pattern)}")
        expression = rf"\A(?s:{_expression(body)})(?:/|\Z)"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                re.compile(expression)
        except re.error as error:
            raise PatternError(f"syntax error in pattern {quote(pattern)}: {error}") from None
        return expression, not taken_back


class Matcher:
    """Which paths a list of patterns leaves out.

    Paths are relative, with ``/`` between names. Raises :class:`PatternError` when built of a pattern that is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = [stripped for pattern in patterns if (stripped := pattern.strip(SPACE))]
        """The patterns as given, without empty ones."""
        self._spec = PathSpec([_Pattern(pattern) for pattern in self.patterns], backend="simple")
        self._taken_back = [
            (index, _parts(pattern[1:])) for index, pattern in enumerate(self.patterns) if pattern.startswith("!")
        ]

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def _decide(self, path: str) -> tuple[bool, int]:
        found = self._spec.check_file(path.rstrip("/") or path)
        return bool(found.include), -1 if found.index is None else found.index

    def matches(self, path: str) -> bool:
        """Whether the path is left out: by itself, or because a directory above it is."""
        return self._decide(path)[0]

    def may_include_below(self, directory: str) -> bool:
        """Whether something below a left-out directory may be taken in again, so that a walk has to look into it.

        True is a guess on the safe side, False is certain. Of a directory that is not left out it is always True.
        """
        left_out, index = self._decide(directory)
        if not left_out:
            return True
        names = directory.strip("/").split("/")
        return any(later > index and _may_match_below(parts, names) for later, parts in self._taken_back)


def _parts(pattern: str) -> list[re.Pattern[str] | None]:
    """An expression for each name in the pattern; None, and nothing after it, where ``**`` allows anything."""
    parts: list[re.Pattern[str] | None] = []
    for part in _clean(pattern).split("/"):
        if "**" in part:
            return [*parts, None]
        parts.append(re.compile(rf"\A(?s:{_expression(part)})\Z"))
    return parts


def _may_match_below(parts: list[re.Pattern[str] | None], names: list[str]) -> bool:
    for part, name in zip(parts, names, strict=False):
        if part is None:
            return True
        if not part.match(name):
            return False
    return len(parts) > len(names)
