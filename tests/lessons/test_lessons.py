"""Every lesson from top to bottom, from a fresh store and once more, as a person with no answers and with all of them.

The images come from a registry on the loopback, where stand-ins lie under the names that the lessons use; Python
packages from where this machine's pip gets them.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from dockermagic.lessons import shipped_lessons
from dockermagic.notebookrun import execute, read_notebook
from tests.peers.registry import Registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="lessons run on Linux"),
]

LESSONS = shipped_lessons()

# What a lesson claims: a cell's id, and a pattern of what it shows. The first run starts with an empty store.
CLAIMS: dict[str, dict[str, str]] = {
    "01-first-image": {
        "read": r"2 /lesson/hello",
        "hello": "Hello from a container!",
        "morning": "Good morning from a container!",
        "gone": "This line was written by a RUN instruction",
        "status": r"(?s)cell \[4\] +built .*cell greeting +built .*cell \[6\] +stale .*cell \[7\] +stale",
        "hello-again": "Hello from a changed container!",
    },
    "02-python-app": {
        "try": r"This is my app, version 1\.0\.0, on Python 3\.",
        "rebuild": "all CACHED",
        "status": r"cell copy +stale .*\n.*stale +RUN.*\n.*stale +CMD",
        "replay": r"not CACHED: python-app/main\.py changed",
        "images": r"(?s)my-app +2\.0\.0 +(\w+) .*my-app +latest +\1 .*my-app +1\.0\.0 +(?!\1)\w+",
        "run-1": r"version 1\.0\.0",
        "run-2": r"version 2\.0\.0",
        "nocache": r"done .* RUN python .*not CACHED: --no-cache",
    },
    "03-flask-and-registry": {
        "routes": "/price/<thing>",
        "call": "cake: 5 coins",
        "history": "COPY shop/shop.py /opt/shop/",
        "push": r"(?s)Pushed.*1\.0: digest: sha256:\w{64}",
        "push-again": r"(?s)\A(?!.*Pushed).*Layer already exists",
        "pull": r"Downloaded newer image for 127\.0\.0\.1:\d+/shop:1\.0",
        "pull-run": "/price/<thing>",
    },
    "04-web-server": {
        "run": "web: running",
        "call": "Hello from a container",
        "square": "144",
        "ps": "my-web",
        "logs": r"GET /square/12 HTTP/1\.1. 200",
        "replay": r"(?s)\A(?!.*RUN pip).*COPY main\.py",
        "double": "42",
    },
    "05-from-scratch": {
        "compress": r"busybox\.tar\.xz: \d+ kB",
        "try": r"I am root on a system of \d{3} programs",
        "everything-look": r"/srv/\.env",
        "ignored-look": r"\A(?!(?s:.*\.env))",
        "pick-look": r"\A(?!(?s:.*tar\.xz))(?s:.*site/index\.html)",
        "plain": r"(?s)load \.dockerignore.*\[1/2\] ADD busybox\.tar\.xz /.*naming to docker\.io/library/tiny",
    },
    "06-settings": {
        "env-run": r"(?s)GREETING=Good day COLOUR=blue.*in the container: GREETING=Good day COLOUR=$",
        "arg": "the value of COLOUR changed",
        "user": "ada",
        "user-try": "ada is an ordinary user",
        "inspect": r'"User":"ada".*"8080/tcp"',
        "cmd-run-2": "something else",
        "entrypoint-run-2": "It says: good morning",
        "exec-run": r"exec form: \$HOME",
        "shell-run": "shell form: /root",
    },
    "07-layers-and-cache": {
        "slow-again": r"done +2\.\ds +RUN echo .installing",
        "fast-again": "CACHED +RUN echo .installing",
        "touch-status": r"cell \[\d+\] +built",
        "mount-again": r"big-download\n?",
        "waste-history": r"rm /download\.tar .* 0B(?s:.*)5MB",
        "waste-view": r"/download\.tar",
        "stages-run": r"/app\.pyc",
    },
    "08-when-it-breaks": {
        "fail": "make-something: not found",
        "failed-diff": r"\+ /work/one\.txt",
        "run": "step one",
        "undone": r"(?s)cell prepare +built .*cell use +built",
        "run-2": "step one, better",
        "typo": "did you mean RUN",
        "missing-file-2": r"Did you mean broken/Greeting\.txt",
        "missing-image": "could not be pulled",
        "lint": r"(?s)MaintainerDeprecated.*SecretsUsedInArgOrEnv.*WorkdirRelativePath",
        "lint-again": "no warnings found",
    },
    "09-reproducible": {
        "pin-run": "data of 2026",
        "twice-build": r"\A(sha256:\w+)\n(?!\1)sha256:\w+",
        "same-build": r"\A(sha256:\w+)\n\1",
        "same-look": r"one\.tar (\w+)\ntwo\.tar \1",
        "verify": "Verified: a replay from nothing gives the same",
        "save": "Loaded image: pinned:latest",
        "load-run": "data of 2026",
    },
    "10-for-teachers": {
        "friendly": r"✗ runs as non-root: it runs as root\. Hint: lesson 6 shows USER\.",
        "python": r"share of the checks that passed: 0\.67",
        "points": r"^2\.0$",
        "stub": "not answered yet",
        "structure": "all right, 3 of 3",
    },
}


@dataclass(frozen=True)
class Desk:
    """Where one person works: a folder for the notebook's files, a store, and where images come from."""

    folder: Path
    home: Path
    mirror: str

    def run(self, name: str, answers: dict[str, str] | None = None) -> nbformat.NotebookNode:
        """Execute a shipped lesson with these answers in the cells of that id."""
        notebook = read_notebook(LESSONS / f"{name}.ipynb")
        for cell in notebook.cells:
            cell.source = (answers or {}).get(cell.id, cell.source)
        execute(notebook, self.folder, self.home, environment={"DOCKERMAGIC_MIRRORS": self.mirror})
        return notebook


