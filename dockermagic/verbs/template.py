"""Templates of ``--format``: the part of Go's text/template that Docker's documentation uses, over JSON values.

Actions: fields (``.Config.Env``), variables, literals, pipelines, parentheses, ``if/else if/else``, ``range`` with one
or two variables, ``with``, comments, ``{{-`` and ``-}}``. Functions: Go's own (``index``, ``len``, ``printf``, ``eq``,
...) and Docker's (``json``, ``join``, ``split``, ``upper``, ``lower``, ``title``, ``truncate``, ``pad``, ``println``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dockermagic.errors import UsageError

__all__ = ["FREE_MAPS", "Template", "go_text"]

FREE_MAPS = frozenset(("Labels", "ExposedPorts", "Volumes", "Annotations", "Options", "Data"))
"""Fields whose keys are anybody's: a key that is missing there is empty, elsewhere it is a mistake."""
_LISTS = frozenset(
    (
        *("Args", "Binds", "CapAdd", "CapDrop", "Cmd", "Dns", "Entrypoint", "Env", "ExtraHosts", "OnBuild"),
        *("RepoDigests", "RepoTags", "Shell"),
    )
)
"""Fields that are lists: without a value they are printed as an empty one, and are null in JSON, as in Go."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<declare>:=)|(?P<equal>=)"""
    r"""|(?P<field>\.[A-Za-z_][\w]*)|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<word>[A-Za-z_]\w*)|(?P<pipe>\|)"""
    r"""|(?P<open>\()|(?P<close>\))|(?P<comma>,))""",
    re.VERBOSE,
)
_ACTION = re.compile(r"\{\{(-\s)?(?:\s*/\*.*?\*/\s*|((?:\"(?:[^\"\\]|\\.)*\"|`[^`]*`|[^\"`])*?))(\s-)?\}\}", re.DOTALL)


class _Missing:
    """Go's zero Value: what a field of nothing gives."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


class _NilList(tuple[Any, ...]):
    """Go's nil of a list's type."""


class _NilMap(dict[str, Any]):
    """Go's nil of a map's type."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    spaced: bool


@dataclass(frozen=True, slots=True)
class _Operand:
    kind: str
    value: Any
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pipeline:
    commands: tuple[tuple[_Operand, ...], ...]
    variables: tuple[str, ...] = ()
    declare: bool = True


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    pipeline: _Pipeline
    body: tuple[Any, ...] = ()
    otherwise: tuple[Any, ...] = ()


def _error(reason: str) -> UsageError:
    return UsageError(
        f"template parsing error: {reason}",
        hint="--format takes a Go template, such as '{{.Id}}' or '{{json .Config}}'.",
    )


def _scan(source: str) -> Iterator[_Text | str]:
    """Text and the insides of actions, in turn; spaces beside trim marks are gone."""
    position, trim = 0, False
    for match in _ACTION.finditer(source):
        before = source[position : match.start()]
        before = before.lstrip() if trim else before
        before = before.rstrip() if match[1] else before
        if "{{" in before:
            raise _error("unclosed action")
        if before:
            yield _Text(before)
        if match[2] is not None:
            yield match[2].strip()
        trim, position = bool(match[3]), match.end()
    rest = source[position:].lstrip() if trim else source[position:]
    if "{{" in rest:
        raise _error("unclosed action")
    if rest:
        yield _Text(rest)


def _tokens(action: str) -> list[_Token]:
    found, position = [], 0
    while position < len(action):
        if not action[position:].strip():
            break
        match = _TOKEN.match(action, position)
        if match is None or match.lastgroup is None:
            raise _error(f"unexpected {action[position:].strip()[:1]!r} in command")
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

    def pipeline(self) -> _Pipeline:
        variables, declare = self._variables()
        commands = [self._command()]
        while (token := self.peek()) and token.kind == "pipe":
            self.at += 1
            commands.append(self._command())
        return _Pipeline(tuple(commands), variables, declare)

    def whole(self) -> _Pipeline:
        found = self.pipeline()
        if token := self.peek():
            raise _error(f"unexpected {token.text!r} in operand")
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

    def _command(self) -> tuple[_Operand, ...]:
        operands = []
        while (token := self.peek()) and token.kind not in ("pipe", "close"):
            operands.append(self._operand(token))
        if not operands:
            raise _error("missing value for command")
        return tuple(operands)

    def _operand(self, token: _Token) -> _Operand:
        self.at += 1
        match token.kind:
            case "string":
                return _Operand("literal", token.text[1:-1] if token.text[0] == "`" else json.loads(token.text))
            case "number":
                return _Operand("literal", float(token.text) if "." in token.text else int(token.text))
            case "field":
                return _Operand("dot", None, (token.text[1:], *self._fields()))
            case "dot":
                return _Operand("dot", None)
            case "variable":
                return _Operand("variable", token.text, self._fields())
            case "open":
                inner = self.pipeline()
                closing = self.peek()
                if closing is None or closing.kind != "close":
                    raise _error("unclosed left paren")
                self.at += 1
                return _Operand("pipeline", inner, self._fields())
            case "word" if token.text in ("true", "false", "nil"):
                return _Operand("literal", {"true": True, "false": False, "nil": None}[token.text])
            case "word" if token.text in FUNCTIONS or token.text in ("and", "or"):
                return _Operand("function", token.text)
            case "word":
                raise _error(f'function "{token.text}" not defined')
        raise _error(f"unexpected {token.text!r} in operand")

    def _fields(self) -> tuple[str, ...]:
        names = []
        while (token := self.peek()) and token.kind == "field" and not token.spaced:
            names.append(token.text[1:])
            self.at += 1
        return tuple(names)


