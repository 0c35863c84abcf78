"""Images in Python's hands, for asserts in lessons and in graders.

::

    import dockermagic

    app = dockermagic.image("app")
    assert app.run("python --version").stdout.startswith("Python 3")
    assert app.file("/app/main.py").exists
    assert app.env["PORT"] == "8000"
    assert not app.diff("app:old").paths

The value of a ``%%dockerfile`` cell, ``_`` in the next one, is the same for what the cell has built. Nothing of this
prints anything.
"""

from __future__ import annotations

import atexit
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from threading import Timer
from typing import TYPE_CHECKING, Any

from dockermagic.errors import ContainerError, ImageNotFoundError, UsageError
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.build.request import StageResult
    from dockermagic.catalog import HistoryRow
    from dockermagic.engine import Engine
    from dockermagic.imagediff import ImageDiff
    from dockermagic.view import TreeEntry

__all__ = ["File", "Image", "Layer", "Ran", "Tree", "find_file", "image", "shared_engine"]

_MOST_LINKS = 40


@cache
def shared_engine() -> Engine:
    """This process's engine, closed at its end."""
    from dockermagic.engine import Engine

    engine = Engine()
    atexit.register(engine.close)
    return engine


def image(name: str) -> Image:
    """The image of that name or id in the store. Raises ImageNotFoundError."""
    found = Image(shared_engine(), name)
    try:
        found.document  # noqa: B018 (an image that is not here is said so now, not at the first question)
    except ImageNotFoundError as error:
        error.hint = error.hint or "`%docker images` lists those that are here; `%%dockerfile -t NAME` gives a name."
        raise
    return found


def find_file(engine: Engine, snapshots: tuple[int, ...], path: str) -> tuple[str, TreeEntry | None]:
    """Where a path leads when symbolic links are followed, and what is there; None where nothing is.

    The root is no layer's, so it is as containers have it: root's, and 755.
    """
    todo = [part for part in posixpath.normpath("/" + path).split("/") if part]
    place, found, links = "/", None, 0
    while todo:
        name = todo.pop(0)
        if name == "..":
            place = posixpath.dirname(place)
            continue
        try:
            entries = engine.tree(snapshots, place)
        except UsageError:
            return place, None
        found = next((entry for entry in entries if entry.name == name), None)
        if found is None:
            return place, None
        if found.kind == "link":
            links += 1
            if links > _MOST_LINKS:
                return place, None
            place = "/" if found.link.startswith("/") else place
            todo = [part for part in found.link.split("/") if part not in ("", ".")] + todo
            continue
        place = posixpath.join(place, name)
    if place == "/":
        from dockermagic.view import TreeEntry

        return place, TreeEntry("/", "directory", mode=0o755)
    return place, found


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command: its exit code, what it wrote, and how many seconds it took."""

    exit_code: int
    stdout: str
    stderr: str
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its diff_id, the instruction that made it as the history has it, and the bytes of its files."""

    diff_id: str
    created_by: str
    size: int


