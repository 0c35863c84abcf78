"""``dockermagic demo``: the first notebook from top to bottom, told in a terminal, and its pages written here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dockermagic.containers.request import RunRequest
from dockermagic.errors import ContainerError, DockermagicError
from dockermagic.lessons import FIRST, shipped_lessons
from dockermagic.notebookrun import execute, read_notebook
from dockermagic.tables import history_table, human_size, many
from dockermagic.view import HistoryRow

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from dockermagic.engine import Engine

__all__ = ["Place", "find_notebook", "run"]

IMAGE = "first-image"
BASE = "busybox"
EXERCISE = ("exercise", "check")
"""The cells in which a learner answers; nobody does here."""
STEP = re.compile(r"^ +\d+  (CACHED|done)\b.*?  (?!FROM)\S", re.MULTILINE)

COLOURS = {"HighlightMagicsPreprocessor": {"languages": {"%%dockerfile": "docker"}}}
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)


class Place(Protocol):
    """The part of a console that the demo speaks to."""

    @property
    def engine(self) -> Engine: ...
    def write(self, text: str) -> None: ...
    def output(self, stream: int, data: bytes) -> None: ...


def find_notebook() -> Path:
    """The first notebook of this package."""
    return shipped_lessons() / FIRST


def run(console: Place, output: Path | None = None, notebook: Path | None = None) -> int:
    """Run the notebook on the engine of ``console``, tell what it builds, and write its pages into ``output``.

    ``output`` is the current directory by default, ``notebook`` the first lesson. Raises DockermagicError where
    anything of it fails; what was run until then is written all the same.
    """
    folder = Path.cwd() if output is None else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DockermagicError(f"cannot write to {folder}: {error.strerror}") from None
    source = notebook or find_notebook()
    console.write(f"{source.name}, on dockermagic's own engine. The store is {console.engine.home}.\n")
    console.write("Its kernel starts ...\n")
    told: list[str] = []

    def begun(cell: NotebookNode) -> None:
        if cell.id not in EXERCISE:
            console.write(f"\n{_indented(cell.source, '> ', '  ')}\n")

    def done(cell: NotebookNode) -> None:
        text = "" if cell.id in EXERCISE else _text_of(cell)
        if cell.source.startswith(("%%dockerfile", "%dockerfile replay")):
            told.append(text)
        console.write(f"{_indented(text, '    ', '    ')}\n" if text else "")

    document = read_notebook(source)
    try:
        execute(document, folder, console.engine.home, begun=begun, done=done)
    finally:
        pages = _write_pages(document, folder, source)
    _tell_image(console)
    steps = STEP.findall("\n".join(told))
    built = steps.count("done")
    if built:
        console.write(f"\nThe cells made {many(len(steps), 'layer')}: {built} built, {len(steps) - built} CACHED.\n")
    else:
        console.write(f"\nAll CACHED: each of the {many(len(steps), 'layer')} was there already.\n")
    console.write("".join(f"Written: {page}\n" for page in pages))
    return 0


def _indented(text: str, first: str, other: str) -> str:
    lines = text.strip("\n").split("\n")
    return "\n".join(f"{other if number else first}{line}".rstrip() for number, line in enumerate(lines))


def _text_of(cell: NotebookNode) -> str:
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        elif "data" in output:
            texts.append(output.data.get("text/plain", ""))
    return "\n".join(text.rstrip("\n") for text in texts)


def _tell_image(console: Place) -> None:
    """The image once more, asked for as a terminal does: its base, its history, its files, and a container."""
    engine = console.engine
    labels = engine.inspect(BASE)["Config"].get("Labels") or {}
    origin = labels.get("org.dockermagic.base", "pulled from its registry")
    console.write(f"\nThe base {BASE} was {origin.removeprefix('was ')}.\n")
    rows = [
        HistoryRow(row.created, row.created_by, row.size, row.comment, row.image_id) for row in engine.history(IMAGE)
    ]
    console.write(
        f"\nThe history of {IMAGE}, the newest step first:\n{_indented(history_table(rows), '    ', '    ')}\n"
    )
    console.write("\nThe top of its file system:\n")
    for entry in engine.tree(engine.snapshots_of(IMAGE)):
        mark = "/" if entry.kind == "directory" else ""
        size = human_size(entry.size) if entry.kind == "file" else ""
        console.write(f"    {entry.name + mark:<12} {size}".rstrip() + "\n")
    console.write("\nA container of it says:\n    ")
    output: list[bytes] = []
    result = engine.run(RunRequest(IMAGE, remove=True), output=lambda stream, data: output.append(data))
    console.write(_indented(b"".join(output).decode("utf-8", "replace"), "", "    ") + "\n")
    if result.exit_code:
        raise ContainerError(f"the container ended with exit code {result.exit_code}", exit_code=result.exit_code)


def _write_pages(notebook: NotebookNode, folder: Path, source: Path) -> list[Path]:
    """The executed notebook, and the same as a page for a browser; never over the notebook that was read."""
    import nbformat
    from nbconvert.exporters import HTMLExporter
    from traitlets.config import Config

    pages = [folder / f"{IMAGE}.ipynb", folder / f"{IMAGE}.html"]
    exporter = HTMLExporter(template_name="lab", config=Config(COLOURS))
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": _title(notebook, source)}})
    html = SCRIPT.sub("", html)  # the page needs none, and they would be fetched from a network
    try:
        nbformat.write(notebook, pages[0])
        pages[1].write_text(html, encoding="utf-8")
    except OSError as error:
        raise DockermagicError(f"cannot write {error.filename}: {error.strerror}") from None
    return pages


def _title(notebook: NotebookNode, source: Path) -> str:
    """The first heading, for the page's title."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return str(cell.source.split("\n", 1)[0].removeprefix("# "))
    return source.stem
