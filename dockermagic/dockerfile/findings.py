"""What a linter found, as values, and which of it the file's own ``# check=`` comments let through."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dockermagic.dockerfile.directives import CheckOptions, parse_check, read_directive
from dockermagic.dockerfile.parser import Node
from dockermagic.dockerfile.rules import RULES, TEACHING, Level
from dockermagic.dockerfile.text import NOWHERE, Range
from dockermagic.errors import Place
from dockermagic.values import dataclass, field

__all__ = ["Diagnostic", "Findings", "phrase_range"]

_PATIENCE = 50_000
_HADOLINT = re.compile(r"hadolint\s+(?:global\s+)?ignore\s*=\s*([\w, ]*)")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    ``detail`` is the message, ``line`` its instruction's first line, ``description`` why the rule exists. ``range`` is
    what to underline, ``extent`` the whole instruction.
    """

    rule: str
    detail: str
    line: int
    url: str = ""
    description: str = ""
    range: Range = field(default=NOWHERE, compare=False)
    level: Level = "warning"
    extent: Range = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail} (line {self.line})"

    def place(self, lines: Sequence[str]) -> Place:
        """What is to be underlined, in the lines of the text: on its first line, where it goes over several."""
        where = self.range
        end = where.end_column if where.end_line == where.start_line else None
        return Place(where.start_line, where.start_column, end, lines[where.start_line - 1])


class Findings:
    """Collects diagnostics under the options of the file and of each instruction's comments.

    ``patience`` is how many names may still be compared to find what was meant.
    """

    def __init__(self, options: CheckOptions) -> None:
        self.options = options
        self.found: list[Diagnostic] = []
        self.patience = _PATIENCE

    def add(self, rule: str, detail: str, node: Node | None, where: Range | None = None, line: int = 0) -> None:
        """Note a finding about ``node``, or about a ``line`` where there is no node."""
        known = RULES.get(rule) or TEACHING[rule]
        options = self.options
        if node is not None and node.comments:
            options = _with_comments(options, node)
            if rule in TEACHING and any(rule in _ignored(comment) for comment in node.comments):
                return
        if not options.allows(rule, known.experimental):
            return
        extent = node.range if node else Range(line, 0, line, 0)
        first = line or extent.start_line
        self.found.append(
            Diagnostic(rule, detail, first, known.url, known.description, where or extent, known.level, extent)
        )


def _with_comments(options: CheckOptions, node: Node) -> CheckOptions:
    for comment in node.comments:
        directive = read_directive(f"#{comment}", 0)
        if directive and directive.name == "check":
            try:
                options = options.merge(parse_check(directive.value))
            except ValueError:
                continue  # a comment that is no option is a comment
    return options


def _ignored(comment: str) -> list[str]:
    """The rules in a comment ``hadolint ignore=DL3008,DL3015``, which many Dockerfiles already have."""
    match = _HADOLINT.match(comment)
    return [name.strip() for name in match[1].split(",")] if match else []


def phrase_range(node: Node, phrase: str) -> Range | None:
    """Where the words of the instruction say ``phrase`` for the first time."""
    offset = node.original.find(phrase, len(node.keyword))
    return node.between(offset, offset + len(phrase)) if offset >= 0 else None
