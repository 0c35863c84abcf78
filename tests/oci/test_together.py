"""Calls side by side: none waits for one that could not be begun."""

from __future__ import annotations

import threading

import pytest

from dockermagic.oci.together import together


def test_a_call_that_gets_no_thread_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    start, started = threading.Thread.start, []

    def few(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    calls = [lambda: stopped.wait(60)] * 5
    with pytest.raises(RuntimeError, match="can't start new thread"):
        together(calls, at_once=5, stop=stopped.set)

    assert stopped.is_set()
