"""What keeps a store in order: what takes its room, what differs, what is damaged, and taking it all away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockermagic.errors import SandboxError, StoreError
from dockermagic.rooms import Rooms

if TYPE_CHECKING:
    from dockermagic.fsck import Report
    from dockermagic.prune import Plan, Pruner, Usage, Wanted

__all__ = ["Upkeep"]


class Upkeep(Rooms):
    """The part of the engine that looks after the store."""

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
            if any(one.status == "running" for one in self.running.all()):
                raise StoreError(f"the store {self.home} is in use: containers run", hint="Wait for their end.")
        except SandboxError:
            pass
        try:
            remove_home(self.home, sandbox)
        finally:
            self.close()
