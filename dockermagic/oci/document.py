"""A frozen value <-> JSON object, from what its dataclass says about its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dockermagic.errors import ArchiveError
from dockermagic.values import MISSING, Field, fields

__all__ = ["BOOL", "INT", "MAP", "SET", "STRINGS", "TEXT", "Document", "member"]

TEXT, INT, BOOL, STRINGS = "text", "a number", "true or false", "a list of texts"
MAP = "an object of texts"
SET = "an object of empty objects"
"""How Go writes a set: the members are the keys."""

_EMPTY: dict[str, Any] = {TEXT: "", INT: 0, BOOL: False, STRINGS: (), SET: ()}


def member(name: str, kind: Any, *, keep: bool = False) -> dict[str, Any]:
    """Metadata for the dataclass field that holds the JSON member ``name``.

    ``kind`` is one of the constants here, a Document class, or a tuple of one class for a list of them. ``keep``
    writes the member even where it is empty.
    """
    return {"json": name, "kind": kind, "keep": keep}


_known: dict[str, tuple[Field[Any], ...]] = {}


def _members(cls: type[Document]) -> tuple[Field[Any], ...]:
    found = _known.get(cls.__name__)
    if found is None:
        found = _known[cls.__name__] = tuple(item for item in fields(cls) if "json" in item.metadata)
    return found


class Document:
    """The base of frozen dataclasses whose fields are made by :func:`member`, with an ``extra`` for all others."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    if TYPE_CHECKING:
        extra: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read a parsed JSON object; raises ArchiveError where a member has the wrong type."""
        if not isinstance(value, dict):
            raise ArchiveError(f"{cls.__name__}: expected a JSON object, found {value!r:.60}")
        known: dict[str, Any] = {}
        rest = dict(value)
        for item in _members(cls):
            raw = rest.pop(item.metadata["json"], None)
            if raw is not None:
                known[item.name] = _read(cls, item, raw)
            elif item.default is MISSING and item.default_factory is MISSING:
                known[item.name] = _EMPTY[item.metadata["kind"]]
        if hasattr(cls, "media_type"):
            known.setdefault("media_type", "")
        known["extra"] = rest
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """The JSON object, in the order of the fields, what was unknown last."""
        written: dict[str, Any] = {}
        for item in _members(type(self)):
            value = getattr(self, item.name)
            if value or item.metadata["keep"]:
                plain = _write(value)
                written[item.metadata["json"]] = {key: {} for key in sorted(plain)} if _is_set(item) else plain
        return written | {name: self.extra[name] for name in sorted(self.extra)}


def _is_set(item: Field[Any]) -> bool:
    return bool(item.metadata["kind"] == SET)


def _write(value: Any) -> Any:
    if isinstance(value, Document):
        return value.to_json()
    if isinstance(value, tuple):
        return [_write(item) for item in value]
    if isinstance(value, Mapping):
        return {name: value[name] for name in sorted(value)}
    return value


def _read(cls: type[Document], item: Field[Any], raw: Any) -> Any:
    kind = item.metadata["kind"]
    if isinstance(kind, tuple) and isinstance(raw, list):
        return tuple(kind[0].from_json(each) for each in raw)
    if isinstance(kind, type) and issubclass(kind, Document):
        return kind.from_json(raw)
    match kind, raw:
        case ("text", str()) | ("true or false", bool()):
            return raw
        case "a number", int() if not isinstance(raw, bool):
            return raw
        case "a list of texts", list() if all(isinstance(each, str) for each in raw):
            return tuple(raw)
        case "an object of texts", dict() if all(isinstance(each, str) for each in raw.values()):
            return raw
        case "an object of empty objects", dict():
            return tuple(sorted(raw))
    wanted = kind if isinstance(kind, str) else "a list"
    raise ArchiveError(f"{cls.__name__}.{item.metadata['json']}: expected {wanted}, found {raw!r:.60}")
