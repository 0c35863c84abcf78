"""docs/images.md names every option of the verbs that it has, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dockermagic.verbs import GROUPS, verb

PAGE = (Path(__file__).parents[2] / "docs/images.md").read_text()
ROWS = dict(re.findall(r"^\| `((?:image |builder |container )?[a-z]+)[^`]*`\s*\| (.*) \|$", PAGE, re.MULTILINE))
VERBS = {
    *(
        "pull",
        "push",
        "login",
        "logout",
        "registry",
        "save",
        "load",
        "import",
        "export",
        "images",
        "history",
        "inspect",
    ),
    *("image diff", "tag", "rmi", "df", "prune", "image prune", "builder prune", "container prune", "reset", "fsck"),
}


def test_the_page_has_these_verbs() -> None:
    assert ROWS.keys() == VERBS


@pytest.mark.parametrize("name", sorted(VERBS))
def test_its_options_are_those_of_the_parser(name: str) -> None:
    group, _, word = name.partition(" ")
    options = [option for option in verb(GROUPS[group][word] if word else name).options if not option.hidden]
    wanted = {f"--{option.name}" for option in options} | {f"-{option.short}" for option in options if option.short}
    spans = re.findall(r"`([^`]*)`", ROWS[name])

    assert {word for span in spans for word in re.findall(r"(?<![\w-])--?[a-zA-Z-]+", span)} == wanted