def _parse(items: Iterator[_Text | str], ends: tuple[str, ...]) -> tuple[tuple[Any, ...], str]:
    """The nodes up to one of ``ends``, and the action that ended them ('' at the end of the template)."""
    nodes: list[Any] = []
    for item in items:
        if isinstance(item, _Text):
            nodes.append(item)
            continue
        word, _, rest = item.partition(" ")
        if word in ("end", "else"):
            if word not in ends:
                raise _error(f"unexpected {{{{{word}}}}}")
            return tuple(nodes), item
        if word in ("if", "range", "with"):
            nodes.append(_block(word, rest, items))
        else:
            nodes.append(_Block("print", _Parser(item).whole()))
    if ends:
        raise _error("unexpected EOF")
    return tuple(nodes), ""


def _block(kind: str, condition: str, items: Iterator[_Text | str]) -> _Block:
    pipeline = _Parser(condition).whole()
    body, ended = _parse(items, ("end", "else"))
    otherwise: tuple[Any, ...] = ()
    if ended != "end":
        more = ended.removeprefix("else").strip()
        if more:
            word, _, rest = more.partition(" ")
            if word != kind or kind == "range":
                raise _error(f"unexpected {{{{{ended}}}}}")
            otherwise = (_block(kind, rest, items),)
        else:
            otherwise, _ = _parse(items, ("end",))
    return _Block(kind, pipeline, body, otherwise)


def go_text(value: Any) -> str:
    """A value as Go's fmt prints it."""
    if value is MISSING:
        return "<no value>"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _go_json(value: Any) -> str:
    nil = value is MISSING or isinstance(value, _NilList | _NilMap)
    return json.dumps(None if nil else value, ensure_ascii=False, separators=(",", ":"))


def _print(*values: Any) -> str:
    """Go's Sprint: a blank between two values of which neither is a string."""
    written = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            written += " "
        written += go_text(value)
    return written


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb == "q":
            return json.dumps(str(value), ensure_ascii=False)
        if verb in "vst":
            return f"%{flags}s" % go_text(value)
        try:
            return str(f"%{flags}{verb}" % value)
        except (TypeError, ValueError):
            return f"%!{verb}({go_text(value)})"

    return re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, form)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise _error(f"error calling index: index out of range: {go_text(key)}")
            value = value[key]
        else:
            raise _error(f"error calling index: can't index item of type {_type(value)}")
    return value


def _length(value: Any) -> int:
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    raise _error(f"error calling len: len of type {_type(value)}")


def _type(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string", dict: "map", list: "slice", tuple: "slice"}
    return names.get(type(value), "nil")


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, str | list | tuple):
        raise _error(f"error calling slice: can't slice item of type {_type(value)}")
    low, high = (*bounds, *(0, len(value))[len(bounds) :])[:2]
    if not 0 <= low <= high <= len(value):
        raise _error(f"error calling slice: index out of range: {high}")
    return value[low:high]


def _compare(operator: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        try:
            return operator(left, right)
        except TypeError:
            raise _error("error calling comparison: incompatible types for comparison") from None

    return compare


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _go_json,
    "join": lambda items, separator: separator.join(go_text(item) for item in items or ()),
    "split": lambda value, separator: str(value).split(separator),
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "title": lambda value: str(value).title(),
    "pad": lambda value, before, after: " " * before + str(value) + " " * after if value else value,
    "truncate": lambda value, length: str(value)[:length],
    "print": _print,
    "println": lambda *values: " ".join(go_text(value) for value in values) + "\n",
    "printf": _printf,
    "index": _index,
    "len": _length,
    "slice": _slice,
    "not": lambda value: not value,
    "eq": lambda left, *others: any(left == other for other in others),
    "ne": lambda left, right: left != right,
    "lt": _compare(lambda left, right: bool(left < right)),
    "le": _compare(lambda left, right: bool(left <= right)),
    "gt": _compare(lambda left, right: bool(left > right)),
    "ge": _compare(lambda left, right: bool(left >= right)),
}


