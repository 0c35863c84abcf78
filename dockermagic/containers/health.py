"""HEALTHCHECK: whether a container that runs is well, asked again and again by its supervisor."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from dockermagic.containers.process import exec_process
from dockermagic.containers.request import ExecRequest, Health
from dockermagic.errors import DockermagicError

if TYPE_CHECKING:
    from dockermagic.containers.supervisor import Supervisor

__all__ = ["watch_health"]

_KEPT = 5
_OUTPUT = 4096


def watch_health(supervisor: Supervisor, health: Health) -> None:
    """Ask until the container's process is over, and write each answer into its state."""
    begun, over = time.monotonic(), supervisor.once_over
    supervisor.update(health="starting", failing=0, probes=())
    while True:
        starting = time.monotonic() - begun < health.start_period
        pause = min(health.start_interval, health.interval) if starting else health.interval
        if over.wait(pause):
            return
        started = time.time()
        code, output = _ask(supervisor, health)
        if over.is_set():
            return
        probes = (*supervisor.state.probes, (started, time.time(), code, output))[-_KEPT:]
        failing = 0 if code == 0 else supervisor.state.failing + 1
        if code == 0:
            supervisor.update(health="healthy", failing=0, probes=probes)
        elif supervisor.state.health == "starting" and time.monotonic() - begun < health.start_period:
            supervisor.update(probes=probes)
        elif failing >= health.retries:
            supervisor.update(health="unhealthy", failing=failing, probes=probes)
        else:
            supervisor.update(failing=failing, probes=probes)


def _ask(supervisor: Supervisor, health: Health) -> tuple[int, str]:
    """Run the test once: its exit code and the beginning of what it wrote; -1 where it took too long."""
    kind, *words = health.test
    command = ("/bin/sh", "-c", " ".join(words)) if kind == "CMD-SHELL" else tuple(words)
    said = bytearray()

    def take(stream: int, data: bytes) -> None:
        if len(said) < _OUTPUT:
            said.extend(data[: _OUTPUT - len(said)])

    try:
        target = supervisor.pidfd()
    except DockermagicError as error:
        return -1, error.message
    try:
        running = supervisor.beside(target, exec_process(supervisor, ExecRequest(command)), take)
    except DockermagicError as error:
        return -1, error.message
    finally:
        os.close(target)
    late = threading.Event()

    def end() -> None:
        late.set()
        running.stop()

    clock = threading.Timer(health.timeout, end)
    clock.daemon = True
    clock.start()
    code = -1
    try:
        with contextlib.suppress(DockermagicError):
            code = running.wait()
    finally:
        clock.cancel()
        running.close()
    if late.is_set():
        return -1, f"Health check exceeded timeout ({health.timeout:g}s)"
    return code, said.decode("utf-8", "replace")
