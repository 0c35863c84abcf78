"""How the Dockerfile kernel reads a cell: plain text is Dockerfile, ``%``, ``!`` and ``?`` are IPython's.

Lines of IPython may stand above a Dockerfile in one cell; a cell that begins with ``%%`` is that magic's altogether.
``exit`` and ``quit`` by themselves leave a console, as everywhere.
"""

from __future__ import annotations

import re

from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.parser import parse_fragment
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass

__all__ = ["KernelCell", "asked_about", "is_complete", "read_cell"]

_QUESTION = re.compile(r"\s*(\?{0,2})\s*([^\s?%!]+?)\s*(\?{0,2})\s*")
_LEAVES = re.compile(r"\s*(exit|quit)\s*(\(\s*\))?\s*")
_END = "ARG end_of_cell"


@dataclass(frozen=True, slots=True)
class KernelCell:
    """A cell in two parts: lines for IPython, and the Dockerfile below them. Either may be empty."""

    ipython: str
    dockerfile: str


def read_cell(text: str) -> KernelCell:
    """The parts of a cell. ``%%python`` alone on the first line hands all below it to the kernel's own Python."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None or _LEAVES.fullmatch(text):
        return KernelCell(text, "")
    if lines[first].startswith("%%"):
        if lines[first].rstrip() in ("%%python", "%%python3"):
            lines[first] = ""
        return KernelCell("\n".join(lines), "")
    if asked_about(text):
        return KernelCell("", "")
    number = first
    while number < len(lines) and (not lines[number].strip() or lines[number].lstrip()[:1] in ("%", "!", "?")):
        while lines[number].endswith("\\") and number + 1 < len(lines):
            number += 1
        number += 1
    return KernelCell("\n".join(lines[:number]), "\n".join(lines[number:]))


def asked_about(text: str) -> str:
    """The word that somebody asks about: ``RUN?``, ``?--mount``; '' where the cell is no question.

    A Dockerfile has no instruction of one word, so nothing else can be meant.
    """
    found = _QUESTION.fullmatch(text)
    return found[2] if found and (found[1] or found[3]) else ""


def is_complete(dockerfile: str) -> str:
    """``complete``, ``incomplete`` where an instruction or a here-document goes on, or ``invalid``."""
    try:
        parsed = parse_fragment(f"{dockerfile}\n{_END}\n")
        if parsed.nodes[-1].original != _END:
            return "incomplete"
        for node in parsed.nodes:
            instruction(node)
    except DockerfileSyntaxError as error:
        return "incomplete" if "unterminated heredoc" in error.message else "invalid"
    return "complete"
