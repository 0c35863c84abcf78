"""Completion on the magics' own lines: options, actions and verbs, and the names that they take."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from dockermagic import verbs
from dockermagic.notebook.completer import Completion, Entry, image_names, paths
from dockermagic.notebook.surroundings import Surroundings, local_files

__all__ = ["MAGIC_LINE", "complete_line"]

MAGIC_LINE = re.compile(r"\s*(%%dockerfile|%dockerfile|%docker)(?=\s)")

_ON_IMAGES = ("history", "inspect", "push", "rmi", "run", "save", "tag")
_ON_RUNNING = ("attach", "exec", "kill", "port", "stop", "top")
_ON_CONTAINERS = ("commit", "cp", "diff", "export", "logs", "rename", "restart", "rm", "start", "stats", "wait")
_ON_FILES = ("export", "load")
_ON_CELLS = ("diff", "history")
Found = Iterable[tuple[str, str]]


def complete_line(line: str, parser: ArgumentParser | None, actions: Iterable[str], around: Surroundings) -> Completion:
    """What may stand at the end of ``line``, which begins with one of our magics.

    ``parser`` knows the options of ``%%dockerfile`` or ``%dockerfile``, ``actions`` are those of the latter.
    """
    match = MAGIC_LINE.match(line)
    assert match is not None
    words = line[match.end() :].split()
    word = words.pop() if words and not line[-1].isspace() else ""
    if match[1] == "%docker":
        found = _verb(words, word, around)
    elif parser is not None:
        found = _dockerfile(match[1], parser, actions, words, word, around)
    else:
        found = ()
    entries = {text: Entry(text, kind) for text, kind in found if text.startswith(word)}
    return Completion(len(line) - len(word), tuple(entries.values()))


def _dockerfile(
    magic: str, parser: ArgumentParser, actions: Iterable[str], words: list[str], word: str, around: Surroundings
) -> Found:
    if word.startswith("-"):
        return _options(parser)
    before = words[-1] if words else ""
    cells = list(_cells(around))
    match before:
        case "-t" | "--tag":
            return image_names(around)
        case "-c" | "--context":
            return paths(word, local_files(Path.cwd(), _folder(word)), only_folders=True)
        case "--target":
            return ((name, "stage") for name in around.stages())
        case "--build-arg":
            return ((f"{name}=", "variable") for name in around.build_arguments())
        case "--after" | "--cell":
            return cells
    if magic == "%%dockerfile":
        return _options(parser)
    action = next((one for one in words if not one.startswith("-")), "")
    if not action:
        return ((one, "keyword") for one in actions)
    if action in _ON_FILES:
        return paths(word, local_files(Path.cwd(), _folder(word)))
    if action == "tree":
        return paths(word, around.files(_folder(word)), only_folders=True)
    return cells if action in _ON_CELLS else ()


def _options(parser: ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        yield from ((option, "flag") for option in action.option_strings)


def _cells(around: Surroundings) -> Iterator[tuple[str, str]]:
    for cell in around.session.chain.cells if around.session else ():
        if cell.name or cell.number is not None:
            yield cell.name or str(cell.number), "value"


def _verb(words: list[str], word: str, around: Surroundings) -> Found:
    if not words:
        return ((one, "keyword") for one in (*verbs.SUMMARIES, *verbs.GROUPS))
    name = words.pop(0)
    if name in verbs.GROUPS:
        group = verbs.GROUPS[name]
        if not words:
            return ((one, "keyword") for one in group)
        name = group.get(words[0], "")
    if name not in verbs.MODULES:
        return ()
    if word.startswith("-"):
        options = [option for option in verbs.verb(name).options if not option.hidden]
        return ((f"--{option.name}", "flag") for option in options)
    return _named(name, word, around)


def _named(name: str, word: str, around: Surroundings) -> Found:
    """The containers and images that a verb takes, files where it takes none."""
    if name in (*_ON_RUNNING, *_ON_CONTAINERS, "inspect"):
        wanted = [one.name for one in around.containers() if one.is_running or name not in _ON_RUNNING]
        images = image_names(around) if name == "inspect" else ()
        files = paths(word, local_files(Path.cwd(), _folder(word))) if name == "cp" else ()
        end = ":" if name == "cp" else ""
        return chain(((one + end, "value") for one in wanted), images, files)
    return image_names(around) if name in _ON_IMAGES else paths(word, local_files(Path.cwd(), _folder(word)))


def _folder(word: str) -> str:
    return word.rpartition("/")[0] or ("/" if word.startswith("/") else "")
