"""``build --call``: outline, targets and check, as text and as JSON."""

from __future__ import annotations

import base64
import json

from tests.cli.conftest import Commands

TEXT = """\
# all does everything
FROM scratch AS all
# V is a version
ARG V=1
RUN --mount=type=secret,id=key true
FROM all
"""


def test_outline(commands: Commands) -> None:
    done = commands("build", "--call=outline", "--target=all", "-", stdin=TEXT.encode())

    assert done.out == (
        "TARGET:      all\nDESCRIPTION: does everything\n\n"
        "BUILD ARG VALUE DESCRIPTION\nV         1     is a version\n\nSECRET REQUIRED\nkey    \n\n"
    )


def test_targets(commands: Commands) -> None:
    done = commands("build", "--call=targets", "-", stdin=TEXT.encode())

    assert done.out == "TARGET    DESCRIPTION\nall       does everything\n(default) \n"


def test_json(commands: Commands) -> None:
    """BuildKit's documents: empty values are left out, and the Dockerfile comes along."""
    targets = json.loads(commands("build", "--call=targets,format=json", "-", stdin=TEXT.encode()).out)
    outline = json.loads(
        commands("build", "--call=outline,format=json", "--build-arg=V=2", "-", stdin=TEXT.encode()).out
    )
    where = {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]}

    assert targets["targets"][1] == {
        "default": True,
        "base": "all",
        "location": {"ranges": [{"start": {"line": 6}, "end": {"line": 6}}]},
    }
    assert base64.b64decode(targets["sources"][0]).decode() == TEXT
    assert outline["args"] == [{"name": "V", "description": "is a version", "value": "2", "location": where}]
    assert [secret["name"] for secret in outline["secrets"]] == ["key"]
    assert "ssh" not in outline


def test_check_tells_warnings_before_an_error(commands: Commands) -> None:
    """What was found before the line that is no instruction is shown with it."""
    text = b"FROM scratch AS Upper\nFORM x\n"
    shown = commands("build", "--call=check", "-", stdin=text, code=1).out
    document = json.loads(commands("build", "--call=check,format=json", "-", stdin=text, code=1).out)

    assert "StageNameCasing" in shown
    assert "unknown instruction: FORM" in shown
    assert [warning["ruleName"] for warning in document["warnings"]] == ["StageNameCasing"]
    assert "unknown instruction: FORM" in document["buildError"]["message"]


def test_unknown_method(commands: Commands) -> None:
    assert "unknown method" in commands("build", "--call=everything", "-", stdin=b"", code=125).err
