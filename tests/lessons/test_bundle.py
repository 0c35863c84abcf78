"""A lesson in one file: packed on one store, unpacked on another, where all of it is CACHED."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import nbformat
import pytest

from dockermagic.bundles import bundle, unbundle
from dockermagic.engine import Engine
from dockermagic.errors import ArchiveError, DockermagicError, UsageError
from dockermagic.notebookrun import execute, read_notebook

CELLS = (
    "%load_ext dockermagic",
    "%%dockerfile\nFROM busybox AS tool\nRUN od -An -N8 -tx1 /dev/urandom > /made",
    "%%dockerfile -t mine\nFROM busybox@{digest}\nCOPY data.txt /data.txt\nCOPY --from=tool /made /made\nUSER 7\n"
    "RUN cat /made /data.txt",
)


def lesson(folder: Path, *cells: str) -> Path:
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / "lesson.ipynb")
    (folder / "data.txt").write_text("beside the notebook\n")
    (folder / "secret.txt").write_text("no cell reads it\n")
    return folder / "lesson.ipynb"


@pytest.mark.slow
def test_a_bundled_lesson_is_all_cached_elsewhere(id_mode: str, engine_home: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with Engine(engine_home) as engine, io.BytesIO() as file:
        engine.base("busybox")
        digest = engine.inspect("busybox")["RepoDigests"][0].rpartition("@")[2]
        notebook = lesson(tmp_path / "lesson", *(cell.replace("{digest}", digest) for cell in CELLS))
        bundle(engine, notebook, file, tell=told.append)
        packed = file.getvalue()
    with Engine(tmp_path / "other") as engine:
        found = unbundle(engine, io.BytesIO(packed), tmp_path / "desk", tell=told.append)
        names = [row.repository for row in engine.images()]
    replayed = read_notebook(found)
    execute(
        replayed, found.parent, tmp_path / "other", environment={"DOCKERMAGIC_MIRRORS": "docker.io=http://127.0.0.1:1"}
    )

    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["bundle.json", "files/lesson.ipynb", "files/data.txt", "images.tar"]
    assert set(names) == {"busybox"}
    texts = [output.data["text/plain"] for cell in replayed.cells[1:] for output in cell.outputs]
    steps = re.findall(r"^ +\d+ +(\S+) .*?(RUN|COPY) ", "\n".join(texts), re.MULTILINE)
    assert steps == [("CACHED", "RUN"), ("CACHED", "COPY"), ("CACHED", "COPY"), ("CACHED", "RUN")]
    assert told[-1] == "4 built steps are CACHED from now on"


@pytest.mark.slow
def test_a_lesson_that_does_not_run_is_not_bundled(engine_home: Path, tmp_path: Path) -> None:
    notebook = lesson(tmp_path / "lesson", "%load_ext dockermagic", "%%dockerfile\nFROM scratch\nCOPY missing /\n")

    with Engine(engine_home) as engine, pytest.raises(DockermagicError, match="a cell of the notebook failed"):
        bundle(engine, notebook, io.BytesIO(), tell=lambda text: None)


def tar_of(**files: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


EMPTY = b'{"format": 1, "notebook": "a.ipynb", "images": [], "steps": []}'


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (io.BytesIO(b"nothing of the kind" * 100), "not a bundle"),
        (tar_of(other=b""), "has no place for 'other'"),
        (tar_of(**{"files__..__..__evil": b"x"}), "has no place for"),
        (tar_of(__evil=b"x"), "has no place for"),
        (tar_of(files=b""), "has no place for"),
        (tar_of(**{"files__a.ipynb": b"{}"}), "it has no bundle.json"),
        (tar_of(**{"bundle.json": b'{"format": 2}'}), "format 2"),
        (tar_of(**{"bundle.json": EMPTY.replace(b"a.ipynb", b"../a")}), "list of contents is damaged"),
        (tar_of(**{"bundle.json": EMPTY.replace(b'"steps": []', b'"steps": [{}]')}), "list of cached steps is damaged"),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(file: io.BytesIO, problem: str, engine_home: Path, tmp_path: Path) -> None:
    with Engine(engine_home) as engine, pytest.raises(ArchiveError, match=problem):
        unbundle(engine, file, tmp_path / "desk", tell=lambda text: None)

    assert not (tmp_path / "evil").exists()


def test_a_directory_in_use_is_left_alone(engine_home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")

    with Engine(engine_home) as engine, pytest.raises(UsageError, match="not empty"):
        unbundle(engine, io.BytesIO(), tmp_path, tell=lambda text: None)
