"""Containers on disk: one directory each, which says all there is to know of it.

::

    containers/.lock         held while a container is made, named or swept away
    containers/.names/NAME   a link to the container of that name
    containers/ID/           a container that stays
    containers/rm-ID/        one that goes at its end; a sweep takes it if its supervisor died first
        container.json       what it was made from
        state.json           how it stands, written by its supervisor; not there before its first start
        lock                 held as long as it is being run, by the process that runs it, and dies with it; its exit
                             code afterwards
        starting             held while it is started or removed
        waits                is there until it is started for the first time
        control              the socket of that process
        log, log.1           what it wrote
        fs, work             its layer
        volumes/N            its anonymous volumes
    volumes/NAME/_data       a named volume, and volume.json beside it: what it was made with

Records are replaced, never changed in place: whoever reads one reads a whole one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from dockermagic.containers.container import Container, State
from dockermagic.containers.names import random_name
from dockermagic.containers.request import RunRequest
from dockermagic.containers.volumes import Volumes
from dockermagic.errors import ContainerError, ContainerNotFoundError, DockermagicError, is_full
from dockermagic.oci import lock
from dockermagic.sandbox.base import Sandbox
from dockermagic.sandbox.wire import to_json
from dockermagic.values import dataclass, fields, is_dataclass, replace
from dockermagic.wholefile import write_whole

__all__ = ["Place", "Shelf", "clear", "decode"]

Value = TypeVar("Value")
_CODE = 16  # bytes of a lock that are an exit code
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one container."""

    path: Path

    @property
    def fs(self) -> Path:
        """What it changed: the upper directory of its root filesystem."""
        return self.path / "fs"

    @property
    def waits(self) -> Path:
        """The mark of one that was made and not started yet."""
        return self.path / "waits"

    @property
    def id(self) -> str:
        return self.path.name.removeprefix("rm-")

    @property
    def name(self) -> str:
        """The name of the container; '' where there is none any more."""
        try:
            return str(json.loads((self.path / "container.json").read_text(encoding="utf-8"))["name"])
        except (OSError, ValueError, TypeError, KeyError):
            return ""

    def read(self) -> Container | None:
        """The container, with the state that is true now; None where there is none any more.

        One whose supervisor died is exited, with 137; where that had no room to say how it ended, with its exit code.
        """
        container = self._read("container.json", Container)
        if container is None:
            return None
        state = self._read("state.json", State) or State()
        if _is_open(state) and not self.is_held():
            state = self._read("state.json", State) or state  # it may have ended meanwhile
            code = self._code()
            if _is_open(state) and (code is not None or state.status != "created"):
                ended = state.finished or self._last_sign()
                code = 137 if code is None else code
                state = replace(state, status="exited", exit_code=code, finished=ended, pid=0, ports=(), health="")
        return replace(container, state=state)

    def _code(self) -> int | None:
        try:
            return _code_in((self.path / "lock").read_bytes())
        except OSError:
            return None

    def _last_sign(self) -> float | None:
        try:
            return max((self.path / name).stat().st_mtime for name in ("state.json", "log"))
        except OSError:
            return None

    def _read(self, name: str, kind: type[Value]) -> Value | None:
        try:
            found: Value = decode(kind, json.loads((self.path / name).read_text(encoding="utf-8")))
            return found
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, container: Container) -> None:
        """Write what it was made from."""
        document = {field.name: getattr(container, field.name) for field in fields(container) if field.name != "state"}
        self._write("container.json", document)

    def write_state(self, state: State) -> None:
        """Write how it stands. Nothing happens where the container is gone, or the disk is full: it goes on."""
        try:
            self._write("state.json", state)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) and not is_full(error):
                raise

    def _write(self, name: str, value: object) -> None:
        write_whole(self.path / name, json.dumps(value, default=to_json).encode())

    def is_held(self) -> bool:
        """Whether some process runs it."""
        try:
            held = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not lock.claim(held, shared=True, wait=False)
        finally:
            os.close(held)

    def is_over(self, seconds: float) -> bool:
        """Whether nobody runs it any more, or soon."""
        deadline = time.monotonic() + seconds
        while self.is_held():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @property
    def is_abandoned(self) -> bool:
        """Whether it was to go at its end, and its supervisor died before."""
        return self.path.name.startswith("rm-") and not self.waits.exists() and not self.is_held()

    def hold(self) -> int:
        """Take it over, to run it: a descriptor that holds it until it is closed, here and wherever it is sent.

        Waits for whoever holds it.
        """
        held = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        lock.claim(held)
        return held

    def try_to_hold(self) -> int | None:
        """The same without waiting; None where somebody holds it."""
        held = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if lock.claim(held, wait=False):
            return held
        os.close(held)
        return None

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[Container]:
        """The container as it stands; nobody else starts or removes it meanwhile. Raises ContainerNotFoundError."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(lock.hold(self.path / "starting"))
            if (container := self.read()) is None:
                raise ContainerNotFoundError(self.id[:12])
            yield container

    def wait(self) -> int | None:
        """Return when nobody runs it any more: its exit code, also where it is gone by then.

        None where it was never run, or whoever ran it was killed.
        """
        with self.end() as code:
            return code()

    @staticmethod
    def say_code(held: int, code: int | None) -> None:
        """Tell who waits how it ended; None makes room for that, so that a full disk does not keep it.

        Where there is not even that room the state alone says it.
        """
        with contextlib.suppress(OSError):
            os.pwrite(held, f"{'' if code is None else code:<{_CODE}}".encode(), 0)

    @contextlib.contextmanager
    def end(self) -> Iterator[Callable[[], int | None]]:
        """What waits as :meth:`wait` does; from here on the container's directory may go without its code."""
        try:
            held = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            yield lambda: None
            return

        def code() -> int | None:
            lock.claim(held, shared=True)
            return _code_in(os.pread(held, _CODE, 0))

        try:
            yield code
        finally:
            os.close(held)


