"""A notebook executed from top to bottom in a kernel of this very interpreter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.conversion import has_dockerfile_kernel
from dockermagic.errors import DockermagicError

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["execute", "read_notebook"]

_START_SECONDS = 600
"""What a kernel may take to start; one that dies is seen at once. On an emulated machine it is a minute."""


def read_notebook(path: Path) -> NotebookNode:
    """The notebook of a file, as format 4."""
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-any-return]


def execute(
    notebook: NotebookNode,
    folder: Path,
    home: Path,
    *,
    environment: Mapping[str, str] | None = None,
    begun: Callable[[NotebookNode], None] = lambda cell: None,
    done: Callable[[NotebookNode], None] = lambda cell: None,
) -> None:
    """Run every cell in ``folder`` on the store ``home``; the outputs are in the notebook afterwards.

    Without widgets: what it leaves is text and HTML without scripts. Each cell keeps what it showed when it ran: a card
    that later cells change would tell the end first to those who read the page from the top. ``begun`` is called with
    each code cell before it runs, ``done`` after it ran. Raises DockermagicError where a cell fails that is not marked
    ``raises-exception``, and where the kernel does not start or dies.
    """
    from copy import deepcopy

    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    module = "dockermagic.notebook" if has_dockerfile_kernel(notebook.metadata) else "ipykernel_launcher"

    class ThisPython(KernelSpecManager):
        """The kernel of this interpreter, whatever kernels are installed here."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            argv = [sys.executable, "-m", module, "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    shown: list[Any] = []

    def begins(cell: NotebookNode, cell_index: int, **more: Any) -> None:
        shown.extend(deepcopy(above.get("outputs")) for above in notebook.cells[len(shown) : cell_index])

    def executes(cell: NotebookNode, cell_index: int, **more: Any) -> None:
        begun(cell)

    def executed(cell: NotebookNode, cell_index: int, **more: Any) -> None:
        if cell.cell_type == "code":
            done(cell)

    client = NotebookClient(
        notebook,
        AsyncKernelManager(kernel_spec_manager=ThisPython()),
        timeout=None,
        startup_timeout=_START_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=begins,
        on_cell_execute=executes,
        on_cell_executed=executed,
    )
    try:
        client.execute(env=_environment(home, environment or {}), stderr=_nowhere(), cleanup_kc=True)
    except CellExecutionError as error:
        raise DockermagicError(f"a cell of the notebook failed: {error.ename}: {error.evalue}") from None
    except RuntimeError as error:  # nbclient's word for a kernel that died, or never came
        raise DockermagicError(f"the notebook's kernel: {error}", hint="Was it killed for want of memory?") from None
    finally:
        for cell, outputs in zip(notebook.cells, shown, strict=False):
            if outputs is not None:
                cell.outputs = outputs


def _nowhere() -> int:
    """The kernel's own log is none of the notebook's output."""
    import subprocess

    return subprocess.DEVNULL


def _environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The kernel's environment: the store, this package and its command, no widgets, and no other notebook's name."""
    found = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    packages = [str(Path(__file__).resolve().parents[1]), found.get("PYTHONPATH", "")]
    programs = [str(Path(sys.executable).parent), found.get("PATH", "")]
    return found | {
        "DOCKERMAGIC_HOME": str(home),
        "DOCKERMAGIC_WIDGETS": "0",
        "PATH": os.pathsep.join(one for one in programs if one),
        "PYTHONPATH": os.pathsep.join(one for one in packages if one),
        **more,
    }
