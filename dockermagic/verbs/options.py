"""Options as Docker's command line reads them: ``-it``, ``--rm=false``, ``-e A=1``, ``--`` ends them.

Docker's rules differ from argparse's where it matters to a user: every flag takes ``=true`` and ``=false``, options may
stand between the words, and for ``run`` they end with the first word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from dockermagic.errors import UsageError
from dockermagic.values import dataclass, field

__all__ = ["Arguments", "Option", "closest", "flag", "help_text", "many", "parse", "text", "unsupported"]

Kind = Literal["flag", "text", "many", "unsupported"]
TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``name`` without dashes, ``short`` one letter or '', ``value`` the help's word for its value.

    ``check`` gets each value and raises ValueError with the reason where it is not valid. ``hidden`` keeps it out of
    the help: it is taken for the sake of scripts and changes nothing.
    """

    name: str
    short: str
    kind: Kind
    help: str
    value: str = ""
    default: str = ""
    check: Callable[[str], object] | None = None
    hidden: bool = False


def flag(name: str, short: str = "", help: str = "", *, default: bool = False, hidden: bool = False) -> Option:
    """An option that is on or off."""
    return Option(name, short, "flag", help, "", "true" if default else "", None, hidden)


def text(
    name: str,
    short: str = "",
    help: str = "",
    *,
    value: str = "string",
    default: str = "",
    check: Callable[[str], object] | None = None,
    hidden: bool = False,
) -> Option:
    """An option with one value; given again, the last counts."""
    return Option(name, short, "text", help, value, default, check, hidden)


def many(
    name: str, short: str = "", help: str = "", *, value: str = "list", check: Callable[[str], object] | None = None
) -> Option:
    """An option that may be given several times."""
    return Option(name, short, "many", help, value, "", check)


def unsupported(name: str, short: str = "", reason: str = "") -> Option:
    """An option that Docker has and that is refused here, with the reason instead of 'unknown flag'."""
    return Option(name, short, "unsupported", reason, "", "", None, True)


@dataclass(slots=True)
class Arguments:
    """What was given: options by name, and the words beside them."""

    options: dict[str, Option]
    values: dict[str, list[str]] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def given(self, name: str) -> bool:
        """Whether the option stands on the command line at all."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """Whether the flag is on."""
        return self.text(name) in TRUE

    def text(self, name: str) -> str:
        """The option's last value, or its default."""
        return self.values[name][-1] if name in self.values else self.options[name].default

    def many(self, name: str) -> tuple[str, ...]:
        """All the option's values, in the order in which they were given."""
        return tuple(self.values.get(name, ()))


def closest(word: str, names: Iterable[str]) -> str:
    """The name that a mistyped word most likely means, or ''."""
    import difflib

    found = difflib.get_close_matches(word, list(names), 1, 0.6)
    return found[0] if found else ""


def _complaint(option: Option, value: str, reason: str) -> UsageError:
    shown = f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"
    return UsageError(f'invalid argument "{value}" for "{shown}" flag: {reason}')


def _refusal(option: Option) -> UsageError:
    return UsageError(f"--{option.name} is an option of Docker that dockermagic does not have: {option.help}")


def _take(option: Option, value: str, arguments: Arguments) -> None:
    if option.kind == "flag" and value not in TRUE and value not in FALSE:
        raise _complaint(option, value, "neither true nor false")
    if option.check is not None:
        try:
            option.check(value)
        except ValueError as error:
            raise _complaint(option, value, str(error)) from None
    arguments.values.setdefault(option.name, []).append(value)


def _long(word: str, rest: list[str], arguments: Arguments) -> None:
    name, equals, value = word[2:].partition("=")
    option = arguments.options.get(name)
    if option is None:
        guess = closest(name, (known.name for known in arguments.options.values() if not known.hidden))
        raise UsageError(f"unknown flag: --{name}" + (f" (did you mean --{guess}?)" if guess else ""))
    if option.kind == "unsupported":
        raise _refusal(option)
    if not equals:
        if option.kind == "flag":
            value = "true"
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _take(option, value, arguments)


def _short(word: str, rest: list[str], arguments: Arguments) -> None:
    letters = {option.short: option for option in arguments.options.values() if option.short}
    position = 1
    while position < len(word):
        letter, tail = word[position], word[position + 1 :]
        option = letters.get(letter)
        if option is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if option.kind == "unsupported":
            raise _refusal(option)
        if option.kind == "flag":
            if tail.startswith("="):
                _take(option, tail[1:], arguments)
                return
            _take(option, "true", arguments)
            position += 1
            continue
        if tail:
            value = tail[1:] if tail.startswith("=") else tail
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}")
        _take(option, value, arguments)
        return


def parse(options: Sequence[Option], words: Sequence[str], *, interspersed: bool = True) -> Arguments:
    """The words of a command line as :class:`Arguments`; raises UsageError with 125, as Docker has it.

    ``interspersed`` allows options after the first word that is none.
    """
    try:
        return _parse(options, words, interspersed)
    except UsageError as error:
        error.exit_code = 125
        raise


def _parse(options: Sequence[Option], words: Sequence[str], interspersed: bool) -> Arguments:
    arguments = Arguments({option.name: option for option in options})
    rest, plain = list(words), list[str]()
    while rest:
        word = rest.pop(0)
        if word == "--":
            plain += rest
            break
        if word.startswith("--"):
            _long(word, rest, arguments)
        elif word.startswith("-") and len(word) > 1:
            _short(word, rest, arguments)
        else:
            plain.append(word)
            if not interspersed:
                plain += rest
                break
    arguments.words = tuple(plain)
    return arguments


def help_text(options: Sequence[Option], width: int = 80) -> str:
    """The list of options, aligned as Docker's help is."""
    import textwrap

    rows = []
    for option in sorted(options, key=lambda one: one.name):
        if not option.hidden:
            left = f"  -{option.short}, " if option.short else "      "
            left += f"--{option.name}" + (f" {option.value}" if option.value else "")
            default = "" if not option.default else f" (default {option.default})"
            rows.append((left, (option.help + default).strip()))
    indent = max((len(left) for left, _ in rows), default=0) + 3
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(width - indent, 30)) or [""]
        lines.append(f"{left:<{indent}}{wrapped[0]}".rstrip())
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join(lines)
