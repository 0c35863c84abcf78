"""A real JupyterLab of the tests' own, and a browser that uses it as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
TOKEN = "only-for-this-test"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE = 60_000
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
"""No question about news: it lies over the cell that is to be clicked."""


def write_notebook(path: Path, *cells: str, kernel_name: str = "python3") -> None:
    """A notebook of code cells."""
    kernel = {"name": kernel_name, "display_name": {"python3": "Python 3"}.get(kernel_name, kernel_name)}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def server(folder: Path, *, extension: bool = True, app: str = "lab", **environment: str) -> Iterator[str]:
    """A JupyterLab, or with ``app`` notebook a Notebook 7, on ``folder``; gives its address.

    ``extension``: with the package's own lab extension. The Dockerfile kernel is there in any case. It must not end
    while a kernel restarts: jupyter_client 8.10 asks such a kernel's unfinished future for its exception, whichever
    kernel it is, and the server stays until it is told a second time.
    """
    own = folder / ".jupyter"
    extensions = own / "labextensions"
    extensions.mkdir(parents=True)
    if extension:
        shutil.copytree(ROOT / "dockermagic/notebook/labextension", extensions / "dockermagic")
    shutil.copytree(ROOT / "dockermagic/notebook/kernelspec", own / "data/kernels/dockerfile")
    (own / "labconfig").mkdir()
    (own / "labconfig/default_setting_overrides.json").write_text(json.dumps(QUIET))
    if not extension:  # the environment has it, where the package is installed
        (own / "labconfig/page_config.json").write_text(json.dumps({"disabledExtensions": {"dockermagic": True}}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = {**os.environ, "JUPYTER_CONFIG_DIR": str(own), "JUPYTER_DATA_DIR": str(own / "data"), "PYTHONPATH": path}
    given |= {"JUPYTER_RUNTIME_DIR": str(own / "run"), "IPYTHONDIR": str(own / "ipython"), **environment}
    words = ["--no-browser", f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    words += ["--allow-root", f"--LabApp.extra_labextensions_path={extensions}", "--LabApp.news_url=None"]
    words += [f"--JupyterNotebookApp.extra_labextensions_path={extensions}"]
    words += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--ContentsManager.allow_hidden=True"]
    with (folder / ".server.log").open("wb") as log:
        module = {"lab": "jupyterlab", "notebook": "notebook"}[app]
        process = subprocess.Popen([sys.executable, "-m", module, *words], env=given, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / ".server.log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
                break
            assert time.monotonic() < end, (folder / ".server.log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(120)
        finally:
            process.kill()


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page: Any, address: str, name: str, *, app: str = "lab") -> None:
        self.page = page
        place = {"lab": f"lab/tree/{name}?reset&", "notebook": f"notebooks/{name}?"}[app]
        page.goto(f"{address}/{place}token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE)
        page.wait_for_selector(
            "[data-status=idle], .jp-Notebook-ExecutionIndicator", state="attached", timeout=PATIENCE
        )

    def cell(self, number: int) -> Any:
        """A cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def start(self, number: int) -> None:
        """Run a cell and do not wait. A notebook that has just opened may not hear the first keys."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(10):
            dialog = self.page.locator(".jp-Dialog .jp-mod-accept")
            if dialog.count():  # a slow machine makes JupyterLab ask which kernel is meant
                dialog.first.click()
            self.cell(number).locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Control+Enter")
            end = time.monotonic() + 3
            while time.monotonic() < end:
                if prompt.inner_text() not in (before, "", "[ ]:"):
                    return
                self.page.wait_for_timeout(20)
        raise AssertionError("the cell does not run")

    def wait(self, number: int) -> None:
        """Until the cell has run."""
        self.page.wait_for_function(
            r"number => /\[\d+\]/.test(document.querySelectorAll('.jp-Notebook .jp-Cell')[number]"
            r"?.querySelector('.jp-InputPrompt')?.textContent)",
            arg=number,
            timeout=PATIENCE,
        )

    def run(self, number: int) -> None:
        """Run a cell to its end."""
        self.start(number)
        self.wait(number)

    def save(self, path: Path) -> None:
        """Save, and wait until it is on the disk."""
        before = path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(ValueError):  # it is being written
                if path.stat().st_mtime_ns != before and json.loads(path.read_text(encoding="utf-8")):
                    return
            time.sleep(0.05)
        raise AssertionError("the notebook is not saved")


@contextlib.contextmanager
def browser(**options: Any) -> Iterator[Any]:
    """A page of a fresh browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(**({"viewport": {"width": 1200, "height": 1000}} | options))
        page.set_default_timeout(PATIENCE / 2)
        try:
            yield page
        finally:
            chromium.close()
