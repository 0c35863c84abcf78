"""The documentation: it names every magic and command with its options, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from dockermagic.dockerfile.flags import FLAGS
from dockermagic.dockerfile.instructions import KEYWORDS
from dockermagic.notebook.magics import ACTIONS, DockerMagics
from dockermagic.verbs import MODULES, SUMMARIES, find, verb
from dockermagic.verbs.options import parse
from docs.make_reference import PAGE, magics, reference

REPO = Path(__file__).parents[1]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])
COMMAND = re.compile(r"(?:sudo )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|%)?(?:dockermagic|docker) (?P<words>.+)")
MAGIC = re.compile(r"(?P<name>%%?docker(?:file|check)) (?P<words>.+)")
MAGICS: dict[str, Any] = {
    "%%dockerfile": DockerMagics.dockerfile_cell,
    "%dockerfile": DockerMagics.dockerfile_line,
    "%%dockercheck": DockerMagics.dockercheck,
}


def test_the_reference_is_what_the_code_says() -> None:
    """``python -m docs.make_reference`` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_option_is_in_the_reference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = [option.name for name in SUMMARIES for option in verb(name).options if not option.hidden]

    assert [name for name in SUMMARIES if f"\n### {name}\n" not in text] == []
    assert [name for name in magics() if f"\n### `{name}`\n" not in text] == []
    assert [name for name in options if f"--{name}" not in text] == []


def test_the_guide_names_every_action() -> None:
    text = (REPO / "docs" / "notebook-guide.md").read_text(encoding="utf-8")

    assert [action for action in ACTIONS if f"`%dockerfile {action}" not in text] == []


def test_the_page_on_containers_has_every_option() -> None:
    """A row for each verb, with exactly the options that its parser takes."""
    text = (REPO / "docs/containers.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", text, flags=re.MULTILINE))

    assert rows.keys() >= {name for name, room in MODULES.items() if room.startswith("container")}
    for name, row in rows.items():
        wanted = {option.name for option in verb(name).options if not option.hidden}
        assert set(re.findall(r"`--([a-z-]+)`", row)) == wanted, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]

    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_language_page_has_every_flag_and_mount_option() -> None:
    text = (REPO / "docs/language.md").read_text(encoding="utf-8")
    rows = {
        name.lower(): set(re.findall(r"`--([a-z-]+)", row))
        for row in text.splitlines()
        for name in re.findall(r"`([A-Z]+)`", row.split("|")[1] if row.startswith("| `") else "")
    }

    assert set(rows) == {keyword.lower() for keyword in KEYWORDS}
    assert {name: flags for name, flags in rows.items() if flags} == {name: set(known) for name, known in FLAGS.items()}


def commands(page: Path) -> list[str]:
    """What a page would have typed: the lines of its blocks, and its spans of code. Marks of grammar are gone."""
    text = page.read_text(encoding="utf-8").replace("\\|", "|").replace("{port}", "80").replace("--points N", "")
    block = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    lines = "".join(block.findall(text)).splitlines()
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", block.sub("", text))]
    plain = [re.sub(r"[\[\]]|\.\.\.", "", line) for line in lines + spans]
    pieces = ([line.replace("|", "")] if line.startswith("%") else re.split(" [|&]+ ", line) for line in plain)
    return [*chain.from_iterable(pieces)]


@pytest.mark.parametrize("page", [page for page in PAGES if page != PAGE], ids=lambda page: page.name)
def test_commands_are_such_as_there_are(page: Path) -> None:
    """Verbs, actions and options, also of commands that are only spoken of."""
    wrong = []
    for line in commands(page):
        try:
            if match := MAGIC.match(line):
                given = MAGICS[match["name"]].parser.parse_intermixed_args(shlex.split(match["words"]))
                assert getattr(given, "action", ACTIONS[0]) in ACTIONS
            elif (match := COMMAND.match(line)) and not match["words"].startswith("VERB"):
                name, words = find(shlex.split(match["words"], comments=True), "dockermagic")
                parse(verb(name).options, words, interspersed=verb(name).interspersed)
        except Exception as error:
            wrong.append(f"{line}: {error}")

    assert wrong == []
