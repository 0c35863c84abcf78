"""Write docs/reference.md, every magic and verb with its options, from the code: ``python -m docs.make_reference``

A test compares the page with what this gives.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dockermagic.notebook.magics import DockerMagics
from dockermagic.verbs import GROUPS, SUMMARIES, verb, verb_help

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Reference: magics and commands

Made from the code (`python -m docs.make_reference`); `%%dockerfile?` and `dockermagic VERB --help` say the same.

- [Magics](#magics): {magics}
- [Commands](#commands): {verbs}

"""


def magics() -> dict[str, str]:
    """Each magic by its name as it is typed, and its help."""
    found = {}
    for kind, mark in (("cell", "%%"), ("line", "%")):
        for name, method in DockerMagics.magics[kind].items():
            function: Any = getattr(DockerMagics, method if isinstance(method, str) else method.__name__)
            found[f"{mark}{name}"] = _magic_help(function, mark)
    return dict(sorted(found.items(), key=lambda item: item[0].lstrip("%")))


def _magic_help(function: Any, mark: str) -> str:
    parser = getattr(function, "parser", None)
    if parser is None:
        return re.sub(r"\n +", "\n", function.__doc__.strip())
    text: str = parser.format_help()
    usage = re.sub(r"^::\n\n\s+", "", text.strip())
    return re.sub(r"^%+", mark, usage).rstrip()


def reference() -> str:
    """The page."""
    known = magics()
    verbs = ", ".join(f"[{name}](#{name})" for name in SUMMARIES)
    names = ", ".join(f"`{name}`" for name in known)
    parts = [HEAD.format(magics=names, verbs=verbs), "## Magics\n"]
    for name, text in known.items():
        parts.append(f"### `{name}`\n\n```text\n{text}\n```\n")
    parts.append("## Commands\n\n`%docker VERB` in a cell takes the same words as `dockermagic VERB` in a terminal.\n")
    of_groups = (name for words in GROUPS.values() for name in words.values())
    for name in dict.fromkeys((*SUMMARIES, *of_groups)):
        parts.append(f"### {verb(name).name}\n\n```text\n{verb_help(verb(name), 'dockermagic', 100).rstrip()}\n```\n")
    groups = "\n".join(
        f"| `{group}` | {', '.join(f'`{word}`' for word in sorted(words))} |" for group, words in GROUPS.items()
    )
    parts.append(f"### Docker's management commands\n\n| group | its commands |\n|---|---|\n{groups}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
