"""A Dockerfile as a notebook and back: a cell for each instruction, its comments as text between the cells.

Pure: texts and notebook documents (nbformat 4.5 as JSON values) in, the same out.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
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
_DIRECTIVE_LIKE = re.compile(r"\s*[A-Za-z][A-Za-z0-9]*\s*=")


@dataclass(frozen=True, slots=True)
class Piece:
    """An instruction as it was written, with the comments above it: ``line`` is its first one in the file.

    ``check`` comments, which mean something to the instruction below, are part of ``text``.
    """

    line: int
    text: str
    comments: tuple[str, ...] = ()


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
        begin = node.range.start_line
        above = [line.strip() for line in lines[end : begin - 1]]
        own = [line for line in above if line.removeprefix("#").strip().startswith("check=")]
        comments = [line.removeprefix("#").removeprefix(" ") for line in above if line not in own]
        end = node.range.end_line
        text = [*(lines[:directives] if not found else []), *own, *lines[begin - 1 : end]]
        found.append(Piece(begin, "\n".join(text).rstrip(), tuple(_trimmed(comments))))
    rest = [line.strip().removeprefix("#").removeprefix(" ") for line in lines[end:]]
    if any(rest):
        found.append(Piece(end + 1, "", tuple(_trimmed(rest))))
    return tuple(found)


def to_notebook(dockerfile: str, *, kernel: str = "dockerfile", blocks: bool = False) -> dict[str, Any]:
    """A notebook of a Dockerfile, for the ``dockerfile`` kernel or, with ``%%dockerfile`` cells, for ``python``.

    ``blocks`` keeps the instructions below one comment in one cell. Raises DockerfileSyntaxError.
    """
    cells: list[tuple[str, str]] = []
    for piece in pieces(dockerfile):
        if piece.comments:
            cells.append(("markdown", "\n".join(piece.comments)))
        if piece.text and blocks and cells and cells[-1][0] == "code":
            cells[-1] = ("code", f"{cells[-1][1]}\n{piece.text}")
        elif piece.text:
            cells.append(("code", piece.text))
    if kernel == "python":
        cells = [(kind, f"%%dockerfile\n{text}" if kind == "code" else text) for kind, text in cells]
        cells.insert(0, ("code", "%load_ext dockermagic"))
    made = [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)]
    language = {"name": KERNELS[kernel]["language"]}
    metadata = {"kernelspec": KERNELS[kernel], "language_info": language}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_dockerfile(notebook: Mapping[str, Any], *, markdown: bool = True) -> str:
    """The Dockerfile of a notebook's cells, top to bottom; with ``markdown`` its texts stand there as comments.

    Cells of other sessions (``%%dockerfile -s``) and all other code are left out. Raises UsageError where none is left.
    """
    plain = has_dockerfile_kernel(notebook.get("metadata") or {})
    parts: list[str] = []
    comments: list[str] = []
    for cell in notebook.get("cells") or ():
        text = "".join(cell.get("source") or "")
        if cell.get("cell_type") == "markdown" and markdown:
            comments += [text]
        elif cell.get("cell_type") == "code" and (body := dockerfile_of(text, plain=plain)).strip():
            parts.append(with_comments(body.strip("\n"), comments, first=not parts))
            comments = []
    if not parts:
        raise UsageError("this notebook has no Dockerfile", hint="Its cells begin with %%dockerfile.")
    if comments:
        parts.append("\n#\n".join(_as_comments(text) for text in comments))
    return "\n\n".join(parts) + "\n"


def dockerfile_of(text: str, *, plain: bool) -> str:
    """A code cell's part of the notebook's Dockerfile, '' where it has none. ``plain``: in the Dockerfile kernel."""
    stripped = text.lstrip()
    if stripped.startswith("%%dockerfile"):
        line, _, body = stripped.partition("\n")
        return "" if _elsewhere(line) else body
    return read_cell(text).dockerfile if plain else ""


def with_comments(body: str, comments: Iterable[str], *, first: bool) -> str:
    """A cell's Dockerfile below texts as comments; in the first, parser directives stay on top."""
    above = "\n#\n".join(_as_comments(text) for text in comments if text.strip())
    if not above:
        return body
    directives: list[str] = []
    lines = body.split("\n")
    while first and lines and lines[0].startswith("#") and _DIRECTIVE_LIKE.match(lines[0][1:]):
        directives.append(lines.pop(0))
    guard = ["#"] if _DIRECTIVE_LIKE.match(above[1:]) else []
    return "\n".join([*directives, *guard, above, *lines])


def _as_comments(text: str) -> str:
    """A text as comment lines."""
    return "\n".join(f"# {line}".rstrip() for line in text.strip("\n").split("\n"))


def _trimmed(lines: list[str]) -> Iterator[str]:
    """Without blank lines at both ends."""
    kept = [number for number, line in enumerate(lines) if line.strip()]
    yield from lines[kept[0] : kept[-1] + 1] if kept else ()


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    name = hashlib.sha256(f"{number}:{kind}:{text}".encode()).hexdigest()[:12]
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": text}
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
