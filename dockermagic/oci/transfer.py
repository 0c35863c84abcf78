"""Whole images between a registry and the store: several blobs at once, each of them once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from dockermagic.errors import RegistryError, StoreError
from dockermagic.oci import auth, lock
from dockermagic.oci.arrival import Arrival, Reading
from dockermagic.oci.image import Image
from dockermagic.oci.reference import Reference
from dockermagic.oci.registry import Repository
from dockermagic.oci.spec import Descriptor, Index, Manifest, Platform, decode, is_index, is_manifest
from dockermagic.oci.store import Store
from dockermagic.oci.together import together
from dockermagic.oci.transport import Transport
from dockermagic.settings import settings

__all__ = ["Notify", "Unpacker", "log_in", "pull", "push", "repository_of", "silent"]

_AT_ONCE = 6
_DEEPEST_INDEX = 3

Notify = Callable[[str, str, int, int], None]
"""Told of a layer's blob, in any thread: digest; waiting, exists, transfer, done, unpacked or mounted; the bytes so
far; all bytes.
"""


def silent(digest: str, state: str, done: int, total: int) -> None:
    """Nobody looks."""


class Unpacker(Protocol):
    """Who unpacks layers while they come."""

    def calls(self, image: Image, reading: Reading) -> Sequence[Callable[[], None]]:
        """What unpacks the image's layers, each checked against its diff_id: calls that are all to be made at once."""
        ...

    def cancel(self) -> None:
        """Make the calls, which run in other threads, end soon, with an error."""
        ...


def repository_of(reference: Reference, address: str = "", **options: Any) -> Repository:
    """The repository that a name means, at the registry itself or at a mirror's address."""
    insecure = reference.registry in settings().insecure if not address else address in settings().insecure
    return Repository(reference, address=address, **{"insecure": insecure, **options})


def log_in(registry: str, credentials: auth.Credentials, **options: Any) -> None:
    """Show credentials to a registry; raises RegistryError where it does not take them."""
    insecure = registry in settings().insecure
    transport = Transport(registry, credentials=lambda: credentials, insecure=insecure, **options)
    try:
        transport.check(f"login to {registry}")
    finally:
        transport.close()


def pull(
    store: Store,
    reference: Reference,
    platform: Platform | None = None,
    *,
    notify: Notify = silent,
    unpacker: Unpacker | None = None,
    **options: Any,
) -> Descriptor:
    """Bring an image into the store and give it the name; returns what the name stands for there.

    Of a list of manifests only the platform's image is fetched (this machine's by default). A blob that is here
    already, or that another process is fetching, is not fetched again. Mirrors are asked first; ``options`` are those
    of :class:`Repository`. With an ``unpacker`` each layer is unpacked while it comes. Raises RegistryError,
    StoreFullError; then the name is as it was.
    """
    problems: list[RegistryError] = []
    mirrors = settings().mirrors.get(reference.registry, ())
    for address in [*mirrors, ""]:
        repository = repository_of(reference, address, **options)
        try:
            with store.lease():
                found = _fetch_image(store, repository, reference, platform or Platform.host(), notify, unpacker)
                store.tag(reference, found)
                return found
        except RegistryError as error:
            problems.append(error)
        finally:
            repository.close()
    last = problems.pop()
    for address, problem in zip(mirrors, problems, strict=True):
        last.message += f"; its mirror {address}: {problem.message.removeprefix(f'{reference}: ')}"
    raise last


def _fetch_image(
    store: Store,
    repository: Repository,
    reference: Reference,
    platform: Platform,
    notify: Notify,
    unpacker: Unpacker | None,
) -> Descriptor:
    top, data = repository.manifest(reference.digest or reference.tag)
    store.put(data, top.media_type)
    found = top
    for _ in range(_DEEPEST_INDEX):
        if is_manifest(found.media_type):
            break
        chosen = Index.from_json(decode(data, str(reference))).select(platform)
        if chosen is None:
            raise RegistryError(
                f"{reference.familiar()}: no image for {platform}",
                hint=f"There are: {', '.join(_platforms(data)) or 'none'}.",
            )
        found, data = repository.manifest(chosen.digest)
        store.put(data, found.media_type)
    else:
        raise RegistryError(f"{reference.familiar()}: lists of lists of images")
    manifest = Manifest.from_json(decode(data, str(reference)))
    if not manifest.is_image:
        raise RegistryError(f"{reference.familiar()} is no image: its config is {manifest.config.media_type:.100}")
    _fetch_blob(store, repository, manifest.config, None, silent)
    config = store.config(manifest)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise RegistryError(f"{reference.familiar()}: its config does not name as many diff_ids as it has layers")
    image = Image(config, manifest.layers, found, manifest.config.digest)
    _fetch_layers(store, repository, image, notify, unpacker)
    return top


def _fetch_layers(
    store: Store, repository: Repository, image: Image, notify: Notify, unpacker: Unpacker | None
) -> None:
    arrivals = {layer.digest: Arrival() for layer in image.layers} if unpacker is not None else {}

    def fetch(layer: Descriptor, tell: Notify) -> None:
        arrival = arrivals.get(layer.digest)
        try:
            _fetch_blob(store, repository, layer, arrival, tell)
        except BaseException as error:
            if arrival is None:
                raise
            arrival.end(error)
            raise
        if arrival is not None:
            arrival.end()

    def stop() -> None:
        for arrival in arrivals.values():
            arrival.end(_Stopped("stopped"))
        if unpacker is not None:
            unpacker.cancel()

    def reading(number: int) -> contextlib.AbstractContextManager[int]:
        return arrivals[image.layers[number].digest].reading()

    def told(digest: str, state: str, done: int, total: int) -> None:
        if state != "waiting" or not store.has(digest):  # it is said that it exists, and nothing else
            notify(digest, state, done, total)

    beside = () if unpacker is None else unpacker.calls(image, reading)
    try:
        _together(image.layers, fetch, told, beside, stop)
    finally:
        for arrival in arrivals.values():
            arrival.close()


