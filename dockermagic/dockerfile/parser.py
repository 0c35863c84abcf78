"""Lines, directives, continuations and heredocs: the text of a Dockerfile as nodes with their places.

What a node's words mean is not asked here. Nodes are frozen; the ranges of words and flags are found when asked for.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace

from dockermagic.dockerfile.directives import Directive, read_directive
from dockermagic.dockerfile.heredoc import Heredoc, heredocs_of
from dockermagic.dockerfile.hints import hint_for
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
from dockermagic.errors import DockerfileSyntaxError, Place

__all__ = ["Node", "Notice", "Parsed", "dump", "parse", "parse_fragment"]

_KEYWORD = re.compile(rf"[{SPACE}]*([^\t\v\f\r ]*)[\t\v\f\r ]*")
_FIRST_BLANKS = re.compile(r"[\t\v\f\r ]+")
_FIRST_WORD = re.compile(rf"[^{SPACE}]*")
_MAX_LINE = 65535
_MAX_ONBUILD = 50

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
_END = Segment(sys.maxsize, 0, 0)
_WITH_HEREDOCS = frozenset({"add", "copy", "run"})


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is odd but accepted: an empty line inside a continued instruction."""

    message: str
    line: int


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
        start = _KEYWORD.match(self.original).end()  # type: ignore[union-attr]
        return tuple(between(self.segments, span) for _, span in flag_words(self.original, start)[0])

    def word_ranges(self) -> tuple[Range, ...]:
        """Where each word stands as written: one range a pair for ENV and LABEL, quotes included for JSON strings."""
        start = _KEYWORD.match(self.original).end()  # type: ignore[union-attr]
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


@dataclass(frozen=True, slots=True)
class Parsed:
    """A Dockerfile's nodes, its directives, its escape character, and what is odd."""

    nodes: tuple[Node, ...]
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    notices: tuple[Notice, ...] = ()

    def directive(self, name: str) -> str | None:
        """The value of ``# name=`` at the top of the file."""
        return next((directive.value for directive in self.directives if directive.name == name), None)


class _Lines:
    """The physical lines of a text, handed out one by one."""

    def __init__(self, text: str, line: int) -> None:
        self.lines = text.removeprefix("\ufeff").split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.first = line
        self.index = 0

    @property
    def number(self) -> int:
        """The number of the line that was handed out last."""
        return self.first + self.index - 1

    def more(self) -> bool:
        return self.index < len(self.lines)

    def take(self) -> str:
        line = self.lines[self.index]
        self.index += 1
        if len(line) > _MAX_LINE // 4 and len(line.encode("utf-8", "surrogatepass")) > _MAX_LINE:
            raise DockerfileSyntaxError(
                f"dockerfile line greater than max allowed size of {_MAX_LINE}",
                hint=f"Line {self.number} is too long: split it with continuations, or move the text into a file.",
            )
        return line.rstrip("\r")

    def place(self, line: int) -> Place:
        text = self.lines[line - self.first][:400]
        return Place(line, len(text) - len(text.lstrip(SPACE)), len(text), text)


def parse(text: str) -> Parsed:
    """The whole text of a Dockerfile. Raises DockerfileSyntaxError, also when it has no instruction at all."""
    parsed = parse_fragment(text)
    if not parsed.nodes:
        raise DockerfileSyntaxError(
            "file with no instructions", place=Place(1), hint="A Dockerfile begins with FROM and the name of an image."
        )
    return parsed


def parse_fragment(text: str, *, line: int = 1, escape: str = "\\", directives: bool = True) -> Parsed:
    """A piece of a Dockerfile, which may have no instruction.

    ``line`` is the number of its first line. ``escape`` holds until a directive says otherwise, and directives are
    looked for only with ``directives``.
    """
    lines = _Lines(text, line)
    found: list[Directive] = []
    nodes: list[Node] = []
    notices: list[Notice] = []
    comments: list[str] = []
    open_section = directives
    while lines.more():
        raw = lines.take()
        body = raw.lstrip(SPACE)
        if body.startswith("#"):
            directive = read_directive(body, lines.number) if open_section else None
            if directive:
                escape = _accept(directive, found, escape, lines)
                continue
            open_section = False
            comment = body[1:].strip(SPACE)
            if comment:
                comments.append(comment)
            else:
                comments = []
            continue
        open_section = False
        if not body:
            continue
        node = _read_node(lines, raw, body, escape, tuple(comments), notices)
        comments = []
        nodes.append(node)
    return Parsed(tuple(nodes), tuple(found), escape, tuple(notices))


