"""Execute lessons from top to bottom and save them with their outputs: ``python -m docs.make_lessons NOTEBOOK...``

Each is run in a copy of its folder, so that nothing but the notebook itself changes. Without widgets: what is saved is
HTML without any script, which GitHub shows. The store is a fresh one in the temporary directory.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

REPO = Path(__file__).resolve().parents[1]
LESSONS = REPO / "notebooks"


class ThisPython(KernelSpecManager):
    """The kernel of this interpreter, whatever kernels are installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def execute(notebook: nbformat.NotebookNode, folder: Path, environment: Mapping[str, str]) -> None:
    """Run every cell in ``folder``; the outputs are in the notebook afterwards. Raises CellExecutionError."""
    path = [str(REPO), os.environ.get("PYTHONPATH", "")]
    known = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    known |= {
        "DOCKERMAGIC_WIDGETS": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(one for one in path if one),
        **environment,
    }
    client = NotebookClient(
        notebook,
        AsyncKernelManager(kernel_spec_manager=ThisPython()),
        timeout=300,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=known)


def main(names: list[str]) -> None:
    wanted = [Path(name).resolve() for name in names] or sorted(LESSONS.glob("**/*.ipynb"))
    with tempfile.TemporaryDirectory(prefix="lessons-", ignore_cleanup_errors=True) as directory:
        folder = Path(directory) / "notebooks"
        folder.mkdir()
        for path in wanted:
            notebook = nbformat.read(path, as_version=4)
            try:
                execute(notebook, folder, {"DOCKERMAGIC_HOME": os.environ.get("DOCKERMAGIC_HOME", f"{directory}/store")})
            finally:
                nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
