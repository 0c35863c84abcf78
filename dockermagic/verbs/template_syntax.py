"""The syntax of ``--format``'s templates: text becomes a tree of frozen nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dockermagic.values import dataclass
from dockermagic.verbs.template_functions import FUNCTIONS, error

__all__ = ["Block", "Operand", "Pipeline", "Text", "parse"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<declare>:=)|(?P<equal>=)"""
    r"""|(?P<field>\.[A-Za-z_][\w]*)|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<word>[A-Za-z_]\w*)|(?P<pipe>\|)"""
    r"""|(?P<open>\()|(?P<close>\))|(?P<comma>,))""",
    re.VERBOSE,
)
_ACTION = re.compile(r"\{\{(-\s)?(?:\s*/\*.*?\*/\s*|((?:\"(?:[^\"\\]|\\.)*\"|`[^`]*`|[^\"`])*?))(\s-)?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    spaced: bool


@dataclass(frozen=True, slots=True)
class Operand:
    """What a command is made of; ``kind`` is literal, dot, variable, pipeline or function."""

    kind: str
    value: Any
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each with the value of the one before; ``variables`` take the last, as new ones with ``declare``."""

    commands: tuple[tuple[Operand, ...], ...]
    variables: tuple[str, ...] = ()
    declare: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """An action; ``kind`` is print, if, range or with."""

    kind: str
    pipeline: Pipeline
    body: tuple[Text | Block, ...] = ()
    otherwise: tuple[Text | Block, ...] = ()


def parse(source: str) -> tuple[Text | Block, ...]:
    """The nodes of a template. Raises UsageError where the text is none."""
    return _parse(_scan(source), ())[0]


def _scan(source: str) -> Iterator[Text | str]:
    """Text and the insides of actions, in turn; spaces beside trim marks are gone."""
    position, trim = 0, False
    for match in _ACTION.finditer(source):
        before = source[position : match.start()]
        before = before.lstrip() if trim else before
        before = before.rstrip() if match[1] else before
        if "{{" in before:
            raise error("unclosed action")
        if before:
            yield Text(before)
        if match[2] is not None:
            yield match[2].strip()
        trim, position = bool(match[3]), match.end()
    rest = source[position:].lstrip() if trim else source[position:]
    if "{{" in rest:
        raise error("unclosed action")
    if rest:
        yield Text(rest)


def _tokens(action: str) -> list[_Token]:
    found, position = [], 0
    while position < len(action):
        if not action[position:].strip():
            break
        match = _TOKEN.match(action, position)
        if match is None or match.lastgroup is None:
            raise error(f"unexpected {action[position:].strip()[:1]!r} in command")
        spaced = match.start(match.lastgroup) > position or position == 0
        found.append(_Token(match.lastgroup, match[match.lastgroup], spaced))
        position = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens of one action."""

    def __init__(self, action: str) -> None:
        self.tokens = _tokens(action)
        self.at = 0

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def pipeline(self) -> Pipeline:
        variables, declare = self._variables()
        commands = [self._command()]
        while (token := self.peek()) and token.kind == "pipe":
            self.at += 1
            commands.append(self._command())
        return Pipeline(tuple(commands), variables, declare)

    def whole(self) -> Pipeline:
        found = self.pipeline()
        if token := self.peek():
            raise error(f"unexpected {token.text!r} in operand")
        return found

    def _variables(self) -> tuple[tuple[str, ...], bool]:
        start, names = self.at, list[str]()
        while (token := self.peek()) and token.kind == "variable":
            names.append(token.text)
            self.at += 1
            following = self.peek()
            if following and following.kind in ("declare", "equal"):
                self.at += 1
                return tuple(names), following.kind == "declare"
            if not following or following.kind != "comma":
                break
            self.at += 1
        self.at = start
        return (), True

    def _command(self) -> tuple[Operand, ...]:
        operands = []
        while (token := self.peek()) and token.kind not in ("pipe", "close"):
            operands.append(self._operand(token))
        if not operands:
            raise error("missing value for command")
        return tuple(operands)

    def _operand(self, token: _Token) -> Operand:
        self.at += 1
        match token.kind:
            case "string":
                return Operand("literal", token.text[1:-1] if token.text[0] == "`" else json.loads(token.text))
            case "number":
                return Operand("literal", float(token.text) if "." in token.text else int(token.text))
            case "field":
                return Operand("dot", None, (token.text[1:], *self._fields()))
            case "dot":
                return Operand("dot", None)
            case "variable":
                return Operand("variable", token.text, self._fields())
            case "open":
                inner = self.pipeline()
                closing = self.peek()
                if closing is None or closing.kind != "close":
                    raise error("unclosed left paren")
                self.at += 1
                return Operand("pipeline", inner, self._fields())
            case "word" if token.text in ("true", "false", "nil"):
                return Operand("literal", {"true": True, "false": False, "nil": None}[token.text])
            case "word" if token.text in FUNCTIONS or token.text in ("and", "or"):
                return Operand("function", token.text)
            case "word":
                raise error(f'function "{token.text}" not defined')
        raise error(f"unexpected {token.text!r} in operand")

    def _fields(self) -> tuple[str, ...]:
        names = []
        while (token := self.peek()) and token.kind == "field" and not token.spaced:
            names.append(token.text[1:])
            self.at += 1
        return tuple(names)


def _parse(items: Iterator[Text | str], ends: tuple[str, ...]) -> tuple[tuple[Text | Block, ...], str]:
    """The nodes up to one of ``ends``, and the action that ended them ('' at the end of the template)."""
    nodes: list[Text | Block] = []
    for item in items:
        if isinstance(item, Text):
            nodes.append(item)
            continue
        word, _, rest = item.partition(" ")
        if word in ("end", "else"):
            if word not in ends:
                raise error(f"unexpected {{{{{word}}}}}")
            return tuple(nodes), item
        if word in ("if", "range", "with"):
            nodes.append(_block(word, rest, items))
        else:
            nodes.append(Block("print", _Parser(item).whole()))
    if ends:
        raise error("unexpected EOF")
    return tuple(nodes), ""


def _block(kind: str, condition: str, items: Iterator[Text | str]) -> Block:
    pipeline = _Parser(condition).whole()
    body, ended = _parse(items, ("end", "else"))
    otherwise: tuple[Text | Block, ...] = ()
    if ended != "end":
        more = ended.removeprefix("else").strip()
        if more:
            word, _, rest = more.partition(" ")
            if word != kind or kind == "range":
                raise error(f"unexpected {{{{{ended}}}}}")
            otherwise = (_block(kind, rest, items),)
        else:
            otherwise, _ = _parse(items, ("end",))
    return Block(kind, pipeline, body, otherwise)
