"""Dockerfile text as markup: the instruction's name, flags, variables and comments stand out, quietly."""

from __future__ import annotations

import re

from dockermagic.notebook.markup import Html, el, esc, join
from dockermagic.view import METADATA

__all__ = ["instruction", "line"]

_PARTS = re.compile(
    r"(?P<flag>(?<=\s)--[a-z][\w-]*(?==|\s|$))|(?P<variable>\$\{[^}\s]*\}|\$\w+)|(?P<as>(?<=\s)(?i:as)(?=\s+\S+\s*$))"
)
KEYWORDS = METADATA | {"ADD", "COPY", "FROM", "RUN", "WORKDIR"}
_FIRST = re.compile(r"(\s*)([A-Za-z]+)(?=\s|$)")


def instruction(text: str) -> Html:
    """An instruction as it was written, over as many lines as it has."""
    first = _FIRST.match(text)
    if not first or first[2].upper() not in KEYWORDS:
        return esc(text)
    lines = text[first.end() :].rstrip("\n").split("\n")
    shown = [
        _comment(one) if index and one.lstrip().startswith("#") else _words(one) for index, one in enumerate(lines)
    ]
    return join([first[1], _keyword(first[2]), join(shown, "\n")])


def line(text: str, *, starts: bool) -> Html:
    """One line of a Dockerfile; ``starts`` says whether an instruction begins here."""
    if text.lstrip().startswith("#"):
        return _comment(text)
    return instruction(text) if starts else _words(text)


def _keyword(word: str) -> Html:
    return el("strong", word, style="color:@key;font-weight:600")


def _comment(text: str) -> Html:
    return el("em", text, style="color:@soft")


def _words(text: str) -> Html:
    out, position = [], 0
    for match in _PARTS.finditer(text):
        style = {"flag": "color:@soft", "variable": "color:@run", "as": "color:@key;font-weight:600"}[
            match.lastgroup or ""
        ]
        out += [esc(text[position : match.start()]), el("span", match[0], style=style)]
        position = match.end()
    return join([*out, text[position:]])
