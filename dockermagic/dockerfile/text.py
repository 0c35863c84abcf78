"""Places in a text, and the words of the Dockerfile language.

White space is what Go's ``unicode.IsSpace`` takes for it, which is not what ``str.isspace`` does.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from dockermagic.values import dataclass

__all__ = [
    "NOWHERE",
    "SPACE",
    "Range",
    "Segment",
    "between",
    "flag_words",
    "list_words",
    "quote",
    "quoted_words",
    "string_array",
    "string_array_spans",
]

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Range:
    """A piece of the source: lines are 1-based, columns 0-based characters, ``end_column`` is exclusive."""

    start_line: int
    start_column: int
    end_line: int
    end_column: int


NOWHERE = Range(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Segment:
    """From ``offset`` on, a logical line's characters come from ``line``, beginning at ``column``."""

    offset: int
    line: int
    column: int


def between(segments: tuple[Segment, ...], span: Span) -> Range:
    """Where the characters ``span`` of a logical line stand in the source."""
    if not segments:
        return NOWHERE
    start, end = span
    first = segments[max(0, bisect_right(segments, start, key=_offset) - 1)]
    last = segments[max(0, bisect_right(segments, max(start, end - 1), key=_offset) - 1)]
    return Range(first.line, first.column + start - first.offset, last.line, last.column + end - last.offset)


def _offset(segment: Segment) -> int:
    return segment.offset


# ---- words that are separated by blanks only -----------------------------------------------------------------------

_LIST_WORD = re.compile(r"[^\t\v\f\r ]+")


def list_words(text: str, start: int = 0) -> list[Span]:
    """The words of ADD, COPY, EXPOSE, FROM and VOLUME: quotes mean nothing here."""
    return [match.span() for match in _LIST_WORD.finditer(text, start)]


# ---- words with quotes and escapes, kept as written ----------------------------------------------------------------


