"""A Dockerfile as a notebook and back: a cell for each instruction, its comments as text between the cells.

How comments and blank lines were written is kept in a cell's metadata where it is not as we write them, so that the way
there and back changes no byte; it holds as long as the text above the cell says the same. The notebook's metadata has
what stands below the last cell, and that the file had a byte order mark or the line ends of Windows.

Pure: texts and notebook documents (nbformat 4.5 as JSON values) in, the same out.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dockermagic.celltext import read_cell
from dockermagic.dockerfile.directives import KNOWN, find_directive
from dockermagic.dockerfile.parser import parse
from dockermagic.errors import UsageError
from dockermagic.values import dataclass

__all__ = ["Piece", "dockerfile_of", "has_dockerfile_kernel", "pieces", "to_dockerfile", "to_notebook", "with_comments"]

KERNELS = {
    "dockerfile": {"name": "dockerfile", "display_name": "Dockerfile", "language": "dockerfile"},
    "python": {"name": "python3", "display_name": "Python 3", "language": "python"},
}
_BETWEEN = re.compile(r"[^\S\n]*(\n[^\S\n]*(#[^\n]*)?)*")
_CHECK = re.compile(r"\s*#\s*check=")
_DIRECTIVE_LIKE = re.compile(r"\s*[A-Za-z][A-Za-z0-9]*\s*=")


@dataclass(frozen=True, slots=True)
class Piece:
    """An instruction as it was written: ``line`` is its first one in the file, ``above`` all between the last word of
    the instruction before it and this line.

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
    """The instructions of a whole Dockerfile, in order, and one without text for what stands below them. Parser
    directives stay with the first.

    Raises DockerfileSyntaxError.
    """
    parsed = parse(dockerfile)
    lines = dockerfile.removeprefix("\ufeff").split("\n")
    directives = max((directive.line for directive in parsed.directives), default=0)
    found: list[Piece] = []
    end, above = directives, ""
    for node in parsed.nodes:
        begin = node.range.start_line - 1
        checks = (number for number in range(end, begin) if _CHECK.match(lines[number]))
        begin = next(checks, begin)
        written = "\n".join([*(lines[:directives] if not found else []), *lines[begin : node.range.end_line]])
        text = written.rstrip()
        found.append(Piece(begin + 1, text, above + _lines(lines[end:begin])))
        end = node.range.end_line
        above = written[len(text) :] + ("\n" if end < len(lines) else "")
    return (*found, Piece(end + 1, "", above + "\n".join(lines[end:])))


def to_notebook(dockerfile: str, *, kernel: str = "dockerfile", blocks: bool = False) -> dict[str, Any]:
    """A notebook of a Dockerfile, for the ``dockerfile`` kernel or, with ``%%dockerfile`` cells, for ``python``.

    ``blocks`` keeps the instructions below one comment in one cell. Raises DockerfileSyntaxError.
    """
    file: dict[str, Any] = {"bom": True} if dockerfile.startswith("\ufeff") else {}
    if 0 < dockerfile.count("\r\n") == dockerfile.count("\n") == dockerfile.count("\r"):
        file["newline"] = "\r\n"
        dockerfile = dockerfile.replace("\r\n", "\n")
    cells: list[tuple[str, str, str | None]] = []
    for number, piece in enumerate(pieces(dockerfile)):
        comments = ["\n".join(piece.comments)] if piece.comments else []
        usual = _above(comments, first=not number) if piece.text else _below(comments)
        written = None if piece.above == usual else piece.above
        cells += [("markdown", text, None) for text in comments]
        if not piece.text:
            file |= {"below": written} if written is not None else {}
        elif blocks and cells and cells[-1][0] == "code":
            kind, text, before = cells[-1]
            cells[-1] = (kind, f"{text}{piece.above}{piece.text}", before)
        else:
            cells.append(("code", piece.text, written))
    if kernel == "python":
        cells = [(kind, f"%%dockerfile\n{text}" if kind == "code" else text, above) for kind, text, above in cells]
        cells.insert(0, ("code", "%load_ext dockermagic", None))
    made = [_cell(number, *cell) for number, cell in enumerate(cells)]
    metadata: dict[str, Any] = {"kernelspec": KERNELS[kernel], "language_info": {"name": KERNELS[kernel]["language"]}}
    if file:
        metadata["dockermagic"] = file
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_dockerfile(notebook: Mapping[str, Any], *, markdown: bool = True) -> str:
    """The Dockerfile of a notebook's cells, top to bottom; with ``markdown`` its texts stand there as comments.

    Cells of other sessions (``%%dockerfile -s``) and all other code are left out. Raises UsageError where none is left.
    """
    plain = has_dockerfile_kernel(notebook.get("metadata") or {})
    made = ""
    comments: list[str] = []
    for cell in notebook.get("cells") or ():
        text = "".join(cell.get("source") or "")
        if cell.get("cell_type") == "markdown" and markdown:
            comments += [text]
        elif cell.get("cell_type") == "code" and (body := dockerfile_of(text, plain=plain)).strip():
            made += with_comments(body.strip("\n"), comments, first=not made, written=_kept(cell).get("above"))
            comments = []
    if not made:
        raise UsageError("this notebook has no Dockerfile", hint="Its cells begin with %%dockerfile.")
    file = _kept(notebook)
    made += _below(comments, file.get("below"))
    if file.get("newline") == "\r\n":
        made = made.replace("\n", "\r\n")
    return f"\ufeff{made}" if file.get("bom") is True else made


