"""Lines, directives, continuations and heredocs: the text of a Dockerfile as nodes with their places.

What a node's words mean is not asked here. Nodes are frozen; the ranges of words and flags are found when asked for.
"""

from __future__ import annotations

from dockermagic.dockerfile.directives import Directive, read_directive
from dockermagic.dockerfile.heredoc import Heredoc, heredocs_of
from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.nodes import Node, make_node
from dockermagic.dockerfile.text import (
    SPACE,
    Range,
    Segment,
    quote,
)
from dockermagic.errors import DockerfileSyntaxError, Place
from dockermagic.values import dataclass, replace

__all__ = ["Node", "Notice", "Parsed", "dump", "parse", "parse_fragment"]

_MAX_LINE = 65535

_WITH_HEREDOCS = frozenset({"add", "copy", "run"})


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is odd but accepted: an empty line inside a continued instruction."""

    message: str
    line: int


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
        message = f"invalid escape token '{directive.value}' does not match ` or \\"
        raise DockerfileSyntaxError(message, place=lines.place(directive.line), hint=hint_for(message))
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
        node = make_node(line, escape, tuple(segments), where, comments)
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


def dump(parsed: Parsed) -> str:
    """The nodes as s-expressions, one a line: ``(run ["--network=none"] "echo hi")``."""
    return "\n".join(f"({_dump(node)})" for node in parsed.nodes)


def _dump(node: Node) -> str:
    pieces = [node.keyword]
    flags = node.flags
    if flags and not node.original.isascii():
        flags = node.flags_of_bytes()
    if flags:
        pieces.append("[" + " ".join(quote(flag) for flag in flags) + "]")
    pieces += [quote(word) for word in node.words]
    if node.child:
        pieces.append(f"({_dump(node.child)})")
    return " ".join(pieces).strip()
