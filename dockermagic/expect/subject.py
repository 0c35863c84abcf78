"""An image under examination: its notes, files and layers, and a container of it where a check wants one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dockermagic.containers.request import RunRequest
from dockermagic.errors import ContainerError, UsageError
from dockermagic.handles import find_file
from dockermagic.sandbox.base import Cancel
from dockermagic.values import dataclass

if TYPE_CHECKING:
    from dockermagic.catalog import HistoryRow
    from dockermagic.engine import Engine
    from dockermagic.view import TreeEntry

__all__ = ["Ran", "Subject"]

PATIENCE = 60.0
"""Seconds after which a container that a check started is ended."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a container: its streams apart, and both in the order in which they came."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    output: bytes


class Subject:
    """Asks the engine only what a check wants to know, and that once."""

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        self.image = image
        self._ran: dict[object, Ran] = {}

    def of(self, image: str) -> Subject:
        """Another image of the same engine."""
        return Subject(self.engine, image)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``docker inspect`` says. Raises ImageNotFoundError."""
        return self.engine.inspect(self.image)

    @property
    def config(self) -> Mapping[str, Any]:
        """The notes of the image: Env, Cmd, User ..."""
        found: Mapping[str, Any] = self.document["Config"]
        return found

    @property
    def env(self) -> dict[str, str]:
        """The image's environment variables."""
        return dict(entry.partition("=")[::2] for entry in self.config.get("Env") or ())

    @property
    def size(self) -> int:
        """Bytes of the files in all layers."""
        return int(self.document["Size"])

    @property
    def layers(self) -> list[str]:
        """The diff_ids, bottom first."""
        return list(self.document["RootFS"]["Layers"])

    def history(self, base: str = "") -> list[HistoryRow]:
        """The steps, the newest first, without those of an image that it was built on. Raises UsageError."""
        rows = self.engine.history(self.image)
        if not base:
            return list(rows)
        below = self.of(base)
        if self.layers[: len(below.layers)] != below.layers:
            raise UsageError(f"{self.image} was not built on {base} as it is now")
        return list(rows[: max(0, len(rows) - len(self.engine.history(base)))])

    @cached_property
    def _snapshots(self) -> tuple[int, ...]:
        return self.engine.snapshots_of(self.image)

    def entry(self, path: str) -> TreeEntry | None:
        """What is at a path, symbolic links followed; None where nothing is."""
        self._place, found = find_file(self.engine, self._snapshots, path)
        return found

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The beginning of a file. Raises UsageError if there is none."""
        if self.entry(path) is None:
            raise UsageError(f"there is no {path}")
        return self.engine.read_file(self._snapshots, self._place, limit=limit)

    def folders(self, path: str) -> list[str]:
        """The names of the directories in a directory, links not followed. Raises UsageError if there is none."""
        return [entry.name for entry in self.engine.tree(self._snapshots, path) if entry.kind == "directory"]

    def run(self, command: tuple[str, ...] = (), **more: Any) -> Ran:
        """A container with these words behind the image; the same question is asked once. Raises ContainerError."""
        request = RunRequest(self.image, command, remove=True, **more)
        key = (command, *sorted(more.items()))
        if key not in self._ran:
            self._ran[key] = self._run(request)
        return self._ran[key]

    def _run(self, request: RunRequest) -> Ran:
        pieces: list[tuple[int, bytes]] = []
        cancel = Cancel()
        timer = threading.Timer(PATIENCE, cancel.set)
        timer.start()
        try:
            ended = self.engine.run(request, output=lambda stream, data: pieces.append((stream, data)), cancel=cancel)
        except BaseException:
            if not cancel.is_set():
                raise
            raise ContainerError(f"its container did not end within {PATIENCE:.0f} seconds") from None
        finally:
            timer.cancel()
        streams = [b"".join(data for stream, data in pieces if stream == number) for number in (1, 2)]
        return Ran(ended.exit_code, streams[0], streams[1], b"".join(data for _, data in pieces))