def _quoted_word(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(rf"""(?:{e}[\s\S]|'[^']*+'?|"(?:[^"{e}]|{e}[\s\S])*"?|[^'"{e}{SPACE}])+|{e}\Z""")


_QUOTED_WORD = {escape: _quoted_word(escape) for escape in ("\\", "`")}


def quoted_words(text: str, escape: str, start: int = 0) -> list[Span]:
    """The words of ARG, ENV and LABEL. An escape as the very last character does not belong to a word."""
    spans = []
    for match in _QUOTED_WORD[escape].finditer(text, start):
        if match.group() != escape or match.end() != len(text):
            spans.append(match.span())
    return spans


# ---- flags ---------------------------------------------------------------------------------------------------------

_FLAG = re.compile(
    rf"""(?:\\[\s\S]|'(?:[^'\\]|\\[\s\S])*(?:'|\\?\Z)|"(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z)|[^'"\\{SPACE}]|\\\Z)+"""
)
_FLAG_PIECE = re.compile(r"\\([\s\S]?)|(['\"])")
_BLANKS = re.compile(f"[{SPACE}]*")


def _unquote_flag(word: str) -> str:
    if "\\" not in word and "'" not in word and '"' not in word:
        return word
    pieces, quote_character, position = [], "", 0
    for match in _FLAG_PIECE.finditer(word):
        mark = match[2]
        if mark and quote_character and mark != quote_character:
            continue
        pieces.append(word[position : match.start()])
        position = match.end()
        if mark:
            quote_character = "" if quote_character else mark
        else:
            pieces.append(match[1])
    pieces.append(word[position:])
    return "".join(pieces)


def flag_words(text: str, start: int = 0) -> tuple[list[tuple[str, Span]], int]:
    """The words that begin with ``--``, unquoted, and where the rest begins. A lone ``--`` ends them and is dropped."""
    flags: list[tuple[str, Span]] = []
    position = start
    while True:
        position = _BLANKS.match(text, position).end()  # type: ignore[union-attr]  # it fits anything
        if not text.startswith("--", position):
            return flags, position
        match = _FLAG.match(text, position)
        assert match is not None
        word = _unquote_flag(match.group())
        if word == "--":
            return flags, match.end()
        flags.append((word, match.span()))
        position = match.end()


# ---- JSON arrays of strings ----------------------------------------------------------------------------------------

# No possessive groups: Debian 12's Python, 3.11.2, matches them wrongly. These match in one way only: they are linear.
_PLAIN = r'[^"\\\x00-\x1f]*'
_JSON_STRING = rf'"{_PLAIN}(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{{4}}){_PLAIN})*"'
_STRING_ARRAY = re.compile(
    rf"[{SPACE}]*\[[ \t\r\n]*(?:{_JSON_STRING}[ \t\r\n]*(?:,[ \t\r\n]*{_JSON_STRING}[ \t\r\n]*)*)?\][ \t\r\n]*\Z"
)
_STRING = re.compile(_JSON_STRING)
_JSON_ESCAPE = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")
_JSON_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_JSON_TOKEN = re.compile(
    rf"[ \t\r\n]*+(?:({_JSON_STRING})|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)"
    r"|(true|false|null)|([\[\]{},:]))"
)
_MAX_JSON_DEPTH = 10_000


def _unescape(match: re.Match[str]) -> str:
    high, low, code, simple = match.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
    if code:
        number = int(code, 16)
        return "\ufffd" if 0xD800 <= number < 0xE000 else chr(number)
    return _JSON_SIMPLE.get(simple, simple)


def string_array(text: str, start: int = 0) -> list[str] | None:
    """The strings of a JSON array that is the whole rest of the text.

    None when the rest is no JSON array at all. Raises ValueError when it is one that holds something else than strings.
    """
    if not _STRING_ARRAY.match(text, start):
        if _is_json_array(text, start):
            raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
        return None
    words = []
    for match in _STRING.finditer(text, start):
        word = match.group()[1:-1]
        words.append(_JSON_ESCAPE.sub(_unescape, word) if "\\" in word else word)
    return words


def string_array_spans(text: str, start: int = 0) -> list[Span]:
    """Where the strings of such an array stand, quotes included."""
    return [match.span() for match in _STRING.finditer(text, start)]


def _is_json_array(text: str, start: int) -> bool:
    """Whether the rest is a valid JSON array, of anything. Iterative, so that depth does not matter."""
    position = _BLANKS.match(text, start).end()  # type: ignore[union-attr]  # it fits anything
    if not text.startswith("[", position):
        return False
    stack: list[str] = []
    expect = "value"
    while True:
        match = _JSON_TOKEN.match(text, position)
        if not match:
            return not stack and expect == "end" and not text[position:].strip(" \t\r\n")
        position = match.end()
        string, number, word, mark = match.groups()
        scalar = string is not None or number is not None or word is not None
        if number is not None and float(number) in (float("inf"), float("-inf")):
            return False
        if expect in ("value", "value or ]") and scalar:
            expect = "more"
        elif expect in ("value", "value or ]") and mark in ("[", "{"):
            stack.append(mark)
            expect = "value or ]" if mark == "[" else "key or }"
            if len(stack) > _MAX_JSON_DEPTH:
                return False
        elif expect in ("key", "key or }") and string is not None:
            expect = ":"
        elif expect == ":" and mark == ":":
            expect = "value"
        elif expect == "more" and mark == ",":
            expect = "value" if stack[-1] == "[" else "key"
        elif (mark == "]" and expect in ("more", "value or ]") and stack[-1] == "[") or (
            mark == "}" and expect in ("more", "key or }") and stack[-1] == "{"
        ):
            stack.pop()
            expect = "more" if stack else "end"
        else:
            return False


# ---- Go's %q -------------------------------------------------------------------------------------------------------

_QUOTED = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """The text in double quotes, escaped as Go's ``strconv.Quote`` does; BuildKit's messages are written so."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_quote_character(character) for character in text) + '"'


def _quote_character(character: str) -> str:
    known = _QUOTED.get(character)
    if known or character.isprintable():
        return known or character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
