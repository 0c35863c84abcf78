"""A process's output as markup: colours of ANSI sequences, lines rewritten by carriage returns, all else dropped.

:class:`AnsiLines` takes bytes as they come, in any pieces.
"""

from __future__ import annotations

import codecs
import re
from html import escape
from typing import Any

from dockermagic.notebook.markup import Html, colour
from dockermagic.values import dataclass, replace

__all__ = ["AnsiLines", "plain_lines", "to_html"]

# Colours 0-7 and their bright ones, in tones that can be read on a light and on a dark page; None is the page's own.
BASIC = (None, "#d1434b", "#2d9250", "#a9791c", "#3b7ddd", "#a35ac6", "#2090a0", None)
BRIGHT = ("#76808c", "#e0525b", "#35a35c", "#b98826", "#5090ea", "#b26fd2", "#2aa0b0", None)
GROUNDS = ("#30363d", "#d1434b", "#2d9250", "#c99a3a", "#3b7ddd", "#a35ac6", "#2090a0", "#c9d1d9")

_NAMES = ("red", "green", "yellow", "blue", "magenta", "cyan")
_THEMED = {code: colour(name) for codes in (BASIC, BRIGHT) for code, name in zip(codes[1:7], _NAMES, strict=True)}
_THEMED |= {BRIGHT[0]: colour("grey")}

LONGEST_LINE = 4000
_SEQUENCE = re.compile(
    r"\x1b(?:\[([0-9;:?<=>]*)([ -/]*[@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])"
    r"|[\x00-\x1f\x7f]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPEN_END = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?$")


@dataclass(frozen=True, slots=True)
class Style:
    """How characters look. Colours are CSS colours or None."""

    fore: str | None = None
    back: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    inverse: bool = False

    def css(self) -> str:
        fore, back = self.fore, self.back
        if self.inverse:
            fore, back = back, fore or "#8b949e"
        if back and not fore:
            red, green, blue = (int(back[at : at + 2], 16) for at in (1, 3, 5))
            fore = "#111" if 3 * red + 6 * green + blue > 1400 else "#fff"
        parts = [f"color:{_THEMED.get(fore, fore)}"] if fore else []
        parts += [f"background:{back}"] if back else []
        parts += ["font-weight:600"] if self.bold else []
        parts += ["opacity:.7"] if self.dim else []
        parts += ["font-style:italic"] if self.italic else []
        lines = ["underline"] * self.underline + ["line-through"] * self.strike
        parts += [f"text-decoration:{' '.join(lines)}"] if lines else []
        return ";".join(parts)


NORMAL = Style()


