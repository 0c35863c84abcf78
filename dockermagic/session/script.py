"""The cells of a chain as one Dockerfile, with the way back from its lines and instructions to the cells.

Every cell is read by itself first, so that an instruction that a cell leaves open is that cell's error and never
swallows the next cell. Lines are counted as the person sees them in the notebook cell: the magic's own line is line 1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.parser import Node, parse_fragment
from dockermagic.errors import DockerfileSyntaxError, DockermagicError, Place
from dockermagic.events import Event, Vertex, Warning
from dockermagic.session.chain import Cell
from dockermagic.values import dataclass, replace

__all__ = ["Part", "Script"]

END = "ARG end_of_cell"


@dataclass(frozen=True, slots=True)
class Part:
    """One cell's share of a script.

    ``line`` is the line of the script on which the cell's text begins, ``first`` the index of its first instruction.
    ``words`` are its instructions' names in lower case, ``originals`` their texts, ``lines`` their first lines in the
    script. ``stage`` is the index of the stage that is open where the cell begins, -1 before the first FROM.
    """

    cell: Cell
    line: int
    first: int
    words: tuple[str, ...]
    originals: tuple[str, ...]
    lines: tuple[int, ...]
    stage: int

    @property
    def after(self) -> int:
        """The index of the stage that is open where the cell ends."""
        return self.stage + self.words.count("from")

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that the cell touches: those that it begins, and the open one if it goes on with it."""
        goes_on = bool(self.words) and self.words[0] != "from" and self.stage >= 0
        return tuple(range(self.stage if goes_on else self.stage + 1, self.after + 1))

    @property
    def indices(self) -> range:
        """The indices of its instructions."""
        return range(self.first, self.first + len(self.words))


@dataclass(frozen=True, slots=True)
class Script:
    """A Dockerfile made of cells. ``parts`` has one for each cell, in their order."""

    text: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Script:
        """The cells, a blank line between each two. Raises DockerfileSyntaxError, with a place in a cell."""
        parts: list[Part] = []
        lines: list[str] = []
        escape, first, stage = "\\", 0, -1
        for cell in cells:
            begin = not any(line.strip() for line in lines)
            if lines:
                lines.append("")
            nodes, escape = _read(cell, escape, begin=begin)
            begins = len(lines) + 1
            part = Part(
                cell,
                begins,
                first,
                tuple(node.keyword for node in nodes),
                tuple(node.original for node in nodes),
                tuple(begins + node.range.start_line - cell.above - 1 for node in nodes),
                stage,
            )
            if part.after < 0:
                _only_args(cell, nodes, bool(parts))
            parts.append(part)
            lines += _text(cell).split("\n")
            first, stage = first + len(nodes), part.after
        return cls("\n".join(lines) + "\n" if lines else "", tuple(parts))

    def part_of_line(self, line: int) -> Part:
        """The cell that holds a line of the script."""
        return self.parts[max(0, bisect_right(self.parts, line, key=lambda part: part.line) - 1)]

    def part_of(self, index: int) -> Part | None:
        """The cell that holds an instruction."""
        return next((part for part in self.parts if index in part.indices), None)

    def line_in_cell(self, line: int) -> int:
        """A line of the script, as it is counted in its notebook cell."""
        part = self.part_of_line(line)
        return line - part.line + 1 + part.cell.above

    def place(self, place: Place) -> Place:
        """A place in the script as a place in a cell."""
        label = self.part_of_line(place.line).cell.label
        return replace(place, line=self.line_in_cell(place.line), file=label)

    def replaced(self, error: DockermagicError, filename: str) -> None:
        """Turn an error's place in the script, and a line that its message names, into a place in a cell."""
        place = error.place
        if place is None or not self.parts or place.file not in ("", filename):
            return
        error.place = self.place(place)
        shown = re.sub(rf"\bline {place.line}\b", f"line {error.place.line}", error.message)
        error.message = shown
        error.args = (shown,)

    def event(self, event: Event) -> Event:
        """An event with its line counted in the cell."""
        if not isinstance(event, Vertex | Warning) or event.line is None or not self.parts:
            return event
        moved = replace(event, line=self.line_in_cell(event.line))
        if isinstance(moved, Warning) and moved.place is not None:
            moved = replace(moved, place=self.place(moved.place))
        return moved


def _read(cell: Cell, escape: str, *, begin: bool) -> tuple[tuple[Node, ...], str]:
    """The instructions of a cell and the escape character; only where the Dockerfile begins can a cell set that."""
    first, text = cell.above + 1, _text(cell)
    try:
        parsed = parse_fragment(f"{text}\n{END}\n", line=first, escape=escape, directives=begin)
    except DockerfileSyntaxError as error:
        error.place = replace(error.place, file=cell.label) if error.place else None
        raise
    end = parsed.nodes[-1].range
    if end.start_line <= first + text.count("\n"):
        place = _last_line(text, first, cell.label)
        raise DockerfileSyntaxError(
            "the cell ends in the middle of an instruction",
            place=place,
            hint=f"Take the {parsed.escape} from the end, or go on: an instruction cannot go on in the next cell.",
        )
    return parsed.nodes[:-1], parsed.escape


def _text(cell: Cell) -> str:
    return cell.text.removeprefix("\ufeff").rstrip("\n")


def _last_line(text: str, first: int, label: str) -> Place:
    """The last line with something on it."""
    lines = text.split("\n")
    number = max(index for index, line in enumerate(lines) if line.strip())
    line = lines[number].rstrip()
    return Place(first + number, len(line) - 1, len(line), line, label)


def _only_args(cell: Cell, nodes: Sequence[Node], follows: bool) -> None:
    """Raise DockerfileSyntaxError for anything else than ARG in a cell with no FROM in it or above it."""
    for node in nodes:
        try:
            instruction(node)
        except DockerfileSyntaxError as error:
            error.place = replace(error.place, file=cell.label) if error.place else None
            raise
        if node.keyword != "arg":
            raise DockerfileSyntaxError(
                f"{node.keyword.upper()} before any FROM: there is no image yet to build on",
                place=replace(node.place(), file=cell.label),
                hint="Begin with FROM, for example: FROM busybox"
                + (" (before the first FROM there can only be ARG)." if follows else "."),
            )
