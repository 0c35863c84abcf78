"""The engine's own steps as events, named as BuildKit names them: ``[internal] load build definition`` and so on."""

from __future__ import annotations

import hashlib
import time

from dockermagic.errors import DockermagicError
from dockermagic.events import Emit, Status, Vertex, now

__all__ = ["Internal", "InternalStep"]


class Internal:
    """The engine's own steps, as events."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit

    def step(self, name: str) -> InternalStep:
        """A context manager: started, then completed or failed."""
        return InternalStep(self.emit, name)


class InternalStep:
    """One of the engine's own steps while it runs."""

    def __init__(self, emit: Emit, name: str) -> None:
        self.emit = emit
        self.name = name
        self.digest = "sha256:" + hashlib.sha256(f"{id(self)}\0{name}\0{time.time_ns()}".encode()).hexdigest()
        self.started = now()

    def __enter__(self) -> InternalStep:
        self.emit(Vertex(self.digest, self.name, started=self.started))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case None:
                message = ""
            case DockermagicError():
                message = error.message
            case KeyboardInterrupt():
                message = "interrupted"
            case _:
                message = type(error).__name__
        self.emit(Vertex(self.digest, self.name, started=self.started, completed=now(), error=message))

    def status(self, name: str, size: int) -> None:
        """``transferring context: 2.1kB``."""
        moment = now()
        self.emit(Status(self.digest, name, name, size, 0, moment, self.started, moment))

    def transfer(self, digest: str, state: str, done: int, total: int) -> None:
        """A blob on its way to or from a registry; ``done`` and ``total`` in bytes. Called from several threads."""
        moment = now()
        ended = None if state in ("waiting", "transfer") else moment
        self.emit(Status(self.digest, digest, state, done, total, moment, self.started, ended))

    def part(self, name: str) -> Part:
        """A line below the step: ``exporting layers``."""
        return Part(self, name)


class Part:
    """A part of a step that is told by a line of its own."""

    def __init__(self, step: InternalStep, name: str) -> None:
        self.step, self.name, self.started = step, name, now()

    def __enter__(self) -> None:
        self.step.emit(Status(self.step.digest, self.name, self.name, 0, 0, now(), self.started))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.step.emit(Status(self.step.digest, self.name, self.name, 0, 0, now(), self.started, now()))
