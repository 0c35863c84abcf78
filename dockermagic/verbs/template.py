"""Templates of ``--format``: the part of Go's text/template that Docker's documentation uses, over JSON values.

Actions: fields (``.Config.Env``), variables, literals, pipelines, parentheses, ``if/else if/else``, ``range`` with one
or two variables, ``with``, comments, ``{{-`` and ``-}}``. Functions: Go's own (``index``, ``len``, ``printf``, ``eq``,
...) and Docker's (``json``, ``join``, ``split``, ``upper``, ``lower``, ``title``, ``truncate``, ``pad``, ``println``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockermagic.verbs.template_functions import FUNCTIONS, MISSING, NilList, NilMap, error, go_text, type_name
from dockermagic.verbs.template_syntax import Block, Operand, Pipeline, Text, parse

__all__ = ["Template"]

_FREE_MAPS = frozenset(("Labels", "ExposedPorts", "Volumes", "Annotations", "Options", "Data"))
"""Fields whose keys are anybody's: a key that is missing there is empty, elsewhere it is a mistake."""
_LISTS = frozenset(
    (
        *("Args", "Binds", "CapAdd", "CapDrop", "Cmd", "Dns", "Entrypoint", "Env", "ExtraHosts", "OnBuild"),
        *("RepoDigests", "RepoTags", "Shell"),
    )
)
"""Fields that are lists: without a value they are printed as an empty one, and are null in JSON, as in Go."""


class Template:
    """A parsed template; raises UsageError where the text is none. Rendering raises UsageError for a wrong field."""

    def __init__(self, source: str) -> None:
        self._nodes = parse(source)

    def render(self, value: Any) -> str:
        """The template filled in from a JSON value."""
        written: list[str] = []
        _Run(value, written).nodes(self._nodes, value, {"$": value})
        return "".join(written)


class _Run:
    def __init__(self, root: Any, written: list[str]) -> None:
        self.root = root
        self.written = written

    def nodes(self, nodes: tuple[Text | Block, ...], dot: Any, scope: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, Text):
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

    def _range(self, node: Block, dot: Any, scope: dict[str, Any]) -> None:
        bare = Pipeline(node.pipeline.commands)
        value = self.pipeline(bare, dot, scope)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        elif value in (None, MISSING, ""):
            pairs = []
        else:
            raise error(f"range can't iterate over {go_text(value)}")
        for key, item in pairs:
            inner = dict(scope)
            names = node.pipeline.variables
            inner.update(zip(names, (item,) if len(names) == 1 else (key, item), strict=False))
            self.nodes(node.body, item, inner)
        if not pairs:
            self.nodes(node.otherwise, dot, dict(scope))

    def pipeline(self, pipeline: Pipeline, dot: Any, scope: dict[str, Any]) -> Any:
        extra: tuple[Any, ...] = ()
        value: Any = MISSING
        for command in pipeline.commands:
            value = self._command(command, extra, dot, scope)
            extra = (value,)
        for name in pipeline.variables[:1]:
            scope[name] = value
        return value

    def _command(self, command: tuple[Operand, ...], extra: tuple[Any, ...], dot: Any, scope: dict[str, Any]) -> Any:
        first = command[0]
        if first.kind == "literal" and first.value is None:
            raise error("nil is not a command")
        if first.kind != "function":
            if len(command) > 1 or extra:
                raise error(f"can't give argument to non-function {_shown(first)}")
            return self._value(first, dot, scope)
        if first.value in ("and", "or"):
            return self._logic(first.value, [*command[1:], *extra], dot, scope)
        values = [self._value(operand, dot, scope) for operand in command[1:]]
        try:
            return FUNCTIONS[first.value](*values, *extra)
        except (TypeError, AttributeError):
            raise error(f"wrong number or type of args for {first.value}") from None

    def _logic(self, name: str, operands: list[Any], dot: Any, scope: dict[str, Any]) -> Any:
        value: Any = MISSING
        for operand in operands:
            value = self._value(operand, dot, scope) if isinstance(operand, Operand) else operand
            if bool(value) == (name == "or"):
                break
        return value

    def _value(self, operand: Operand, dot: Any, scope: dict[str, Any]) -> Any:
        if operand.kind == "literal":
            return operand.value
        if operand.kind == "function":
            return self._command((operand,), (), dot, scope)
        if operand.kind == "pipeline":
            value = self.pipeline(operand.value, dot, dict(scope))
        elif operand.kind == "variable":
            if operand.value not in scope:
                raise error(f'undefined variable "{operand.value}"')
            value = scope[operand.value]
        else:
            value = dot
        inside = ""
        for name in operand.fields:
            if isinstance(value, Mapping):
                if name not in value and inside not in _FREE_MAPS:
                    raise error(f'executing at <{_shown(operand)}>: there is no field "{name}"')
                value = value.get(name, "")
            elif value is None or value is MISSING:
                raise error(f"executing at <{_shown(operand)}>: nil pointer evaluating .{name}")
            else:
                raise error(f"executing at <{_shown(operand)}>: can't evaluate field {name} in type {type_name(value)}")
            inside = name
        if value is None and inside in _LISTS:
            return NilList()
        if value is None and inside in _FREE_MAPS:
            return NilMap()
        return value


def _shown(operand: Operand) -> str:
    fields = "".join(f".{name}" for name in operand.fields)
    return f"{operand.value if operand.kind != 'dot' else ''}{fields}" or "."
