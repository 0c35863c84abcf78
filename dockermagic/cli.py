"""The terminal: ``dockermagic VERB ...`` with Docker's verbs, which are in ``verbs/``; only what is used is imported.

Exit codes: the verb's own, 2 for wrong words, 130 after Ctrl-C, 143 after SIGTERM, 141 where the reader of a pipe is
gone.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

from dockermagic.errors import BuildInterruptedError, DockermagicError, UsageError, explained

if TYPE_CHECKING:
    from dockermagic.engine import Engine
    from dockermagic.events import Emit
    from dockermagic.verbs.base import Shown

__all__ = ["Terminal", "main"]

PROGRAM = "dockermagic"


class Terminal:
    """A verb's console on the standard streams of this process. Close it to close the engine."""

    program = PROGRAM

    def __init__(self) -> None:
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            from dockermagic.engine import Engine

            self._engine = Engine()
        return self._engine

    def close(self) -> None:
        """Close the engine, if one was opened."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def width(self) -> int:
        if not self.stdout_is_terminal:
            return 0
        try:
            return os.get_terminal_size(1).columns
        except OSError:
            return 80

    @property
    def stdin(self) -> BinaryIO | None:
        return sys.stdin.buffer if sys.stdin is not None else None

    @property
    def stdin_is_terminal(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty()

    @property
    def stdout_is_terminal(self) -> bool:
        return sys.stdout.isatty()

    def stdout(self) -> BinaryIO:
        sys.stdout.flush()
        return sys.stdout.buffer

    def ask(self, question: str, *, secret: bool = False) -> str:
        if secret and self.stdin_is_terminal:
            from getpass import getpass

            with suppress(EOFError):
                return getpass(question)
            return ""
        answer = ""
        if sys.stdin is not None and not secret:
            sys.stderr.write(question)
            sys.stderr.flush()
            answer = sys.stdin.readline()
        if not answer and not self.stdin_is_terminal:
            raise UsageError(f"nobody can be asked here: {question.strip()}", hint="Standard input is no terminal.")
        return answer.rstrip("\n")

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    @property
    def beside(self) -> TextIO:
        sys.stdout.flush()
        return sys.stderr

    def note(self, text: str) -> None:
        self.beside.write(f"{text}\n")

    def output(self, stream: int, data: bytes) -> None:
        target = sys.stdout if stream == 1 else sys.stderr
        target.flush()
        target.buffer.write(data)
        target.buffer.flush()

    def show(self, answer: Shown) -> None:
        self.write(answer.text)

    def progress(self, mode: str, name: str = "") -> AbstractContextManager[Emit]:
        from dockermagic.terminal import printer

        return printer(mode, sys.stderr)


class _Termination:
    """SIGTERM, handled as Ctrl-C is: everything that was started ends, then this process, with SIGTERM's exit code."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: object) -> None:
        self.came = True
        raise KeyboardInterrupt


def _report(error: DockermagicError) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _quiet(sys.stdout)
    sys.stderr.write(f"ERROR: {error.render()}\n")
    return error.exit_code


def _quiet(*streams: TextIO) -> None:
    """Point streams away, so that the interpreter's last flush does not complain about what cannot be written."""
    void = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        try:
            os.dup2(void, stream.fileno())
        except (OSError, ValueError):
            pass


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line (without the program's name; that of this process by default) and return the exit code."""
    import signal

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace", line_buffering=True)  # a pipe's reader is told in time, too
    termination = _Termination()
    shown, warnings.formatwarning = warnings.formatwarning, lambda message, *_: f"WARNING: {message}\n"
    before = signal.signal(signal.SIGTERM, termination)
    try:
        code = _run(sys.argv[1:] if words is None else words)
    except KeyboardInterrupt:
        code = _report(BuildInterruptedError("interrupted"))
    except BrokenPipeError:
        _quiet(sys.stdout, sys.stderr)
        return 141
    finally:
        signal.signal(signal.SIGTERM, before)
        warnings.formatwarning = shown
    return 128 + signal.SIGTERM if termination.came else code


def _run(words: Sequence[str]) -> int:
    from dockermagic.verbs import run

    console = Terminal()
    try:
        try:
            code = run(words, console)
        except DockermagicError as error:
            code = _report(error)
        finally:
            console.close()
        sys.stdout.flush()
        return code
    except DockermagicError as error:  # of the end itself
        return _report(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(explained(error))
