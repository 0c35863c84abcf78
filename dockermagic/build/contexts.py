"""The contexts of one build: its own, and the named ones: directories, images, layouts, and what has to be fetched."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.build.context import Context, StatCache, ignore_patterns, path_matcher
from dockermagic.build.graph import Copy, LocalSource, Vertex
from dockermagic.build.internal import Internal
from dockermagic.build.request import BuildRequest
from dockermagic.errors import ContextError, InvalidReferenceError
from dockermagic.oci.reference import Reference
from dockermagic.sandbox.base import Cancel

if TYPE_CHECKING:
    from dockermagic.build.opened import OpenedContext

__all__ = ["IMAGE", "LAYOUT", "Contexts", "context_name", "is_image", "reads_context"]


IMAGE = "docker-image://"
LAYOUT = "oci-layout://"


def context_name(text: str) -> str:
    """The name under which a context is looked up: ``alpine``, ``alpine:latest`` and the whole name are the same."""
    try:
        return Reference.parse(text).familiar().removesuffix(":latest")
    except InvalidReferenceError:
        return text.lower()


def is_image(value: str) -> bool:
    """Whether a named context is an image, from the store or from a layout."""
    return value.startswith((IMAGE, LAYOUT))


class Contexts:
    """Opened when first asked for; ``caches`` remembers files' digests from one build to the next.

    What was fetched is there until :meth:`close`.
    """

    def __init__(
        self,
        request: BuildRequest,
        home: Path,
        caches: Callable[[str], StatCache],
        internal: Internal,
        cancel: Cancel | None = None,
    ) -> None:
        self.request = request
        self.home = home
        self.caches = caches
        self.internal = internal
        self.cancel = cancel
        self.contexts: dict[str, Context] = {}
        self._fetched: dict[str, OpenedContext] = {}
        self._open = contextlib.ExitStack()
        self._lock = threading.RLock()

    def close(self) -> None:
        """Remove what was fetched. Idempotent."""
        self._open.close()

    def __enter__(self) -> Contexts:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def fetched(self, name: str) -> OpenedContext:
        """A named context that is a repository or a URL, fetched once."""
        from dockermagic.build.opened import open_named
        from dockermagic.build.remote import shown

        with self._lock:
            if name not in self._fetched:
                value = self.request.build_contexts[name]
                with self.internal.step(f"[context {name}] {shown(value)}"):
                    opened = open_named(value, self.request, self.home, self.cancel)
                    self._fetched[name] = self._open.enter_context(opened)
            return self._fetched[name]

    def time(self, name: str) -> float | None:
        """When a context was made, in seconds: that of a commit or of a remote file; None for anything else."""
        if not name:
            return self.request.context_time
        return self.fetched(name).time if self._is_remote(name) else None

    def _is_remote(self, name: str) -> bool:
        from dockermagic.build.opened import is_remote

        return is_remote(self.request.build_contexts[name])

    def directory(self, name: str) -> Path:
        """Where a source lies. Raises :class:`ContextError` when it is no directory."""
        place = self.request.context
        if name:
            value = self.request.build_contexts[name]
            place = self.fetched(name).directory if self._is_remote(name) else Path(value)
        if place is None:
            place = self.home / "empty"
            place.mkdir(parents=True, exist_ok=True)
        if not place.is_dir():
            kind = f"build context {name}" if name else "build context"
            raise ContextError(f"{kind} {place}: not a directory", hint="Name a directory that exists.")
        return place.resolve()

    def get(self, name: str) -> Context:
        """The context of that name ('' is the main one)."""
        with self._lock:
            if name not in self.contexts:
                directory = self.directory(name)
                patterns, file = self._ignore(name, directory)
                if not name and self.request.left_out:
                    patterns, file = [*self.request.left_out, *patterns], file or "the notebook's own folder as context"
                # What lasts for this build alone is not worth remembering.
                brief = name in self._fetched or (not name and self.request.context_from)
                cache = None if brief else self.caches(str(directory))
                self.contexts[name] = Context(directory, patterns, cache, file, self.cancel)
            return self.contexts[name]

    def _ignore(self, name: str, directory: Path) -> tuple[list[str], str]:
        if name in self._fetched:
            return [], ""
        if not name and self.request.ignore is not None:
            return list(self.request.ignore), f"{self.request.filename}.dockerignore"
        return ignore_patterns(directory, self.request.filename if not name else "")

    def patterns(self) -> list[str]:
        """The ignore patterns of the main context. Raises :class:`ContextError` for one that is malformed."""
        found, file = self._ignore("", self.directory(""))
        path_matcher(found, file)
        return found

    def load_ignore(self) -> None:
        """Announce the ignore file, as BuildKit does."""
        with self.internal.step("[internal] load .dockerignore") as step:
            size = 2
            if self.request.context is not None:
                path = self.request.context / ".dockerignore"
                size = path.stat().st_size if path.is_file() else size
            step.status("transferring context:", size)

    def save(self) -> None:
        """Keep what was learnt about files."""
        for context in self.contexts.values():
            if context.cache is not None:
                context.cache.save()


def reads_context(vertex: Vertex) -> bool:
    """Whether a vertex copies files of a local source."""
    return isinstance(vertex.op, Copy) and isinstance(vertex.op.source, LocalSource) and bool(vertex.op.patterns)
