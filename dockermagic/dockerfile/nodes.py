"""Nodes: an instruction's line as flags and words, and where each of them stands."""

from __future__ import annotations

import re
import sys

from dockermagic.dockerfile.heredoc import Heredoc
from dockermagic.dockerfile.text import (
    NOWHERE,
    SPACE,
    Range,
    Segment,
    Span,
    between,
    flag_words,
    list_words,
    quote,
    quoted_words,
    string_array,
    string_array_spans,
)
from dockermagic.errors import Place
from dockermagic.values import dataclass

__all__ = ["Node", "make_node"]

_KEYWORD = re.compile(rf"[{SPACE}]*([^\t\v\f\r ]*)[\t\v\f\r ]*")
_FIRST_BLANKS = re.compile(r"[\t\v\f\r ]+")
_FIRST_WORD = re.compile(rf"[^{SPACE}]*")
_MAX_ONBUILD = 50
_END = Segment(sys.maxsize, 0, 0)

# How the rest of an instruction's line is split into words.
_SHAPES = {
    "add": "json or list",
    "arg": "quoted",
    "cmd": "json or text",
    "copy": "json or list",
    "entrypoint": "json or text",
    "env": "pairs",
    "expose": "list",
    "from": "list",
    "healthcheck": "check",
    "label": "pairs",
    "maintainer": "text",
    "onbuild": "instruction",
    "run": "json or text",
    "shell": "json or text",
    "stopsignal": "text",
    "user": "text",
    "volume": "json or list",
    "workdir": "text",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction of the text.

    ``keyword`` is lower case. ``original`` is the logical line: continuations joined, comments inside them dropped.
    ``words`` of ENV and LABEL come in threes, ``name, value, '='``; the third is '' in the old form with a space.
    ``child`` is ONBUILD's instruction. ``comments`` are those above, without their ``#``.
    """

    keyword: str
    original: str
    flags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    range: Range = NOWHERE
    comments: tuple[str, ...] = ()
    child: Node | None = None
    escape: str = "\\"
    segments: tuple[Segment, ...] = ()

    @property
    def written(self) -> str:
        """The keyword as written."""
        match = _KEYWORD.match(self.original)
        return match[1] if match else ""

    def between(self, start: int, end: int) -> Range:
        """Where a piece of ``original`` stands in the source."""
        return between(self.segments, (start, end))

    def keyword_range(self) -> Range:
        """Where the keyword stands."""
        match = _KEYWORD.match(self.original)
        return between(self.segments, match.span(1)) if match else self.range

    def flag_ranges(self) -> tuple[Range, ...]:
        """Where each of ``flags`` stands."""
        start = _KEYWORD.match(self.original).end()  # type: ignore[union-attr]  # it fits anything
        return tuple(between(self.segments, span) for _, span in flag_words(self.original, start)[0])

    def word_ranges(self) -> tuple[Range, ...]:
        """Where each word stands as written: one range a pair for ENV and LABEL, quotes included for JSON strings."""
        start = _KEYWORD.match(self.original).end()  # type: ignore[union-attr]  # it fits anything
        text = self.original.rstrip(SPACE)
        _, start = flag_words(text, start)
        return tuple(between(self.segments, span) for span in self._spans(text, start))

    def _spans(self, text: str, start: int) -> list[Span]:
        shape = _SHAPES.get(self.keyword, "text")
        if shape == "check" and self.words:
            kind = next(iter(list_words(text, start)))
            rest = list_words(text, kind[1])
            if self.json:
                return [kind, *string_array_spans(text, kind[1])]
            return [kind, (rest[0][0], len(text))] if rest else [kind]
        if self.json:
            return string_array_spans(text, start)
        if shape in ("list", "json or list"):
            return list_words(text, start)
        if shape == "quoted" or (shape == "pairs" and self.words and self.words[-1]):
            return quoted_words(text, self.escape, start)
        begin = next(iter(list_words(text, start)), None)
        return [(begin[0], len(text))] if begin else []

    def flags_of_bytes(self) -> tuple[str, ...]:
        """The flags as BuildKit has them, the bytes of their UTF-8 taken for characters. Only its dump wants that."""
        text = self.original.encode("utf-8", "surrogatepass").decode("latin-1")
        start = _KEYWORD.match(text).end()  # type: ignore[union-attr]  # it fits anything
        return tuple(word for word, _ in flag_words(text, start)[0])

    def flag_place(self, flag: str) -> Place:
        """Where a flag stands, given as it is in ``flags``; the whole first line where it is none of them."""
        ranges = dict(zip(self.flags, self.flag_ranges(), strict=True)) if self.flags else {}
        return self.place(ranges.get(flag))

    def place(self, where: Range | None = None) -> Place:
        """A piece of the node, for an error; the whole first line of it without ``where``."""
        line = (where or self.range).start_line
        pieces = [
            " " * segment.column + self.original[segment.offset : following.offset]
            for segment, following in zip(self.segments, (*self.segments[1:], _END), strict=True)
            if segment.line == line
        ]
        text = pieces[0] if pieces else self.original
        if where and where.start_line == where.end_line:
            return Place(line, where.start_column, where.end_column, text)
        return Place(line, self.range.start_column, len(text), text)


def make_node(
    line: str,
    escape: str,
    segments: tuple[Segment, ...] = (),
    where: Range = NOWHERE,
    comments: tuple[str, ...] = (),
    depth: int = 0,
) -> Node:
    """The node of a logical line. Raises ValueError with BuildKit's message."""
    match = _KEYWORD.match(line)
    assert match is not None
    keyword = match[1].lower()
    text = line.rstrip(SPACE)
    start = min(match.end(), len(text))
    flags: tuple[str, ...] = ()
    if text.startswith("--", start):
        found, start = flag_words(text, start)
        flags = tuple(word for word, _ in found)
    rest = text[start:].lstrip(SPACE)
    words, json, child = _words(keyword, rest, escape, depth)
    return Node(keyword, line, flags, words, json, (), where, comments, child, escape, segments)


def _words(keyword: str, rest: str, escape: str, depth: int) -> tuple[tuple[str, ...], bool, Node | None]:
    shape = _SHAPES.get(keyword)
    if shape is None:
        return ("",), False, None
    if not rest:
        return (), False, None
    if shape == "text":
        return (rest,), False, None
    if shape == "list":
        return tuple(_FIRST_BLANKS.split(rest)), False, None
    if shape == "json or text" or shape == "json or list":
        if rest[0] == "[":
            strings = string_array(rest)
            if strings is not None:
                return tuple(strings), True, None
        return ((rest,) if shape == "json or text" else tuple(_FIRST_BLANKS.split(rest))), False, None
    if shape == "pairs":
        return _pairs(keyword, rest, escape), False, None
    if shape == "quoted":
        return tuple(_quoted(rest, escape)), False, None
    if shape == "check":
        kind = _FIRST_WORD.match(rest).group()  # type: ignore[union-attr]  # it fits anything
        words, json, _ = _words("cmd", rest[len(kind) :].lstrip(SPACE), escape, depth)
        return (kind, *words), json, None
    if depth >= _MAX_ONBUILD:
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    return (), False, make_node(rest, escape, depth=depth + 1)


def _quoted(rest: str, escape: str) -> list[str]:
    words = [rest[start:end] for start, end in quoted_words(rest, escape)]
    if rest.endswith(escape) and words:
        words[-1] = _without_loose_escape(words[-1], escape)
    return words


def _without_loose_escape(word: str, escape: str) -> str:
    count = len(word) - len(word.rstrip(escape))
    return word[:-1] if count % 2 else word


def _pairs(keyword: str, rest: str, escape: str) -> tuple[str, ...]:
    words = _quoted(rest, escape)
    if not words:
        return ()
    if "=" not in words[0]:
        parts = _FIRST_BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise ValueError(f"{keyword.upper()} must have two arguments")
        return (parts[0], parts[1], "")
    flat: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        flat += (name, value, "=")
    return tuple(flat)
