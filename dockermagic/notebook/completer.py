"""Completion in a Dockerfile: what may stand at the cursor, given what is around the cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from dockermagic.dockerfile.flags import FLAGS
from dockermagic.dockerfile.guide import INSTRUCTIONS, MOUNT_TOPICS, VALUES
from dockermagic.notebook.cursor import Cursor, Word
from dockermagic.notebook.surroundings import Surroundings
from dockermagic.values import dataclass

__all__ = ["Completion", "Entry", "complete", "image_names", "paths"]

_BARE_MOUNTS = ("readonly", "readwrite", "required")
_COMMAND_ENDS = ("&&", "||", "|", ";", "(", "{", "!", "then", "do", "else", "exec", "env", "time")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One completion, and what it is: instruction, flag, value, stage, image, variable, path."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What may replace the text between ``start`` and the cursor."""

    start: int
    entries: tuple[Entry, ...] = ()


def complete(cursor: Cursor, bench: Surroundings) -> Completion:
    """What may stand at the cursor. ``bench`` knows the text above it."""
    if cursor.inside:
        return Completion(cursor.word.start)
    if (variable := cursor.variable) is not None:
        return _offer(variable, _variables(cursor, bench, closed=cursor.rest.startswith("}")))
    if not cursor.keyword:
        names = INSTRUCTIONS if not cursor.word.text.islower() else map(str.lower, INSTRUCTIONS)
        return _offer(cursor.word, ((name, "instruction") for name in names))
    if cursor.flags_may_follow and cursor.word.text.startswith("-"):
        return _flags(cursor, bench)
    return _offer(cursor.word, _arguments(cursor, bench))


def _offer(word: Word, found: Iterable[tuple[str, str]]) -> Completion:
    entries = {text: Entry(text, kind) for text, kind in found if text.startswith(word.text)}
    return Completion(word.start, tuple(entries.values())[:_MOST])


def _variables(cursor: Cursor, bench: Surroundings, *, closed: bool) -> Iterator[tuple[str, str]]:
    names = bench.build_arguments() if cursor.keyword == "FROM" else bench.variables()
    braced = cursor.word.text.rpartition("$")[2].startswith("{")
    for name in names:
        yield f"{name}}}" if braced and not closed else name, "variable"


def _flags(cursor: Cursor, bench: Surroundings) -> Completion:
    name, equals, value = cursor.word.text.partition("=")
    known = FLAGS.get(cursor.keyword.lower(), {})
    if not equals:
        given = {word.text.partition("=")[0] for word in cursor.words}
        names = ((f"--{one}", kind) for one, kind in known.items() if kind == "texts" or f"--{one}" not in given)
        return _offer(cursor.word, ((one if kind == "switch" else f"{one}=", "flag") for one, kind in names))
    start = cursor.word.start + len(name) + 1
    if name == "--mount":
        return _mount(Word(value, start), bench)
    if name == "--from":
        return _offer(Word(value, start), _places(bench))
    if name == "--chown":
        return _offer(Word(value, start), _owners(value, bench))
    return _offer(Word(value, start), ((one, "value") for one in VALUES.get(name, ())))


def _mount(word: Word, bench: Surroundings) -> Completion:
    options = dict(part.partition("=")[::2] for part in word.text.split(","))
    last = word.text.rpartition(",")[2]
    key, equals, value = last.partition("=")
    start = word.start + len(word.text) - len(last)
    if not equals:
        names = (f"{one}=" if one not in _BARE_MOUNTS else one for one in MOUNT_TOPICS if one not in options)
        return _offer(Word(last, start), ((name, "flag") for name in names))
    inner = Word(value, start + len(key) + 1)
    if key == "from":
        return _offer(inner, _places(bench))
    if key in ("source", "src"):
        stage = options.get("from", "")
        return _offer(
            inner, paths(value, bench.files(_folder(value), stage) if stage else bench.context(_folder(value)))
        )
    if key in ("target", "dst", "destination"):
        return _offer(inner, paths(value, bench.files(_folder(value))))
    return _offer(inner, ((one, "value") for one in VALUES.get(key, ())))


