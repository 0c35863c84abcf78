"""What keeps a store in order: taking images away, what takes its room, what is damaged, and taking it all away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockermagic.errors import ContainerError, SandboxError, StoreError
from dockermagic.rooms import Rooms

if TYPE_CHECKING:
    from dockermagic.containers.container import Container
    from dockermagic.fsck import Report
    from dockermagic.oci.store import StoredImage
    from dockermagic.prune import Plan, Pruner, Wanted
    from dockermagic.view import Usage

__all__ = ["Upkeep"]


class Upkeep(Rooms):
    """The part of the engine that looks after the store."""

    def remove_image(self, name: str, force: bool = False) -> list[str]:
        """Take a name away, and the image with its last name; the lines that Docker prints.

        Raises :class:`ContainerError` for an id with several names, and where a container stands on the image, unless
        ``force``. The image of one that runs loses its names at most.
        """
        from dockermagic.oci.reference import Reference

        lines = []
        with self.store.records.transaction():  # a name that another process gives meanwhile counts
            stored = self.store.find(name)
            by_id = stored.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
            tags, repositories = [one for one in stored.names if one.tag], {one.name for one in stored.names}
            if by_id and (len(tags) > 1 or len(repositories) > 1) and not force:
                names = ", ".join(reference.familiar() for reference in stored.names)
                raise ContainerError(
                    f"unable to delete {name} (must be forced) - image is referenced in multiple repositories",
                    exit_code=1,
                    hint=f"Its names: {names}. Remove one of them by name, or all with -f.",
                )
            gone = list(stored.names) if by_id else [Reference.parse(name)]
            if not by_id and not any(one.name == gone[0].name for one in tags if one != gone[0]):
                # With its last tag a repository loses the digest, too.
                gone += [one for one in stored.names if one.digest and one.name == gone[0].name and one != gone[0]]
            last = len(gone) >= len(stored.names)
            if last and (users := self._users(stored)):
                _assert_removable(stored, "" if by_id else name, users[0], force)
                last = not users[0].is_running
            for reference in gone:
                if self.store.untag(reference):
                    lines.append(f"Untagged: {reference.familiar()}")
            if last:
                self.store.forget(stored.descriptor.digest)
        if last:
            self.store.collect()
            lines.append(f"Deleted: {stored.id}")
        return lines

    def _users(self, image: StoredImage) -> list[Container]:
        """The containers that stand on an image, those that run first; what goes at its end counts while it runs."""
        containers = self.shelf.all() if (self.home / "containers").is_dir() else []
        users = [one for one in containers if one.image_id == image.id and (one.is_running or not one.request.remove)]
        return sorted(users, key=lambda one: not one.is_running)

    def fsck(self, *, repair: bool = False, quick: bool = False) -> Report:
        """Check every blob, image, layer and record, and clear what processes that died left.

        ``repair`` forgets damaged layers, which are built again; ``quick`` reads no file to its end. Never raises for
        what it finds.
        """
        from dockermagic.fsck import check

        self.home.mkdir(parents=True, exist_ok=True)
        sandbox, why_not = None, ""
        try:
            sandbox = self.sandbox
        except SandboxError as error:
            why_not = error.message
        return check(self.home, self.records, sandbox, repair=repair, quick=quick, why_not=why_not)

    def _pruner(self) -> Pruner:
        from dockermagic.prune import Pruner

        return Pruner(self.home, self.store, self.snapshotter, self.running, self.sandbox)

    def usage(self) -> list[Usage]:
        """What takes the room: images, containers, volumes and the cache."""
        return self._pruner().usage()

    def prune_plan(self, wanted: Wanted) -> Plan:
        """What would go, and how much room that makes; nothing is done."""
        return self._pruner().plan(wanted)

    def prune(self, plan: Plan) -> int:
        """Take away what was planned, but what somebody uses by now; the bytes that went."""
        return self._pruner().apply(plan)

    def _keep_to_bound(self) -> None:
        """Where a bound is set, take away the cache that was not used for longest."""
        from dockermagic.settings import settings

        bound = settings().keep
        if bound is not None:
            from dockermagic.prune import Wanted

            pruner = self._pruner()
            if pruner.cache_bytes() > bound:
                pruner.apply(pruner.plan(Wanted(cache="all", keep_bytes=bound)))

    def reset(self) -> None:
        """Remove the whole store: images, layers, containers, volumes, sessions.

        Raises :class:`StoreError` where another process is at work in it.
        """
        from dockermagic.fsck.leftovers import remove_home

        self.store.assert_idle()
        sandbox = None
        try:
            sandbox = self.sandbox
            if any(one.status == "running" for one in self.shelf.all()):
                raise StoreError(f"the store {self.home} is in use: containers run", hint="Wait for their end.")
        except SandboxError:
            pass
        try:
            self.records.close()
            remove_home(self.home, sandbox)
        finally:
            self.close()


def _assert_removable(image: StoredImage, name: str, user: Container, force: bool) -> None:
    """Raise ContainerError, in Docker's words, where a container keeps the last ``name`` ('': the id) of its image."""
    number, container = image.id.removeprefix("sha256:")[:12], user.id[:12]
    if name:
        said = f'unable to remove repository reference "{name}" (must force)'
        why = f"container {container} is using its referenced image {number}"
    else:
        said = f"unable to delete {number} ({'cannot' if user.is_running else 'must'} be forced)"
        why = f"image is being used by {'running' if user.is_running else 'stopped'} container {container}"
    if not force or (user.is_running and not name):
        hint = f"`rm {'-f ' if user.is_running else ''}{user.name}` removes the container."
        raise ContainerError(f"conflict: {said} - {why}", exit_code=1, hint=hint)
