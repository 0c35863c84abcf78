"""What a user can ask for. Wires the rooms together; every verb is a few lines.

:class:`Engine` is the embedded engine. Session, notebook and command line know its methods, not its rooms: an engine
that drives Docker, Podman or BuildKit can stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Unpack

from dockermagic.errors import ArchiveError, ContainerError, ImageNotFoundError, InvalidReferenceError, RegistryError
from dockermagic.exchange import Exchange
from dockermagic.rooms import default_home, silence
from dockermagic.upkeep import Upkeep
from dockermagic.values import replace

if TYPE_CHECKING:
    from dockermagic.build.opened import OpenedContext
    from dockermagic.build.request import BuildRequest, BuildResult, StageResult
    from dockermagic.catalog import HistoryRow, ImageSummary
    from dockermagic.containers.container import Container, ContainerResult
    from dockermagic.containers.request import RunRequest
    from dockermagic.containers.terminal import Screen, TerminalSession
    from dockermagic.dockerfile.linter import Report as LintReport
    from dockermagic.events import Emit, Event
    from dockermagic.files import Change, Files, Layers
    from dockermagic.imagediff import ImageDiff
    from dockermagic.oci.image import Image
    from dockermagic.sandbox.base import Cancel, Output
    from dockermagic.sandbox.running import Running
    from dockermagic.sandbox.snapshot import Snapshot
    from dockermagic.view import InfoView, TreeEntry

__all__ = ["Engine", "default_home"]


def _once_it_moves(emit: Emit) -> Emit:
    """Hand events on from the first that tells of progress: a try that ends before shows nothing."""
    from dockermagic.events import Status

    held: list[Event] = []
    moved = False

    def hand_on(event: Event) -> None:
        nonlocal moved
        held.append(event)
        moved = moved or isinstance(event, Status)
        while moved and held:
            emit(held.pop(0))

    return hand_on


class Engine(Exchange, Upkeep):
    """The embedded engine over one store. Cheap to make: nothing is opened before it is used. A context manager.

    Safe for several threads, and for several processes on one ``home``.
    """

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def scratch(self) -> AbstractContextManager[Path]:
        """A directory to work in that is gone afterwards; if this process is killed, the next one takes it away."""
        from dockermagic.oci.lock import temporary_directory

        return temporary_directory(self.home / "contexts", "stdin-")

    # building

    def build(self, request: BuildRequest, emit: Emit = silence, *, cancel: Cancel | None = None) -> BuildResult:
        """Build the target and the further stages of the request; tag and export where it says so.

        Raises a :class:`DockermagicError` with the place of the instruction. A failed RUN's error has ``failed``, its
        half-made layer, which stays until a build makes one. KeyboardInterrupt in the calling thread becomes
        :class:`BuildInterruptedError` after everything that ran was ended.
        """
        # What the build stands on stays until it is done, even if another process removes the image meanwhile.
        with self._lock, self.store.lease():
            result = self.builder.build(request, emit, cancel)
            if any(not step.cached for step in result.steps) and (notice := self.sandbox_notice()):
                from dockermagic.events import Warning

                emit(Warning("", 1, notice))
        self._keep_to_bound()
        return result

    def open_context(
        self, source: str | IO[bytes], request: BuildRequest, *, cancel: Cancel | None = None
    ) -> AbstractContextManager[OpenedContext]:
        """A context that is no directory, as one that is gone afterwards: a tar, a URL, a git repository, a stream.

        Where it is not a tar it is a Dockerfile alone. ``request`` has the secrets and certificates for fetching it.
        """
        from dockermagic.build.opened import open_context
        from dockermagic.build.trust import with_certificates

        return open_context(source, with_certificates(request), self.home, cancel)

    def keys(self, request: BuildRequest) -> tuple[str, ...]:
        """The cache key of each instruction of the text as it stands now; nothing is built.

        An instruction that only changes the config has a key of its state, too. '' stands where something below was
        never built, and for stages that the request does not need.
        """
        with self._lock:
            return self.builder.keys(request)

    def commit_image(self, stage: StageResult, names: tuple[str, ...]) -> str:
        """Make an image of a built stage under these names and return its id. Atomic."""
        return self.builder.commit_image(stage, names)

    def diff_ids(self, stage: StageResult) -> tuple[str, ...]:
        """The diff_ids of a built stage's layers, bottom first. Layers that have none yet are packed for it."""
        with self.store.lease():
            return tuple(self.builder.image(stage).diff_ids)

    # images

    def images(self) -> list[ImageSummary]:
        """Every name of every image, the newest first."""
        from dockermagic.catalog import list_images

        return list_images(self.store)

    def is_here(self, name: str) -> bool:
        """Whether an image of that name or id is in the store."""
        try:
            self.store.find(name)
        except ImageNotFoundError:
            return False
        return True

    def history(self, name: str) -> list[HistoryRow]:
        """The steps of an image, the newest first. Raises :class:`ImageNotFoundError`."""
        from dockermagic.catalog import image_history
        from dockermagic.oci.image import Image

        return image_history(self.store, Image.load(self.store, self.store.find(name).descriptor))

    def stage_history(self, stage: StageResult) -> list[HistoryRow]:
        """The steps of a built stage, the newest first."""
        from dockermagic.catalog import history_rows
        from dockermagic.oci.spec import HistoryEntry

        entries = tuple(HistoryEntry.from_json(entry) for entry in stage.config.get("history", ()))
        facts = self.builder.facts(stage.snapshots, stage.snapshots)
        return history_rows(entries, [facts[identity].bytes for identity in stage.snapshots])

    def inspect(self, name: str) -> dict[str, Any]:
        """The document of ``docker inspect``. Raises :class:`ImageNotFoundError`."""
        from dockermagic.catalog import inspect

        return inspect(self.store, self.store.find(name))

    def tag(self, source: str, target: str) -> None:
        """Give an image one more name, taken from whatever had it."""
        from dockermagic.oci.reference import Reference

        self.store.tag(Reference.parse(target), self.store.find(source).descriptor)

    def base(self, name: str, emit: Emit = silence) -> list[str]:
        """Make a base image from this machine's own packages, and say what it was made of."""
        from dockermagic.build.bases import make_base

        with self._lock, self.store.lease():
            return make_base(name, self.builder, emit)

    def base_here(self, name: str) -> str:
        """Words on a base that is in the store: that it is here, and where it comes from if it was made; else ''."""
        from dockermagic.oci.reference import Reference
        from dockermagic.standins import LABEL

        reference = Reference.parse(name)
        if self.store.resolve(reference) is None:
            return ""
        origin = (self.inspect(name)["Config"].get("Labels") or {}).get(LABEL)
        return f"{reference.familiar()} is here already" + (f": {origin}" if origin else "")

    def prepare(self, name: str, emit: Emit = silence) -> list[str]:
        """Get a base that is not here: pulled, else made on this machine; what was done, in words.

        Raises :class:`ImageNotFoundError` where it can neither be pulled nor made.
        """
        from dockermagic.build.bases import can_make
        from dockermagic.oci.reference import Reference

        reference = Reference.parse(name)
        try:
            self.pull(name, _once_it_moves(emit))
        except RegistryError as error:
            if not can_make(reference.familiar()):
                raise ImageNotFoundError(
                    f"{reference.familiar()} is not here, cannot be pulled and cannot be made: {error.message}",
                    hint=error.hint,
                ) from error
            return [*self.base(reference.familiar(), emit), f"pulling it was tried first: {error.message}"]
        return [f"{reference.familiar()} is pulled"]

    def pack_cache(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Everything that was built in this store, as named images and a list of steps: for another store."""
        from dockermagic.build.cachebundle import pack_cache

        with self._lock, self.store.lease():
            return pack_cache(self.images_, self.builder.cache)

    def restore_cache(self, names: Sequence[str], steps: Sequence[dict[str, Any]]) -> int:
        """Take over what :meth:`pack_cache` gave in another store, once its images are here; how many steps are new."""
        from dockermagic.build.cachebundle import restore_cache

        with self._lock, self.store.lease():
            return restore_cache(self.images_, self.builder.cache, names, steps, silence)

    # looking

    def snapshots_of(self, name: str) -> tuple[int, ...]:
        """The layers of an image as snapshots, bottom first; unpacked where they are not yet."""
        from dockermagic.oci.image import Image

        image = Image.load(self.store, self.store.find(name).descriptor)
        return self.snapshotter.ids(self.images_.snapshots(image, silence))

    def is_unpacked(self, name: str) -> bool:
        """Whether an image's layers are snapshots already. Raises :class:`ImageNotFoundError`."""
        from dockermagic.oci.image import Image

        chain_ids = Image.load(self.store, self.store.find(name).descriptor).chain_ids
        return not chain_ids or self.snapshotter.find(f"chain:{chain_ids[-1]}") is not None

    @cached_property
    def files(self) -> Files:
        """The files in layers: pages, search, differences, contents."""
        from dockermagic.files import Files

        return Files(self.home, lambda function, **arguments: self.sandbox.call(function, **arguments))

    def tree(
        self, layers: Layers, path: str = "/", *, base: Sequence[int] = (), sizes: bool = False
    ) -> list[TreeEntry]:
        """One directory of the tree that layers make, sorted by name; see :meth:`Files.page`."""
        return list(self.files.page(layers, path, base=base, sizes=sizes).entries)

    def read_file(self, layers: Layers, path: str, *, limit: int = 65536) -> bytes:
        """The beginning of a file in the tree that layers make. Raises :class:`UsageError` if there is no such file."""
        return self.files.preview(layers, path, limit)[0]

    def changes(self, layers: Layers, base: Sequence[int] = (), limit: int | None = None) -> list[Change]:
        """What turns the tree of ``base`` into that of ``layers``, sorted by path; see :meth:`Files.changed`."""
        return list(self.files.changed(layers, base, limit).paths)

    def image_diff(self, first: str, second: str, *, limit: int | None = None) -> ImageDiff:
        """How the second image differs from the first; at most ``limit`` paths. Raises :class:`ImageNotFoundError`."""
        from dockermagic.imagediff import ImageDiff, PathChange, config_changes, layer_changes
        from dockermagic.oci.image import Image

        one, other = (Image.load(self.store, self.store.find(name).descriptor) for name in (first, second))
        found: dict[str, Any] = {"paths": [], "count": 0}
        layers = layer_changes(one.diff_ids, other.diff_ids)
        if layers:
            stacks = [self.files.directories(self.snapshots_of(name)) for name in (first, second)]
            call = self.sandbox.call
            found = call("dockermagic.oci.treediff:compare", before=stacks[0], after=stacks[1], limit=limit)
        paths = [PathChange(item["path"], item["state"], item["kind"], tuple(item["what"])) for item in found["paths"]]
        changes = config_changes(one.config.to_json(), other.config.to_json())
        return ImageDiff(changes, layers, tuple(paths), found["count"])

    # checks and facts

    def check(self, request: BuildRequest) -> LintReport:
        """Every warning about the Dockerfile, and the error that ended the search, if any; nothing is built.

        Raises :class:`ContextError` for a malformed ignore file.
        """
        return self.builder.check(request)

    def info(self) -> InfoView:
        """What was found on this host: what runs a RUN, what it does not isolate, and what would be better."""
        from dockermagic.catalog import host_info
        from dockermagic.containers.limits import not_held
        from dockermagic.sandbox.probe import probe

        self.home.mkdir(parents=True, exist_ok=True)
        return host_info(self.home, probe(self.home, self.wanted_sandbox, fresh=True), *not_held())

    # containers

    def containers(self) -> list[Container]:
        """Every container, the newest first."""
        return self.shelf.all()

    def remove_container(self, name: str, *, force: bool = False) -> str:
        """Delete a container by name or id and return its id. Raises :class:`ContainerError`."""
        return self.running.remove(name, force=force)

    def container_sizes(self, container: Container) -> tuple[int, int]:
        """The bytes of what a container changed, and of that with its image."""
        own = self.running.size(container.id)
        try:
            below = int(self.inspect(container.image_id)["Size"])
        except ImageNotFoundError:  # its layers stay as long as it does
            below = sum(map(self.running.bytes_below, container.lowers))
        return own, own + below

    def begin(self) -> None:
        """Something will be run: start what runs it beside what has to be found out before, even in what way.

        Raises :class:`SandboxUnavailableError` where this host runs nothing.
        """
        from dockermagic.oci import disk
        from dockermagic.sandbox.interpreters import begin_resident

        begun = begin_resident() if not disk.RECORDED and "sandbox" not in self.__dict__ else None
        try:
            self.sandbox.begin(begun)
        except BaseException:
            if begun is not None:
                begun.close()
            raise

    def run(
        self,
        request: RunRequest,
        *,
        output: Output = lambda stream, data: None,
        cancel: Cancel | None = None,
        began: Callable[[Running], None] = lambda running: None,
    ) -> ContainerResult:
        """Run a container in the foreground and return how it ended. Raises :class:`ContainerError`."""
        request, config, lowers, image_id = self._to_run(request)
        return self.running.run(request, config, lowers, image_id=image_id, output=output, cancel=cancel, began=began)

    def run_detached(self, request: RunRequest) -> str:
        """Run a container that outlives this process; its id when its process has begun. Raises ContainerError."""
        request, config, lowers, image_id = self._to_run(request)
        return self.running.detach(request, config, lowers, image_id=image_id)

    def create_container(self, request: RunRequest) -> str:
        """Make a container that is not started, and return its id. Raises :class:`ContainerError`."""
        request, config, lowers, image_id = self._to_run(request)
        return self.running.create(request, config, lowers, image_id=image_id)

    def commit_container(
        self, name: str, target: str = "", *, changes: Sequence[str] = (), author: str = "", message: str = ""
    ) -> str:
        """Make an image of what a container is now, under a name if one is given, and return its id.

        ``changes`` are instructions that change its config. Raises :class:`ContainerError` and what a build raises.
        """
        from dockermagic.containers.commit import commit
        from dockermagic.oci.reference import Reference

        with self.store.lease():
            image = commit(self.running, self.store, name, author=author, message=message)
            if changes:
                image = self._with_changes(image, changes)
            descriptor = image.write(self.store)
            self.store.tag(Reference.parse(target), descriptor) if target else self.store.add(descriptor)
            return image.id

    def _with_changes(self, image: Image, changes: Sequence[str]) -> Image:
        """The image with the config that instructions make of its own. Call it inside a lease."""
        import secrets

        from dockermagic.build.request import BuildRequest
        from dockermagic.oci.reference import Reference
        from dockermagic.oci.spec import ImageConfig

        base = Reference.parse(f"committed:{secrets.token_hex(8)}")
        triggers = image.config.config.onbuild  # which are for who builds on the image
        plain = replace(image.config, config=replace(image.config.config, onbuild=()))
        descriptor = replace(image, config=plain).write(self.store)
        self.store.tag(base, descriptor)
        try:
            built = self.build(BuildRequest("\n".join((f"FROM {base}", *changes))))
            made = ImageConfig.from_json({**plain.to_json(), "config": built.stages[built.target].config["config"]})
            config = replace(made.config, onbuild=(*triggers, *made.config.onbuild))
            return replace(image, config=replace(made, config=config))
        finally:
            self.store.forget(descriptor.digest)

    def run_in_terminal(self, request: RunRequest, **screen: Unpack[Screen]) -> TerminalSession:
        """``run -it`` for a screen that is not this process's own; the session's module tells the protocol."""
        from dockermagic.containers.terminal import TerminalSession, size_of

        asked = replace(request, tty=True, stdin=None, window=size_of(screen))

        def work(show: Output, began: Callable[[Running], None], cancel: Cancel) -> int:
            return self.run(asked, output=show, cancel=cancel, began=began).exit_code

        return TerminalSession(work, **screen)

    def shell(
        self, layers: Layers, config: Mapping[str, Any], command: Sequence[str] = (), **screen: Unpack[Screen]
    ) -> TerminalSession:
        """A shell on top of layers, or in what a failed RUN left; what it changes is thrown away at its end.

        ``config`` is the ``config`` object of the image or stage; ``command`` is by default bash where there is one,
        else sh. The session's module tells the protocol.
        """
        from dockermagic.containers.request import RunRequest
        from dockermagic.containers.terminal import TerminalSession, size_of

        words = tuple(command) or ("sh", "-c", "command -v bash >/dev/null && exec bash || exec sh")
        request = RunRequest("", words, entrypoint=(), tty=True, remove=True, window=size_of(screen))
        lowers = tuple(Path(directory) for directory in self.files.directories(layers))

        def work(show: Output, began: Callable[[Running], None], cancel: Cancel) -> int:
            return self.running.run(request, config, lowers, output=show, cancel=cancel, began=began).exit_code

        return TerminalSession(work, **screen)

    def _to_run(self, request: RunRequest) -> tuple[RunRequest, Mapping[str, Any], tuple[Path, ...], str]:
        """The request, its image's config, the unpacked layers, bottom first, and the id; pulled where it says so."""
        from dockermagic.oci.image import Image

        self.begin()
        name = request.image
        try:
            if request.pull == "always" or (request.pull == "missing" and not self.is_here(name)):
                self.pull(name)
            stored = self.store.find(name)
        except ImageNotFoundError as error:
            raise ContainerError(
                f"No such image: {name}",
                hint=f"`pull {name}` fetches it, `images` lists what is here, `base busybox` makes one.",
            ) from error
        except (RegistryError, ArchiveError, InvalidReferenceError) as error:
            error.exit_code = 125
            raise
        image = Image.load(self.store, stored.descriptor)
        top: Snapshot | None = self.images_.snapshots(image, silence)
        self.snapshotter.touch(self.snapshotter.ids(top))
        if request.debug_image:
            request = self._with_toolbox(request)
        return request, image.config.to_json().get("config") or {}, self.snapshotter.chain(top), image.id

    def _with_toolbox(self, request: RunRequest) -> RunRequest:
        """The request with another image's root beside the container's own, and its programs behind all others."""
        _, _, lowers, _ = self._to_run(replace(request, image=request.debug_image, debug_image=""))
        box = "/.debug"
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        folders = ":".join(f"{box}{folder}" for folder in path.split(":"))
        given = any(name == "PATH" for name, _ in request.env)
        env = request.env if given else (*request.env, ("PATH", f"{path}:{folders}"))
        return replace(request, toolbox=lowers, env=env)
