"""VS Code, which cannot be run here: its messages, replayed to real kernels.

Its cells are document URIs, its notebook's name comes by a silent request, and it stops a kernel by a signal to its
process or, where a kernelspec wants that, by a message on the control channel.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import DockerfileKernel, Kernel, Reply

pytestmark = pytest.mark.slow
FROM, ONE, TWO = "FROM busybox", "RUN echo one > /one", "RUN cat /one > /two"


class Code:
    """A notebook that is open in VS Code; ``handles`` are the fragments that its cells have this time."""

    def __init__(self, kernel: Kernel, notebook: Path, handles: str) -> None:
        self.kernel = kernel
        self.notebook = notebook
        self.handles = handles
        name = f"__vsc_ipynb_file__ = {str(notebook)!r}"
        kernel.run(name if kernel.kernel_name == "python3" else f"%%python\n{name}")

    def run(self, number: int, text: str, **more: Any) -> Reply:
        code = f"%%dockerfile\n{text}" if self.kernel.kernel_name == "python3" else text
        uri = f"vscode-notebook-cell:{self.notebook}#W{self.handles[number]}sZmlsZQ%3D%3D"
        return self.kernel.run(code, uri, **more)


def by_signal(kernel: Kernel) -> None:
    os.kill(int(kernel.manager.provisioner.pid), signal.SIGINT)  # type: ignore[union-attr, attr-defined]


def by_message(kernel: Kernel) -> None:
    kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {}))


@pytest.mark.parametrize("kind", [Kernel, DockerfileKernel])
@pytest.mark.parametrize("stop", [by_signal, by_message])
def test_its_ways_of_stopping(home: Path, tmp_path: Path, kind: type[Kernel], stop: Callable[[Kernel], None]) -> None:
    with kind(home, tmp_path) as kernel:
        code = Code(kernel, tmp_path / "lesson.ipynb", "123")
        assert code.run(0, FROM).status == "ok"
        stopped: list[bool] = []

        def watch(reply: Reply) -> None:
            if "| started" in reply.text and not stopped:
                stopped.append(True)
                stop(kernel)

        reply = code.run(1, "RUN echo started; sleep 1000", watch=watch)

        assert (reply.status, reply.error, reply.stderr) == ("error", "BuildInterruptedError", "")
        assert code.run(1, ONE).status == "ok"


def test_a_renamed_notebook_is_known_by_its_texts(home: Path, tmp_path: Path) -> None:
    """Ids that do not last cannot be what it is known by; the first cell to run is one that was never seen."""
    old, new = tmp_path / "old.ipynb", tmp_path / "new.ipynb"
    cells = [
        {"cell_type": "code", "id": str(n), "source": f"%%dockerfile\n{text}"} for n, text in enumerate((FROM, ONE))
    ]
    old.write_text(json.dumps({"cells": cells}))
    with Kernel(home, tmp_path) as kernel:
        code = Code(kernel, old, "123")
        for number, text in enumerate((FROM, ONE)):
            assert code.run(number, text).status == "ok"
    old.rename(new)
    with Kernel(home, tmp_path) as kernel:
        assert Code(kernel, new, "312").run(2, TWO).status == "ok"
        shown = kernel.run("%dockerfile show", "vscode-notebook-cell:x#y").text
        assert shown == "\n\n".join((FROM, ONE, TWO))
