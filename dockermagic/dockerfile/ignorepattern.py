"""A line of an ignore file as a pattern of pathspec's; apart, so that only who has such a line pays for the library."""

from __future__ import annotations

import re
import warnings

from pathspec.pattern import RegexPattern

from dockermagic.dockerfile.text import quote
from dockermagic.dockerfile.wildcards import PatternError, clean, expression, is_well_formed

__all__ = ["IgnorePattern"]


class IgnorePattern(RegexPattern):
    """One line of an ignore file; ``include`` says that what it matches is left out."""

    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: str) -> tuple[str, bool]:  # type: ignore[override]  # bytes there
        """Raises PatternError."""
        taken_back = pattern.startswith("!")
        body = pattern[1:] if taken_back else pattern
        if taken_back and not body:
            raise PatternError('illegal exclusion pattern: "!"')
        body = clean(body)
        if not is_well_formed(body):
            raise PatternError(f"syntax error in pattern {quote(pattern)}")
        whole = rf"\A(?s:{expression(body)})(?:/|\Z)"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                re.compile(whole)
        except re.error as error:
            raise PatternError(f"syntax error in pattern {quote(pattern)}: {error}") from None
        return whole, not taken_back
