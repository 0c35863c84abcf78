"""A session with an engine that builds nothing: what is asked of it, what is kept, what a person is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dockermagic.errors import (
    BuildInterruptedError,
    ContextError,
    DockerfileSyntaxError,
    DockermagicError,
    RunFailedError,
    SessionError,
)
from dockermagic.events import Event
from dockermagic.session import Run, Session
from dockermagic.session.chain import Cell
from dockermagic.session.store import SessionName
from tests.session.fake_engine import FakeEngine

NAME = SessionName("named", "lesson")


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path / "home")


@pytest.fixture
def session(engine: FakeEngine, tmp_path: Path) -> Session:
    folder = tmp_path / "context"
    folder.mkdir()
    return Session(NAME, engine, folder=folder)


def cell(id: str, text: str, **options: object) -> Cell:
    return Cell(id, text, number="abcdefghi".index(id) + 1, **options)  # type: ignore[arg-type]


def run(session: Session, **texts: str) -> Run:
    """Run cells; the last one's result."""
    for id, text in texts.items():
        done = session.run(cell(id, text))
    return done


def drawn(session: Session) -> str:
    return " ".join(one.id if one in session.chain else f"({one.id})" for one in session.chain.cells)


def standing(session: Session) -> dict[str, str]:
    return {one.cell.id: one.state for one in session.status()}


