"""Whether a session's Dockerfile, replayed from nothing, gives what the session has now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping

from dockermagic.dockerfile.stages import global_scope, parse_dockerfile, references
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError, ImageNotFoundError, SessionError
from dockermagic.events import Emit
from dockermagic.imagediff import FieldChange, ImageDiff, PathChange
from dockermagic.session import Session
from dockermagic.values import dataclass, replace

__all__ = ["Verdict", "verify"]

NOW, REPLAYED = "dockermagic.invalid/now:verify", "dockermagic.invalid/replayed:verify"
_MOST_PATHS = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay gave: the layers' diff_ids as they are now and as they came, and how the images differ."""

    now: tuple[str, ...]
    replayed: tuple[str, ...]
    diff: ImageDiff

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        """The fields of the config that differ, but for times."""
        return tuple(one for one in self.diff.fields if one.field.rpartition(".")[2] != "created")

    @property
    def paths(self) -> tuple[PathChange, ...]:
        """The paths that differ in more than their time."""
        return tuple(one for one in self.diff.paths if one.state != "changed" or set(one.what) != {"time"})

    @property
    def identical(self) -> bool:
        """Whether every layer has the same digest and the config differs in no more than times."""
        return self.now == self.replayed and not self.fields

    @property
    def equal(self) -> bool:
        """Whether nothing differs but times."""
        return not (self.fields or self.paths) and len(self.diff.paths) == self.diff.path_count


def verify(engine: Engine, session: Session, emit: Emit = lambda event: None) -> Verdict:
    """Build the session's Dockerfile in an empty store with nothing but its base images, and compare.

    The session, its cache and the names of the store are as before. Raises SessionError where nothing is built, and
    what a build raises.
    """
    run = session.build()
    if run.stage is None:
        raise SessionError("nothing is built yet", hint="Run a cell that begins with FROM: FROM busybox")
    request = replace(session.request(), tags=())
    with engine.scratch() as work, Engine(work / "store") as fresh:
        bases = list(_bases(engine, request.text, request.build_args))
        _carry(engine, fresh, bases)
        result = fresh.build(request, emit)
        fresh.commit_image(result.stages[result.target], (REPLAYED,))
        try:
            engine.commit_image(run.stage, (NOW,))
            _carry(fresh, engine, [REPLAYED])
            now, replayed = (tuple(engine.inspect(name)["RootFS"]["Layers"]) for name in (NOW, REPLAYED))
            return Verdict(now, replayed, engine.image_diff(NOW, REPLAYED, limit=_MOST_PATHS))
        finally:
            for name in (NOW, REPLAYED):
                _forget(engine, name)
            fresh.reset()


def _bases(engine: Engine, text: str, build_args: Mapping[str, str]) -> Iterator[str]:
    """The images of the store that a Dockerfile stands on; others the replay fetches as any build does."""
    dockerfile = parse_dockerfile(text)
    found = references(dockerfile, global_scope(dockerfile, build_args))
    named = [one.base for one in found if one.base_stage is None]
    named += [link.name for one in found for link in one.links if link.stage is None]
    for name in dict.fromkeys(named):
        try:
            engine.inspect(name)
        except DockermagicError:
            continue
        yield name


def _carry(source: Engine, target: Engine, names: list[str]) -> None:
    if names:
        with tempfile.TemporaryFile() as archive:
            source.save(names, archive, "oci")
            archive.seek(0)
            target.load(archive)
        for name in names:
            if "@" in name:  # an archive has no names with a digest
                target.tag(name.rpartition("@")[2], name)


def _forget(engine: Engine, name: str) -> None:
    try:
        engine.remove_image(name)
    except ImageNotFoundError:
        pass  # the replay failed before it had one
