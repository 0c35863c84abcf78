"""The texts of completion and help: complete, and right about the language."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.flags import FLAGS
from dockermagic.dockerfile.guide import FLAG_TOPICS, INSTRUCTIONS, MOUNT_TOPICS, VALUES, Topic, flag_topic
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.mounts import _ALIASES, _KEYS, resolve_mount
from dockermagic.dockerfile.parser import parse

TOPICS = [
    *INSTRUCTIONS.values(),
    *MOUNT_TOPICS.values(),
    *(one for row in FLAG_TOPICS.values() for one in row.values()),
]
NAMES = """ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL
STOPSIGNAL USER VOLUME WORKDIR"""


def test_every_instruction_flag_and_mount_option_is_told() -> None:
    assert {name: set(flags) for name, flags in FLAG_TOPICS.items()} == {
        name.upper(): set(flags) for name, flags in FLAGS.items()
    }
    assert set(MOUNT_TOPICS) == set(_KEYS) - set(_ALIASES)
    assert sorted(INSTRUCTIONS) == NAMES.split()


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_examples_are_valid_and_show_what_they_are_for(topic: Topic) -> None:
    (made,) = [instruction(node) for node in parse(topic.example).nodes]
    for mount in getattr(made, "mounts", ()):
        resolve_mount(mount, lambda word: word, made.place())
    assert topic.does.endswith(".") and len(topic.does) < 250 and topic.form


@pytest.mark.parametrize(("flag", "values"), [pair for pair in VALUES.items() if pair[0].startswith("--")])
def test_offered_values_are_taken(flag: str, values: tuple[str, ...]) -> None:
    place = next(name for name, flags in FLAG_TOPICS.items() if flag[2:] in flags)
    rest = {"FROM": "a", "RUN": "a", "HEALTHCHECK": "CMD a"}.get(place, "a b")
    for value in values:
        instruction(parse(f"{place} {flag}={value} {rest}").nodes[0])


def test_a_flag_is_that_of_its_instruction_first() -> None:
    assert flag_topic("RUN", "--network=none") is FLAG_TOPICS["RUN"]["network"]
    assert flag_topic("", "--from") is FLAG_TOPICS["COPY"]["from"]
    assert flag_topic("RUN", "--nothing") is None
