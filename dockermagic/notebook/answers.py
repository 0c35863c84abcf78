"""Answers of Docker's verbs as the values that are shown."""

from __future__ import annotations

from typing import Literal

from dockermagic import view
from dockermagic.containers.container import Container
from dockermagic.expect import Result
from dockermagic.notebook.views import history_view, inspect_view
from dockermagic.verbs.base import Shown
from dockermagic.verbs.containers import published, status

__all__ = ["result_view", "view_of"]


def result_view(result: Result) -> view.MessageView:
    """The outcomes of checks: a friendly line for each."""
    hint = "" if result.passed else "Change your cell, run it again, and then this one."
    state: Literal["good", "less"] = "good" if result.passed else "less"
    return view.MessageView(result.summary, tuple(map(str, result.outcomes)), hint, state)


def _row(container: Container) -> view.ContainerRow:
    state = container.state
    return view.ContainerRow(
        container.id[:12],
        container.name,
        container.image,
        container.command,
        state.status,
        status(container),
        published(container),
        state.exit_code,
    )


def view_of(answer: Shown) -> view.View | None:
    """The view for an answer; None where its text is all there is to show."""
    if answer.kind == "images":
        rows = (
            view.ImageRow(one.repository, one.tag, one.id, one.created, one.size, one.digest) for one in answer.value
        )
        return view.ImagesView(tuple(rows))
    if answer.kind == "containers":
        return view.ContainersView(tuple(map(_row, answer.value)), answer.text)
    if answer.kind == "history":
        return history_view(answer.value)
    if answer.kind == "usage":
        return view.UsageView(tuple(answer.value))
    if answer.kind == "image diff":
        return view.DiffView(*answer.value)
    if answer.kind == "inspect" and answer.value:
        return inspect_view(answer.value, answer.text)
    if isinstance(answer.value, Result):
        return result_view(answer.value)
    if isinstance(answer.value, view.InfoView):
        return answer.value
    return None