def _cube(number: int) -> str | None:
    """Colour ``number`` of the 256."""
    if number < 8:
        return BASIC[number]
    if number < 16:
        return BRIGHT[number - 8]
    if number < 232:
        levels = (0, 95, 135, 175, 215, 255)
        rest = number - 16
        return "#" + "".join(f"{levels[part]:02x}" for part in (rest // 36, rest // 6 % 6, rest % 6))
    grey = 8 + 10 * (number - 232)
    return f"#{grey:02x}{grey:02x}{grey:02x}"


def _extended(codes: list[int]) -> str | None:
    """The colour behind a 38 or 48, taken off the list."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        return _cube(codes.pop(0) % 256)
    if kind == 2 and len(codes) >= 3:
        red, green, blue = (codes.pop(0) % 256 for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    return None


_SET: dict[int, dict[str, Any]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"inverse": True},
    9: {"strike": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"inverse": False},
    29: {"strike": False},
}


def _changed(style: Style, parameters: str) -> Style:
    codes = [int(part or 0) for part in re.split("[;:]", parameters) if part.isdigit() or not part]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = NORMAL
        elif code in _SET:
            style = replace(style, **_SET[code])
        elif code in (38, 48):
            found = _extended(codes)
            style = replace(style, fore=found) if code == 38 else replace(style, back=found)
        elif code in (39, 49):
            style = replace(style, fore=None) if code == 39 else replace(style, back=None)
        elif 30 <= code <= 37:
            style = replace(style, fore=BASIC[code - 30])
        elif 90 <= code <= 97:
            style = replace(style, fore=BRIGHT[code - 90])
        elif 40 <= code <= 47:
            style = replace(style, back=GROUNDS[code - 40])
        elif 100 <= code <= 107:
            style = replace(style, back=GROUNDS[code - 100])
    return style


class AnsiLines:
    """Feed it bytes; it gives the lines that are complete, as markup, and :meth:`rest` the one that is not yet."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""
        self._style = NORMAL
        self._cells: list[tuple[str, Style]] = []
        self._column = 0

    def feed(self, data: bytes) -> list[Html]:
        """The lines that ``data`` completes."""
        text = self._held + self._decode(data)
        self._held = ""
        if "\x1b" in text[-200:] and (match := _OPEN_END.search(text[-200:])) and match[0]:
            self._held = match[0]
            text = text[: len(text) - len(self._held)]
        *whole, rest = text.split("\n")
        out = []
        for line in whole:
            if not self._cells and not self._column and not _CONTROL.search(line):
                out.append(self._styled(line[:LONGEST_LINE], self._style))
                continue
            self._write(line)
            out.append(self._line())
            self._cells, self._column = [], 0
        self._write(rest)
        return out

    def rest(self) -> Html:
        """The line that has not ended yet."""
        return self._line()

    def _write(self, text: str) -> None:
        position = 0
        for match in _SEQUENCE.finditer(text):
            self._put(text[position : match.start()])
            position = match.end()
            self._control(match)
        self._put(text[position:])

    def _put(self, text: str) -> None:
        if not text or self._column >= LONGEST_LINE:
            return
        text = text[: LONGEST_LINE - self._column]
        end = self._column + len(text)
        self._cells[self._column : end] = [(char, self._style) for char in text]
        self._column = end

    def _control(self, match: re.Match[str]) -> None:
        sequence = match[0]
        if sequence == "\r":
            self._column = 0
        elif sequence == "\b":
            self._column = max(0, self._column - 1)
        elif sequence == "\t":
            self._put(" " * (8 - self._column % 8))
        elif match[2] == "m":
            self._style = _changed(self._style, match[1])
        elif match[2] == "K":
            if match[1] in ("", "0"):
                del self._cells[self._column :]
            else:
                self._cells = [(" ", NORMAL)] * self._column
        elif match[2] == "G":
            wanted = max(0, int(match[1] or 1) - 1) if match[1].isdigit() or not match[1] else 0
            self._cells += [(" ", NORMAL)] * max(0, min(wanted, LONGEST_LINE) - len(self._cells))
            self._column = min(wanted, LONGEST_LINE)

    def _line(self) -> Html:
        out, run, style = [], list[str](), NORMAL
        for char, own in [*self._cells, ("", None)]:
            if own != style:
                if run:
                    out.append(self._styled("".join(run), style))
                run, style = [], own or NORMAL
            run.append(char)
        return Html("".join(out))

    def _styled(self, text: str, style: Style) -> Html:
        text, css = escape(text, quote=False), style.css()
        return Html(f'<span style="{css}">{text}</span>' if css and text else text)


def to_html(data: bytes, *, last: int = 0) -> tuple[Html, int]:
    """Output as markup with its line ends, and how many lines it has; ``last`` keeps only so many from the end."""
    lines = AnsiLines()
    found = lines.feed(data)
    if rest := lines.rest():
        found.append(rest)
    count = len(found)
    if last and count > last:
        found = found[-last:]
    return Html("\n".join(found)), count


def plain_lines(data: bytes) -> list[str]:
    """Output as lines of text without colours, as they stood in the end."""
    out = []
    for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        line = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", "", line)
        line = line.rstrip("\r").rpartition("\r")[2]
        out.append("".join(char for char in line if char == "\t" or char.isprintable()))
    return out if out != [""] else []
