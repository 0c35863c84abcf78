"""Who runs a cell: its id, the cells that were deleted, the notebook and its folder, as front ends tell them.

JupyterLab and Notebook 7 send a cell's id and the ids of deleted cells with each request; VS Code sends a URI whose
fragment may be dealt anew when the notebook is opened again; nbclient, papermill and consoles send nothing.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockermagic.values import dataclass

__all__ = ["ORDER", "Sender", "cells_of", "kernel_name", "lines_above", "notebook_path", "sender", "texts_above"]

ORDER = "dockermagic"
"""Under this key of a request's metadata the lab extension tells the order of the cells, and which are gone."""

_NOTEBOOK_ID = re.compile(r"[A-Za-z0-9_-]+")
"""The ids of the notebook format; a URI is none of them."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What a request says of its cell. ``lasting`` tells whether the id still means the cell in another kernel.

    ``order`` are the ids of the notebook's code cells from top to bottom, None where the front end has not our
    extension, which tells them.
    """

    cell_id: str = ""
    lasting: bool = False
    deleted: frozenset[str] = frozenset()
    order: tuple[str, ...] | None = None


def sender(metadata: Mapping[str, Any]) -> Sender:
    """The sender that a request's metadata names; an empty one where the front end says nothing."""
    cell_id = metadata.get("cellId")
    cell_id = cell_id if isinstance(cell_id, str) else ""
    ours = metadata.get(ORDER)
    ours = ours if isinstance(ours, dict) else {}
    deleted = frozenset((*_texts(metadata.get("deletedCells")), *_texts(ours.get("deleted"))))
    order = _texts(ours["cells"]) if isinstance(ours.get("cells"), list) else None
    return Sender(cell_id, bool(_NOTEBOOK_ID.fullmatch(cell_id)), deleted, order)


def _texts(ids: object) -> tuple[str, ...]:
    return tuple(one for one in ids if isinstance(one, str)) if isinstance(ids, list) else ()


def notebook_path(environment: Mapping[str, str], namespace: Mapping[str, Any]) -> Path | None:
    """The notebook that this kernel belongs to, as the server or VS Code names it."""
    known = namespace.get("__vsc_ipynb_file__")
    if isinstance(known, str) and known:
        return Path(known)
    path = environment.get("JPY_SESSION_NAME", "")
    return Path.cwd() / path if path else None


def cells_of(notebook: Path) -> dict[str, str]:
    """The code cells of a notebook as it was last saved: their ids with their texts; none where it cannot be read."""
    try:
        document = json.loads(notebook.read_text(encoding="utf-8"))
        cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
        return {cell["id"]: "".join(cell["source"]) for cell in cells if "id" in cell}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def texts_above(notebook: Path) -> dict[str, list[str]]:
    """The texts of a saved notebook by the id of the code cell that they stand above; none where it cannot be read."""
    found: dict[str, list[str]] = {}
    waiting: list[str] = []
    try:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                waiting.append("".join(cell["source"]))
            elif cell["cell_type"] == "code":
                found[cell.get("id", "")], waiting = waiting, []
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def kernel_name(connection_file: str) -> str:
    """A name for this kernel that a restart does not change; a new one for each process outside of kernels."""
    name = Path(connection_file).stem.removeprefix("kernel-")
    return name or f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def lines_above(raw_cell: str, text: str) -> int:
    """How many lines of a notebook cell stand above the Dockerfile in it: the magic's own and any before that."""
    raw, text = raw_cell.rstrip("\n"), text.rstrip("\n")
    return raw.removesuffix(text).count("\n") if raw.endswith(text) else 1