class Template:
    """A parsed template; raises UsageError where the text is none. Rendering raises UsageError for a wrong field."""

    def __init__(self, source: str) -> None:
        self._nodes, _ = _parse(_scan(source), ())

    def render(self, value: Any) -> str:
        """The template filled in from a JSON value."""
        written: list[str] = []
        _Run(value, written).nodes(self._nodes, value, {"$": value})
        return "".join(written)


class _Run:
    def __init__(self, root: Any, written: list[str]) -> None:
        self.root = root
        self.written = written

    def nodes(self, nodes: tuple[Any, ...], dot: Any, scope: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, _Text):
                self.written.append(node.text)
            elif node.kind == "print":
                value = self.pipeline(node.pipeline, dot, scope)
                if not node.pipeline.variables:
                    self.written.append(go_text(value))
            elif node.kind == "range":
                self._range(node, dot, scope)
            else:
                inner = dict(scope)
                value = self.pipeline(node.pipeline, dot, inner)
                new = value if node.kind == "with" and value else dot
                self.nodes(node.body if value else node.otherwise, new, inner)

    def _range(self, node: _Block, dot: Any, scope: dict[str, Any]) -> None:
        bare = _Pipeline(node.pipeline.commands)
        value = self.pipeline(bare, dot, scope)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        elif value in (None, MISSING, ""):
            pairs = []
        else:
            raise _error(f"range can't iterate over {go_text(value)}")
        for key, item in pairs:
            inner = dict(scope)
            names = node.pipeline.variables
            inner.update(zip(names, (item,) if len(names) == 1 else (key, item), strict=False))
            self.nodes(node.body, item, inner)
        if not pairs:
            self.nodes(node.otherwise, dot, dict(scope))

    def pipeline(self, pipeline: _Pipeline, dot: Any, scope: dict[str, Any]) -> Any:
        extra: tuple[Any, ...] = ()
        value: Any = MISSING
        for command in pipeline.commands:
            value = self._command(command, extra, dot, scope)
            extra = (value,)
        for name in pipeline.variables[:1]:
            scope[name] = value
        return value

    def _command(self, command: tuple[_Operand, ...], extra: tuple[Any, ...], dot: Any, scope: dict[str, Any]) -> Any:
        first = command[0]
        if first.kind == "literal" and first.value is None:
            raise _error("nil is not a command")
        if first.kind != "function":
            if len(command) > 1 or extra:
                raise _error(f"can't give argument to non-function {_shown(first)}")
            return self._value(first, dot, scope)
        if first.value in ("and", "or"):
            return self._logic(first.value, [*command[1:], *extra], dot, scope)
        values = [self._value(operand, dot, scope) for operand in command[1:]]
        try:
            return FUNCTIONS[first.value](*values, *extra)
        except (TypeError, AttributeError):
            raise _error(f"wrong number or type of args for {first.value}") from None

    def _logic(self, name: str, operands: list[Any], dot: Any, scope: dict[str, Any]) -> Any:
        value: Any = MISSING
        for operand in operands:
            value = self._value(operand, dot, scope) if isinstance(operand, _Operand) else operand
            if bool(value) == (name == "or"):
                break
        return value

    def _value(self, operand: _Operand, dot: Any, scope: dict[str, Any]) -> Any:
        if operand.kind == "literal":
            return operand.value
        if operand.kind == "function":
            return self._command((operand,), (), dot, scope)
        if operand.kind == "pipeline":
            value = self.pipeline(operand.value, dot, dict(scope))
        elif operand.kind == "variable":
            if operand.value not in scope:
                raise _error(f'undefined variable "{operand.value}"')
            value = scope[operand.value]
        else:
            value = dot
        inside = ""
        for name in operand.fields:
            if isinstance(value, Mapping):
                if name not in value and inside not in FREE_MAPS:
                    raise _error(f'executing at <{_shown(operand)}>: there is no field "{name}"')
                value = value.get(name, "")
            elif value is None or value is MISSING:
                raise _error(f"executing at <{_shown(operand)}>: nil pointer evaluating .{name}")
            else:
                raise _error(f"executing at <{_shown(operand)}>: can't evaluate field {name} in type {_type(value)}")
            inside = name
        if value is None and inside in _LISTS:
            return _NilList()
        if value is None and inside in FREE_MAPS:
            return _NilMap()
        return value


def _shown(operand: _Operand) -> str:
    fields = "".join(f".{name}" for name in operand.fields)
    return f"{operand.value if operand.kind != 'dot' else ''}{fields}" or "."
