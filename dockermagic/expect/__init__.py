"""Checks for teaching: what an image shall be, said in sentences; a wrong answer is a friendly line with a hint.

::

    from dockermagic.expect import expect

    result = expect("my-app", "has file /app/main.py", "exposes 8000", "runs as non-root")
    assert result.passed, result

A cell does the same with ``%%dockercheck my-app``, one sentence a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dockermagic.expect.checks import Check, Outcome, Result
from dockermagic.expect.sentences import FORMS, read_checks

if TYPE_CHECKING:
    from dockermagic.engine import Engine

__all__ = ["FORMS", "Check", "Outcome", "Result", "examine", "expect", "read_checks"]


def examine(engine: Engine, image: str, checks: Sequence[Check]) -> Result:
    """Try every check on an image of the engine's store. Raises nothing for an image that is wrong or missing."""
    from dockermagic.expect.subject import Subject

    subject = Subject(engine, image)
    return Result(image, tuple(check.outcome(subject) for check in checks))


def expect(image: str, *sentences: str, engine: Engine | None = None) -> Result:
    """Try sentences of :data:`FORMS` on an image; raises UsageError for one that is none."""
    from dockermagic.engine import Engine

    checks = read_checks("\n".join(sentences))
    if engine is not None:
        return examine(engine, image, checks)
    with Engine() as own:
        return examine(own, image, checks)
