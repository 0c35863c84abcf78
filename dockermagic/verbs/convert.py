"""``convert``: from a Dockerfile to a notebook and back."""

from __future__ import annotations

import json
from pathlib import Path

from dockermagic.conversion import to_dockerfile, to_notebook
from dockermagic.errors import DockermagicError, UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag
from dockermagic.wholefile import write_whole

__all__ = ["CONVERT"]


def convert(console: Console, arguments: Arguments) -> int:
    """Read one, write the other; which is which is told by the names."""
    source, target = (Path(word) for word in arguments.words)
    if source.is_dir():
        source /= "Dockerfile"
    if (source.suffix == ".ipynb") == (target.suffix == ".ipynb"):
        raise UsageError("one of the two files is a notebook, NAME.ipynb, and the other is none")
    if target.exists() and not arguments.flag("force"):
        raise UsageError(f"{target} is there already", hint="--force replaces it.")
    try:
        text = source.read_bytes().decode("utf-8")
    except (OSError, UnicodeError) as error:
        raise DockermagicError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None
    if source.suffix == ".ipynb":
        made = to_dockerfile(_notebook(source, text), markdown=not arguments.flag("no-markdown"))
    else:
        kernel = "python" if arguments.flag("magic") else "dockerfile"
        document = to_notebook(text, kernel=kernel, blocks=arguments.flag("blocks"))
        made = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    try:
        write_whole(target, made.encode("utf-8"))
    except OSError as error:
        raise DockermagicError(f"cannot write {target}: {error.strerror}") from None
    console.write(f"{target}\n")
    return 0


def _notebook(path: Path, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise DockermagicError(f"{path} is not a notebook", hint="A file of Jupyter, format 4, is one.")
    return document


CONVERT = Verb(
    "convert",
    "[OPTIONS] DOCKERFILE NOTEBOOK.ipynb | NOTEBOOK.ipynb DOCKERFILE",
    "Make a notebook of a Dockerfile, or a Dockerfile of a notebook",
    convert,
    (
        flag("blocks", "", "One cell for the instructions below one comment"),
        flag("force", "f", "Replace the file that is written"),
        flag("magic", "", "A notebook for Python's kernel, with %%dockerfile cells"),
        flag("no-markdown", "", "Leave the notebook's texts out of the Dockerfile"),
    ),
    (2, 2),
    more=(
        "Each instruction becomes a cell and the comments between them text. The notebook is for the Dockerfile\n"
        "kernel, or for Python's with --magic. A folder means the Dockerfile in it."
    ),
)