@pytest.fixture
def desk(tmp_path: Path, shelf: Registry) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, tmp_path / "store", f"docker.io=http://{shelf.address}")


def shown(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    """All that a person reads below a cell."""
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    texts = [
        output.get("text") or output.get("evalue") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(texts))


def answers_of(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The answer that the lesson shows folded, for each cell of an exercise."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.id.startswith("solution"):
            match = re.search(r"```\w*\n(.*?)```", cell.source, re.DOTALL)
            assert match, f"{cell.id} shows no answer"
            found[cell.id.replace("solution", "exercise")] = match[1].rstrip("\n")
    return found


def checks(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.id for cell in notebook.cells if cell.id.startswith("check") and cell.cell_type == "code"]


TRANSLATED = [f"ru/{path.stem}" for path in sorted(LESSONS.glob("ru/*.ipynb"))]


@pytest.mark.parametrize("name", [*CLAIMS, *TRANSLATED])
def test_a_lesson_runs_and_holds_what_it_claims(name: str, desk: Desk) -> None:
    first = desk.run(name)
    again = desk.run(name, answers_of(first))

    for cell_id, pattern in CLAIMS[name.removeprefix("ru/")].items():
        assert re.search(pattern, shown(first, cell_id), re.MULTILINE), f"{cell_id}: {shown(first, cell_id)}"
    assert all("right" in shown(first, cell_id) for cell_id in checks(first))
    assert [shown(again, cell_id) for cell_id in checks(again) if "all right" not in shown(again, cell_id)] == []
    for notebook in (first, again):
        streams = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert [output.text for output in streams if output.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", sorted(LESSONS.glob("**/*.ipynb")), ids=lambda path: path.stem)
def test_a_lesson_is_saved_with_its_outputs_and_without_widgets(path: Path) -> None:
    """What is in the repository reads well where nothing can be run."""
    notebook = read_notebook(path)
    nbformat.validate(notebook)

    assert "widgets" not in notebook.metadata
    assert any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            html = output.get("data", {}).get("text/html", "")
            assert "<script" not in html
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@pytest.mark.parametrize("path", sorted(LESSONS.glob("ru/*.ipynb")), ids=lambda path: path.stem)
def test_a_translation_does_what_the_original_does(path: Path) -> None:
    """Cell by cell; only words differ, and hints."""

    def codes(notebook: nbformat.NotebookNode) -> dict[str, str]:
        cells = (cell for cell in notebook.cells if cell.cell_type == "code")
        return {cell.id: re.sub(r"\n +Hint:.*", "", cell.source) for cell in cells}

    original, translation = read_notebook(LESSONS / path.name), read_notebook(path)

    assert codes(translation) == codes(original)
    assert [cell.id for cell in translation.cells] == [cell.id for cell in original.cells]
    assert answers_of(translation) == answers_of(original)


def test_every_lesson_is_tried() -> None:
    """Translations claim what their originals do."""
    assert {path.stem for path in LESSONS.glob("*.ipynb")} == set(CLAIMS)
