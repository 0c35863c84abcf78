"""Images between this store and other places: registries, archives, root filesystems."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, BinaryIO

from dockermagic.errors import ContainerNotFoundError, ImageNotFoundError, RegistryError, SandboxError, UsageError
from dockermagic.rooms import Rooms, silence
from dockermagic.values import replace

if TYPE_CHECKING:
    from dockermagic.build.arriving import Arriving
    from dockermagic.build.internal import InternalStep
    from dockermagic.events import Emit
    from dockermagic.oci.platform import Platform
    from dockermagic.oci.reference import Reference
    from dockermagic.oci.serve import StoreServer
    from dockermagic.oci.spec import Descriptor

__all__ = ["Exchange"]

_CHANGES = frozenset(
    ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


class Exchange(Rooms):
    """The part of the engine that moves images."""

    def _pull(self, reference: Reference, platform: Platform, emit: Emit) -> Descriptor:
        from dockermagic.build.internal import Internal
        from dockermagic.oci.transfer import pull

        with Internal(emit).step(f"[internal] pull {reference}") as step:
            return pull(self.store, reference, platform, notify=step.transfer, unpacker=self._unpacker(step))

    def _unpacker(self, step: InternalStep) -> Arriving | None:
        """Who unpacks what is pulled; None where this host cannot."""
        from dockermagic.build.arriving import Arriving
        from dockermagic.oci import disk

        if disk.RECORDED:
            return None  # it is unpacked when something is built upon it
        try:
            return Arriving(self.images_, step)
        except SandboxError:
            return None

    def pull(self, name: str, emit: Emit = silence, *, platform: str = "") -> str:
        """Fetch an image from its registry, unpack it, and return its digest.

        Raises :class:`RegistryError`, which names what can be made instead, and :class:`ArchiveError` for a layer that
        is broken.
        """
        from dockermagic.oci.platform import Platform
        from dockermagic.oci.reference import Reference

        wanted = Platform.parse(platform) if platform else Platform.host()
        reference = Reference.parse(name)
        try:
            return self._pull(reference, wanted, emit).digest
        except RegistryError as error:
            from dockermagic.build.bases import can_make

            if not platform and can_make(reference.familiar()):
                own = f"Make it from this machine's own packages: dockermagic base {reference.familiar()}."
                error.hint = f"{own} {error.hint}".strip()
            raise

    def push(self, name: str, emit: Emit = silence) -> Descriptor:
        """Send an image to its registry and return what the tag stands for there. Raises :class:`RegistryError`."""
        from dockermagic.build.internal import Internal
        from dockermagic.oci.reference import Reference
        from dockermagic.oci.transfer import push

        reference = Reference.parse(name)
        if not reference.tag:
            raise UsageError(f"{reference.familiar()} has no tag to push to")
        descriptor = self.store.find(name).descriptor
        with Internal(emit).step(f"push {reference}") as step:
            return push(self.store, reference, descriptor, notify=step.transfer)

    def remote_tags(self, name: str) -> list[str]:
        """The tags that the registry has of a repository. Raises :class:`RegistryError`."""
        from dockermagic.oci.reference import Reference
        from dockermagic.oci.transfer import repository_of

        repository = repository_of(Reference.parse(name))
        try:
            return repository.tags()
        finally:
            repository.close()

    def login(self, server: str, username: str, password: str) -> str:
        """Let a registry (Docker Hub by default) judge a password, then keep it; where it is kept.

        Raises :class:`RegistryError`.
        """
        from dockermagic.oci import auth
        from dockermagic.oci.transfer import log_in

        registry = auth.registry_name(server)
        credentials = auth.Credentials(username, password)
        log_in(registry, credentials)
        return auth.keep(registry, credentials)

    def logout(self, server: str) -> bool:
        """Forget the credentials for a registry; False if there were none. Raises :class:`RegistryError`."""
        from dockermagic.oci import auth

        return auth.forget(auth.registry_name(server))

    def save(self, names: Sequence[str], file: BinaryIO, format: str = "docker") -> None:
        """Write images as one archive: ``docker`` or ``oci``. Raises :class:`ImageNotFoundError` before it writes."""
        from dockermagic.oci.archive import save

        save(self.store, names, file, format=format)

    def load(self, file: IO[bytes]) -> list[str]:
        """Read the images of an archive; the lines that Docker prints."""
        from dockermagic.oci.archive import load

        return load(self.store, file)

    def import_root(
        self,
        source: str | BinaryIO,
        names: Sequence[str] = (),
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str = "",
    ) -> str:
        """Make an image of a root filesystem (a tar, or a URL of one) and return its id.

        ``changes`` are instructions that only change the config. Raises :class:`ArchiveError`, and
        :class:`UsageError` for an instruction that does more.
        """
        from dockermagic.oci.importing import import_root
        from dockermagic.oci.platform import Platform
        from dockermagic.oci.reference import Reference

        references = [Reference.parse(name) for name in names]
        wanted = Platform.parse(platform) if platform else None
        with self._lock, self.store.lease(), ExitStack() as stack:
            file = stack.enter_context(self._fetched(source)) if isinstance(source, str) else source
            descriptor = import_root(self.store, file, message=message, platform=wanted)
            if changes:
                plain, descriptor = descriptor, self._changed(descriptor, changes)
                self.store.forget(plain.digest)
            for reference in references:
                self.store.tag(reference, descriptor)
            return self.store.find(descriptor.digest).id

    def _fetched(self, url: str) -> BinaryIO:
        from dockermagic.build.remote import Downloads
        from dockermagic.build.request import BuildRequest

        return Downloads(self.home / "downloads", BuildRequest("")).get(url).path.open("rb")

    def _changed(self, descriptor: Descriptor, changes: Sequence[str]) -> Descriptor:
        """The image with another config; its history stays as it is."""
        from dockermagic.build.request import BuildRequest
        from dockermagic.oci.image import Image
        from dockermagic.oci.reference import Reference

        for change in changes:
            keyword = change.strip().partition(" ")[0].upper()
            if keyword not in _CHANGES:
                raise UsageError(
                    f"{keyword} is not a valid change command", hint=f"There are: {', '.join(sorted(_CHANGES))}."
                )
        image = Image.load(self.store, descriptor)
        passing = Reference.parse(f"localhost/import:{descriptor.digest.removeprefix('sha256:')[:32]}")
        self.store.tag(passing, descriptor)
        try:
            lines = "\n".join((f"FROM {passing}", *changes))
            platform = str(image.config.platform)
            result = self.builder.build(BuildRequest(lines + "\n", platform=platform), silence)
            built = self.builder.image(result.stages[result.target])
            config = replace(image.config, config=built.config.config)
            made = Image(config, image.layers).write(self.store)
            self.store.add(made)
            return made
        finally:
            self.store.untag(passing)

    def export(self, name: str, file: BinaryIO) -> None:
        """Write the root filesystem of a container, or of an image, as a tar.

        Raises :class:`ContainerNotFoundError` where there is neither.
        """
        from dockermagic.oci.image import Image

        try:
            place = self.running.shelf.find(name)
            container = self.running.get(place.id)
        except ContainerNotFoundError as error:
            try:
                image = Image.load(self.store, self.store.find(name).descriptor)
            except ImageNotFoundError:
                raise error from None
            layers = list(self.snapshotter.chain(self.images_.snapshots(image, silence)))
        else:
            layers = [*container.lowers, place.fs]
        file.flush()
        self.sandbox.call(
            "dockermagic.oci.flatten:flatten", fds={"out": file.fileno()}, layers=[str(path) for path in layers]
        )

    def serve(self, host: str = "127.0.0.1", port: int = 0, *, token: str = "") -> StoreServer:
        """Serve the store as a registry until what is returned is closed; ``token`` is the password for a push."""
        from dockermagic.oci.serve import StoreServer

        return StoreServer(self.store, host, port, token=token)
