"""The rooms of the embedded engine over one store, each opened when it is first used."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockermagic.build.builder import Builder
    from dockermagic.build.images import Images
    from dockermagic.containers.runtime import Containers
    from dockermagic.containers.shelf import Shelf
    from dockermagic.events import Emit, Event
    from dockermagic.oci.platform import Platform
    from dockermagic.oci.reference import Reference
    from dockermagic.oci.spec import Descriptor
    from dockermagic.oci.store import Store
    from dockermagic.records import Records
    from dockermagic.sandbox.base import Sandbox
    from dockermagic.sandbox.snapshot import Snapshotter

__all__ = ["Rooms", "default_home", "silence"]


def silence(event: Event) -> None:
    """Nobody looks."""


def default_home() -> Path:
    """Where the store is: ``$DOCKERMAGIC_HOME``, else ``dockermagic`` in the user's data directory."""
    if os.environ.get("DOCKERMAGIC_HOME"):
        return Path(os.environ["DOCKERMAGIC_HOME"]).absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "dockermagic"


class Rooms:
    """What the parts of the engine share. Making one opens nothing."""

    def __init__(self, home: Path | str | None = None) -> None:
        self.home = Path(home).absolute() if home is not None else default_home()
        self._lock = threading.RLock()
        self._wanted = ""

    def close(self) -> None:
        """End what runs for this engine. Idempotent; the next use opens it again."""
        opened = self.__dict__
        if "builder" in opened and "sandbox" in opened:
            self.builder.forget_failed()
        for name in ("snapshotter", "sandbox", "records"):
            if name in opened:
                opened[name].close()
        for name in ("builder", "images_", "snapshotter", "running", "shelf", "sandbox", "store", "records"):
            opened.pop(name, None)

    # rooms, opened when first used

    @cached_property
    def records(self) -> Records:
        from dockermagic.records import Records

        self.home.mkdir(parents=True, exist_ok=True)
        return Records(self.home)

    @cached_property
    def store(self) -> Store:
        from dockermagic.oci.store import Store
        from dockermagic.settings import settings

        self.home.mkdir(parents=True, exist_ok=True)
        return Store(self.home, self.records, settings().shared)

    @cached_property
    def sandbox(self) -> Sandbox:
        from dockermagic.oci import disk

        if disk.RECORDED:
            from dockermagic.sandbox.elsewhere import Elsewhere

            return Elsewhere()
        from dockermagic.sandbox.namespaces import open_sandbox

        return open_sandbox(self.home, self.wanted_sandbox)

    @property
    def wanted_sandbox(self) -> str:
        """The sandbox asked for: by :meth:`use_sandbox`, the environment or the config file; '' for the best."""
        from dockermagic.settings import settings

        return self._wanted or os.environ.get("DOCKERMAGIC_SANDBOX", "") or settings().sandbox

    def use_sandbox(self, name: str) -> None:
        """Use the sandbox of this name from now on, '' for the best; what ran in another one ends."""
        if name != self._wanted:
            self.close()
            self._wanted = name

    def sandbox_notice(self) -> str:
        """What a person has to know of the sandbox, in plain words, the first time it is asked in a session."""
        from dockermagic.sandbox.probe import probe, told

        notice = probe(self.home, self.wanted_sandbox).notice()
        return notice if notice and not told(self.home) else ""

    @cached_property
    def snapshotter(self) -> Snapshotter:
        from dockermagic.sandbox.snapshot import Snapshotter

        made = Snapshotter(self.home, self.records, self.sandbox)
        made.sweep()
        return made

    @cached_property
    def images_(self) -> Images:
        from dockermagic.build.images import Images

        return Images(self.store, self.snapshotter, self.sandbox, self._pull)

    @cached_property
    def builder(self) -> Builder:
        from dockermagic.build.builder import Builder

        return Builder(
            self.home, self.records, self.store, lambda: self.sandbox, lambda: self.snapshotter, lambda: self.images_
        )

    @cached_property
    def shelf(self) -> Shelf:
        """The containers of the store as they stand on the disk."""
        from dockermagic.containers.shelf import Shelf

        return Shelf(self.home, lambda path: self.running.delete(path))

    @cached_property
    def running(self) -> Containers:
        """The containers of the store: all that can be done with one that is there."""
        from dockermagic.containers.runtime import Containers

        return Containers(self.shelf, self.sandbox)

    def _pull(self, reference: Reference, platform: Platform, emit: Emit) -> Descriptor:
        """How a base that is not here comes. Raises :class:`RegistryError`."""
        raise NotImplementedError
