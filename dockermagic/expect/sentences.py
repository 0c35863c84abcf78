"""The sentences of a check: one a line, a hint below it.

::

    has file /app/main.py
        Hint: COPY main.py brings it in.
    command "python main.py --version" prints "2.0.0"
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from dockermagic.errors import Place, UsageError
from dockermagic.expect import checks
from dockermagic.expect.checks import Check, Test
from dockermagic.values import replace

__all__ = ["FORMS", "read_checks"]

# Each form: words as they stand, and {places} for one word each, quoted where it has blanks. The dots take the rest of
# the line.
FORMS: dict[str, Callable[..., Test]] = {
    "has file {path}": lambda path: checks.has(path, "file"),
    "has directory {path}": lambda path: checks.has(path, "directory"),
    "has no {path}": checks.lacks,
    "file {path} contains {text...}": checks.contains,
    "exposes {port}": checks.exposes,
    "runs as non-root": lambda: checks.runs_as_non_root,
    "runs as {user}": checks.runs_as,
    "env {name}": lambda name: checks.sets(*_pair(name)),
    "label {name}": lambda name: checks.has_label(*_pair(name)),
    "workdir {path}": checks.works_in,
    "volume {path}": checks.declares_volume,
    "healthcheck": lambda: checks.has_healthcheck,
    "entrypoint {words...}": lambda words: checks.starts("Entrypoint", words),
    "cmd {words...}": lambda words: checks.starts("Cmd", words),
    "RUN layers <= {number}": lambda number: checks.run_layers(checks.whole(number)),
    "RUN layers on {base} <= {number}": lambda base, number: checks.run_layers(checks.whole(number), base),
    "layers <= {number}": lambda number: checks.layers(checks.whole(number)),
    "layers on {base} <= {number}": lambda base, number: checks.layers(checks.whole(number), base),
    "size < {size}": checks.smaller,
    "prints {text...}": checks.prints,
    "command {command} prints {text...}": lambda command, text: checks.prints(text, command),
    "command {command} exits {number}": lambda command, number: checks.exits(checks.whole(number), command),
}

_HINT = re.compile(r"\s+hint:\s*(?P<text>.*)", re.IGNORECASE)


def _pair(word: str) -> tuple[str, str | None]:
    """``NAME`` or ``NAME=value``."""
    name, equals, value = word.partition("=")
    return name, value if equals else None


def read_checks(text: str) -> tuple[Check, ...]:
    """The checks of a text. Lines with ``#`` before them are left out. Raises UsageError with the line."""
    found: list[Check] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _HINT.fullmatch(line):
            if not found:
                raise UsageError("a hint stands below the sentence that it belongs to", place=Place(number, text=line))
            found[-1] = replace(found[-1], hint=match["text"].strip())
            continue
        try:
            found.append(Check(line.strip(), _test(line)))
        except UsageError as error:
            error.place = Place(number, text=line)
            raise
    return tuple(found)


def _test(line: str) -> Test:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read this line: {error}") from None
    for form, make in FORMS.items():
        values = _match(form.split(), words)
        if values is not None:
            return make(*values)
    known = "\n".join(f"  {form}" for form in FORMS)
    raise UsageError("no sentence that a check knows", hint=f"There is:\n{known}")


def _match(form: list[str], words: list[str]) -> list[str] | None:
    """The values in the places of a form, None where the words are of another."""
    values: list[str] = []
    for position, part in enumerate(form):
        if part.endswith("...}") and position < len(words):
            rest = words[position:]
            return [*values, shlex.join(rest) if part == "{words...}" else " ".join(rest)]
        if position >= len(words):
            return None
        if part.startswith("{"):
            values.append(words[position])
        elif part.lower() != words[position].lower():
            return None
    return values if len(words) == len(form) else None
