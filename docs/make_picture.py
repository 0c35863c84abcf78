"""Make docs/notebook.png: a real notebook in a real JupyterLab. Needs the test extras, chromium and busybox-static.

.venv/bin/python -m docs.make_picture
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dockermagic.engine import Engine
from tests.notebook.labserver import Notebook, browser, server, write_notebook

CELLS = (
    "%load_ext dockermagic",
    '%%dockerfile -t hello\nFROM busybox\nENV WHO=world\nRUN echo "Hello, $WHO" > /greeting\nCMD ["cat", "/greeting"]',
    "%%dockerfile\nCOPY app /srv/app\nRUN cd /srv/app && ls && rm -r /var/www",
    "%docker run --rm hello",
)
PROGRAM = '''"""Greets whom it is told to."""

import os

name = os.environ.get("WHO", "nobody")
print(f"Hello, {name}")  # read by the lesson
'''


def main() -> None:
    """Write the picture beside this file."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "app").mkdir()
        (folder / "app/main.py").write_text(PROGRAM)
        (folder / "app/data.csv").write_text("a,b\n1,2\n")
        home = folder / ".store"
        with Engine(home) as engine:
            engine.base("busybox")
        write_notebook(folder / "first.ipynb", *CELLS)
        with server(folder, DOCKERMAGIC_HOME=str(home)) as address:
            with browser(viewport={"width": 1180, "height": 1560}, device_scale_factor=1.5) as page:
                notebook = Notebook(page, address, "first.ipynb")
                for number in range(len(CELLS)):
                    notebook.run(number)
                page.keyboard.press("Control+b")
                card = notebook.cell(2).locator(".dm-root")
                card.get_by_text("Files ·").click()
                card.get_by_role("treeitem").filter(has_text="main.py").click()
                card.locator(".dm-look pre").wait_for()
                page.wait_for_timeout(1500)
                page.locator(".jp-WindowedPanel-outer").first.evaluate("element => element.scrollTop = 0")
                page.wait_for_timeout(500)
                bottom = notebook.cell(len(CELLS) - 1).bounding_box()
                top = notebook.cell(0).bounding_box()
                clip = {"x": top["x"], "y": top["y"], "width": top["width"]}
                clip["height"] = bottom["y"] + bottom["height"] - top["y"] + 12
                page.screenshot(path=Path(__file__).with_name("notebook.png"), clip=clip)


if __name__ == "__main__":
    main()
