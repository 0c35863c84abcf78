"""What a notebook needs before it can run: read from its cells, without running any of them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from dockermagic.conversion import dockerfile_of, has_dockerfile_kernel
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.model import Add, Arg, Copy, From, Instruction, Run
from dockermagic.dockerfile.parser import parse_fragment
from dockermagic.dockerfile.shell import expand_with_matches
from dockermagic.errors import DockermagicError, UsageError
from dockermagic.values import dataclass

__all__ = ["COPY", "FIRST", "Lesson", "copied", "lessons_in", "shipped_lessons"]

COPY = "dockermagic-lessons"
"""The folder of a person's own copy of the lessons."""
FIRST = "01-first-image.ipynb"

_MAGIC = re.compile(r"%%dockerfile\b(?P<line>.*)|%%writefile\s+(?:\S*/)?(?:Dockerfile|\S*\.Dockerfile)\s*$")
_VARIABLE = re.compile(r"\$|\{\w+\}")
_LOOPBACK = ("127.0.0.1:", "localhost:")
_WANTED = re.compile(r"\s*[%!]?\s*(?:%docker|dockermagic)\s+(?:prepare|base|pull)\s+(?P<words>.+)")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A notebook: its place and the sources of its code cells, without those that are marked ``raises-exception``."""

    path: Path
    cells: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Lesson:
        """Read a notebook of format 4. Raises DockermagicError."""
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
            cells = [cell for cell in document["cells"] if cell["cell_type"] == "code" and not _fails(cell)]
            sources = ["".join(cell["source"]) for cell in cells]
            if has_dockerfile_kernel(document.get("metadata") or {}):
                sources = [_with_magic(source) for source in sources]
            return cls(path, tuple(sources))
        except OSError as error:
            raise DockermagicError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise DockermagicError(f"{path} is not a notebook", hint="A file of Jupyter ends in .ipynb.") from None

    def bases(self) -> tuple[str, ...]:
        """The images that its cells stand on, each once: those of FROM, of ``--from`` and ``from=``, and those of
        ``%docker prepare``, ``base`` and ``pull``.

        Variables have the values that ARG and ``--build-arg`` give them. Stages and what the lesson itself gives a name
        are none of them; neither is a name with any other variable in it, nor what lies in a registry on this machine,
        which a lesson starts itself.
        """
        found: list[str] = []
        own: set[str] = {"scratch"}
        values: dict[str, str] = {}
        for source in self.cells:
            first, _, body = source.partition("\n")
            if match := _MAGIC.match(first):
                line = match["line"] or ""
                tags = _values(line, ("-t", "--tag"))
                own |= set(tags) | {f"{tag}:latest" for tag in tags}
                given = dict(pair.partition("=")[::2] for pair in _values(line, ("--build-arg",)))
                for made in _instructions(body, "arg", "from", "copy", "run"):
                    if isinstance(made, Arg):
                        defaults = {name: _expanded(word, values) for name, word in made.args if word is not None}
                        values |= {name: given.get(name, defaults.get(name, "")) for name, _ in made.args}
                    if isinstance(made, From):
                        own.add((made.alias or "").lower())
                    found += [_expanded(name, values) for name in _images(made) if not name.isdigit()]
                continue
            for line in source.split("\n"):
                if wanted := _WANTED.match(line):
                    found += [word for word in wanted["words"].split() if not word.startswith("-")]
        bases = (name for name in dict.fromkeys(found) if name and name.lower() not in own)
        return tuple(name for name in bases if not name.startswith(_LOOPBACK) and not _VARIABLE.search(name))

    def reads(self) -> tuple[Path, ...]:
        """What its Dockerfile cells read of the notebook's folder: contexts, and the sources of COPY and ADD."""
        found: list[str] = []
        for source in self.cells:
            first, _, body = source.partition("\n")
            match = _MAGIC.match(first)
            if not match:
                continue
            folders = _values(match["line"] or "", ("-c", "--context"))
            found += folders or _copied(body)
        plain = (name for name in found if not _VARIABLE.search(name) and "*" not in name and ".." not in name)
        paths = (Path(name.strip("/")) for name in plain)
        return tuple(dict.fromkeys(path for path in paths if path != Path()))


def _fails(cell: Any) -> bool:
    """Whether the cell fails on purpose."""
    return "raises-exception" in cell.get("metadata", {}).get("tags", ())


def _with_magic(source: str) -> str:
    """A cell of the Dockerfile kernel as Python's kernel would have it."""
    body = "" if source.lstrip().startswith("%%") else dockerfile_of(source, plain=True)
    return f"%%dockerfile\n{body}" if body.strip() else source


def _instructions(body: str, *keywords: str) -> list[Instruction]:
    """A cell's instructions of these kinds. A cell that is no Dockerfile has none."""
    try:
        return [instruction(node) for node in parse_fragment(body).nodes if node.keyword in keywords]
    except DockermagicError:
        return []


def _copied(body: str) -> Iterator[str]:
    """The sources of COPY and ADD in the build context."""
    for one in _instructions(body, "copy", "add"):
        if isinstance(one, Add) or (isinstance(one, Copy) and not one.from_):
            yield from (name for name in one.sources if "://" not in name)


def _images(made: Instruction) -> Iterator[str]:
    """What an instruction takes files from beside the build context: stages and images, as they are written."""
    if isinstance(made, From):
        yield made.image
    elif isinstance(made, Copy):
        yield made.from_
    elif isinstance(made, Run):
        yield from (mount.from_ or "" for mount in made.mounts)


def _expanded(word: str, values: Mapping[str, str]) -> str:
    """The word with its variables' values, '' where one has none."""
    try:
        expanded, _, missing = expand_with_matches(word, values)
    except DockermagicError:
        return ""
    return "" if missing else expanded


def _values(line: str, options: tuple[str, ...]) -> list[str]:
    """The values of an option on a magic's line."""
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    return [value for word, value in pairwise(words) if word in options]


def shipped_lessons() -> Path:
    """The folder of this package's own lessons: beside it in a checkout, inside of it where it is installed."""
    package = Path(__file__).resolve().parent
    for place in (package.parent / "notebooks", package / "notebooks"):
        if any(place.glob("*.ipynb")):
            return place
    raise UsageError("the lessons are missing from this installation", hint="Install dockermagic again.")


def lessons_in(folder: Path) -> Path:
    """The lessons for somebody who works in ``folder``: a copy there, or in a checkout the notebooks themselves."""
    shipped = shipped_lessons()
    return copied(shipped, folder) if shipped.parent == Path(__file__).resolve().parent else shipped


def copied(lessons: Path, folder: Path) -> Path:
    """A copy of the lessons in ``folder``; what is there of it already stays as it is."""
    copy = folder / COPY
    for path in sorted(lessons.glob("**/*.ipynb")):
        target = copy / path.relative_to(lessons)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return copy
