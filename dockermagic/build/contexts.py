"""The local sources of one build: its context and its named contexts that are directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dockermagic.build.context import Context, StatCache, ignore_patterns, path_matcher
from dockermagic.build.graph import Copy, LocalSource, Vertex
from dockermagic.build.internal import Internal
from dockermagic.build.request import BuildRequest
from dockermagic.errors import ContextError

__all__ = ["Contexts"]


class Contexts:
    """Opened when first asked for; ``caches`` remembers files' digests from one build to the next."""

    def __init__(
        self, request: BuildRequest, empty: Path, caches: Callable[[str], StatCache], internal: Internal
    ) -> None:
        self.request = request
        self.empty = empty
        self.caches = caches
        self.internal = internal
        self.contexts: dict[str, Context] = {}

    def directory(self, name: str) -> Path:
        """Where a source lies. Raises :class:`ContextError` when it is no directory."""
        place = Path(self.request.build_contexts[name]) if name else self.request.context
        if place is None:
            self.empty.mkdir(parents=True, exist_ok=True)
            place = self.empty
        if not place.is_dir():
            kind = f"build context {name}" if name else "build context"
            raise ContextError(f"{kind} {place}: not a directory", hint="Name a directory that exists.")
        return place.resolve()

    def get(self, name: str) -> Context:
        """The context of that name ('' is the main one)."""
        if name not in self.contexts:
            directory = self.directory(name)
            patterns, file = self._ignore(name, directory)
            self.contexts[name] = Context(directory, patterns, self.caches(str(directory)), file)
        return self.contexts[name]

    def _ignore(self, name: str, directory: Path) -> tuple[list[str], str]:
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
