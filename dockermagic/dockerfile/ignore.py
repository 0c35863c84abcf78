"""``.dockerignore``: its lines as patterns, and which paths they leave out.

A pattern matches a path or a parent of it, and the last one that matches decides; ``!`` takes back in. Unlike in a
gitignore, a pattern without a slash stands for a path at the root only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dockermagic.dockerfile.text import SPACE
from dockermagic.dockerfile.wildcards import PatternError, clean, expression

__all__ = ["Matcher", "PatternError", "parse"]


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
            pattern = clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append(mark + pattern)
    return patterns


class Matcher:
    """Which paths a list of patterns leaves out.

    Paths are relative, with ``/`` between names. Raises :class:`PatternError` when built of a pattern that is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = [stripped for pattern in patterns if (stripped := pattern.strip(SPACE))]
        """The patterns as given, without empty ones."""
        from pathspec import PathSpec

        from dockermagic.dockerfile.ignorepattern import IgnorePattern

        self._spec = PathSpec([IgnorePattern(pattern) for pattern in self.patterns], backend="simple")
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
    for part in clean(pattern).split("/"):
        if "**" in part:
            return [*parts, None]
        parts.append(re.compile(rf"\A(?s:{expression(part)})\Z"))
    return parts


def _may_match_below(parts: list[re.Pattern[str] | None], names: list[str]) -> bool:
    for part, name in zip(parts, names, strict=False):
        if part is None:
            return True
        if not part.match(name):
            return False
    return len(parts) > len(names)
