"""``expect``: what an image shall be, checked."""

from __future__ import annotations

from pathlib import Path

from dockermagic.errors import UsageError
from dockermagic.expect import FORMS, Check, Result, examine, read_checks
from dockermagic.verbs.base import Console, Shown, Verb
from dockermagic.verbs.options import Arguments

__all__ = ["EXPECT", "checks_of", "checks_of_file"]


def checks_of(text: str, name: str) -> tuple[Check, ...]:
    """Sentences, or a file of container-structure-test. Raises UsageError."""
    from dockermagic.expect.structure import is_structure, read_structure

    return read_structure(text, name) if is_structure(text) else read_checks(text)


def checks_of_file(path: Path) -> tuple[Check, ...]:
    """The checks of a file. Raises UsageError."""
    try:
        return checks_of(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {path}: {reason}") from None


def expect(console: Console, arguments: Arguments) -> int:
    """Try the checks of each file on the image; 1 where one of them fails."""
    image, *files = arguments.words
    checks: list[Check] = []
    for name in files:
        if name == "-":
            if console.stdin is None:
                raise UsageError("a cell has no standard input", hint="%%dockercheck takes the checks from the cell.")
            checks += checks_of(console.stdin.read().decode("utf-8", "replace"), "standard input")
        else:
            checks += checks_of_file(Path(name))
    result: Result = examine(console.engine, image, checks)
    console.show(Shown("expect", result, f"{result}\n"))
    return 0 if result.passed else 1


EXPECT = Verb(
    "expect",
    "IMAGE FILE [FILE...]",
    "Check that an image is as it shall be",
    expect,
    (),
    (2, None),
    more=(
        "FILE (- for standard input) holds sentences, one a line, or is one of container-structure-test, in YAML\n"
        "or JSON. The exit code is 1 where a check fails. The sentences:\n" + "\n".join(f"  {form}" for form in FORMS)
    ),
)