class Shelf:
    """The containers of one store. ``delete`` removes a directory, whoever its files belong to."""

    def __init__(self, home: Path, delete: Callable[[Path], None]) -> None:
        self.home = home
        self.root = home / "containers"
        self.volumes = Volumes(home / "volumes", delete, self.all)
        self._delete = delete

    def create(
        self, request: RunRequest, config: Mapping[str, Any], lowers: tuple[Path, ...], image_id: str
    ) -> tuple[Place, Container, int]:
        """Make a container: its directory, its record, and the descriptor that holds it.

        Raises ContainerError for a name that is none or is taken, and for a request that comes to no process.
        """
        identity = os.urandom(32).hex()
        place = Place(self.root / (f"rm-{identity}" if request.remove else identity))
        asked = replace(request, stdin=None, open_stdin=request.open_stdin or request.stdin is not None)
        container = Container(identity, request.name, time.time(), image_id, asked, config, lowers)
        _ = container.launch, container.stop_signal
        (self.root / ".names").mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        with lock.hold(self.root / ".lock"):
            self.sweep()
            container = replace(container, name=self._take_name(request.name, place))
            try:
                place.fs.mkdir(parents=True)
                (place.path / "work").mkdir()
                if lowers:
                    place.fs.chmod(stat.S_IMODE(lowers[-1].stat().st_mode))
                held = place.hold()
                try:
                    place.write(container)
                except BaseException:
                    os.close(held)
                    raise
            except BaseException:  # nothing stays of one that could not be written
                self._delete(place.path)
                self._give_up(container.name, place)
                raise
        return place, container, held

    def _take_name(self, wanted: str, place: Place) -> str:
        """Give a name to a container that is being made; '' is any. The lock is held."""
        wanted = wanted.removeprefix("/")
        if wanted and not re.fullmatch(_NAME, wanted):
            raise ContainerError(
                f"Invalid container name ({wanted}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                hint="A name has at least two characters.",
            )
        for _ in range(100):
            name = wanted or random_name()
            link = self.root / ".names" / name
            taken = self._named(name)
            if not taken or not (self.root / taken / "container.json").exists():
                link.unlink(missing_ok=True)
                link.symlink_to(f"../{place.path.name}")
                return name
            if wanted:
                raise ContainerError(
                    f'Conflict. The container name "/{wanted}" is already in use by container '
                    f'"{taken.removeprefix("rm-")}". You have to remove (or rename) that container to be able to reuse '
                    "that name.",
                    hint=f"`rm -f {wanted}` removes it. One that is run with --rm gives its name back at its end.",
                )
        return self._take_name(os.urandom(6).hex(), place)

    def rename(self, place: Place, name: str) -> None:
        """Give a container another name. Raises ContainerError where it is taken."""
        with lock.hold(self.root / ".lock"):
            container = self._known(place)
            if name.removeprefix("/") == container.name:
                raise ContainerError(
                    "Renaming a container with the same name as its current name", exit_code=1, hint="Choose another."
                )
            try:
                new = self._take_name(name, place)
            except ContainerError as error:
                error.exit_code = 1
                raise
            place.write(replace(container, name=new))
            (self.root / ".names" / container.name).unlink(missing_ok=True)

    def _known(self, place: Place) -> Container:
        container = place.read()
        if container is None:
            raise ContainerNotFoundError(place.id[:12])
        return container

    def places(self) -> list[Place]:
        """Every container's directory; those that were abandoned go first."""
        found = self._places()
        if any(place.is_abandoned for place in found):
            with contextlib.suppress(OSError, DockermagicError), lock.hold(self.root / ".lock"):  # or the next time
                self.sweep()
            found = self._places()
        return found

    def _places(self) -> list[Place]:
        try:
            entries = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return [Place(self.root / entry) for entry in entries if re.fullmatch(r"(rm-)?[0-9a-f]{64}", entry)]

    def all(self) -> list[Container]:
        """Every container, the newest first."""
        found = [container for place in self.places() if (container := place.read()) is not None]
        return sorted(found, key=lambda container: container.created, reverse=True)

    def find(self, name: str) -> Place:
        """A container by name, id or the beginning of its id. Raises ContainerError, with 1."""
        if "/" not in name.removeprefix("/") and (entry := self._named(name.removeprefix("/"))):
            place = Place(self.root / entry)
            if (place.path / "container.json").exists() and not place.is_abandoned:
                return place
        found = [place for place in self.places() if name and place.id.startswith(name)]
        if not found:
            raise ContainerNotFoundError(name)
        if len(found) > 1:
            raise ContainerError(f"multiple containers begin with {name}", exit_code=1, hint="Give more digits.")
        return found[0]

    def remove(self, place: Place) -> None:
        """Delete a container that nobody runs, and its name. Idempotent."""
        name = place.name
        self._delete(place.path)
        if name:
            with lock.hold(self.root / ".lock"):
                self._give_up(name, place)

    def _named(self, name: str) -> str:
        """The directory of the container that has the name, '' where none has it."""
        try:
            return os.path.basename(os.readlink(self.root / ".names" / name))
        except OSError:
            return ""

    def _give_up(self, name: str, place: Place) -> None:
        """Let others have a name, unless it is another container's by now. The lock is held."""
        if self._named(name) == place.path.name:
            (self.root / ".names" / name).unlink()

    def sweep(self) -> None:
        """Take away what died before it could clean up. The lock is held."""
        for path in self.root.glob("rm-*"):
            place = Place(path)
            if place.is_abandoned:
                name = place.name
                self._delete(path)
                if name:
                    self._give_up(name, place)


def clear(sandbox: Sandbox, place: Place) -> None:
    """Take away what an overlay left whose processes were killed: no other would be mounted. The place is held."""
    work = place.path / "work"
    if (work / "work").exists():
        sandbox.call("dockermagic.sandbox.trees:remove_work", work=str(work))


def _is_open(state: State) -> bool:
    """Whether a state says nothing of an end."""
    return state.status in ("running", "restarting") or (state.status == "created" and state.exit_code is None)


def _code_in(said: bytes) -> int | None:
    return int(said) if said.strip() else None


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def decode(kind: Any, value: Any) -> Any:
    """JSON back to a frozen value, by its annotations; fields that are missing have their defaults."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1:] == (...,) else arguments
        return tuple(decode(one, item) for one, item in zip(kinds, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        return None if value is None else decode(next(one for one in arguments if one is not type(None)), value)
    if kind is Path:
        return Path(value)
    if is_dataclass(kind):
        make: Any = kind
        hints = _hints(make)
        return make(**{name: decode(hints[name], item) for name, item in value.items()})
    return value
