"""Values as Go reads them: durations, sizes, numbers, booleans, a line of CSV. Each raises ValueError in Go's words."""

from __future__ import annotations

import re

from dockermagic.dockerfile.text import quote

__all__ = ["boolean", "csv_fields", "duration", "format_duration", "integer", "size", "unsigned"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NUMBER = re.compile(r"([0-9]*)(?:\.([0-9]*))?")
_UNIT = re.compile(r"[^.0-9]*")
_MAX_INT64 = 2**63 - 1


def duration(text: str) -> int:
    """Nanoseconds of ``1h2m3.5s``."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    if not rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    while rest:
        number = _NUMBER.match(rest)
        if not number or not (number[1] or number[2]):
            raise ValueError(f"time: invalid duration {quote(text)}")
        rest = rest[number.end() :]
        unit = _UNIT.match(rest).group()  # type: ignore[union-attr]  # it fits anything
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        rest = rest[len(unit) :]
        fraction = (number[2] or "")[:18]
        total += int(number[1][:20] or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
        if total > _MAX_INT64:
            raise ValueError(f"time: invalid duration {quote(text)}")
    return -total if text[0] == "-" else total


def format_duration(nanoseconds: int) -> str:
    """As Go prints a duration: ``1m30s``, ``1.5s``, ``200ms``, ``0s``."""
    sign = "-" if nanoseconds < 0 else ""
    value = abs(nanoseconds)
    if not value:
        return "0s"
    if value < 1_000_000_000:
        unit, scale = next((u, _UNITS[u]) for u in ("ms", "µs", "ns") if value >= _UNITS[u])
        return sign + _decimal(value, scale) + unit
    hours, rest = divmod(value, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return sign + text + _decimal(rest, _UNITS["s"]) + "s"


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    digits = str(rest).zfill(len(str(scale)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def integer(text: str, bits: int = 32) -> int:
    """A decimal number with a sign."""
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    value = int(text[:40])
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def unsigned(text: str, base: int = 10) -> int:
    """A number of 32 bits without a sign."""
    if not re.fullmatch(r"[0-7]+" if base == 8 else r"[0-9]+", text):
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    value = int(text[:40], base)
    if value >= 2**32:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return value


_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def boolean(text: str) -> bool:
    """``1 t true`` and ``0 f false``."""
    if text not in _BOOLEANS:
        raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")
    return _BOOLEANS[text]


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([kKmMgGtTpP]?)(?:[iI]?[bB])?\Z")


def size(text: str) -> int:
    """Bytes of ``64m``, ``1.5GB``, ``512``; the units are powers of 1024."""
    match = _SIZE.match(text)
    if not match or len(match[1]) > 30:
        raise ValueError(f"invalid size: {quote(text)}")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


_CSV_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)("?)')


def csv_fields(text: str) -> list[str]:
    """The fields of one line of CSV."""
    if not text:
        raise ValueError("EOF")
    if '"' not in text:
        return text.split(",")
    fields, position = [], 0
    while True:
        if text.startswith('"', position):
            match = _CSV_QUOTED.match(text, position)
            assert match is not None
            position = match.end()
            if not match[2] or text[position : position + 1] not in ("", ","):
                raise ValueError(
                    f'parse error on line 1, column {position + 1}: extraneous or missing " in quoted-field'
                )
            fields.append(match[1].replace('""', '"'))
        else:
            end = text.find(",", position)
            field = text[position:] if end < 0 else text[position:end]
            if '"' in field:
                column = position + field.index('"') + 1
                raise ValueError(f'parse error on line 1, column {column}: bare " in non-quoted field')
            fields.append(field)
            position += len(field)
        if position >= len(text):
            return fields
        position += 1