def image_names(bench: Surroundings) -> Iterator[tuple[str, str]]:
    """The images of the store by their names; ``latest`` need not be said."""
    for row in bench.images():
        if row.repository != "<none>":
            yield row.repository if row.tag in ("latest", "<none>") else f"{row.repository}:{row.tag}", "image"


def _places(bench: Surroundings) -> Iterator[tuple[str, str]]:
    yield from ((name, "stage") for name in bench.stages())
    yield from image_names(bench)


def paths(word: str, names: Iterable[str], *, only_folders: bool = False) -> Iterator[tuple[str, str]]:
    """The names of a directory as completions of a path; hidden ones if the path begins so."""
    folder, begun = word[: len(word) - len(word.rpartition("/")[2])], word.rpartition("/")[2]
    for name in names:
        if (name.endswith("/") or not only_folders) and (begun.startswith(".") or not name.startswith(".")):
            yield folder + name, "path"


def _folder(word: str) -> str:
    return word.rpartition("/")[0] or ("/" if word.startswith("/") else "")


def _arguments(cursor: Cursor, bench: Surroundings) -> Iterator[tuple[str, str]]:
    word, place = cursor.word.text, len(cursor.arguments)
    folder = _folder(word)
    match cursor.keyword:
        case "FROM" if place == 0:
            yield from _places(bench)
            yield "scratch", "image"
        case "FROM" if place == 1:
            yield "AS" if not word.islower() else "as", "instruction"
        case "COPY" | "ADD":
            yield from _copied(cursor, bench)
        case "WORKDIR" | "VOLUME":
            yield from paths(word, bench.files(folder), only_folders=True)
        case "RUN":
            yield from _command(cursor, bench)
        case "USER" if place == 0:
            yield from _owners(word, bench)
        case "ARG":
            yield from ((name, "variable") for name in bench.build_arguments())
        case "ENV":
            yield from ((f"{name}=", "variable") for name in bench.environment())
        case "HEALTHCHECK" if place == 0:
            yield from (("CMD", "instruction"), ("NONE", "instruction"))
        case "CMD" | "ENTRYPOINT" | "HEALTHCHECK":
            yield from paths(word, bench.files(folder))
        case keyword:
            yield from ((value, "value") for value in VALUES.get(keyword, ()))


def _owners(word: str, bench: Surroundings) -> Iterator[tuple[str, str]]:
    """``USER`` or ``USER:GROUP``, as the root filesystem knows them."""
    user, colon, _ = word.partition(":")
    names = bench.accounts("group" if colon else "passwd")
    yield from ((f"{user}:{name}" if colon else name, "value") for name in names)


def _copied(cursor: Cursor, bench: Surroundings) -> Iterator[tuple[str, str]]:
    """Sources are in the context, or in the stage of ``--from``; what comes last is a place in the image."""
    word = cursor.word.text
    flags = (one.text for one in cursor.words)
    stage = next((flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")), "")
    if stage:
        yield from paths(word, bench.files(_folder(word) or "/", stage))
    elif not word.startswith("/"):
        yield from paths(word, bench.context(_folder(word)))
    if cursor.arguments:
        yield from paths(word, bench.files(_folder(word)), only_folders=not word.startswith("/"))


def _command(cursor: Cursor, bench: Surroundings) -> Iterator[tuple[str, str]]:
    """In a RUN: programs where a command begins, else files; a path is looked up where it points."""
    word = cursor.word.text
    before = cursor.arguments[-1].text if cursor.arguments else ""
    begins = not before or before in _COMMAND_ENDS or before.endswith(";") or re.match(r"\w+=", before)
    if "/" not in word and begins:
        places = (bench.environment().get("PATH") or _PATH).split(":")
        found = chain.from_iterable(bench.files(place) for place in places if place)
        yield from ((name, "path") for name in sorted(set(found)) if not name.endswith("/"))
    elif not word.startswith("-"):
        yield from paths(word, bench.files(_folder(word)))
