"""A session's Dockerfile as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockermagic.dockerfile.parser import dump, parse
from dockermagic.errors import SessionError
from dockermagic.export import export
from dockermagic.session import Cell, Session, SessionName
from tests.session.fake_engine import FakeEngine

TEXTS = [
    "# escape=`\n# a comment\nARG V=1",
    "FROM busybox:$V AS base\n",
    "RUN one `\n  two",
    'COPY <<"X" /x\n  $kept\n\n# kept\nX',
    '\n\nFROM base\nCMD ["a"]',
]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    session = Session(SessionName("named", "x"), FakeEngine(tmp_path / "home"))
    for number, text in enumerate(TEXTS):
        session.run(Cell(str(number), text))
    return session


def test_the_file_means_what_the_cells_mean(session: Session, tmp_path: Path) -> None:
    export(session, tmp_path / "Dockerfile")

    text = (tmp_path / "Dockerfile").read_text()
    assert text == session.script().text
    together = parse("\n".join(TEXTS))
    assert dump(parse(text)) == dump(together)
    assert [node.heredocs for node in parse(text).nodes][3][0].content == "  $kept\n\n# kept\n"
    assert together.escape == parse(text).escape == "`"


def test_a_file_that_holds_something_else_is_replaced_only_by_force(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM mine")
    path.chmod(0o640)

    with pytest.raises(SessionError, match="is there already and holds something else"):
        export(session, path)
    assert path.read_text() == "FROM mine"

    export(session, path, force=True)
    export(session, path)
    assert path.read_text() == session.script().text
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "home"]


def test_a_link_stays_a_link(session: Session, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")

    export(session, tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == session.script().text


@pytest.mark.parametrize("path", ["no/such/folder", "home"])
def test_a_file_that_cannot_be_written_says_so(session: Session, tmp_path: Path, path: str) -> None:
    with pytest.raises(SessionError, match="cannot write"):
        export(session, tmp_path / path, force=True)


def test_an_empty_session_has_nothing_to_export(session: Session, tmp_path: Path) -> None:
    session.reset()

    with pytest.raises(SessionError, match="nothing to export"):
        export(session, tmp_path / "Dockerfile")


@pytest.mark.parametrize(
    ("step", "own", "ignored"),
    [
        ("ADD . .", "", "lesson.ipynb\n**/.ipynb_checkpoints\nOut\nOut.dockerignore\n"),
        ("ADD ./* /", "*.log\n", "lesson.ipynb\n**/.ipynb_checkpoints\nOut\nOut.dockerignore\n*.log\n"),
        ("COPY main.py .", "*.log\n", None),
    ],
)
def test_a_build_of_the_file_sees_what_the_cells_saw(tmp_path: Path, step: str, own: str, ignored: str | None) -> None:
    session = Session(
        SessionName("named", "x"), FakeEngine(tmp_path / "home"), folder=tmp_path, notebook="lesson.ipynb"
    )
    (tmp_path / "main.py").touch()
    if own:
        (tmp_path / ".dockerignore").write_text(own)
    session.run(Cell("a", "FROM busybox"))
    session.run(Cell("b", step))

    export(session, tmp_path / "Out")

    beside = tmp_path / "Out.dockerignore"
    assert (beside.read_text() if beside.exists() else None) == ignored
