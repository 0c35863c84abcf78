"""The companion's loop, without a run."""

from __future__ import annotations

import os
import select
import socket

from dockermagic.sandbox import wire
from dockermagic.sandbox.companion import _Companion, _Run
from dockermagic.sandbox.listener import Listener


def test_the_end_of_a_run_and_of_its_filter_at_once() -> None:
    """What the first word closed is not taken for another word, for which it would wait for ever."""
    channel, resident = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answers, heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (channel, heard):
        end.settimeout(60)
    filtered, nobody = os.pipe()
    os.close(nobody)
    companion = _Companion(channel, answers)
    run = _Run({"upper": ""}, Listener(filtered, None), os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    companion.runs[1] = companion.listening[filtered] = run
    companion.poll.register(filtered, select.POLLIN)
    resident.send(wire.dump({"over": 1}))

    companion.turn()

    assert wire.load(heard.recv(1 << 12)) == {"over": 1, "recorded": True}
    resident.close()
