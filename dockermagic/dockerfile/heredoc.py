"""Heredocs: ``<<NAME``, ``<<-NAME``, ``3<<'NAME'``."""

from __future__ import annotations

import re

from dockermagic.dockerfile.shell import raw_words, unquoted_words
from dockermagic.dockerfile.text import NOWHERE, Range
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass

__all__ = ["Heredoc", "heredocs_of", "parse_heredoc"]

_WORD = re.compile(r"([0-9]*)<<(-?)[ \t\n\r\f]*([^<]*)\Z")
_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """``content`` is raw, with the tabs that ``chomp`` removes; ``expand`` is False when a part of the word is quoted.

    ``range`` is that of the body, without the line of the terminator.
    """

    name: str
    content: str = ""
    expand: bool = True
    chomp: bool = False
    fd: int = 0
    range: Range = NOWHERE

    @property
    def text(self) -> str:
        """The content as a file gets it: without leading tabs where ``<<-`` was written."""
        return _TABS.sub("", self.content) if self.chomp else self.content


def parse_heredoc(word: str) -> Heredoc | None:
    """What the word of a shell line begins; None when it begins no heredoc.

    Raises DockerfileSyntaxError when a quote in it is not closed.
    """
    match = _WORD.match(word)
    if not match or not match[3]:
        return None
    fd, dash, rest = match.groups()
    words = unquoted_words(rest)
    if len(words) != 1:
        return None
    quoted = "'" in rest or '"' in rest
    expand = not (quoted and _has_quotes(rest))
    return Heredoc(words[0], expand=expand, chomp=bool(dash), fd=int(fd[:9] or 0))


def _has_quotes(rest: str) -> bool:
    return bool(re.search("['\"]", re.sub(r"\\.", "", rest)))


def heredocs_of(line: str) -> list[Heredoc]:
    """The heredocs that a logical line begins, in the order in which their bodies follow."""
    try:
        words = raw_words(line)
    except DockerfileSyntaxError:
        return []  # a quote is open: the shell will tell
    found = [parse_heredoc(word) for word in words if "<<" in word]
    return [heredoc for heredoc in found if heredoc]