def _accept(directive: Directive, found: list[Directive], escape: str, lines: _Lines) -> str:
    if any(directive.name == other.name for other in found):
        message = f"only one {directive.name} parser directive can be used"
        raise DockerfileSyntaxError(message, place=lines.place(directive.line), hint="Remove the second one.")
    found.append(directive)
    if directive.name != "escape":
        return escape
    if directive.value not in ("\\", "`"):
        raise DockerfileSyntaxError(
            f"invalid escape token '{directive.value}' does not match ` or \\", place=lines.place(directive.line)
        )
    return directive.value


def _continued(line: str, escape: str) -> str | None:
    """What stands before the escape character that ends the line; None if the line ends here."""
    stripped = line.rstrip(" \t")
    if not stripped.endswith(escape) or stripped[-2:-1] == escape:
        return None
    return stripped[:-1]


def _read_node(
    lines: _Lines, raw: str, body: str, escape: str, comments: tuple[str, ...], notices: list[Notice]
) -> Node:
    start = lines.number
    column = len(raw) - len(body)
    segments = [Segment(0, start, column)]
    before = _continued(body, escape)
    last = raw
    if before is None:
        line = body
    else:
        pieces, length, empty = [before], len(before), False
        while before is not None and lines.more():
            last = lines.take()
            stripped = last.lstrip(SPACE)
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty = True
                continue
            before = _continued(last, escape)
            piece = last if before is None else before
            segments.append(Segment(length, lines.number, 0))
            pieces.append(piece)
            length += len(piece)
        line = "".join(pieces)
        if empty:
            notices.append(Notice(f"Empty continuation line found in: {line}", lines.number))
    where = Range(start, column, lines.number, len(last))
    try:
        node = _node(line, escape, tuple(segments), where, comments)
        heredocs = _read_heredocs(lines, node) if "<<" in line else ()
    except ValueError as error:
        hint = hint_for(str(error), body.split(maxsplit=1)[0].lower())
        raise DockerfileSyntaxError(str(error), place=lines.place(start), hint=hint) from None
    except DockerfileSyntaxError as error:
        error.place = error.place or lines.place(start)
        raise
    if not heredocs:
        return node
    where = Range(start, column, lines.number, len(lines.lines[lines.index - 1].rstrip("\r")))
    if node.child and node.keyword == "onbuild":
        return replace(node, heredocs=heredocs, range=where, child=replace(node.child, heredocs=heredocs, range=where))
    return replace(node, heredocs=heredocs, range=where)


def _read_heredocs(lines: _Lines, node: Node) -> tuple[Heredoc, ...]:
    leaf = node.child if node.keyword == "onbuild" and node.child else node
    if leaf.json or leaf.keyword not in _WITH_HEREDOCS:
        return ()
    done = []
    for heredoc in heredocs_of(node.original):
        content: list[str] = []
        first = lines.number + 1
        while lines.more():
            raw = lines.take()
            candidate = raw.lstrip("\t") if heredoc.chomp else raw
            if candidate == heredoc.name:
                break
            content.append(lines.lines[lines.index - 1] + "\n")
        else:
            raise DockerfileSyntaxError(
                "unterminated heredoc",
                place=lines.place(node.range.start_line),
                hint=f"Its text ends at a line that is exactly {heredoc.name}"
                + (" (tabs may precede it)." if heredoc.chomp else "."),
            )
        where = Range(first, 0, lines.number, 0)
        done.append(replace(heredoc, content="".join(content), range=where))
    return tuple(done)


def _node(
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
        kind = _FIRST_WORD.match(rest).group()  # type: ignore[union-attr]
        words, json, _ = _words("cmd", rest[len(kind) :].lstrip(SPACE), escape, depth)
        return (kind, *words), json, None
    if depth >= _MAX_ONBUILD:
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    return (), False, _node(rest, escape, depth=depth + 1)


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


def dump(parsed: Parsed) -> str:
    """The nodes as s-expressions, one a line: ``(run ["--network=none"] "echo hi")``."""
    return "\n".join(f"({_dump(node)})" for node in parsed.nodes)


def _dump(node: Node) -> str:
    pieces = [node.keyword]
    flags = node.flags
    if flags and not node.original.isascii():
        flags = _flags_of_bytes(node)
    if flags:
        pieces.append("[" + " ".join(quote(flag) for flag in flags) + "]")
    pieces += [quote(word) for word in node.words]
    if node.child:
        pieces.append(f"({_dump(node.child)})")
    return " ".join(pieces).strip()


def _flags_of_bytes(node: Node) -> tuple[str, ...]:
    """The flags as BuildKit has them: it takes the bytes of their UTF-8 for characters. Only its dump wants that."""
    text = node.original.encode("utf-8", "surrogatepass").decode("latin-1")
    start = _KEYWORD.match(text).end()  # type: ignore[union-attr]
    return tuple(word for word, _ in flag_words(text, start)[0])
