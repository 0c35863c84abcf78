"""Containers on disk and at work: one directory each below ``HOME/containers``, with what it wrote and a record.

::

    containers/.lock         held while a container is made or swept away
    containers/ID/           a container that stays: state.json, fs and work (its layer), volumes/
    containers/rm-ID/        the same for one that goes at its end; a sweep takes it if its process died first
    volumes/NAME/_data       a named volume

A container's own ``lock`` file is held as long as it runs, by the process that runs it, and dies with it.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dockermagic.containers.request import Bind, Container, ContainerResult, Launch, RunRequest, resolve
from dockermagic.errors import BuildInterruptedError, ContainerError, DockermagicError, SandboxError
from dockermagic.oci import lock
from dockermagic.sandbox.base import Cancel, Mount, Process, Rootfs, Sandbox
from dockermagic.sandbox.running import NO_HOOKS, Hooks, Running

__all__ = ["Containers"]

_WRITABLE = "dockermagic.containers.writable"


class Containers:
    """The containers of one store. Safe for many processes at once."""

    def __init__(self, home: Path, sandbox: Sandbox) -> None:
        self.root = home / "containers"
        self.volumes = home / "volumes"
        self.sandbox = sandbox

    def run(
        self,
        request: RunRequest,
        config: Mapping[str, Any],
        lowers: tuple[Path, ...],
        *,
        image_id: str = "",
        output: Callable[[int, bytes], None],
        cancel: Cancel | None = None,
        began: Callable[[Running], None] | None = None,
    ) -> ContainerResult:
        """Run a container to its end. ``config`` is the image's ``config`` object, ``lowers`` its layers, bottom first.

        ``cancel`` ends every process in it; then BuildInterruptedError is raised, and a container that stays is
        recorded as exited with 137. Raises ContainerError, with Docker's exit code, for what cannot be done.
        """
        identity = secrets.token_hex(32)
        launch = resolve(config, request, identity[:12])
        with self._create(identity, request, launch, image_id, lowers) as (directory, container):
            started = time.time()
            try:
                process = self._process(directory, request, launch, config, lowers, cancel)
                self._record(directory, replace(container, status="running", started=started))
                code = self._start(directory, process, lowers, output, cancel, began)
            except BaseException:
                ended = replace(container, status="exited", started=started, finished=time.time(), exit_code=137)
                self._record(directory, ended)
                raise
            finished = time.time()
            ended = replace(container, status="exited", started=started, finished=finished, exit_code=code)
            self._record(directory, ended)
        return ContainerResult(code, "" if request.remove else identity, container.name, finished - started)

    def all(self) -> list[Container]:
        """Every container that stays, the newest first; one whose process died is exited, with 137."""
        found = []
        for directory in self._directories():
            container = self._read(directory)
            if container is not None:
                if container.status != "exited" and not self._is_held(directory):
                    container = replace(container, status="exited", exit_code=137)
                found.append(container)
        return sorted(found, key=lambda container: container.created, reverse=True)

    def remove(self, name: str) -> str:
        """Delete a container by name, id or the beginning of its id, and return its id.

        Raises ContainerError where there is none, where several begin like that, or while it runs.
        """
        found = [one for one in self.all() if one.name == name]
        found = found or [one for one in self.all() if name and one.id.startswith(name)]
        if not found:
            raise ContainerError(f"No such container: {name}", exit_code=1, hint="'ps -a' lists the containers.")
        if len(found) > 1:
            raise ContainerError(f"multiple containers begin with {name}", exit_code=1, hint="Give more digits.")
        directory = self.root / found[0].id
        with lock.hold(self.root / ".lock"):
            if self._is_held(directory):
                raise ContainerError(f"cannot remove container {name}: container is running", exit_code=1)
            self._delete(directory)
        return found[0].id

    # -- directories ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _create(
        self, identity: str, request: RunRequest, launch: Launch, image_id: str, lowers: tuple[Path, ...]
    ) -> Iterator[tuple[Path, Container]]:
        """A container's directory, made and locked; deleted at the end of one that does not stay."""
        name = request.name or identity[:12]
        directory = self.root / (f"rm-{identity}" if request.remove else identity)
        container = Container(identity, name, request.image, image_id, launch.args, "created", time.time())
        self.root.mkdir(parents=True, exist_ok=True)
        with lock.hold(self.root / ".lock"):
            self._sweep()
            if request.name:
                self._check_name(request.name)
            upper = directory / "fs"
            upper.mkdir(parents=True)
            (directory / "work").mkdir()
            if lowers:
                upper.chmod(stat.S_IMODE(lowers[-1].stat().st_mode))
            held = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            lock.claim(held)
            self._record(directory, container)
        try:
            yield directory, container
        finally:
            if request.remove:
                self._delete(directory)
            os.close(held)

    def _check_name(self, name: str) -> None:
        import re

        if not re.fullmatch(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+", name):
            raise ContainerError(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                hint="A name has at least two characters.",
            )
        for directory in self._directories("*"):
            container = self._read(directory)
            if container is not None and container.name == name:
                raise ContainerError(
                    f'Conflict. The container name "/{name}" is already in use by container "{container.id}".',
                    hint="Choose another name. A container that is run with --rm gives its name back at its end.",
                )

    def _directories(self, pattern: str = "[0-9a-f]*") -> list[Path]:
        return [path for path in self.root.glob(pattern) if (path / "state.json").is_file()]

    def _sweep(self) -> None:
        """Take away what died before it could clean up. The directory's lock is held."""
        for directory in self.root.glob("rm-*"):
            if not self._is_held(directory):
                self._delete(directory)

    def _is_held(self, directory: Path) -> bool:
        try:
            held = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not lock.claim(held, wait=False)
        finally:
            os.close(held)

    def _delete(self, directory: Path) -> None:
        """Remove a container's directory, whoever its files belong to."""
        self.sandbox.call(f"{_WRITABLE}:remove", path=str(directory))

    # -- records -------------------------------------------------------------------------------------------------------

    def _record(self, directory: Path, container: Container) -> None:
        """Write the record, atomically."""
        handle, name = tempfile.mkstemp(prefix=".state.", dir=directory)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(container), file)
        Path(name).replace(directory / "state.json")

    def _read(self, directory: Path) -> Container | None:
        try:
            document = json.loads((directory / "state.json").read_text(encoding="utf-8"))
            return Container(**{**document, "command": tuple(document["command"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    # -- processes -----------------------------------------------------------------------------------------------------

    def _process(
        self,
        directory: Path,
        request: RunRequest,
        launch: Launch,
        config: Mapping[str, Any],
        lowers: tuple[Path, ...],
        cancel: Cancel | None,
    ) -> Process:
        binds = list(request.binds)
        if request.read_only:
            taken = {bind.target for bind in binds}
            binds += [Bind(target) for target in config.get("Volumes") or {} if target not in taken]
        mounts = [
            Mount("bind", bind.target, self._source(directory, number, bind, lowers, cancel), bind.readonly)
            for number, bind in enumerate(binds)
        ]
        return Process(
            args=launch.args,
            env=launch.env,
            cwd=launch.cwd,
            user=launch.user,
            hostname=launch.hostname,
            network=request.network,
            mounts=tuple(sorted(mounts, key=lambda mount: mount.target.count("/"))),
            tty=request.tty,
            stdin=request.stdin,
            shm_size=request.shm_size,
            extra_hosts=request.add_hosts,
            readonly_root=request.read_only,
            window=request.window,
        )

    def _source(
        self, directory: Path, number: int, bind: Bind, lowers: tuple[Path, ...], cancel: Cancel | None
    ) -> Path:
        """The directory or file behind a bind, made where Docker makes it."""
        try:
            if bind.path is not None:
                if not bind.path.exists():
                    bind.path.mkdir(parents=True)
                return bind.path.resolve()
            anonymous = directory / "volumes" / str(number)
            place = self.volumes / bind.volume / "_data" if bind.volume else anonymous
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ContainerError(
                f"error while creating mount source path '{bind.path or bind.volume}': {os.strerror(error.errno or 0)}"
            ) from None
        with lock.hold(place.parent / ".lock"):
            self.sandbox.call(
                f"{_WRITABLE}:fill",
                mounts={"root": Rootfs(lowers)},
                cancel=cancel,
                path=bind.target,
                target=str(place),
            )
        return place

    def _start(
        self,
        directory: Path,
        process: Process,
        lowers: tuple[Path, ...],
        output: Callable[[int, bytes], None],
        cancel: Cancel | None,
        began: Callable[[Running], None] | None,
    ) -> int:
        hooks = Hooks(opened=lambda terminal: began(running)) if began else NO_HOOKS
        try:
            running = self.sandbox.start(
                Rootfs(lowers, directory / "fs"), process, output=output, cancel=cancel, hooks=hooks
            )
            try:
                return running.wait()
            finally:
                running.close()
        except BuildInterruptedError:
            raise
        except SandboxError as error:
            raise ContainerError(error.message, place=error.place, hint=error.hint) from error
        except DockermagicError as error:
            error.exit_code = 125
            raise
