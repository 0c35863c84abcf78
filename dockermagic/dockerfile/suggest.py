"""'Did you mean': the nearest of several names."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["nearest", "with_suggestion"]

_FAR = 3  # names that differ in three letters are different names


def _distance(a: str, b: str) -> int:
    if abs(len(a) - len(b)) >= _FAR:
        return _FAR
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        current = [i]
        for j, right in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


def nearest(word: str, options: Iterable[str], *, case_sensitive: bool = True) -> str:
    """The first of the options that differ least from the word, in less than three letters; '' if there is none.

    A word that is itself an option has no better one. Without ``case_sensitive`` the answer has the word's case.
    """
    wanted = word if case_sensitive else word.lower()
    best, least = "", _FAR
    for option in options:
        candidate = option if case_sensitive else option.lower()
        if candidate == wanted:
            return ""
        distance = _distance(wanted, candidate)
        if distance < least:
            best, least = candidate, distance
    if best and not case_sensitive and word == word.upper():
        return best.upper()
    return best


def with_suggestion(message: str, word: str, options: Iterable[str], *, case_sensitive: bool = True) -> str:
    """The message, followed by ``(did you mean X?)`` where something is near."""
    best = nearest(word, options, case_sensitive=case_sensitive)
    return f"{message} (did you mean {best}?)" if best else message
