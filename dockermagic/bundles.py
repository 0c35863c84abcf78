"""Lessons for a classroom without network: a notebook with all that it needs, in one file.

A bundle is a tar: ``bundle.json`` says what is in it, ``files/`` has the notebook and what lies beside it,
``images.tar`` is an OCI archive of the base images and of every layer that the lesson builds. It is made by running
the lesson in an empty store, so it holds what the lesson needs and nothing else of this machine.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dockermagic.engine import Engine
from dockermagic.errors import ArchiveError, DockermagicError, UsageError
from dockermagic.lessons import Lesson
from dockermagic.notebookrun import execute, read_notebook

__all__ = ["bundle", "clean_desk", "unbundle"]

_FORMAT = 1
_FILES = PurePosixPath("files")
_LARGEST_LIST = 64 << 20

Tell = Callable[[str], None]


def bundle(engine: Engine, notebook: Path, out: IO[bytes], *, beside: Iterable[Path] = (), tell: Tell) -> None:
    """Run the lesson from nothing and write its bundle.

    Its folder gives what its cells copy, and ``beside`` further files and folders, which lie below the notebook's own.
    The bases come from the engine's store, or from where ``prepare`` gets them. Raises DockermagicError, also where a
    cell fails.
    """
    lesson = Lesson.read(notebook)
    folder = notebook.resolve().parent
    wanted = dict.fromkeys([*_inside(folder, beside), *(path for path in lesson.reads() if (folder / path).exists())])
    bases = lesson.bases()
    with clean_desk(engine, lesson, tell) as (desk, own):
        for path in wanted:
            _copy(folder / path, desk / path)
        tell(f"running {notebook.name} from nothing, with {', '.join(bases) or 'no base'}")
        before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
        execute(read_notebook(notebook), desk, own.home)
        names, entries = own.pack_cache()
        document = {"format": _FORMAT, "notebook": notebook.name, "images": names, "steps": entries}
        with tempfile.TemporaryFile(dir=desk.parent) as archive, tarfile.open(fileobj=out, mode="w|") as tar:
            own.save([*bases, *names], archive, "oci")
            _add(tar, "bundle.json", json.dumps(document, indent=1).encode())
            _add(tar, str(_FILES / notebook.name), notebook.read_bytes())
            for path, content in sorted(before.items()):
                _add(tar, str(_FILES / path.relative_to(desk).as_posix()), content)
            info = tarfile.TarInfo("images.tar")
            info.size = archive.tell()
            archive.seek(0)
            tar.addfile(info, archive)
    tell(f"{len(entries)} built steps and {len(bases)} base images are in the bundle")


@contextmanager
def clean_desk(engine: Engine, lesson: Lesson, tell: Tell) -> Iterator[tuple[Path, Engine]]:
    """An empty folder, and an engine with the lesson's bases and nothing else; both are gone afterwards.

    The bases come from ``engine``'s store, or from where ``prepare`` gets them. Raises DockermagicError.
    """
    bases = lesson.bases()
    for base in bases:
        if not engine.base_here(base):
            tell("\n".join(engine.prepare(base)))
    with engine.scratch() as work:
        desk = work / "desk"
        desk.mkdir()
        with Engine(work / "store") as own:
            if bases:
                with tempfile.TemporaryFile(dir=work) as archive:
                    engine.save(bases, archive, "oci")
                    archive.seek(0)
                    own.load(archive)
                _pin(own, bases)
            try:
                yield desk, own
            finally:
                own.reset()


def _inside(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Paths as they stand below a folder. Raises UsageError."""
    found = []
    for path in paths:
        try:
            found.append(path.resolve().relative_to(folder))
        except ValueError:
            raise UsageError(f"{path} does not lie below the notebook's folder, {folder}") from None
        if not path.exists():
            raise UsageError(f"there is no {path}")
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def unbundle(engine: Engine, source: IO[bytes], directory: Path, *, tell: Tell) -> Path:
    """Put the lesson's files into ``directory``, which is new or empty, and its images and layers into the store.

    Returns the notebook's path. Raises ArchiveError for a file that is no bundle or is damaged, UsageError for a
    directory that is in use.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is there already and not empty", hint="Name another: unbundle FILE DIRECTORY")
    document: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ArchiveError(f"a bundle holds files alone, and {member.name!r} is none")
                if member.name == "bundle.json" and member.size <= _LARGEST_LIST:
                    document = _document(content.read())
                elif member.name == "images.tar" and document:
                    for line in engine.load(content):
                        if "dockermagic.invalid" not in line:
                            tell(line)
                else:
                    _write(directory, member.name, content)
    except tarfile.TarError as error:
        raise ArchiveError(f"not a bundle, or damaged: {error}") from None
    if not document:
        raise ArchiveError("not a bundle: it has no bundle.json")
    notebook = directory / str(document["notebook"])
    if notebook.is_file():
        _pin(engine, Lesson.read(notebook).bases())
    count = engine.restore_cache(document["images"], document["steps"])
    tell(f"{count} built steps are CACHED from now on")
    return notebook


def _pin(engine: Engine, bases: Iterable[str]) -> None:
    """Give images of an archive, which has no names with a digest, those names again."""
    for base in bases:
        if "@" in base:
            engine.tag(base.rpartition("@")[2], base)


def _document(content: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(content)
        if found["format"] != _FORMAT:
            raise ArchiveError(f"a bundle of format {found['format']!r}, made by another version of dockermagic")
        strings = [found["notebook"], *found["images"]]
        if not all(isinstance(one, str) for one in strings) or "/" in found["notebook"]:
            raise TypeError
        return {"notebook": found["notebook"], "images": list(found["images"]), "steps": list(found["steps"])}
    except (ValueError, KeyError, TypeError):
        raise ArchiveError("the bundle's list of contents is damaged") from None


def _write(directory: Path, name: str, content: IO[bytes]) -> None:
    """A file of the lesson, inside of the directory and nowhere else."""
    path = PurePosixPath(name)
    inside = path.parts[1:]
    if path.parts[:1] != _FILES.parts or not inside or ".." in inside or path.is_absolute() or "\\" in name:
        raise ArchiveError(f"a bundle has no place for {name!r}")
    target = directory.joinpath(*inside)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(content, file)
    except OSError as error:
        raise DockermagicError(f"cannot write {target}: {error.strerror}") from None
