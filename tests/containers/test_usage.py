"""What a container uses: the processes below its first one, and no others."""

from __future__ import annotations

import os
import subprocess

from dockermagic.containers.usage import usage


def test_a_process_and_all_below_it() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], stdout=subprocess.PIPE, process_group=0) as shell:
        try:
            found, all_of_us = usage(shell.pid), usage(os.getpid())
        finally:
            os.killpg(shell.pid, 9)

    assert found is not None and all_of_us is not None
    assert 1 <= found.processes <= 3 and found.memory > 0 and found.cpu >= 0
    assert all_of_us.processes > found.processes and all_of_us.memory > found.memory


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert usage(gone.pid) is None
