"""The functions of ``--format``'s templates, Go's own and Docker's, over JSON values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from dockermagic.errors import UsageError

__all__ = ["FUNCTIONS", "MISSING", "NilList", "NilMap", "error", "go_text", "type_name"]


class Missing:
    """Go's zero Value: what a field of nothing gives."""

    def __bool__(self) -> bool:
        return False


MISSING = Missing()


class NilList(tuple[Any, ...]):
    """Go's nil of a list's type."""


class NilMap(dict[str, Any]):
    """Go's nil of a map's type."""


def error(reason: str) -> UsageError:
    """The error of a template, whether it cannot be read or not be filled in."""
    return UsageError(
        f"template parsing error: {reason}",
        hint="--format takes a Go template, such as '{{.Id}}' or '{{json .Config}}'.",
    )


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
    nil = value is MISSING or isinstance(value, NilList | NilMap)
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
                raise error(f"error calling index: index out of range: {go_text(key)}")
            value = value[key]
        else:
            raise error(f"error calling index: can't index item of type {type_name(value)}")
    return value


def _length(value: Any) -> int:
    if isinstance(value, Mapping | list | tuple):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    raise error(f"error calling len: len of type {type_name(value)}")


def type_name(value: Any) -> str:
    """What Go calls a value's type."""
    names = {bool: "bool", int: "int", float: "float64", str: "string", dict: "map", list: "slice", tuple: "slice"}
    return names.get(type(value), "nil")


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, str | list | tuple):
        raise error(f"error calling slice: can't slice item of type {type_name(value)}")
    low, high = (*bounds, *(0, len(value))[len(bounds) :])[:2]
    if not 0 <= low <= high <= len(value):
        raise error(f"error calling slice: index out of range: {high}")
    return value[low:high]


def _compare(operator: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        try:
            return operator(left, right)
        except TypeError:
            raise error("error calling comparison: incompatible types for comparison") from None

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