def test_cells_become_a_dockerfile(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox", b="RUN one\nENV x=1", c="RUN two")

    assert session.script().text == "FROM busybox\n\nRUN one\nENV x=1\n\nRUN two\n"
    assert engine.ran == ["FROM busybox", "RUN one", "RUN two"]
    assert [request.first for request in engine.requests] == [0, 1, 3]


def test_a_run_holds_what_the_cell_made_and_what_was_there_before(session: Session) -> None:
    run(session, a="FROM busybox\nRUN zero")
    done = run(session, b="\nRUN one\nENV x=1\nRUN two")

    assert [(step.index, step.line, step.text) for step in done.steps] == [
        (2, 3, "RUN one"),
        (3, 4, "ENV x=1"),
        (4, 5, "RUN two"),
    ]
    assert done.stage is not None
    assert (done.base, done.stage.snapshots) == ((1, 2), (1, 2, 3, 4))


def test_the_state_before_a_from_is_its_base_image(session: Session) -> None:
    done = run(session, a="FROM busybox\nRUN one")

    assert (done.base, done.stage.snapshots if done.stage else None) == ((1,), (1, 2))


def test_a_second_run_is_all_cached_and_nothing_is_stale(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")
    before = list(engine.ran)

    done = run(session, a="FROM busybox", b="RUN one")

    assert engine.ran == before
    assert [step.cached for step in done.steps] == [True]
    assert (done.left, drawn(session)) == ((), "a b c")


def test_a_comment_changes_nothing(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")

    assert run(session, b="# why\nRUN one").left == ()
    assert session.script().text == "FROM busybox\n\n# why\nRUN one\n\nRUN two\n"


def test_a_changed_cell_makes_the_later_ones_stale(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two", d="RUN three")

    done = run(session, b="RUN another")

    assert [one.label for one in done.left] == ["cell [3]", "cell [4]"]
    assert drawn(session) == "a b (c) (d)"
    assert standing(session) == {"a": "built", "b": "built", "c": "stale", "d": "stale"}


def test_replay_runs_the_stale_cells_in_order(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two", d="ENV x=1")
    run(session, b="RUN another")
    engine.ran.clear()

    done = list(session.replay())

    assert [one.cell.id for one in done] == ["c", "d"]
    assert engine.ran == ["RUN two"]
    assert drawn(session) == "a b c d"
    assert list(session.replay()) == []


def test_undo_takes_back_a_whole_replay(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two", d="RUN three")
    run(session, b="RUN another")
    list(session.replay())

    session.undo()
    assert drawn(session) == "a b (c) (d)"
    session.undo()
    assert session.script().text == "FROM busybox\n\nRUN one\n\nRUN two\n\nRUN three\n"
    assert set(standing(session).values()) == {"built"}


def test_replay_ends_at_a_failure(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN $X", d="RUN three")
    with pytest.raises(RunFailedError):
        run(session, b="RUN false")

    with pytest.raises(RunFailedError):
        list(session.replay())

    assert drawn(session) == "a (b) (c) (d)"


def test_a_failed_cell_is_not_on_the_chain(session: Session) -> None:
    run(session, a="FROM busybox")

    with pytest.raises(RunFailedError) as caught:
        run(session, b="RUN one\nRUN false")

    assert str(caught.value.place) == "cell [2]:3"
    assert drawn(session) == "a (b)"
    assert standing(session) == {"a": "built", "b": "failed"}
    assert session.failed is not None and session.failed.parents == (1, 2)


def test_a_failure_in_a_changed_cell_makes_the_later_ones_stale_and_undo_helps(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")

    with pytest.raises(RunFailedError) as caught:
        run(session, b="RUN false")

    assert caught.value.hint == "Stale now: cell [3]. %dockerfile undo brings the chain back as it was."
    assert [one.id for one in session.left] == ["c"]
    assert drawn(session) == "a (b) (c)"
    session.undo()
    assert drawn(session) == "a b c"
    assert session.script().parts[1].cell.text == "RUN one"


def test_a_failure_of_a_cell_that_will_not_be_known_again_leaves_no_trace(session: Session) -> None:
    run(session, a="FROM busybox")

    with pytest.raises(RunFailedError):
        session.run(cell("b", "RUN false"), remember=False)

    assert drawn(session) == "a"


def test_an_interrupt_counts_as_a_failure(session: Session) -> None:
    run(session, a="FROM busybox")

    with pytest.raises(BuildInterruptedError):
        run(session, b="RUN interrupt")

    assert drawn(session) == "a (b)"


def test_a_failure_with_no_cache_keeps_what_was_built(session: Session, engine: FakeEngine) -> None:
    """The cell stands as it was built: the same text and the same keys."""
    run(session, a="FROM busybox", b="RUN one", c="RUN two")
    engine._execute = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]

    with pytest.raises(BuildInterruptedError):
        session.run(cell("b", "RUN one"), no_cache=True)

    assert drawn(session) == "a b c"


def test_no_cache_runs_the_cell_again_and_the_later_ones_are_stale(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")
    engine.ran.clear()

    done = session.run(cell("b", "RUN one"), no_cache=True)

    assert engine.ran == ["RUN one"]
    assert [one.id for one in done.left] == ["c"]


def test_a_file_that_changed_makes_its_cell_stale(session: Session) -> None:
    assert session.folder is not None
    file = session.folder / "f"
    file.write_text("1")
    run(session, a="FROM busybox", b="COPY f /", c="RUN two")
    assert set(standing(session).values()) == {"built"}

    file.write_text("2")

    assert [(one.cell.id, one.state, one.reason) for one in session.status()] == [
        ("a", "built", ""),
        ("b", "stale", "what it reads has changed"),
        ("c", "stale", "what it stands on has to be built again"),
    ]
    assert [one.cell.id for one in session.replay()] == ["b", "c"]


def test_a_later_cell_tells_that_an_earlier_one_was_built_again(session: Session) -> None:
    assert session.folder is not None
    file = session.folder / "f"
    file.write_text("1")
    run(session, a="FROM busybox", b="COPY f /", c="RUN two", d="RUN three")
    file.write_text("2")

    done = run(session, c="RUN two")

    assert [one.id for one in done.again] == ["b"]
    assert [one.id for one in done.left] == ["d"]


def test_a_file_that_is_gone_makes_stale_what_reads_it(session: Session) -> None:
    assert session.folder is not None
    file = session.folder / "f"
    file.write_text("1")
    run(session, a="FROM busybox", b="RUN one\nCOPY f /", c="RUN two")
    file.unlink()

    assert standing(session) == {"a": "built", "b": "stale", "c": "stale"}
    with pytest.raises(ContextError) as caught:
        session.build()
    assert caught.value.message == '"/f": not found, asked for on line 3'
    assert str(caught.value.place) == "cell [2]:3"


def test_a_restarted_kernel_builds_on_the_chain_as_it_was_left(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox", b="RUN one")

    again = Session(NAME, engine, folder=session.folder)
    done = run(again, c="RUN two")

    assert [request.text for request in engine.requests[-1:]] == ["FROM busybox\n\nRUN one\n\nRUN two\n"]
    assert [step.text for step in done.steps] == ["RUN two"]


def test_reset_empties_and_undo_brings_back(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one")

    session.reset()
    assert session.script().text == ""
    session.undo()
    assert drawn(session) == "a b"


def test_a_damaged_session_can_be_reset(session: Session) -> None:
    run(session, a="FROM busybox")
    session.file.path.write_text("{")
    with pytest.raises(SessionError, match="damaged"):
        run(session, b="RUN one")

    session.reset()

    assert run(session, a="FROM busybox").steps


def test_deleted_cells_leave(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")

    assert [one.id for one in session.forget({"b", "unknown"}).left] == ["c"]
    assert drawn(session) == "a (c)"
    assert session.forget({"unknown"}).left == ()


def test_a_cell_whose_deletion_was_undone_is_stale(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")
    session.forget({"b"})

    session.arrange(["a", "b", "c"])
    assert drawn(session) == "a (b) (c)"
    session.forget({"b"})
    session.reset()
    session.arrange(["a", "b", "c"])
    assert drawn(session) == ""


def test_cells_without_instructions_belong_to_the_chain_and_build_nothing(session: Session, engine: FakeEngine) -> None:
    done = run(session, a="# a comment", b="ARG V=1")

    assert (done.result, engine.requests) == (None, [])
    run(session, c="FROM busybox:$V")
    assert session.script().text == "# a comment\n\nARG V=1\n\nFROM busybox:$V\n"
    assert [one.id for one in run(session, b="ARG V=2").left] == ["c"]


def test_a_comment_can_tag(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox")

    session.run(cell("b", "# done", tags=("app",)))

    assert engine.requests[-1].tags == ("app",)


@pytest.mark.parametrize(
    ("texts", "stages"),
    [
        ({"a": "FROM x"}, (0,)),
        ({"a": "FROM x", "b": "RUN one"}, (0,)),
        ({"a": "FROM x", "b": "FROM y\nRUN one"}, (1,)),
        ({"a": "FROM x", "b": "RUN one\nFROM y"}, (0, 1)),
    ],
)
def test_the_stages_that_a_cell_touches_are_built(
    session: Session, engine: FakeEngine, texts: dict[str, str], stages: tuple[int, ...]
) -> None:
    run(session, **texts)

    assert engine.requests[-1].stages == stages


def test_a_cell_of_another_stage_leaves_the_first_stages_keys_alone(session: Session) -> None:
    run(session, a="FROM x\nRUN one", b="FROM y", c="RUN two")

    assert run(session, c="RUN two").again == ()
    assert set(standing(session).values()) == {"built"}


def test_build_args_hold_for_the_whole_chain(session: Session, engine: FakeEngine) -> None:
    session.run(cell("a", "ARG V\nFROM busybox:$V", build_args=(("V", "1"),)))
    session.run(cell("b", "RUN $W", build_args=(("W", "2"),)))

    assert engine.requests[-1].build_args == {"V": "1", "W": "2"}
    assert session.run(cell("b", "RUN $W", build_args=(("W", "2"),))).left == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"build_args": (("V", "2"),)}, "the build arg V is '2' here and '1' in cell [1]"),
        ({"context": "/other"}, "the context is /other here and /some in cell [1]"),
    ],
)
def test_two_cells_cannot_want_different_inputs(session: Session, options: dict[str, object], message: str) -> None:
    session.run(cell("a", "FROM busybox", build_args=(("V", "1"),), context="/some"))

    with pytest.raises(SessionError) as caught:
        session.run(cell("b", "RUN one", **options))

    assert caught.value.message == message
    assert drawn(session) == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN one \\", "the cell ends in the middle of an instruction"),
        ("COPY <<X /x\nno end", "unterminated heredoc"),
    ],
)
def test_a_syntax_error_is_a_failure_of_its_cell(session: Session, text: str, message: str) -> None:
    run(session, a="FROM busybox", c="RUN two")

    with pytest.raises(DockerfileSyntaxError) as caught:
        run(session, b=text)

    assert (caught.value.message, str(caught.value.place)) == (message, "cell [2]:2")
    assert drawn(session) == "a c (b)"


def test_a_run_before_any_from_says_how_to_begin(session: Session) -> None:
    with pytest.raises(DockerfileSyntaxError, match="RUN before any FROM"):
        run(session, a="RUN one")


def test_events_count_lines_in_the_cell_and_warnings_are_the_cells_own(session: Session) -> None:
    run(session, a="FROM busybox\nRUN odd thing")
    events: list[Event] = []

    session.run(cell("b", "RUN one\nRUN odd too"), lambda script: events.append)

    lines = [(type(event).__name__, event.line) for event in events if not hasattr(event, "instruction")]
    assert lines == [("Warning", 3)]
    assert [event.line for event in events if getattr(event, "instruction", 0) and event.instruction >= 2] == [2, 3]


def test_looking_builds_down_to_a_cell_and_changes_nothing(session: Session, engine: FakeEngine) -> None:
    session.run(cell("a", "FROM busybox", tags=("app",)))
    run(session, b="RUN one", c="RUN two")
    before = session.file.path.read_text()

    looked = session.build("2")

    assert [step.text for step in looked.steps] == ["RUN one"]
    assert engine.requests[-1].tags == ()
    assert session.file.path.read_text() == before


@pytest.mark.parametrize(
    ("word", "message"), [("9", "no cell 9 in this session"), ("3", "cell [3] is not on the chain")]
)
def test_looking_at_what_is_not_there(session: Session, word: str, message: str) -> None:
    run(session, a="FROM busybox", b="RUN one", c="RUN two")
    run(session, b="RUN another")

    with pytest.raises(SessionError) as caught:
        session.build(word)

    assert caught.value.message == message


def test_looking_at_nothing_says_how_to_begin(session: Session) -> None:
    with pytest.raises(SessionError, match="nothing is built yet"):
        session.build()


def test_a_front_end_that_deals_its_ids_anew_finds_its_cells_by_text(session: Session) -> None:
    run(session, a="FROM busybox", b="RUN same", c="RUN same")
    seen: set[str] = set()
    for one in (cell("c", "FROM busybox"), cell("a", "RUN same"), cell("b", "RUN same")):
        session.claim(one, seen)
        seen.add(one.id)
        done = session.run(one)

    assert (done.left, drawn(session)) == ((), "c a b")


def test_two_kernels_on_one_session_take_turns(session: Session, engine: FakeEngine) -> None:
    run(session, a="FROM busybox")
    errors: list[DockermagicError] = []

    def kernel(ids: str) -> None:
        mine = Session(NAME, engine, folder=session.folder)
        for id in ids:
            try:
                run(mine, **{id: f"RUN {id}"})
            except DockermagicError as error:
                errors.append(error)

    threads = [threading.Thread(target=kernel, args=(ids,)) for ids in ("bcde", "fghi")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert sorted(one.id for one in session.chain.on) == list("abcdefghi")
    assert set(standing(session).values()) == {"built"}
