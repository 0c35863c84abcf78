"""``kernel``: the Dockerfile kernel made known to Jupyter by the path of this very interpreter."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from dockermagic.errors import DockermagicError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["KERNEL"]

SPEC = Path(__file__).parents[1] / "notebook" / "kernelspec"
_HINT = "There is: install. What removes a kernel is `jupyter kernelspec remove NAME`."
NAME = re.compile(r"[A-Za-z0-9._-]+")


def kernel(console: Console, arguments: Arguments) -> int:
    """Write a kernelspec and say where. One of that name is replaced."""
    if arguments.words[0] != "install":
        raise UsageError(f"unknown command: {console.program} kernel {arguments.words[0]}", hint=_HINT)
    if sum(arguments.given(name) for name in ("user", "sys-prefix", "prefix")) > 1:
        raise UsageError("--user, --sys-prefix and --prefix exclude each other")
    name = arguments.text("name")
    if not NAME.fullmatch(name):
        raise UsageError(f"not a kernel's name: {name!r}", hint="Letters, digits, '.', '_' and '-' make one.")
    place = _share(arguments) / "kernels" / name.lower()
    spec = json.loads((SPEC / "kernel.json").read_text(encoding="utf-8"))
    spec["argv"][0] = sys.executable
    spec["display_name"] = arguments.text("display-name") or spec["display_name"]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for logo in SPEC.glob("logo-*"):
            shutil.copyfile(logo, place / logo.name)
        (place / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DockermagicError(
            f"cannot write {place}: {error.strerror}",
            hint="--user writes into your home, --prefix into a folder of your choice.",
        ) from None
    console.write(f"The kernel {name} is in {place}\n")
    return 0


def _share(arguments: Arguments) -> Path:
    """Where Jupyter looks: the person's own place, or that of a prefix; this interpreter's by default."""
    if arguments.flag("user"):
        from jupyter_core.paths import jupyter_data_dir

        return Path(jupyter_data_dir())
    return Path(arguments.text("prefix") or sys.prefix).expanduser().absolute() / "share" / "jupyter"


KERNEL = Verb(
    "kernel",
    "install [OPTIONS]",
    "Make the Dockerfile kernel of this environment known to Jupyter",
    kernel,
    (
        flag("user", "", "Install for this user"),
        flag("sys-prefix", "", "Install into this environment (the default)"),
        text("prefix", "", "Install below this folder", value="path"),
        text("name", "", "The kernel's name for Jupyter", default="dockerfile"),
        text("display-name", "", "The name that people see"),
    ),
    (1, 1),
    more=(
        "pip installs the kernel beside Jupyter already. This is for a Jupyter in another environment, as on a hub:\n"
        "the kernel starts with the absolute path of this interpreter. `jupyter kernelspec remove NAME` removes it."
    ),
)
