"""dockermagic: interactive Dockerfiles in a notebook, on an engine of its own.

``%load_ext dockermagic`` registers the magics; nothing else is imported until the first cell runs.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing says, too; but its import takes longer than what a command begins first

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dockermagic.handles import Image

__version__ = "0.1.0"

__all__ = ["__version__", "image", "load_ipython_extension"]


def image(name: str) -> Image:
    """The image of that name or id, to run commands in it, read its files and look at its config.

    Raises ImageNotFoundError. :class:`dockermagic.handles.Image` tells what can be asked.
    """
    from dockermagic.handles import image

    return image(name)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%%dockerfile``, ``%dockerfile``, ``%%dockercheck`` and ``%docker`` with an IPython shell."""
    from dockermagic.notebook.magics import register

    register(shell)
