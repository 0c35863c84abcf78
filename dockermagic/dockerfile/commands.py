"""The commands in a RUN's text: enough of a shell's grammar to know which programs are started with which words.

Nothing is expanded or executed. What is too clever for this reader is read as plain words, never as an error.
"""

from __future__ import annotations

import re

from dockermagic.values import dataclass, replace

__all__ = ["ShellCommand", "shell_commands"]

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\f\v]+)
      | (?P<comment>(?<![^\s;&|(])\#[^\n]*)
      | (?P<redirect>[0-9]*(?:<<-?|>>|<&|>&|<>|>\||&>>|&>|<|>))
      | (?P<operator>\n|;;|&&|\|\||\|&|[;&|()])
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(r"""[^\s;&|()<>'"\\`$]+""")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_UNQUOTE = re.compile(r"""\\([\s\S])|'([^']*)'?|"((?:[^"\\]|\\[\s\S])*)"?""")
_BEFORE = frozenset(("!", "{", "if", "then", "elif", "else", "do", "while", "until"))
_AFTER = frozenset(("}", "fi", "done", "esac"))
_NO_COMMAND = frozenset(("case", "for", "function", "in", "select"))
_ENDS_WORD = frozenset(" \t\r\f\v\n;&|()<>")
_MAX_DEPTH = 5


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """``words`` are without quotes, the program first. ``start`` and ``end`` are offsets in the text.

    ``piped`` says that its output goes into the next command.
    """

    words: tuple[str, ...]
    start: int
    end: int
    piped: bool = False

    @property
    def program(self) -> str:
        """The name of the program, without its directory."""
        return self.words[0].rsplit("/", 1)[-1]

    @property
    def options(self) -> tuple[str, ...]:
        """The words that begin with a dash, those after a lone ``--`` excepted."""
        words = self.words[1:]
        end = words.index("--") if "--" in words else len(words)
        return tuple(word for word in words[:end] if word.startswith("-"))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The other words after the program."""
        return tuple(word for word in self.words[1:] if not word.startswith("-"))

    def has(self, *options: str) -> bool:
        """Whether one of the options is there; a single letter may stand among others, a value may follow a ``=``."""
        for word in self.options:
            name = word.partition("=")[0]
            if name in options:
                return True
            if not word.startswith("--") and any(len(o) == 2 and o[0] == "-" and o[1] in word[1:] for o in options):
                return True
        return False


def shell_commands(text: str) -> list[ShellCommand]:
    """Every command of the text, those in ``$(…)`` included, in the order in which they begin."""
    return sorted(_Reader(text, 0, 0).read(), key=lambda command: command.start)


class _Reader:
    """Reads one text, or the inside of one substitution, which stands at ``base``."""

    def __init__(self, text: str, base: int, depth: int) -> None:
        self.text = text
        self.base = base
        self.depth = depth
        self.found: list[ShellCommand] = []
        self.words: list[str] = []
        self.start = self.end = 0
        self.pipeline = 0  # where in found the present pipeline begins
        self.parentheses = 0
        self.skip = False  # the next word is a redirection's
        self.ignore = False  # up to the next operator there is no command: for x in a b
        self.group_ended = False

    def read(self) -> list[ShellCommand]:
        position, size = 0, len(self.text)
        while position < size:
            match = _TOKEN.match(self.text, position)
            if match is None:
                position = self.word(position)
                continue
            position = match.end()
            if match["redirect"]:
                self.skip = True
            elif match["operator"]:
                self.operator(match["operator"])
        self.command(False)
        return self.found

    def word(self, start: int) -> int:
        end, inner = _word_end(self.text, start)
        if self.depth < _MAX_DEPTH:
            for first, last in inner:
                if self.text[first] == "(":
                    continue  # arithmetic
                self.found += _Reader(self.text[first:last], self.base + first, self.depth + 1).read()
        word = self.text[start:end]
        if self.skip:
            self.skip = False
        elif not self.words and (word in _BEFORE or _ASSIGNMENT.match(word)):
            pass
        elif not self.words and word in _AFTER:
            self.group_ended = True
        elif not self.words and word in _NO_COMMAND:
            self.ignore = True
        elif not self.ignore:
            if not self.words:
                self.start = start
            self.end = end
            self.words.append(_unquote(word))
        return end

    def operator(self, operator: str) -> None:
        piped = operator in ("|", "|&")
        self.command(piped)
        if operator == "(":
            self.parentheses += 1
        elif operator == ")":
            if self.parentheses:
                self.parentheses -= 1
                self.group_ended = True
            else:  # the end of a pattern of case
                del self.found[self.pipeline :]
        if not piped:
            self.pipeline = len(self.found)
        self.skip = self.ignore = False

    def command(self, piped: bool) -> None:
        if self.words:
            words = tuple(self.words)
            self.found.append(ShellCommand(words, self.base + self.start, self.base + self.end, piped))
        elif piped and self.group_ended and self.found:
            self.found[-1] = replace(self.found[-1], piped=True)
        self.words = []
        self.group_ended = False


def _word_end(text: str, start: int) -> tuple[int, list[tuple[int, int]]]:
    """Where the word ends, and where the command substitutions in it stand."""
    closers: list[str] = []
    inner: list[tuple[int, int]] = []
    first, position, size = 0, start, len(text)
    while position < size:
        plain = _PLAIN.match(text, position)
        if plain:
            position = plain.end()
            continue
        character, top = text[position], closers[-1] if closers else ""
        step = 1
        if character == "\\":
            step = 2
        elif character == top:
            closers.pop()
            if top != '"' and not any(closer != '"' for closer in closers):
                inner.append((first, position))
        elif character == "$" and text.startswith("$(", position):
            step = 2
            first = first if any(closer != '"' for closer in closers) else position + 2
            closers.append(")")
        elif character == '"':
            closers.append(character)
        elif character == "`":
            first = first if any(closer != '"' for closer in closers) else position + 1
            closers.append(character)
        elif top == '"':
            pass
        elif character == "'":
            end = text.find("'", position + 1)
            step = (end if end >= 0 else size) - position + 1
        elif character == "(" and top == ")":
            closers.append(")")
        elif not closers and character in _ENDS_WORD:
            break
        position += step
    return max(min(position, size), start + 1), inner


def _unquote(word: str) -> str:
    if "\\" not in word and "'" not in word and '"' not in word:
        return word
    return _UNQUOTE.sub(lambda match: match[1] or match[2] or match[3] or "", word)