class Image:
    """An image: what it holds, how it is configured and what its programs do. Each question is asked when it is put."""

    def __init__(
        self, engine: Engine, name: str = "", *, stage: StageResult | None = None, shown: bool = False
    ) -> None:
        self._engine = engine
        self._name = name
        self._stage = stage
        self._shown = shown

    def __repr__(self) -> str:
        return f"<image {self.name or self.id.removeprefix('sha256:')[:12]}>"

    def _ipython_display_(self) -> None:
        """A cell's value shows nothing below the card of that cell; an image that is asked for shows its name."""
        if not self._shown:
            raise NotImplementedError
        self._shown = False

    @property
    def name(self) -> str:
        """The name by which it was asked for; '' for what a cell without ``-t`` has built."""
        return self._name

    @cached_property
    def _reference(self) -> str:
        """What the engine finds it by. What a cell built becomes an image when this is first needed."""
        if self._stage is None:
            return self._name
        return self._engine.commit_image(self._stage, ())

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """What ``docker inspect`` says of it."""
        return self._engine.inspect(self._reference)

    @property
    def id(self) -> str:
        """``sha256:...``, the digest of its config."""
        return str(self.document["Id"])

    @property
    def config(self) -> Mapping[str, Any]:
        """How its containers start: ``Env``, ``Cmd``, ``Entrypoint``, ``WorkingDir``, ``User``, ``Labels`` ..."""
        if self._stage is not None:
            return dict(self._stage.config.get("config") or {})
        found: Mapping[str, Any] = self.document["Config"]
        return found

    @property
    def env(self) -> dict[str, str]:
        """Its environment variables."""
        return dict(entry.partition("=")[::2] for entry in self.config.get("Env") or ())

    @cached_property
    def history(self) -> tuple[HistoryRow, ...]:
        """Its steps, the newest first: ``created_by``, ``size``, ``created``."""
        rows = self._engine.stage_history(self._stage) if self._stage else self._engine.history(self._name)
        return tuple(rows)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, the lowest first."""
        made = [row for row in reversed(self.history) if not row.empty_layer]
        diff_ids = self.document["RootFS"]["Layers"]
        return tuple(Layer(one, row.created_by, row.size) for one, row in zip(diff_ids, made, strict=True))

    @cached_property
    def _snapshots(self) -> tuple[int, ...]:
        return self._stage.snapshots if self._stage else self._engine.snapshots_of(self._name)

    @property
    def tree(self) -> Tree:
        """Its root filesystem."""
        return Tree(self._engine, self._snapshots)

    def file(self, path: str) -> File:
        """The file or folder at a path from the root, ``/app/main.py``, whether or not there is one."""
        return File(self._engine, self._snapshots, path)

    def run(
        self,
        command: str | Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        timeout: float | None = None,
    ) -> Ran:
        """Run a command in a container that is gone afterwards.

        A text is run by the image's ``/bin/sh``, whatever its ENTRYPOINT is. A sequence of words stands where it would
        in ``docker run IMAGE WORDS``; without any the image does what it does by itself. A command that fails is no
        exception: look at ``exit_code``. Raises ContainerError where none can be started, and where it has not ended
        after ``timeout`` seconds.
        """
        from dockermagic.containers.request import RunRequest
        from dockermagic.sandbox.base import Cancel

        shell = isinstance(command, str)
        words = ("-c", command) if isinstance(command, str) else tuple(command)
        request = RunRequest(
            self._reference,
            words,
            entrypoint=("/bin/sh",) if shell else None,
            env=tuple((env or {}).items()),
            user=user,
            remove=True,
        )
        written: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        late = Cancel()
        timer = Timer(timeout or 0, late.set)
        if timeout is not None:
            timer.start()
        try:
            ended = self._engine.run(request, output=lambda stream, data: written[stream - 1].extend(data), cancel=late)
        finally:
            timer.cancel()
        if late.is_set():
            raise ContainerError(f"the command had not ended after {timeout:g}s", hint="Does it wait for something?")
        out, err = (data.decode("utf-8", "replace") for data in written)
        return Ran(ended.exit_code, out, err, ended.seconds)

    def diff(self, other: Image | str) -> ImageDiff:
        """How this image differs from another one: ``fields`` of the config, ``layers``, ``paths``; ``is_empty``.

        What is here and not there is ``added``.
        """
        reference = other._reference if isinstance(other, Image) else other
        return self._engine.image_diff(reference, self._reference)


class Tree(Mapping[str, "File"]):
    """A folder of a root filesystem, as a mapping of names to files; ``tree["etc/passwd"]`` reaches deeper."""

    def __init__(self, engine: Engine, snapshots: tuple[int, ...], path: str = "/") -> None:
        self._engine = engine
        self._snapshots = snapshots
        self.path = path

    def __repr__(self) -> str:
        return f"<tree {self.path}: {', '.join(self)}>"

    @cached_property
    def _entries(self) -> dict[str, TreeEntry]:
        return {entry.name: entry for entry in self._engine.tree(self._snapshots, self.path)}

    def __getitem__(self, path: str) -> File:
        found = File(self._engine, self._snapshots, posixpath.join(self.path, path.lstrip("/")))
        if not found.exists:
            raise KeyError(path)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class File:
    """A file or folder of a root filesystem, whether or not it is there; symbolic links are followed."""

    def __init__(self, engine: Engine, snapshots: tuple[int, ...], path: str) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self.path = posixpath.normpath(f"/{path.lstrip('/')}")

    def __repr__(self) -> str:
        return f"<file {self.path}{'' if self.exists else ', which is not there'}>"

    @cached_property
    def _found(self) -> tuple[str, TreeEntry | None]:
        return find_file(self._engine, self._snapshots, self.path)

    @property
    def exists(self) -> bool:
        """Whether anything is there."""
        return self._found[1] is not None

    @property
    def entry(self) -> TreeEntry:
        """Its ``kind``, ``size``, ``mode``, ``uid`` and ``gid``. Raises UsageError where nothing is."""
        if self._found[1] is None:
            raise UsageError(f"there is no {self.path} in the image")
        return self._found[1]

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.entry.size

    @property
    def mode(self) -> int:
        """Its permissions: ``0o755``."""
        return self.entry.mode or 0

    def read_bytes(self) -> bytes:
        """Its content. Raises UsageError where there is no file."""
        if self.entry.kind == "directory":
            raise UsageError(f"{self.path} is a folder")
        return self._engine.read_file(self._snapshots, self._found[0], limit=max(1, self.size))

    def read_text(self) -> str:
        """Its content as UTF-8."""
        return self.read_bytes().decode("utf-8")