def _kept(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the metadata of a notebook or a cell say about how it was written."""
    kept = (part.get("metadata") or {}).get("dockermagic")
    return kept if isinstance(kept, Mapping) else {}


def dockerfile_of(text: str, *, plain: bool) -> str:
    """A code cell's part of the notebook's Dockerfile, '' where it has none. ``plain``: in the Dockerfile kernel."""
    stripped = text.lstrip()
    if stripped.startswith("%%dockerfile"):
        line, _, body = stripped.partition("\n")
        return "" if _elsewhere(line) else body
    return read_cell(text).dockerfile if plain else ""


def with_comments(body: str, comments: Sequence[str], *, first: bool, written: Any = None) -> str:
    """What a cell adds to a Dockerfile: texts as comments below a blank line, then its own; in the first cell parser
    directives stay on top. ``written`` is how all above was once, where it is known.
    """
    lines = body.split("\n")
    directives: list[str] = []
    while first and lines and lines[0].startswith("#") and _DIRECTIVE_LIKE.match(lines[0][1:]):
        directives.append(lines.pop(0))
    return _lines(directives) + _above(comments, written, first=first) + "\n".join(lines)


def _above(comments: Sequence[str], written: Any = None, *, first: bool = False) -> str:
    """What stands between two instructions: as it was written, where that says the same, else as we write it."""
    said = _texts(comments)
    like_directive = bool(said and _DIRECTIVE_LIKE.match(said[0]))
    kept = f"\n{written}" if first and written is not None else written
    if _holds(kept, said) and kept.endswith("\n") and not (first and _has_directive(written)):
        return str(written)
    guard = ["#"] if like_directive else []
    return _lines([] if first else ["", ""]) + _lines([*guard, *(f"# {line}".rstrip() for line in said)])


def _has_directive(written: str) -> bool:
    """Whether a file that begins with these lines, or has them below directives, has directives in them."""
    lines = "\n".join(line.lstrip() for line in written.split("\n"))
    return any(find_directive(lines, name) for name in KNOWN)


def _below(comments: Sequence[str], written: Any = None) -> str:
    """The end of a file, likewise."""
    said = _texts(comments)
    if _holds(written, said):
        return str(written)
    return _lines(["", "", *(f"# {line}".rstrip() for line in said)] if said else [""])


def _holds(written: Any, said: list[str]) -> bool:
    """Whether that is nothing but comments, and those that are wanted: metadata may come from anywhere."""
    return isinstance(written, str) and bool(_BETWEEN.fullmatch(written)) and _said(written) == said


def _texts(comments: Sequence[str]) -> list[str]:
    """The lines of texts, with an empty one between two."""
    return [line for text in comments if text.strip() for line in ["", *text.strip("\n").split("\n")]][1:]


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
