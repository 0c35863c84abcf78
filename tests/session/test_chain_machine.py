"""Whatever a person does in whatever order, the chain reads as a Dockerfile whose cells were built on one another."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dockermagic.session.chain import Cell, Chain, Plan

IDS = st.sampled_from("abcde")
TEXTS = st.sampled_from("12")
NAMES = st.sampled_from(["", "", "n", "m"])


def keys(cells: tuple[Cell, ...]) -> dict[str, tuple[str, ...]]:
    """The keys of cells in a row: each holds the texts of all before it."""
    return {cell.id: ("/".join(one.text for one in cells[: index + 1]),) for index, cell in enumerate(cells)}


def built(plan: Plan) -> Chain:
    found = keys((*plan.below, plan.cell))
    return plan.built(found.pop(plan.cell.id), found).chain


class Person(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain()

    @rule(id=IDS, text=TEXTS, name=NAMES)
    def run(self, id: str, text: str, name: str) -> None:
        self.chain = built(self.chain.plan(Cell(id, text, name)))

        assert self.chain.find(name or id) in self.chain
        again = built(self.chain.plan(Cell(id, text, name)))
        assert self.chain == again

    @precondition(lambda self: self.chain.on)
    @rule(data=st.data(), id=IDS, text=TEXTS)
    def run_after(self, data: st.DataObject, id: str, text: str) -> None:
        others = [cell for cell in self.chain.on if cell.id != id]
        if others:
            before = data.draw(st.sampled_from(others))
            self.chain = built(self.chain.plan(Cell(id, text), before.id))

            at = [cell.id for cell in self.chain.on].index(id)
            assert before.id == self.chain.on[at - 1].id

    @rule(id=IDS, text=TEXTS, name=NAMES, remember=st.booleans())
    def fail(self, id: str, text: str, name: str, remember: bool) -> None:
        plan = self.chain.plan(Cell(id, text, name))
        outcome = plan.failed(remember=remember)

        assert id not in outcome.chain.ids
        assert outcome.chain.on == self.chain.on[: len(outcome.chain.on)]
        self.chain = outcome.chain

    @rule(ids=st.sets(IDS))
    def delete(self, ids: set[str]) -> None:
        outcome = self.chain.without(ids)

        assert not ids & {cell.id for cell in outcome.chain.cells}
        self.chain = outcome.chain

    @rule()
    def replay(self) -> None:
        for cell in self.chain.cells:
            self.chain = built(self.chain.plan(cell))

        assert self.chain.off == ()

    @invariant()
    def every_cell_is_built_on_those_before_it(self) -> None:
        assert keys(self.chain.on) == {cell.id: cell.built for cell in self.chain.on}

    @invariant()
    def nobody_is_there_twice(self) -> None:
        ids = [cell.id for cell in self.chain.cells]
        names = [cell.name for cell in self.chain.cells if cell.name]
        assert len(ids) == len(set(ids)) and len(names) == len(set(names))
        assert self.chain.ids <= set(ids)


Person.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestPerson = Person.TestCase
