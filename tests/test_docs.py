"""The documentation: it names every magic and command with its options, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dockermagic.dockerfile.flags import FLAGS
from dockermagic.dockerfile.instructions import KEYWORDS
from dockermagic.notebook.magics import ACTIONS
from dockermagic.verbs import MODULES, SUMMARIES, verb
from docs.make_reference import PAGE, magics, reference

REPO = Path(__file__).parents[1]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])


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
