"""How two images differ: their configs field by field, their layers, and the trees that the layers make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dockermagic.values import dataclass

__all__ = ["FieldChange", "ImageDiff", "PathChange", "config_changes"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of the config with what it was and is, as JSON; '' where it is absent."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path that differs: ``state`` is added, removed or changed; ``what`` names what changed of it."""

    path: str
    state: str
    kind: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageDiff:
    """``fields`` of the config, ``layers`` as pairs of diff_ids by position ('' where one has none), ``paths``.

    ``path_count`` is how many paths differ in all.
    """

    fields: tuple[FieldChange, ...]
    layers: tuple[tuple[str, str], ...]
    paths: tuple[PathChange, ...]
    path_count: int

    @property
    def is_empty(self) -> bool:
        """Whether the images are the same."""
        return not (self.fields or self.layers or self.path_count)


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The fields of two image configs that differ, but for what follows from the layers."""
    left, right = (dict(_flat({**one, "rootfs": None})) for one in (before, after))
    names = [name for name in dict.fromkeys((*left, *right)) if left.get(name) != right.get(name)]
    return tuple(FieldChange(name, left.get(name, ""), right.get(name, "")) for name in names)


def layer_changes(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The layers that differ, by position."""
    count = max(len(before), len(after))
    pairs = [(dict(enumerate(before)).get(at, ""), dict(enumerate(after)).get(at, "")) for at in range(count)]
    return tuple(pair for pair in pairs if pair[0] != pair[1])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(value[key], f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}[{number}]")
    elif value not in (None, "", [], {}):
        yield name, json.dumps(value, ensure_ascii=False)