def _platforms(data: bytes) -> list[str]:
    entries = Index.from_json(decode(data, "index")).manifests
    return [str(entry.platform) for entry in entries if entry.platform and entry.platform.os != "unknown"]


def _fetch_blob(
    store: Store, repository: Repository, descriptor: Descriptor, arrival: Arrival | None, notify: Notify
) -> None:
    """``arrival`` tells of the blob as it comes, where somebody reads it meanwhile."""
    digest, size = descriptor.digest, descriptor.size

    def progress(done: int) -> None:
        if arrival is not None:
            arrival.grown(done)
        notify(digest, "transfer", done, size)

    if not _is_whole(store, descriptor):
        # Whoever comes second waits for the first, then finds the blob.
        with lock.hold(store.home / "locks" / store.blob(digest).name):
            if not _is_whole(store, descriptor):
                repository.fetch(store, descriptor, progress, arrival.begin if arrival is not None else None)
                notify(digest, "done", size, size)
                return
    if arrival is not None:
        with store.open(digest) as file:
            arrival.begin(file.fileno())
    notify(digest, "exists", size, size)


def _is_whole(store: Store, descriptor: Descriptor) -> bool:
    """Whether the blob is here; one that a power cut left short is not. Raises RegistryError for a wrong descriptor."""
    if not store.has(descriptor.digest):
        return False
    if (size := store.size(descriptor.digest)) == descriptor.size:
        return True
    try:
        store.verify(descriptor.digest)
    except StoreError:
        return False
    raise RegistryError(f"{descriptor.digest} has {size} bytes, announced were {descriptor.size}")


def push(
    store: Store,
    reference: Reference,
    descriptor: Descriptor,
    *,
    notify: Notify = silent,
    **options: Any,
) -> Descriptor:
    """Send an image to the registry under the name's tag, or its digest alone; returns what the tag stands for there.

    What the registry has is not sent again; what it has in another repository, by the names of the store, is taken from
    there. Of a list of manifests that is not whole here only this machine's image is sent. Raises RegistryError, and
    StoreError for a blob that is missing or damaged.
    """
    wanted = descriptor
    if is_index(descriptor.media_type) and not all(store.has(each.digest) for each in store.reachable([descriptor])):
        wanted = store.resolve_manifest(descriptor)[0]
    everything = list(store.reachable([wanted]))
    manifests = [each for each in everything if is_manifest(each.media_type) or is_index(each.media_type)]
    configs = {store.manifest(each).config.digest for each in manifests if is_manifest(each.media_type)}
    blobs = [each for each in everything if each not in manifests]
    elsewhere = _elsewhere(store, reference)
    repository = repository_of(reference, **options)

    def told(digest: str, state: str, done: int, total: int) -> None:
        if digest not in configs:
            notify(digest, state, done, total)

    try:
        _together(blobs, lambda blob, tell: _send_blob(store, repository, blob, elsewhere, tell), told)
        for each in reversed(manifests):  # what an index refers to comes after it in the walk, and goes before it
            name = (reference.tag if each.digest == wanted.digest else "") or each.digest
            repository.put_manifest(store.read(each.digest), each.media_type, name)
    finally:
        repository.close()
    return Descriptor(wanted.media_type, wanted.digest, store.size(wanted.digest))


def _elsewhere(store: Store, reference: Reference) -> dict[str, str]:
    """Blobs of images that have a name in another repository of the same registry, so that they may be there."""
    found: dict[str, str] = {}
    for name, descriptor in store.references().items():
        if name.registry == reference.registry and name.repository != reference.repository:
            for each in store.reachable([descriptor]):
                found.setdefault(each.digest, name.repository)
    return found


def _send_blob(
    store: Store, repository: Repository, descriptor: Descriptor, elsewhere: Mapping[str, str], tell: Notify
) -> None:
    digest, size = descriptor.digest, store.size(descriptor.digest)
    if repository.has_blob(descriptor):
        tell(digest, "exists", size, size)
        return

    def progress(done: int) -> None:
        tell(digest, "transfer", done, size)

    if digest in elsewhere:
        try:
            was_sent = repository.upload(store, descriptor, progress, mount_from=elsewhere[digest])
        except _Stopped:
            raise
        except RegistryError:  # we may not read there, perhaps; sending it ourselves is still allowed
            was_sent = repository.upload(store, descriptor, progress)
    else:
        was_sent = repository.upload(store, descriptor, progress)
    tell(digest, "done" if was_sent else "mounted", size, size)


class _Stopped(RegistryError):
    """Another blob failed, or somebody interrupted: this one is given up."""


def _together(
    descriptors: Iterable[Descriptor],
    work: Callable[[Descriptor, Notify], None],
    notify: Notify,
    beside: Sequence[Callable[[], None]] = (),
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Do the work for each blob once, several at a time, and what is to be done ``beside``.

    The first error stops all the others, with the help of ``stop``, and is raised.
    """
    once = list({descriptor.digest: descriptor for descriptor in descriptors}.values())
    stopped = threading.Event()

    def tell(digest: str, state: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise _Stopped("stopped")
        notify(digest, state, done, total)

    def halt() -> None:
        stopped.set()
        stop()

    for descriptor in once:
        notify(descriptor.digest, "waiting", 0, descriptor.size)
    calls: list[Callable[[], None]] = [partial(work, descriptor, tell) for descriptor in once]
    together([*beside, *calls], at_once=_AT_ONCE + len(beside), stop=halt)
