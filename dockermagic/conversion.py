"""A Dockerfile as a notebook and back: a cell for each instruction, its comments as text between the cells.

How comments and blank lines were written is kept in a cell's metadata where it is not as we write them, so that the way
there and back changes nothing; it holds as long as the text above the cell says the same.

Pure: texts and notebook documents (nbformat 4.5 as JSON values) in, the same out.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dockermagic.celltext import read_cell
from dockermagic.dockerfile.parser import parse
from dockermagic.errors import UsageError
from dockermagic.values import dataclass

__all__ = ["Piece", "dockerfile_of", "has_dockerfile_kernel", "pieces", "to_dockerfile", "to_notebook", "with_comments"]

KERNELS = {
    "dockerfile": {"name": "dockerfile", "display_name": "Dockerfile", "language": "dockerfile"},
    "python": {"name": "python3", "display_name": "Python 3", "language": "python"},
}
_CHECK = re.compile(r"\s*#\s*check=")
_DIRECTIVE_LIKE = re.compile(r"\s*[A-Za-z][A-Za-z0-9]*\s*=")


@dataclass(frozen=True, slots=True)
class Piece:
    """An instruction as it was written: ``line`` is its first one in the file, ``above`` the lines before it.

    ``check`` comments, which mean something to the instruction below, are part of ``text``.
    """

    line: int
    text: str
    above: str = ""

    @property
    def comments(self) -> tuple[str, ...]:
        """What the comments above say."""
        return tuple(_said(self.above))


def pieces(dockerfile: str) -> tuple[Piece, ...]:
    """The instructions of a whole Dockerfile, in order. Parser directives stay with the first.

    Raises DockerfileSyntaxError.
    """
    parsed = parse(dockerfile)
    lines = dockerfile.removeprefix("\ufeff").split("\n")
    directives = max((directive.line for directive in parsed.directives), default=0)
    found: list[Piece] = []
    end = directives
    for node in parsed.nodes:
        begin = node.range.start_line - 1
        checks = (number for number in range(end, begin) if _CHECK.match(lines[number]))
        begin = next(checks, begin)
        text = [*(lines[:directives] if not found else []), *lines[begin : node.range.end_line]]
        found.append(Piece(begin + 1, "\n".join(text).rstrip(), _lines(lines[end:begin])))
        end = node.range.end_line
    if _said(rest := "\n".join(lines[end:])):
        found.append(Piece(end + 1, "", rest.rstrip("\n") + "\n"))
    return tuple(found)


def to_notebook(dockerfile: str, *, kernel: str = "dockerfile", blocks: bool = False) -> dict[str, Any]:
    """A notebook of a Dockerfile, for the ``dockerfile`` kernel or, with ``%%dockerfile`` cells, for ``python``.

    ``blocks`` keeps the instructions below one comment in one cell. Raises DockerfileSyntaxError.
    """
    cells: list[tuple[str, str, str | None]] = []
    for number, piece in enumerate(pieces(dockerfile)):
        usual = piece.above == _above(["\n".join(piece.comments)], first=not number)
        written = None if usual else piece.above
        if piece.comments:
            cells.append(("markdown", "\n".join(piece.comments), None if piece.text else written))
        if piece.text and blocks and cells and cells[-1][0] == "code":
            kind, text, before = cells[-1]
            cells[-1] = (kind, f"{text}\n{piece.above}{piece.text}", before)
        elif piece.text:
            cells.append(("code", piece.text, written))
    if kernel == "python":
        cells = [(kind, f"%%dockerfile\n{text}" if kind == "code" else text, above) for kind, text, above in cells]
        cells.insert(0, ("code", "%load_ext dockermagic", None))
    made = [_cell(number, *cell) for number, cell in enumerate(cells)]
    language = {"name": KERNELS[kernel]["language"]}
    metadata = {"kernelspec": KERNELS[kernel], "language_info": language}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_dockerfile(notebook: Mapping[str, Any], *, markdown: bool = True) -> str:
    """The Dockerfile of a notebook's cells, top to bottom; with ``markdown`` its texts stand there as comments.

    Cells of other sessions (``%%dockerfile -s``) and all other code are left out. Raises UsageError where none is left.
    """
    plain = has_dockerfile_kernel(notebook.get("metadata") or {})
    made = ""
    comments: list[str] = []
    written: str | None = None
    for cell in notebook.get("cells") or ():
        text = "".join(cell.get("source") or "")
        written = ((cell.get("metadata") or {}).get("dockermagic") or {}).get("above")
        if cell.get("cell_type") == "markdown" and markdown:
            comments += [text]
        elif cell.get("cell_type") == "code" and (body := dockerfile_of(text, plain=plain)).strip():
            made += with_comments(body.strip("\n"), comments, first=not made, written=written) + "\n"
            comments = []
    if not made:
        raise UsageError("this notebook has no Dockerfile", hint="Its cells begin with %%dockerfile.")
    return made + (_above(comments, written) if comments else "")


def dockerfile_of(text: str, *, plain: bool) -> str:
    """A code cell's part of the notebook's Dockerfile, '' where it has none. ``plain``: in the Dockerfile kernel."""
    stripped = text.lstrip()
    if stripped.startswith("%%dockerfile"):
        line, _, body = stripped.partition("\n")
        return "" if _elsewhere(line) else body
    return read_cell(text).dockerfile if plain else ""


def with_comments(body: str, comments: Sequence[str], *, first: bool, written: str | None = None) -> str:
    """A cell's Dockerfile below texts as comments, a blank line before both where it is not the first; in the first,
    parser directives stay on top. ``written`` is how those lines were once, where it is known.
    """
    lines = body.split("\n")
    directives: list[str] = []
    while first and lines and lines[0].startswith("#") and _DIRECTIVE_LIKE.match(lines[0][1:]):
        directives.append(lines.pop(0))
    return _lines(directives) + _above(comments, written, first=first) + "\n".join(lines)


def _above(comments: Sequence[str], written: str | None = None, *, first: bool = False) -> str:
    """The lines above an instruction: as they were written, where that says the same, else as we write them."""
    said = [line for text in comments if text.strip() for line in ["", *text.strip("\n").split("\n")]][1:]
    like_directive = bool(said and _DIRECTIVE_LIKE.match(said[0]))
    if written is not None and _said(written) == said and not (first and like_directive):
        return written
    guard = ["#"] if like_directive else []
    return _lines([] if first else [""]) + _lines([*guard, *(f"# {line}".rstrip() for line in said)])


def _said(above: str) -> list[str]:
    """What comments say, line by line, without blank lines at both ends."""
    lines = [line.strip().removeprefix("#").removeprefix(" ") for line in above.split("\n")]
    kept = [number for number, line in enumerate(lines) if line.strip()]
    return lines[kept[0] : kept[-1] + 1] if kept else []


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _cell(number: int, kind: str, text: str, above: str | None) -> dict[str, Any]:
    name = hashlib.sha256(f"{number}:{kind}:{text}".encode()).hexdigest()[:12]
    metadata = {} if above is None else {"dockermagic": {"above": above}}
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": metadata, "source": text}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def has_dockerfile_kernel(metadata: Mapping[str, Any]) -> bool:
    """Whether a notebook's plain cells are Dockerfile."""
    spec, language = metadata.get("kernelspec") or {}, metadata.get("language_info") or {}
    return "dockerfile" in (spec.get("name"), spec.get("language"), language.get("name"))


def _elsewhere(line: str) -> bool:
    """Whether a magic's line names another session."""
    try:
        words = shlex.split(line)
    except ValueError:
        return False
    return any(word.startswith(("-s", "--session")) for word in words)
