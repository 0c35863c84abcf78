"""Word expansion: ``$name``, ``${name:-word}`` and its relatives, quotes and escapes.

What BuildKit's shell lexer does, which is less than a shell: no splitting unless asked for, no globs, no commands.
Every error is a :class:`DockerfileSyntaxError` whose message begins with ``failed to process``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.pattern import compile_pattern
from dockermagic.dockerfile.text import SPACE, quote
from dockermagic.errors import DockerfileSyntaxError

__all__ = ["expand", "expand_text", "expand_with_matches", "expand_words", "raw_words", "unquoted_words"]

_SPECIAL = re.compile(r"[$'\"\\`]")
_NAME = re.compile(r"[0-9]+|[@*#?\-$!]|[^\W\d]\w*|_\w*")
_HEREDOC_MARK = re.compile(r"\d*<<-?\Z")
_MAX_DEPTH = 150
_SPACES = frozenset(SPACE)


class _Failure(Exception):
    """Why a word cannot be expanded; becomes a DockerfileSyntaxError that names the whole word."""


class _Words:
    """Collects words: characters end a word at white space, raw text never does."""

    def __init__(self, join_heredoc_marks: bool = False) -> None:
        self.words: list[str] = []
        self.pieces: list[str] = []
        self.join = join_heredoc_marks

    def add(self, text: str) -> None:
        if _SPACES.isdisjoint(text):
            if text:
                self.pieces.append(text)
            return
        start = 0
        for match in _BLANK.finditer(text):
            if match.start() > start:
                self.pieces.append(text[start : match.start()])
            if self.join and self.pieces and _HEREDOC_MARK.match("".join(self.pieces)):
                self.pieces.append(match.group())
            else:
                self.end()
            start = match.end()
        if start < len(text):
            self.pieces.append(text[start:])

    def add_raw(self, text: str) -> None:
        if text:
            self.pieces.append(text)

    def end(self) -> None:
        if self.pieces:
            self.words.append("".join(self.pieces))
            self.pieces = []


_BLANK = re.compile(f"[{SPACE}]+")


class _Expander:
    """One pass over one word."""

    __slots__ = (
        "depth", "env", "escape", "keep_unset", "matched", "position", "quotes", "raw_escapes", "raw_quotes",
        "text", "unmatched", "words",
    )  # fmt: skip

    def __init__(self, text: str, env: Mapping[str, str], escape: str) -> None:
        self.text = text
        self.env = env
        self.escape = escape
        self.position = 0
        self.depth = 0
        self.quotes = True  # quotes are special
        self.raw_quotes = False  # they stay in the result
        self.raw_escapes = False
        self.keep_unset = False  # $name of an unset variable stays as written
        self.words: _Words | None = None
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def run(self) -> str:
        try:
            return self.until("", self.raw_escapes, self.words)
        except _Failure as failure:
            message = f"failed to process {quote(self.text)}: {failure}"
            raise DockerfileSyntaxError(message, hint=hint_for(message)) from None

    def until(self, stop: str, raw_escapes: bool, words: _Words | None = None) -> str:
        """Expand as far as the unquoted character ``stop``, which is consumed; '' is the end of the text."""
        text, escape, size = self.text, self.escape, len(self.text)
        plain = _plain(escape, stop, self.quotes)
        result: list[str] = []
        outer, self.raw_escapes = self.raw_escapes, raw_escapes
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Failure("substitutions are nested too deeply")
        while self.position < size:
            match = plain.match(text, self.position)
            if match:
                self.position = match.end()
                result.append(match.group())
                if words:
                    words.add(match.group())
                continue
            character = text[self.position]
            if character == stop:
                self.position += 1
                self.depth -= 1
                self.raw_escapes = outer
                return "".join(result)
            if character == "$":
                piece = self.dollar()
                if words:
                    words.add(piece)
            elif character == escape:
                piece = text[self.position + 1 : self.position + 2]
                self.position += 2
                if raw_escapes:
                    piece = escape + piece
                if words:
                    words.add_raw(piece)
            else:
                piece = self.single() if character == "'" else self.double()
                if words:
                    words.add_raw(piece)
            result.append(piece)
        self.raw_escapes = outer
        if stop:
            raise _Failure("")
        if words:
            words.end()
        return "".join(result)

    def closing(self, stop: str, raw_escapes: bool) -> str:
        """As :meth:`until`; whatever went wrong at the end of the text is the missing ``stop``."""
        try:
            return self.until(stop, raw_escapes)
        except _Failure:
            if self.position < len(self.text):
                raise
            raise _Failure(f"syntax error: missing '{stop}'" + (" in ${}" if stop == "/" else "")) from None

    def single(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            self.position = len(self.text)
            raise _Failure("unexpected end of statement while looking for matching single-quote")
        start, self.position = self.position, end + 1
        return self.text[start : end + 1] if self.raw_quotes else self.text[start + 1 : end]

    def double(self) -> str:
        text, escape, size = self.text, self.escape, len(self.text)
        result = ['"'] if self.raw_quotes else []
        inside = _inside_double(escape)
        self.position += 1
        while self.position < size:
            match = inside.match(text, self.position)
            if match:
                self.position = match.end()
                result.append(match.group())
                continue
            character = text[self.position]
            if character == '"':
                self.position += 1
                if self.raw_quotes:
                    result.append('"')
                return "".join(result)
            if character == "$":
                result.append(self.dollar())
                continue
            following = text[self.position + 1 : self.position + 2]
            if following and following in ('"', "$", escape):
                result.append(escape + following if self.raw_escapes else following)
                self.position += 2
            else:
                if following or self.raw_escapes:
                    result.append(escape)
                self.position += 1
        raise _Failure("unexpected end of statement while looking for matching double-quote")

    def name(self) -> str:
        match = _NAME.match(self.text, self.position)
        if not match:
            return ""
        self.position = match.end()
        return match.group()

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def dollar(self) -> str:
        text = self.text
        self.position += 1
        if not text.startswith("{", self.position):
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return ("$" + name if self.keep_unset else "") if value is None else value
        self.position += 1
        following = text[self.position : self.position + 1]
        if not following:
            raise _Failure("syntax error: missing '}'")
        if following in "{}:":
            raise _Failure("syntax error: bad substitution")
        name = self.name()
        modifier = text[self.position : self.position + 1]
        self.position += 1
        if modifier == "}":
            value = self.lookup(name)
            return (f"${{{name}}}" if self.keep_unset else "") if value is None else value
        if modifier == ":":
            modifier = text[self.position - 1 : self.position + 1]
            self.position += 1
        if modifier in _WITH_WORD:
            return self.substitute(name, modifier)
        if modifier == "/":
            return self.replace(name)
        if modifier in ("", ":"):
            raise _Failure("syntax error: missing '}'")
        raise _Failure(f"unsupported modifier ({modifier}) in substitution")

    def substitute(self, name: str, modifier: str) -> str:
        word = self.closing("}", modifier in "#%")
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}{modifier}{word}}}"
        empty = value is None or (modifier[0] == ":" and not value)
        operator = modifier[-1]
        if operator == "-":
            return word if empty else value or ""
        if operator == "+":
            return "" if empty else word
        if operator == "?":
            if empty:
                raise _Failure(f"{name}: {word or 'is not allowed to be ' + ('unset' if value is None else 'empty')}")
            return value or ""
        longest = word.startswith(operator)
        try:
            pattern = compile_pattern(word[longest:])
        except ValueError as error:
            raise _Failure(str(error)) from None
        remove = pattern.without_prefix if operator == "#" else pattern.without_suffix
        return remove(value or "", longest=longest)

    def replace(self, name: str) -> str:
        every = self.text.startswith("/", self.position)
        self.position += every
        found = self.closing("/", True)
        replacement = self.closing("}", True)
        value = self.lookup(name)
        if value is None:
            return f"${{{name}/{found}/{replacement}}}" if self.keep_unset else ""
        try:
            return compile_pattern(found).replace(value, replacement, every=every)
        except ValueError as error:
            raise _Failure(str(error)) from None


_WITH_WORD = frozenset({"-", "+", "?", "#", "%", ":-", ":+", ":?"})
_PLAIN: dict[tuple[str, str, bool], re.Pattern[str]] = {}
_INSIDE = {escape: re.compile(rf'[^"${re.escape(escape)}]+') for escape in ("\\", "`")}


def _plain(escape: str, stop: str, quotes: bool) -> re.Pattern[str]:
    key = escape, stop, quotes
    found = _PLAIN.get(key)
    if not found:
        found = _PLAIN[key] = re.compile("[^$" + re.escape(escape + stop) + ("'\"" if quotes else "") + "]+")
    return found


def _inside_double(escape: str) -> re.Pattern[str]:
    return _INSIDE[escape]


def expand(
    word: str, env: Mapping[str, str], escape: str = "\\", *, keep_unset: bool = False, keep_quotes: bool = False
) -> str:
    """The word with its variables replaced, its quotes and escapes removed.

    An unset variable is empty; with ``keep_unset`` it stays as written, as quotes do with ``keep_quotes``.
    """
    if not _SPECIAL.search(word):
        return word
    expander = _Expander(word, env, escape)
    expander.keep_unset = keep_unset
    expander.raw_quotes = keep_quotes
    return expander.run()


def expand_with_matches(word: str, env: Mapping[str, str], escape: str = "\\") -> tuple[str, set[str], set[str]]:
    """The expanded word, the names of variables that were found, and of those that were not."""
    if not _SPECIAL.search(word):
        return word, set(), set()
    expander = _Expander(word, env, escape)
    return expander.run(), expander.matched, expander.unmatched


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """The words that the text expands to: unquoted white space separates, that of a variable's value, too."""
    expander = _Expander(word, env, escape)
    expander.words = _Words()
    expander.run()
    return expander.words.words


def expand_text(text: str, env: Mapping[str, str]) -> tuple[str, set[str]]:
    r"""The body of a heredoc that COPY or ADD writes to a file, and the names of unset variables in it.

    Quotes are text, ``\`` is the escape whatever the file's own is.
    """
    if "$" not in text and "\\" not in text:
        return text, set()
    expander = _Expander(text, env, "\\")
    expander.quotes = False
    return expander.run(), expander.unmatched


def raw_words(text: str) -> list[str]:
    """The words of a shell line with quotes, escapes and variables kept as written.

    ``<<`` and ``<<-`` hold on to the word after them. Raises DockerfileSyntaxError for an unfinished quote.
    """
    expander = _Expander(text, {}, "\\")
    expander.raw_quotes = expander.raw_escapes = expander.keep_unset = True
    expander.words = _Words(join_heredoc_marks=True)
    expander.run()
    return expander.words.words


def unquoted_words(text: str) -> list[str]:
    """The words of a text with quotes and escapes removed, variables kept as written."""
    expander = _Expander(text, {}, "\\")
    expander.keep_unset = True
    expander.words = _Words()
    expander.run()
    return expander.words.words
