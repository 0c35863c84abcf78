"""Help on what stands at the cursor in a Dockerfile: what it does, its form, an example, the value that it has here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import fill

from dockermagic.dockerfile.guide import INSTRUCTIONS, MOUNT_TOPICS, Topic, flag_topic
from dockermagic.notebook.cursor import Cursor
from dockermagic.notebook.surroundings import Surroundings
from dockermagic.tables import human_size, short_id
from dockermagic.values import dataclass

__all__ = ["Help", "help_at", "help_on"]

_VARIABLE = re.compile(r"\$\{?(\w+)")
_CONFIG = {
    "CMD": "Cmd",
    "ENTRYPOINT": "Entrypoint",
    "ENV": "Env",
    "EXPOSE": "ExposedPorts",
    "LABEL": "Labels",
    "SHELL": "Shell",
    "STOPSIGNAL": "StopSignal",
    "USER": "User",
    "VOLUME": "Volumes",
    "WORKDIR": "WorkingDir",
}
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Help:
    """What is said about ``name``; ``facts`` are pairs of a heading and its text."""

    name: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()

    def plain(self) -> str:
        """As a console shows it."""
        width = max((len(heading) for heading, _ in self.facts), default=0) + 2
        rows = [f"{heading + ':':<{width}}{text}".replace("\n", "\n" + " " * width) for heading, text in self.facts]
        return "\n".join([self.name, fill(self.text, 80), *([""] if rows else []), *rows])

    def markdown(self) -> str:
        """As a notebook shows it."""
        short = [f"{heading}: `{text}`" for heading, text in self.facts if "\n" not in text]
        long = [f"{heading}:\n```dockerfile\n{text}\n```" for heading, text in self.facts if "\n" in text]
        return "\n\n".join([f"**{self.name}**", self.text, "  \n".join(short), *long])

    def bundle(self) -> dict[str, str]:
        """Both, by their types."""
        return {"text/plain": self.plain(), "text/markdown": self.markdown()}


def help_at(cursor: Cursor, around: Surroundings) -> Help | None:
    """Help on the word at the cursor; on its instruction where the word is nothing special."""
    if cursor.inside:
        return None
    word = cursor.whole
    return _special(cursor, word, around) or help_on(cursor.keyword or word, around)


def help_on(word: str, around: Surroundings) -> Help | None:
    """Help on a word by itself: an instruction, ``--flag``, ``$VARIABLE``, a stage or an image."""
    if word.upper() in INSTRUCTIONS:
        return _instruction(word.upper(), around)
    if word.startswith("--") and (topic := flag_topic("", word)):
        return _topic(topic, f"--{topic.name}")
    if found := _VARIABLE.match(word):
        return _variable(found[1], around)
    return _image(word, around)


def _special(cursor: Cursor, word: str, around: Surroundings) -> Help | None:
    if cursor.flags_may_follow and word.startswith("--"):
        return _flag(cursor, word)
    if found := next((one for one in _VARIABLE.finditer(word) if one.end() >= len(cursor.word.text)), None):
        return _variable(found[1], around)
    if cursor.keyword == "FROM" and not cursor.arguments:
        return _image(word, around)
    if not cursor.keyword and cursor.words:  # behind ONBUILD
        return help_on(word, around)
    return None


def _flag(cursor: Cursor, word: str) -> Help | None:
    if word.startswith("--mount="):
        option = cursor.word.text.removeprefix("--mount=").rpartition(",")[2] + cursor.rest.partition(",")[0]
        topic = MOUNT_TOPICS.get(option.partition("=")[0])
        if topic is not None and len(cursor.word.text) > len("--mount"):
            return _topic(topic, topic.form)
    topic = flag_topic(cursor.keyword, word)
    return _topic(topic, f"--{topic.name}") if topic else None


def _topic(topic: Topic, name: str, *more: tuple[str, str]) -> Help:
    return Help(name, topic.does, (("Form", topic.form), ("Example", topic.example), *more))


def _instruction(name: str, around: Surroundings) -> Help:
    here = list(_here(name, around))
    return _topic(INSTRUCTIONS[name], name, *([("Here", "\n".join(here))] if here else []))


def _here(name: str, around: Surroundings) -> Iterator[str]:
    """The value that the image has now."""
    if name == "FROM":
        yield from (f"{stage} (a stage)" for stage in around.stages())
        return
    if name == "ARG":
        yield from (
            f"{name}={one.value or ''}" for name, one in around.build_arguments().items() if one.origin == "ARG"
        )
        return
    value = around.config().get(_CONFIG.get(name, ""))
    if isinstance(value, dict):
        value = [f"{key}={text}" if isinstance(text, str) else key for key, text in value.items()]
    if isinstance(value, list):
        lines = [" ".join(value)] if name in ("CMD", "ENTRYPOINT", "SHELL") else [str(one) for one in value]
        yield from lines[:_SHOWN]
        if len(lines) > _SHOWN:
            yield f"... and {len(lines) - _SHOWN} more"
    elif value:
        yield str(value)


def _variable(name: str, around: Surroundings) -> Help:
    known = around.variables() | {
        name: one for name, one in around.build_arguments().items() if name not in around.variables()
    }
    if name not in known:
        return Help(f"${name}", "Nothing sets this variable here: it is empty.")
    found = known[name]
    if found.value is None:
        return Help(f"${name}", f"It has no value; {found.origin} declares it.")
    return Help(f"${name}", f"Set by {found.origin}.", (("Here", found.value),))


def _image(word: str, around: Surroundings) -> Help | None:
    name = word.lower()
    if name == "scratch":
        return Help(
            "scratch", "The empty image: no file, no shell. For programs that need nothing, and for ADD of a tar."
        )
    if name in around.stages():
        return Help(word, "A stage of this Dockerfile.")
    for row in around.images():
        names = {f"{row.repository}:{row.tag}", row.repository if row.tag == "latest" else ""}
        if name and name in names:
            facts = [("Id", short_id(row.id)), ("Size", human_size(row.size)), ("Made", row.created)]
            facts += [(key, " ".join(words)) for key, words in around.starts(row.id) if words]
            return Help(f"{row.repository}:{row.tag}", "An image of the store.", tuple(facts))
    return None
