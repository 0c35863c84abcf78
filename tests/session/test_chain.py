"""What a run does to the chain, as tables: before, the cell that is run, after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockermagic.errors import SessionError
from dockermagic.session.chain import Cell, Chain, Plan


def cell(text: str) -> Cell:
    """``b2`` is the cell with the id b and the text 2; ``b2:n`` bears the name n."""
    word, _, name = text.partition(":")
    return Cell(id=word[0], text=word[1:], name=name)


def keys(plan: Plan) -> tuple[str, ...]:
    """The keys of a build: the texts of all that the cell stands on, and its own."""
    return ("/".join(one.text for one in (*plan.below, plan.cell)),)


def below(plan: Plan) -> dict[str, tuple[str, ...]]:
    found, above = {}, []
    for one in plan.below:
        above.append(one.text)
        found[one.id] = ("/".join(above),)
    return found


def run(chain: Chain, word: str, after: str = "", *, fails: bool = False, remember: bool = True) -> Chain:
    plan = chain.plan(cell(word), after)
    return (plan.failed(remember=remember) if fails else plan.built(keys(plan), below(plan))).chain


def drawn(chain: Chain) -> str:
    """The chain as text: its cells in order, those that are not on it in brackets."""
    return " ".join(f"{one.id}{one.text}" if one in chain else f"({one.id}{one.text})" for one in chain.cells)


def chained(words: str) -> Chain:
    chain = Chain()
    for word in words.split():
        chain = run(chain, word)
    return chain


@pytest.mark.parametrize(
    ("before", "runs", "expected"),
    [
        ("", "a1", "a1"),
        ("a1", "b1", "a1 b1"),
        ("a1 b1 c1", "b1", "a1 b1 c1"),
        ("a1 b1 c1", "b2", "a1 b2 (c1)"),
        ("a1 b1 c1", "a2", "a2 (b1) (c1)"),
        ("a1 b1 c1", "a2 b1", "a2 b1 (c1)"),
        ("a1 b1 c1", "a2 c1", "a2 (b1) c1"),
        ("a1 b1 c1", "a2 c1 b1", "a2 b1 (c1)"),
        ("a1 b1 c1", "a2 b1 c1", "a2 b1 c1"),
        ("a1 b1 c1", "a2 d1", "a2 (b1) (c1) d1"),
        ("a1 b1 c1", "a2 d1 b1", "a2 b1 (c1) (d1)"),
        ("a1 b1 c1", "a1 b1 c1", "a1 b1 c1"),
    ],
)
def test_running_a_cell(before: str, runs: str, expected: str) -> None:
    chain = chained(before)
    for word in runs.split():
        chain = run(chain, word)

    assert expected == drawn(chain)


@pytest.mark.parametrize(
    ("before", "word", "after", "expected"),
    [
        ("a1 b1 c1", "d1", "a", "a1 d1 (b1) (c1)"),
        ("a1 b1 c1", "d1", "c", "a1 b1 c1 d1"),
        ("a1 b1 c1", "b1", "a", "a1 b1 c1"),
        ("a1 b1 c1", "b2", "a", "a1 b2 (c1)"),
        ("a1 b1 c1", "b1", "c", "a1 c1 b1"),
        ("a1 b1 c1", "c1", "a", "a1 c1 (b1)"),
        ("a1:base b1 c1", "d1", "base", "a1 d1 (b1) (c1)"),
    ],
)
def test_after_puts_a_cell_elsewhere(before: str, word: str, after: str, expected: str) -> None:
    assert expected == drawn(run(chained(before), word, after))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("a1 b1", "x", "no cell x in this session"),
        ("a1 b1 a2", "b", "cell is not on the chain"),
        ("a1 c1", "c", "cell cannot stand after itself"),
    ],
)
def test_after_refuses(before: str, after: str, message: str) -> None:
    with pytest.raises(SessionError) as caught:
        run(chained(before), "c1", after)

    assert message == caught.value.message


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [
        ("a1 b1", "c1", "a1 b1 (c1)"),
        ("a1 b1 c1", "b2", "a1 (b2) (c1)"),
        ("a1 b1 c1", "a2", "(a2) (b1) (c1)"),
        ("a1 b1 c1", "c2", "a1 b1 (c2)"),
    ],
)
def test_a_cell_that_fails_is_not_on_the_chain(before: str, word: str, expected: str) -> None:
    assert expected == drawn(run(chained(before), word, fails=True))


def test_a_cell_that_was_not_on_the_chain_and_fails_changes_nothing_for_the_others() -> None:
    chain = chained("a1 b1 c1 b2 c1")
    assert drawn(chain.plan(cell("d1"), "a").failed().chain) == "a1 (d1) b2 c1"


def test_a_failed_cell_keeps_its_place_for_the_next_try() -> None:
    chain = run(run(chained("a1"), "b1", fails=True), "c1")
    assert drawn(chain) == "a1 (b1) c1"

    assert drawn(run(chain, "b2")) == "a1 b2 (c1)"


def test_a_failed_cell_without_an_id_of_its_own_leaves_no_trace() -> None:
    assert drawn(run(chained("a1"), "b1", fails=True, remember=False)) == "a1"


def test_a_move_that_fails_takes_off_what_stood_behind_the_old_place() -> None:
    chain = chained("a1 b1 c1 d1").plan(cell("b1"), "c").failed().chain

    assert drawn(chain) == "a1 (c1) (b1) (d1)"


@pytest.mark.parametrize(
    ("before", "gone", "expected"),
    [
        ("a1 b1 c1", "b", "a1 (c1)"),
        ("a1 b1 c1", "c", "a1 b1"),
        ("a1 b1 c1", "x", "a1 b1 c1"),
        ("a1 b1 c1", "ab", "(c1)"),
        ("a1 b1 c1 b2", "c", "a1 b2"),
    ],
)
def test_a_deleted_cell_leaves(before: str, gone: str, expected: str) -> None:
    assert expected == drawn(chained(before).without(gone).chain)


@pytest.mark.parametrize(
    ("before", "order", "expected"),
    [
        ("a1 b1 c1", "abc", "a1 b1 c1"),
        ("a1 b1 c1", "acb", "a1 (c1) (b1)"),
        ("a1 b1 c1", "bac", "(b1) (a1) (c1)"),
        ("a1 b1 c1 d1", "axbxd", "a1 b1 c1 d1"),
        ("a1 b1 c1 d1", "bad", "(b1) (c1) (a1) (d1)"),
        ("a1 b1 c1 a2", "acb", "a2 (c1) (b1)"),
        ("a1 b1 c1", "", "a1 b1 c1"),
    ],
)
def test_cells_follow_the_order_of_the_notebook(before: str, order: str, expected: str) -> None:
    assert expected == drawn(chained(before).arranged(order).chain)


@pytest.mark.parametrize(
    ("before", "word", "order", "expected"),
    [
        ("a1 b1", "c1", "acb", "a1 c1 (b1)"),
        ("a1 b1", "c1", "abc", "a1 b1 c1"),
        ("a1 b1", "c1", "cab", "c1 (a1) (b1)"),
        ("a1 b1", "c1", "axcyb", "a1 c1 (b1)"),
        ("a1 b1", "c1", "ab", "a1 b1 c1"),
        ("a1 b1 c1 b2", "d1", "abdc", "a1 b2 d1 (c1)"),
        ("x1 y1", "a1", "ab", "x1 y1 a1"),  # those are another notebook's, or a file's
        ("x1 b1", "a1", "ab", "x1 a1 (b1)"),
    ],
)
def test_a_new_cell_goes_where_it_stands_in_the_notebook(before: str, word: str, order: str, expected: str) -> None:
    plan = chained(before).plan(cell(word), order=order)

    assert expected == drawn(plan.built(keys(plan), below(plan)).chain)


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [
        ("a1:n b1", "c1:n", "c1 b1"),
        ("a1:n b1", "c2:n", "c2 (b1)"),
        ("a1 b1", "a1:n", "a1 b1"),
        ("a1:n b1", "a1", "a1 b1"),
        ("a1:n b1 c1", "b1:n", "b1 (c1)"),
        ("a1 b1:n c1", "a1:n", "a1 (c1)"),
    ],
)
def test_a_name_beats_an_id(before: str, word: str, expected: str) -> None:
    assert expected == drawn(run(chained(before), word))


def test_left_names_the_cells_that_left() -> None:
    plan = chained("a1 b1 c1").plan(cell("a2"))

    outcome = plan.built(keys(plan), below(plan))

    assert [one.id for one in outcome.left] == ["b", "c"]
    assert [one.built for one in outcome.left] == [("1/1",), ("1/1/1",)]


def test_a_build_that_moved_the_cells_below_moves_the_later_ones_too() -> None:
    """A file that changed under an earlier COPY is found when a later cell is run."""
    plan = chained("a1 b1 c1").plan(cell("b1"))

    outcome = plan.built(("1/1",), {"a": ("another",)})

    assert drawn(outcome.chain) == "a1 b1 (c1)"
    assert outcome.chain.cells[0].built == ("another",)


@pytest.mark.parametrize(("word", "expected"), [("n", "b"), ("7", "a"), ("[7]", "a"), ("a", "a")])
def test_a_cell_is_found_by_name_number_or_id(word: str, expected: str) -> None:
    cells = (replace(cell("a1"), number=7), cell("b1:n"))

    assert expected == Chain(cells, frozenset("ab")).find(word).id


def test_of_two_cells_with_one_number_that_on_the_chain_is_meant() -> None:
    cells = tuple(replace(cell(word), number=3) for word in ("a1", "b1", "c1"))

    assert [Chain(cells, frozenset(on)).find("3").id for on in ("a", "")] == ["a", "c"]


def test_ids_can_be_dealt_anew() -> None:
    assert drawn(chained("a1 b1").relabelled({"a": "x"})) == "x1 b1"
