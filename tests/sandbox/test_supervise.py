"""A run seen from outside of its namespaces, without one."""

from __future__ import annotations

import signal
import socket
from types import SimpleNamespace

import pytest

from dockermagic.errors import BuildInterruptedError
from dockermagic.sandbox.supervise import Run


def run_of(code: int | None, killed: list[int]) -> Run:
    run = Run.__new__(Run)
    run.loop = SimpleNamespace(keep=lambda fd: None, kill=killed.append)  # type: ignore[assignment]
    run.control, _ = socket.socketpair()
    run.pid, run.code, run.stopped, run.messages = 7, code, False, {"process": True}
    return run


def test_what_has_ended_keeps_its_exit_code() -> None:
    """A stop may come while it is yet to be told, or hit a process that has just ended by itself."""
    killed: list[int] = []
    late, crossed = run_of(4, killed), run_of(None, killed)
    late._stop()
    assert killed == []
    crossed._stop()
    crossed.code = 5

    assert killed == [7]
    assert [run._result()["result"]["exit_code"] for run in (late, crossed)] == [4, 5]
    crossed.code = -signal.SIGKILL
    with pytest.raises(BuildInterruptedError):
        crossed._result()
