"""A view as a mime bundle: ``text/html`` that needs no script, and ``text/plain``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dockermagic.notebook import buildcard, containermarkup, diffcard, listings, treeview
from dockermagic.notebook.markup import Html
from dockermagic.notebook.plain import plain
from dockermagic.view import (
    BuildView,
    ChangesView,
    CheckView,
    ContainersView,
    ContainerView,
    DiffView,
    DockerfileView,
    HistoryView,
    ImagesView,
    InfoView,
    InspectView,
    MessageView,
    SessionView,
    TreeView,
    UsageView,
    View,
)

__all__ = ["CARD", "bundle", "html"]

CARD = "application/vnd.dockermagic.card+json"
"""Marks a bundle for the extension in ``labextension``: a widget may be shown in place of its card, or the cell whose
output it is has become ``stale``."""


def _check(view: CheckView) -> Html:
    if not view.warnings:
        return listings.message_card(MessageView("No warnings.", state="good"))
    return listings.dockerfile_card(DockerfileView(view.text, (), view.warnings, view.title))


_CARDS: dict[type, Callable[[Any], Html]] = {
    BuildView: buildcard.build_card,
    ChangesView: treeview.changes_card,
    CheckView: _check,
    ContainersView: containermarkup.containers_card,
    ContainerView: containermarkup.container_card,
    DiffView: diffcard.diff_card,
    DockerfileView: listings.dockerfile_card,
    HistoryView: listings.history_card,
    ImagesView: listings.images_card,
    InfoView: listings.info_card,
    InspectView: listings.inspect_card,
    MessageView: listings.message_card,
    SessionView: listings.session_card,
    TreeView: treeview.tree_card,
    UsageView: listings.usage_card,
}


def html(view: View) -> Html:
    """The view as a card."""
    return _CARDS[type(view)](view)


def bundle(view: View) -> dict[str, Any]:
    """The view's mime bundle, without a widget."""
    known = {"text/html": str(html(view)), "text/plain": plain(view)}
    return {**known, CARD: {"stale": True}} if isinstance(view, BuildView) and view.outdated else known
