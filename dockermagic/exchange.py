"""Images between this store and other places: registries, archives, root filesystems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from dockermagic.errors import SandboxError
from dockermagic.rooms import Rooms, silence

if TYPE_CHECKING:
    from dockermagic.build.arriving import Arriving
    from dockermagic.build.internal import InternalStep
    from dockermagic.events import Emit
    from dockermagic.oci.platform import Platform
    from dockermagic.oci.reference import Reference
    from dockermagic.oci.spec import Descriptor

__all__ = ["Exchange"]


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

        try:
            return Arriving(self.images_, step)
        except SandboxError:
            return None

    def pull(self, name: str, emit: Emit = silence, *, platform: str = "") -> str:
        """Fetch an image from its registry, unpack it, and return its digest.

        Raises :class:`RegistryError`, and :class:`ArchiveError` for a layer that is broken.
        """
        from dockermagic.oci.platform import Platform
        from dockermagic.oci.reference import Reference

        wanted = Platform.parse(platform) if platform else Platform.host()
        return self._pull(Reference.parse(name), wanted, emit).digest

    def push(self, name: str, emit: Emit = silence) -> Descriptor:
        """Send an image to its registry and return what the tag stands for there. Raises :class:`RegistryError`."""
        from dockermagic.build.internal import Internal
        from dockermagic.oci.reference import Reference
        from dockermagic.oci.transfer import push

        descriptor = self.store.find(name).descriptor
        with Internal(emit).step(f"push {Reference.parse(name)}") as step:
            return push(self.store, Reference.parse(name), descriptor, notify=step.transfer)

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

    def load(self, file: BinaryIO) -> list[str]:
        """Read the images of an archive; the lines that Docker prints."""
        from dockermagic.oci.archive import load

        return load(self.store, file)
