"""Completion and help for the magics in any IPython: a matcher for its completer, a wrap of its kernel's answers.

Attaching them imports nothing; the completer comes when somebody first asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core import completer as ipython

if TYPE_CHECKING:
    from dockermagic.notebook.completer import Completion
    from dockermagic.notebook.cursor import Cursor
    from dockermagic.notebook.inspector import Help
    from dockermagic.notebook.magics import DockerMagics
    from dockermagic.notebook.surroundings import Surroundings

__all__ = ["attach", "complete_dockerfile", "completion_reply", "help_dockerfile", "help_word", "inspection_reply"]

CELL = "%%dockerfile"
TYPES = "_jupyter_types_experimental"
context_matcher: Callable[..., Callable[[Any], Any]] = ipython.context_matcher


def attach(magics: DockerMagics) -> None:
    """Give a shell's completer and its kernel what this package knows of Dockerfiles."""

    @context_matcher(identifier="dockermagic")
    def matcher(context: Any) -> dict[str, Any]:
        lines = context.full_text.split("\n")
        position = sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position
        found = _complete(magics, context.full_text, position)
        if found is None:
            return {"completions": [], "suppress": False}
        return {
            "completions": [ipython.SimpleCompletion(text=one.text, type=one.kind) for one in found.entries],
            "matched_fragment": context.full_text[found.start : position],
            "suppress": True,
            "ordered": True,
        }

    completer: Any = magics.shell.Completer
    completer.custom_matchers.append(matcher)
    kernel: Any = getattr(magics.shell, "kernel", None)
    if kernel is not None:
        _wrap(magics, kernel)


def completion_reply(found: Completion, cursor: int) -> dict[str, Any]:
    """What a kernel answers, with the kinds that JupyterLab shows."""
    span = {"start": found.start, "end": cursor}
    return {
        "status": "ok",
        "matches": [one.text for one in found.entries],
        "cursor_start": found.start,
        "cursor_end": cursor,
        "metadata": {TYPES: [{**span, "text": one.text, "type": one.kind} for one in found.entries]},
    }


def inspection_reply(found: Help | None) -> dict[str, Any]:
    """What a kernel answers."""
    return {"status": "ok", "found": found is not None, "data": found.bundle() if found else {}, "metadata": {}}


def _complete(magics: DockerMagics, text: str, position: int) -> Completion | None:
    """Completions in a ``%%dockerfile`` cell or on a line of our magics; None where IPython knows better."""
    from dockermagic.notebook.magicwords import MAGIC_LINE, complete_line
    from dockermagic.notebook.surroundings import Surroundings

    begin = text.rfind("\n", 0, position) + 1
    body = body_of(text)
    if body and position >= body:
        return complete_dockerfile(magics, text, position, body)
    line = text[begin:position]
    match = MAGIC_LINE.match(line)
    if match is None:
        return None
    functions: dict[str, Any] = {
        CELL: magics.dockerfile_cell,
        "%%dockercheck": magics.dockercheck,
        "%dockerfile": magics.dockerfile_line,
    }
    parser = getattr(functions.get(match[1]), "parser", None)
    return _moved(complete_line(line, parser, magics.actions, Surroundings(magics.bench)), begin)


def complete_dockerfile(magics: DockerMagics, text: str, position: int, body: int) -> Completion:
    """Completions at ``position`` of a cell whose Dockerfile begins at ``body``."""
    from dockermagic.notebook.completer import complete

    return _moved(complete(*_place(magics, text[body:], position - body)), body)


def help_dockerfile(magics: DockerMagics, text: str, position: int, body: int) -> Help | None:
    """Help on the word at ``position`` of a cell whose Dockerfile begins at ``body``."""
    from dockermagic.notebook.inspector import help_at

    return help_at(*_place(magics, text[body:], position - body))


def _place(magics: DockerMagics, dockerfile: str, position: int) -> tuple[Cursor, Surroundings]:
    """The cursor in a cell's Dockerfile, which its session's first cell may have given another escape character."""
    from dockermagic.dockerfile.directives import find_directive
    from dockermagic.notebook.cursor import cursor_at
    from dockermagic.notebook.surroundings import Surroundings

    around = Surroundings(magics.bench)
    first = next(iter(around.session.chain.on), None) if around.session else None
    escape = find_directive(dockerfile, "escape") or find_directive(first.text if first else "", "escape")
    cursor = cursor_at(dockerfile, position, escape.value if escape else "\\")
    around.above = dockerfile[: cursor.begin]
    return cursor, around


def help_word(magics: DockerMagics, word: str) -> Help | None:
    """Help on a word by itself."""
    from dockermagic.notebook.inspector import help_on
    from dockermagic.notebook.surroundings import Surroundings

    return help_on(word, Surroundings(magics.bench))


def body_of(text: str) -> int:
    """Where the Dockerfile of a ``%%dockerfile`` cell begins; 0 for another cell."""
    blank = len(text) - len(text.lstrip())
    first, newline, _ = text[blank:].partition("\n")
    return blank + len(first) + 1 if newline and first.split(" ")[0].rstrip() == CELL else 0


def _moved(found: Completion, by: int) -> Completion:
    return type(found)(found.start + by, found.entries)


def _wrap(magics: DockerMagics, kernel: Any) -> None:
    """Answer Tab and Shift-Tab where ours stands; all else is the kernel's.

    IPython would ask its own matchers, too, where ours finds nothing: a Dockerfile has no use for Python's words.
    """
    import inspect

    complete, look = kernel.do_complete, kernel.do_inspect

    async def do_complete(code: str, cursor_pos: int | None) -> Any:
        cursor = len(code) if cursor_pos is None else cursor_pos
        if (found := _complete(magics, code, cursor)) is not None:
            return completion_reply(found, cursor)
        reply = complete(code, cursor)
        return await reply if inspect.isawaitable(reply) else reply

    async def do_inspect(code: str, cursor_pos: int, *words: Any, **options: Any) -> Any:
        body = body_of(code)
        if body and cursor_pos >= body:
            return inspection_reply(help_dockerfile(magics, code, cursor_pos, body))
        reply = look(code, cursor_pos, *words, **options)
        return await reply if inspect.isawaitable(reply) else reply

    kernel.do_complete, kernel.do_inspect = do_complete, do_inspect
