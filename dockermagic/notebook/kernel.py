"""The Dockerfile kernel: IPython's kernel, where a plain cell is Dockerfile.

Magics, widgets, history, interrupt and restart are those of IPython. Importing this module imports ipykernel.
"""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import page
from IPython.core.inputtransformer2 import TransformerManager
from traitlets import Instance, Type

from dockermagic import __version__
from dockermagic.celltext import asked_about, is_complete, read_cell
from dockermagic.notebook.assist import (
    complete_dockerfile,
    completion_reply,
    help_dockerfile,
    help_word,
    inspection_reply,
)
from dockermagic.notebook.magics import register

__all__ = ["DockerfileKernel", "DockerfileShell", "launch"]

BANNER = f"""Dockerfile {__version__} (dockermagic)
Write instructions: every cell is a cached layer. RUN? tells what RUN does.
%dockerfile looks at the Dockerfile, %docker has Docker's verbs, !command runs
one on this machine.
"""


class CellTransformer(TransformerManager):
    """Turns a cell of the kernel into Python."""

    def transform_cell(self, cell: str) -> str:
        """IPython's lines as IPython reads them, the Dockerfile below them as ``%%dockerfile``."""
        if word := asked_about(cell):
            return f"get_ipython().show_help({word!r})\n"
        parts = read_cell(cell)
        above = str(super().transform_cell(parts.ipython)) if parts.ipython.strip() else ""
        if not parts.dockerfile.strip():
            return above
        return f"{above}get_ipython().run_cell_magic('dockerfile', '', {parts.dockerfile!r})\n"


class DockerfileShell(ZMQInteractiveShell):
    """An IPython shell that reads Dockerfiles, with dockermagic's magics."""

    input_transformer_manager = Instance(CellTransformer, ())

    def init_magics(self) -> None:
        """IPython's own, and ours."""
        inherited: Any = super()
        inherited.init_magics()
        self.docker_magics = register(self)

    def show_help(self, word: str) -> None:
        """What ``RUN?`` shows, in the pager."""
        found = help_word(self.docker_magics, word)
        page.page(found.bundle() if found else {"text/plain": f"There is no help on {word}."})


class DockerfileKernel(IPythonKernel):
    """A kernel whose language is Dockerfile."""

    implementation = "dockermagic"
    implementation_version = __version__
    banner = BANNER
    shell_class = Type(DockerfileShell)
    help_links = [  # noqa: RUF012 (ipykernel's own form)
        {"text": "Dockerfile Reference", "url": "https://docs.docker.com/reference/dockerfile/"},
        {"text": "IPython Reference", "url": "https://ipython.readthedocs.io/en/stable/"},
    ]
    language_info = {  # noqa: RUF012
        "name": "dockerfile",
        "version": "1",
        "mimetype": "text/x-dockerfile",
        "codemirror_mode": "dockerfile",
        "pygments_lexer": "docker",
        "nbconvert_exporter": "dockerfile",
        "file_extension": ".dockerfile",
    }

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        """Whether a console should run the text now or let the person go on."""
        parts = read_cell(code)
        if not parts.dockerfile.strip():
            inherited: Any = super()
            return dict(inherited.do_is_complete(code))
        status = is_complete(parts.dockerfile)
        return {"status": status, "indent": ""} if status == "incomplete" else {"status": status}

    async def do_complete(self, code: str, cursor_pos: int | None) -> dict[str, Any]:
        """What may stand at the cursor."""
        cursor = len(code) if cursor_pos is None else cursor_pos
        if (body := _body(code, cursor)) is None:
            inherited: Any = super()
            return dict(inherited.do_complete(code, cursor))
        shell: Any = self.shell
        return completion_reply(complete_dockerfile(shell.docker_magics, code, cursor, body), cursor)

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> dict[str, Any]:
        """What the word at the cursor is."""
        if (body := _body(code, cursor_pos)) is None:
            inherited: Any = super()
            return dict(inherited.do_inspect(code, cursor_pos, detail_level, omit_sections))
        shell: Any = self.shell
        return inspection_reply(help_dockerfile(shell.docker_magics, code, cursor_pos, body))

    async def do_history(self, *words: Any, **options: Any) -> dict[str, Any]:
        """The cells as they were written. IPython calls its own session 0 in a range; the protocol wants its number."""
        inherited: Any = super()
        reply = dict(inherited.do_history(*words, **options))
        shell: Any = self.shell
        own = shell.history_manager.session_number
        reply["history"] = [(session or own, *entry) for session, *entry in reply["history"]]
        return reply

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """End; the sessions are on disk."""
        inherited: Any = super()
        return dict(inherited.do_shutdown(restart))


def _body(code: str, cursor: int) -> int | None:
    """Where the plain Dockerfile of a cell begins; None where the cursor is not in it."""
    parts = read_cell(code)
    begin = len(code) - len(parts.dockerfile)
    return begin if parts.dockerfile and cursor >= begin else None


def launch() -> None:
    """Run a kernel until it is shut down; the words are ipykernel's."""
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(kernel_class=DockerfileKernel)
