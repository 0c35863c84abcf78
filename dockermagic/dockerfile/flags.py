"""The flags of an instruction: ``--chown=1:2``, ``--link``. Which there are is a table; here they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from dockermagic.dockerfile.suggest import with_suggestion

__all__ = ["FLAGS", "Kind", "Values", "read_flags"]

Kind = Literal["switch", "text", "texts"]
Values = dict[str, list[str]]

FLAGS: Mapping[str, Mapping[str, Kind]] = {
    "add": {
        "chmod": "text",
        "chown": "text",
        "link": "switch",
        "keep-git-dir": "switch",
        "checksum": "text",
        "unpack": "switch",
        "exclude": "texts",
    },
    "copy": {
        "chown": "text",
        "from": "text",
        "chmod": "text",
        "link": "switch",
        "exclude": "texts",
        "parents": "switch",
    },
    "from": {"platform": "text"},
    "healthcheck": {
        "interval": "text",
        "timeout": "text",
        "start-period": "text",
        "start-interval": "text",
        "retries": "text",
    },
    "run": {"mount": "texts", "network": "text", "security": "text", "device": "texts"},
}
"""The flags of each instruction; those that are not here have none."""


def read_flags(keyword: str, words: tuple[str, ...]) -> Values:
    """The values of each flag; a switch is ``true`` or ``false``. Raises ValueError with BuildKit's message."""
    known = FLAGS.get(keyword, {})
    values: Values = {}
    for word in words:
        name, equals, value = word[2:].partition("=")
        kind = known.get(name)
        if kind is None:
            raise ValueError(with_suggestion(f"unknown flag: --{name}", name, known))
        if name in values and kind != "texts":
            raise ValueError(f"duplicate flag specified: --{name}")
        if (kind == "switch" and equals and not value) or (kind != "switch" and not equals):
            raise ValueError(f"missing a value on flag: --{name}")
        if kind == "switch":
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise ValueError(f"expecting boolean value for flag --{name}, not: {word[2:].partition('=')[2]}")
        values.setdefault(name, []).append(value)
    return values
