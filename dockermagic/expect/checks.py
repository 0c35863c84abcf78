"""What a check is, and the checks themselves: each looks at an image and says in words what is wrong with it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from dockermagic.errors import DockermagicError, UsageError
from dockermagic.tables import human_size
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.expect.subject import Subject

__all__ = [
    "Check",
    "Outcome",
    "Result",
    "Test",
    "contains",
    "declares_volume",
    "exits",
    "exposes",
    "has",
    "has_healthcheck",
    "has_label",
    "lacks",
    "layers",
    "prints",
    "run_layers",
    "runs_as",
    "runs_as_non_root",
    "sets",
    "smaller",
    "starts",
    "works_in",
]

Test = Callable[["Subject"], str]
"""Looks at an image; says what is wrong, or '' where all is as it should be."""

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check that was tried: its ``text``, whether it passed, and where not, what was found and what may help."""

    text: str
    passed: bool
    found: str = ""
    hint: str = ""

    def __str__(self) -> str:
        if self.passed:
            return f"✓ {self.text}"
        return f"✗ {self.text}: {self.found}" + (f" Hint: {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Result:
    """All outcomes for one image."""

    image: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def share(self) -> float:
        """The part of the checks that passed, from 0 to 1."""
        return sum(outcome.passed for outcome in self.outcomes) / len(self.outcomes) if self.outcomes else 1.0

    @property
    def summary(self) -> str:
        """How many of the checks passed, as a sentence."""
        right, count = sum(outcome.passed for outcome in self.outcomes), len(self.outcomes)
        if self.passed:
            return f"{self.image}: all right, {right} of {count}."
        return f"{self.image}: {right} of {count} are right."

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {outcome}" for outcome in self.outcomes)])


@dataclass(frozen=True, slots=True)
class Check:
    """A test with the sentence that stands for it and, where it fails, a hint."""

    text: str
    test: Test
    hint: str = ""

    def outcome(self, subject: Subject) -> Outcome:
        """Try it. An image that is not there, or a container that cannot start, is an outcome like any other."""
        try:
            found = self.test(subject)
        except DockermagicError as error:
            found = f"{error.message.rstrip('.')}."
        return Outcome(self.text, not found, found, self.hint)


def size_of(text: str) -> int:
    """``200MB`` in bytes, with Docker's decimal units. Raises UsageError."""
    match = re.fullmatch(r"([\d.]+)\s*([a-zA-Z]*)", text)
    if not match or match[2].lower() not in _UNITS:
        raise UsageError(f"{text!r} is not a size", hint="For example 200MB.")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def whole(text: str) -> int:
    """A number without a sign. Raises UsageError."""
    if not text.isdigit():
        raise UsageError(f"{text!r} is not a number")
    return int(text)


# ---- files ----------------------------------------------------------------------------------------------------------


def has(path: str, kind: str = "") -> Test:
    """A path of the image's tree; ``kind`` file or directory, '' for either."""

    def test(subject: Subject) -> str:
        entry = subject.entry(path)
        if entry is None:
            return f"there is no {path}."
        if kind and entry.kind != kind:
            return f"{path} is a {entry.kind}."
        return ""

    return test


def lacks(path: str) -> Test:
    """Nothing at a path."""
    return lambda subject: f"{path} is there." if subject.entry(path) is not None else ""


def contains(path: str, wanted: str) -> Test:
    """A file with a text in it."""

    def test(subject: Subject) -> str:
        if problem := has(path, "file")(subject):
            return problem
        return "" if wanted.encode() in subject.read(path) else f"{path} does not contain it."

    return test


# ---- notes of the image ---------------------------------------------------------------------------------------------


def exposes(port: str) -> Test:
    """A port that EXPOSE names, ``8000`` or ``53/udp``."""
    wanted = port if "/" in port else f"{port}/tcp"

    def test(subject: Subject) -> str:
        ports = sorted(subject.config.get("ExposedPorts") or {})
        return "" if wanted in ports else f"it exposes {', '.join(ports) or 'no port'}."

    return test


def runs_as_non_root(subject: Subject) -> str:
    """USER names somebody else than root."""
    user = str(subject.config.get("User") or "")
    return "it runs as root." if user.partition(":")[0] in ("", "root", "0") else ""


def runs_as(user: str) -> Test:
    """USER is this one."""

    def test(subject: Subject) -> str:
        found = subject.config.get("User") or "root"
        return "" if found == user else f"it runs as {found}."

    return test


def sets(name: str, value: str | None = None) -> Test:
    """ENV sets a variable, to this value where one is given."""

    def test(subject: Subject) -> str:
        found = dict(entry.partition("=")[::2] for entry in subject.config.get("Env") or ())
        if name not in found:
            return f"{name} is not set."
        return "" if value in (None, found[name]) else f"{name} is {found[name]!r}."

    return test


def has_label(name: str, value: str | None = None) -> Test:
    """LABEL gives a label, with this value where one is given."""

    def test(subject: Subject) -> str:
        found = subject.config.get("Labels") or {}
        if name not in found:
            return f"it has no label {name}."
        return "" if value in (None, found[name]) else f"{name} is {found[name]!r}."

    return test


def works_in(path: str) -> Test:
    """WORKDIR is this one."""

    def test(subject: Subject) -> str:
        found = subject.config.get("WorkingDir") or "/"
        return "" if found == path else f"its working directory is {found}."

    return test


def declares_volume(path: str) -> Test:
    """VOLUME names a directory."""

    def test(subject: Subject) -> str:
        found = sorted(subject.config.get("Volumes") or {})
        return "" if path in found else f"its volumes: {', '.join(found) or 'none'}."

    return test


def has_healthcheck(subject: Subject) -> str:
    """HEALTHCHECK gives a command."""
    test = (subject.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    return "it has none." if test == ["NONE"] else ""


def starts(part: str, words: str) -> Test:
    """ENTRYPOINT or CMD is these words."""
    wanted = shlex.split(words)

    def test(subject: Subject) -> str:
        found = list(subject.config.get(part) or ())
        return "" if found == wanted else f"it is {shlex.join(found)!r}." if found else "there is none."

    return test


# ---- layers ---------------------------------------------------------------------------------------------------------


def run_layers(most: int, base: str = "") -> Test:
    """At most so many layers made by RUN; those of an image below are not counted."""

    def test(subject: Subject) -> str:
        rows = subject.history(base)
        count = sum(row.created_by.startswith(("RUN ", "/bin/sh -c ")) and row.size is not None for row in rows)
        return "" if count <= most else f"there are {count}."

    return test


def layers(most: int, base: str = "") -> Test:
    """At most so many layers."""

    def test(subject: Subject) -> str:
        count = len(subject.layers) - (len(subject.of(base).layers) if base else 0)
        return "" if count <= most else f"there are {count}."

    return test


def smaller(text: str) -> Test:
    """The image's files take less than this."""
    limit = size_of(text)
    return lambda subject: "" if subject.size < limit else f"it has {human_size(subject.size)}."


# ---- what a container does ------------------------------------------------------------------------------------------


def prints(wanted: str, command: str = "") -> Test:
    """A container's output has a text in it; ``command`` is what stands behind the image in ``docker run``."""

    def test(subject: Subject) -> str:
        ran = subject.run(tuple(shlex.split(command)))
        shown = ran.output.decode("utf-8", "replace")
        if wanted in shown:
            return ""
        last = shown.strip().split("\n")[-1][:200]
        return f"it printed {last!r}." if last else f"it printed nothing and ended with exit code {ran.exit_code}."

    return test


def exits(code: int, command: str = "") -> Test:
    """A container's exit code."""

    def test(subject: Subject) -> str:
        ran = subject.run(tuple(shlex.split(command)))
        return "" if ran.exit_code == code else f"it ended with exit code {ran.exit_code}."

    return test
