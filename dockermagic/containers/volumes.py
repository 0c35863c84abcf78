"""The named volumes of a store: a directory each, with a record beside it of what it was made with."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dockermagic.containers.container import ANONYMOUS, Container, Volume
from dockermagic.containers.request import VOLUME_NAME as _NAME
from dockermagic.containers.request import unusable_name
from dockermagic.errors import ContainerError
from dockermagic.wholefile import write_whole

__all__ = ["Volumes"]

_DATA, _RECORD = "_data", "volume.json"


class Volumes:
    """Those below ``root``. ``delete`` removes a directory, whoever its files belong to."""

    def __init__(self, root: Path, delete: Callable[[Path], None], containers: Callable[[], list[Container]]) -> None:
        self.root = root
        self._delete = delete
        self._containers = containers

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        found = (self._read(path.parent) for path in sorted(self.root.glob(f"*/{_DATA}")))
        return [volume for volume in found if volume is not None]

    def get(self, name: str) -> Volume:
        """The volume of that name. Raises ContainerError, with 1."""
        found = self._read(self.root / name) if re.fullmatch(_NAME, name) else None
        if found is None:
            raise ContainerError(f"get {name}: no such volume", exit_code=1, hint="`volume ls` lists them.")
        return found

    def create(self, name: str = "", labels: Mapping[str, str] | None = None) -> str:
        """Make a volume, under a name of its own where none is given; nothing happens where it is there."""
        given = {**(labels or {}), **({} if name else {ANONYMOUS: ""})}
        name = name or os.urandom(32).hex()
        if not re.fullmatch(_NAME, name):
            raise ContainerError(unusable_name(name), exit_code=1)
        self.make(name, given)
        return name

    def make(self, name: str, labels: Mapping[str, str] | None = None) -> Path:
        """The directory of a volume, made if need be. Set-id programs in it are for nobody outside."""
        place = self.root / name
        (place / _DATA).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        if not (place / _RECORD).exists():
            write_whole(place / _RECORD, json.dumps({"created": time.time(), "labels": labels or {}}).encode())
        return place / _DATA

    def _read(self, place: Path) -> Volume | None:
        try:
            said = json.loads((place / _RECORD).read_text(encoding="utf-8"))
            return Volume(place.name, place / _DATA, said["created"], said["labels"])
        except (OSError, ValueError, TypeError, KeyError):  # a power cut or a full disk: the data is what matters
            pass
        try:
            return Volume(place.name, place / _DATA, (place / _DATA).stat().st_mtime, {})
        except OSError:
            return None

    def users(self, name: str) -> list[Container]:
        """The containers that stand on a volume."""
        return [one for one in self._containers() if any(bind.volume == name for bind in one.request.binds)]

    def remove(self, name: str) -> None:
        """Delete a volume. Raises ContainerError where there is none, and while a container stands on it."""
        self.get(name)
        if users := self.users(name):
            ids = ", ".join(one.id for one in users)
            raise ContainerError(f"remove {name}: volume is in use - [{ids}]", exit_code=1, hint="Remove these first.")
        self._delete(self.root / name)
