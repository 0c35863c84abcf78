"""The patterns of ``${name#p}``, ``${name%p}`` and ``${name/p/r}``: ``*``, ``?`` and escapes, nothing else.

A pattern is run as a set of states, one bit each, so that no pattern takes more than linear time in the value.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockermagic.values import dataclass

__all__ = ["Pattern", "compile_pattern"]

_ESCAPABLE = "*?\\/}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """``letters`` holds one character a position, None for ``?``; bit i of ``loops`` is a ``*`` before position i."""

    letters: tuple[str | None, ...]
    loops: int

    def _ends(self, text: str, start: int = 0) -> Iterator[int]:
        """How many characters of the text, from ``start`` on, the pattern can take; ascending."""
        masks: dict[str | None, int] = {}
        for index, letter in enumerate(self.letters):
            masks[letter] = masks.get(letter, 0) | 1 << index
        anything = masks.pop(None, 0)
        accept = 1 << len(self.letters)
        states, loops = 1, self.loops
        if states & accept:
            yield 0
        for count, character in enumerate(map(text.__getitem__, range(start, len(text))), 1):
            states = (states & (masks.get(character, 0) | anything)) << 1 | states & loops
            if not states:
                return
            if states & accept:
                yield count

    def _reversed(self) -> Pattern:
        size = len(self.letters)
        loops = sum(1 << (size - index) for index in range(size + 1) if self.loops >> index & 1)
        return Pattern(self.letters[::-1], loops)

    def _length(self, text: str, longest: bool, start: int = 0) -> int:
        found = 0
        for length in self._ends(text, start):
            found = length
            if not longest:
                break
        return found

    def without_prefix(self, text: str, *, longest: bool) -> str:
        """The text without the shortest or longest beginning that matches."""
        return text[self._length(text, longest) :]

    def without_suffix(self, text: str, *, longest: bool) -> str:
        """The text without the shortest or longest end that matches."""
        length = self._reversed()._length(text[::-1], longest)
        return text[: len(text) - length]

    def replace(self, text: str, replacement: str, *, every: bool) -> str:
        """The first match, or every one, replaced; the leftmost wins, and of those the longest."""
        pieces, position, last_end = [], 0, -1
        for start in self._starts(text):
            if start < position:
                continue
            length = self._length(text, True, start)
            if not length and start == last_end:
                continue  # an empty match just behind the last one
            pieces += [text[position:start], replacement]
            position = last_end = start + length
            if not every:
                break
        return "".join(pieces) + text[position:]

    def _starts(self, text: str) -> list[int]:
        """Where a match can start: the ends of the reversed pattern, allowed to begin anywhere in the reversed text."""
        mirrored = self._reversed()
        anywhere = Pattern(mirrored.letters, mirrored.loops | 1)
        return sorted(len(text) - end for end in anywhere._ends(text[::-1]))


def compile_pattern(text: str) -> Pattern:
    """Raises ValueError for an escape that has no meaning."""
    letters: list[str | None] = []
    loops = 0
    characters = iter(text)
    for character in characters:
        if character == "*":
            loops |= 1 << len(letters)
        elif character == "?":
            letters.append(None)
        elif character == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in _ESCAPABLE:
                raise ValueError(f"invalid escape '\\{escaped}'")
            letters.append(escaped)
        else:
            letters.append(character)
    return Pattern(tuple(letters), loops)
