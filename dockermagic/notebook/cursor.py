"""What stands at the cursor in a Dockerfile that is being written: the instruction, its words, the word in hand."""

from __future__ import annotations

import re

from dockermagic.dockerfile.heredoc import heredocs_of
from dockermagic.values import dataclass

__all__ = ["Cursor", "Word", "cursor_at"]

_WORD = re.compile(r"\S+")
_VARIABLE = re.compile(r"(?<!\\)\$(\{?)(\w*)$")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it begins in the cell."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where somebody writes: ``words`` are those of the instruction before the one in hand, ``word`` ends at the
    cursor and ``rest`` goes on behind it. ``inside`` is a comment's or a here-document's, where no word means much.
    """

    words: tuple[Word, ...]
    word: Word
    rest: str
    begin: int
    inside: str = ""

    @property
    def keyword(self) -> str:
        """The instruction in capitals, behind ONBUILD too; '' while it is being written."""
        words = self.words[1:] if self.words and self.words[0].text.upper() == "ONBUILD" else self.words
        return words[0].text.upper() if words else ""

    @property
    def arguments(self) -> tuple[Word, ...]:
        """The words behind the instruction's name and its flags."""
        words = [word for word in self.words if word.text.upper() != "ONBUILD"][1:]
        while words and words[0].text.startswith("--"):
            words = words[1:]
        return tuple(words)

    @property
    def flags_may_follow(self) -> bool:
        """Whether a flag can stand here: nothing but flags is before it."""
        return bool(self.keyword) and not self.arguments

    @property
    def variable(self) -> Word | None:
        """The name of a variable that is being written behind ``$`` or ``${``."""
        found = _VARIABLE.search(self.word.text)
        return Word(found[2], self.word.start + found.start(2)) if found else None

    @property
    def whole(self) -> str:
        """The word on both sides of the cursor."""
        return self.word.text + self.rest


def cursor_at(text: str, position: int, escape: str = "\\") -> Cursor:
    """The cursor at ``position`` in a cell's Dockerfile."""
    before = text[:position]
    rest = re.match(r"\S*", text[position:])
    begin, inside, flat = _instruction(before, escape)
    words = [Word(found[0], begin + found.start()) for found in _WORD.finditer(flat)]
    last = Word("", position)
    if words and flat and not flat[-1].isspace():
        last = words.pop()
    return Cursor(tuple(words), last, rest[0] if rest else "", begin, inside)


def _instruction(before: str, escape: str) -> tuple[int, str, str]:
    """Where the instruction at the end begins, what one is inside of, and its text with continuations as blanks."""
    begin, parts, waiting, offset = 0, list[str](), list[str](), 0
    lines = before.split("\n")
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if waiting:
            if last:
                return begin, "heredoc", ""
            if line.strip("\t") == waiting[0]:
                waiting.pop(0)
        elif line.lstrip().startswith("#"):
            if last:
                return offset, "comment", ""
            if parts:
                parts.append(" " * (len(line) + 1))
        else:
            if not parts:
                begin = offset
            goes_on = line.rstrip().endswith(escape)
            if last:
                return begin, "", "".join(parts) + line
            if goes_on or (parts and not line.strip()):
                cut = line.rstrip()[:-1] if goes_on else ""
                parts.append(cut.ljust(len(line) + 1))
            else:
                waiting = [one.name for one in heredocs_of("".join(parts) + line)] if "<<" in line else []
                parts = []
        offset += len(line) + 1
    return begin, "", ""
