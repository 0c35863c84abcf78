"""Completion on the magics' own lines: options, actions and verbs, and the names that they take."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from dockermagic import verbs
from dockermagic.dockerfile.guide import FLAG_TOPICS, INSTRUCTIONS, VALUES
from dockermagic.notebook.completer import Completion, Entry, image_names, paths
from dockermagic.notebook.surroundings import Surroundings, local_files
from dockermagic.verbs.options import Option

__all__ = ["MAGIC_LINE", "complete_line"]

MAGIC_LINE = re.compile(r"\s*(%%dockerfile|%%dockercheck|%dockerfile|%docker)(?=\s)")

_ON_RUNNING = frozenset(("attach", "exec", "kill", "port", "stop", "top"))
_ON_FILES = frozenset(("export", "load"))
_ON_CELLS = frozenset(("history", "shell"))
_FILES = frozenset(("DIRECTORY", "DOCKERFILE", "FILE", "NOTEBOOK", "PATH", "SRC_PATH", "file"))
_IMAGES = frozenset(("IMAGE", "NAME", "REPOSITORY", "SOURCE_IMAGE", "TARGET_IMAGE"))
_FILE_OPTIONS = frozenset(("ca", "env-file", "file", "iidfile", "input", "label-file", "output"))
_OPTION_VALUES = {
    "network": ("bridge", "host", "none"),
    "platform": VALUES["--platform"][:2],
    "pull": ("always", "missing", "never"),
    "restart": ("always", "no", "on-failure", "unless-stopped"),
    "stop-signal": VALUES["STOPSIGNAL"],
}
Found = Iterable[tuple[str, str]]


def complete_line(line: str, parser: ArgumentParser | None, actions: Iterable[str], around: Surroundings) -> Completion:
    """What may stand at the end of ``line``, which begins with one of our magics.

    ``parser`` knows the options of its magic but for ``%docker``; ``actions`` are those of ``%dockerfile``.
    """
    match = MAGIC_LINE.match(line)
    assert match is not None
    words = line[match.end() :].split()
    word = words.pop() if words and not line[-1].isspace() else ""
    if word.startswith("--") and "=" in word:
        option, _, word = word.partition("=")
        words.append(option)
    found = _verb(words, word, around) if parser is None else _magic(match[1], parser, actions, words, word, around)
    entries = {text: Entry(text, kind) for text, kind in found if text.startswith(word)}
    return Completion(len(line) - len(word), tuple(entries.values()))


def _magic(
    magic: str, parser: ArgumentParser, actions: Iterable[str], words: list[str], word: str, around: Surroundings
) -> Found:
    if words[:1] == ["help"] and magic == "%dockerfile":
        return _topics(around)
    option = words[-1] if words else ""
    if any(option in one.option_strings and one.nargs != 0 for one in parser._actions):
        return _value(option, word, around)
    if word.startswith("-") or magic == "%%dockerfile":
        return _options(parser)
    plain = [one for one in words if not one.startswith("-")]
    if magic == "%%dockercheck":
        return () if plain else image_names(around)
    if not plain:
        return ((one, "keyword") for one in actions)
    if plain[0] in _ON_FILES:
        return _files(word)
    if plain[0] == "tree":
        return paths(word, around.files(_folder(word)), only_folders=True)
    if plain[0] == "diff":
        return (*_cells(around), *((name, "stage") for name in around.stages()), *image_names(around))
    return _cells(around) if plain[0] in _ON_CELLS else ()


def _value(option: str, word: str, around: Surroundings) -> Found:
    """What may stand behind an option of our own magics."""
    match option:
        case "-t" | "--tag" | "--image":
            return image_names(around)
        case "-c" | "--context":
            return paths(word, local_files(Path.cwd(), _folder(word)), only_folders=True)
        case "-f" | "--file":
            return _files(word)
        case "-s" | "--session":
            return ((name, "value") for name in around.bench.store.named())
        case "--target":
            return ((name, "stage") for name in around.stages())
        case "--build-arg":
            return ((f"{name}=", "variable") for name in around.build_arguments())
        case "--after" | "--cell":
            return _cells(around)
    return ()


def _topics(around: Surroundings) -> Iterator[tuple[str, str]]:
    """All that there is help on."""
    yield from ((name, "instruction") for name in INSTRUCTIONS)
    yield from ((f"--{name}", "flag") for topics in FLAG_TOPICS.values() for name in topics)
    yield from ((f"${name}", "variable") for name in around.variables())
    yield from image_names(around)


def _options(parser: ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        yield from ((option, "flag") for option in action.option_strings)


def _cells(around: Surroundings) -> Iterator[tuple[str, str]]:
    for cell in around.session.chain.cells if around.session else ():
        if cell.name or cell.number is not None:
            yield cell.name or str(cell.number), "value"


def _files(word: str) -> Iterator[tuple[str, str]]:
    return paths(word, local_files(Path.cwd(), _folder(word)))


def _verb(words: list[str], word: str, around: Surroundings) -> Found:
    if not words:
        return ((one, "keyword") for one in (*verbs.SUMMARIES, *verbs.GROUPS))
    name = words.pop(0)
    if name in verbs.GROUPS:
        group = verbs.GROUPS[name]
        if not words:
            return ((one, "keyword") for one in group)
        name = group.get(words.pop(0), "")
    if name not in verbs.MODULES:
        return ()
    verb = verbs.verb(name)
    waiting, plain = _read(verb.options, words, verb.interspersed)
    if waiting is not None:
        return _option_value(waiting, word, around)
    if word.startswith("-"):
        shown = [option for option in verb.options if not option.hidden]
        return ((f"--{option.name}", "flag") for option in shown) if verb.interspersed or not plain else ()
    return _named(name, verb.usage, plain, word, around)


def _read(options: Sequence[Option], words: Sequence[str], interspersed: bool) -> tuple[Option | None, list[str]]:
    """The option whose value comes next, if one does, and the words that are neither options nor their values."""
    waiting: Option | None = None
    plain: list[str] = []
    for word in words:
        if waiting is not None:
            waiting = None
        elif len(word) > 1 and word.startswith("-") and (interspersed or not plain):
            names = (one for one in options if word == f"--{one.name}" or (word[1] != "-" and word[-1] == one.short))
            waiting = next((one for one in names if one.kind in ("text", "many")), None)
        else:
            plain.append(word)
    return waiting, plain


def _option_value(option: Option, word: str, around: Surroundings) -> Found:
    if option.name in _FILE_OPTIONS:
        return _files(word)
    if option.name == "volume":
        return chain(((f"{name}:", "value") for name in around.volumes()), _files(word))
    if option.name == "tag":
        return image_names(around)
    return ((value, "value") for value in _OPTION_VALUES.get(option.name, ()))


def _named(name: str, usage: str, plain: list[str], word: str, around: Surroundings) -> Iterator[tuple[str, str]]:
    """What the usage of a verb has in this place: containers, images, volumes, files."""
    places = usage.replace(" | ", "|").split()
    places = places[1:] if places[:1] == ["[OPTIONS]"] else places
    place = usage if name == "cp" else places[min(len(plain), len(places) - 1)] if places else ""
    wanted = set(re.findall(r"[A-Za-z_]+", place))
    if wanted & {"CONTAINER", "ID"}:
        running = [one.name for one in around.containers() if one.is_running or name not in _ON_RUNNING]
        yield from ((f"{one}:" if name == "cp" else one, "value") for one in running)
    if wanted & _IMAGES:
        yield from image_names(around)
    if "VOLUME" in wanted:
        yield from ((one, "value") for one in around.volumes())
    if wanted & _FILES:
        yield from _files(word)
    if wanted & {"COMMAND", "ARG"} and name in ("run", "create"):
        yield from paths(word, around.files(_folder(word) or "/", plain[0]))


def _folder(word: str) -> str:
    return word.rpartition("/")[0] or ("/" if word.startswith("/") else "")
