"""One output of a cell, and what may stand there: a still card, or a widget with the still card beside it.

Which of them stays is the front end's affair. A widget's view is lost with its model: in a notebook that was closed, a
front end shows an error in its place, unless it knows how to go back to the card. So a front end that does not
say it can (its first message does) gets the still card when all is done, and loses nothing. Where no front end looks
on, as in nbclient and papermill, there are still cards alone: nbconvert would prefer a widget's view, and load what
draws it from the network.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dockermagic.notebook.widgets import CardWidget

__all__ = ["Output", "widgets_possible"]

SWITCH = "DOCKERMAGIC_WIDGETS"

_forgetful: bool | None = None
"""Whether this kernel's front end loses cards with their widgets; None while nobody has looked on."""


def widgets_possible() -> bool:
    """Whether this process is a kernel that can speak to widgets, somebody looks on and nobody switched them off."""
    if os.environ.get(SWITCH, "1").lower() in ("0", "off", "no", "false") or not in_kernel() or not _looked_on():
        return False
    import importlib.util

    return importlib.util.find_spec("anywidget") is not None


def in_kernel() -> bool:
    """Whether a front end reads this process's outputs as messages."""
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def draws_again() -> bool:
    """Whether the front end changes an output that it has shown. A console does not."""
    return _has_page() or not _takes_input()


def _looked_on() -> bool:
    """Whether somebody may see this while it runs, in a page or at a console."""
    return _has_page() or _takes_input()


def _takes_input() -> bool:
    return bool(_request().get("content", {}).get("allow_stdin", False))


def _has_page() -> bool:
    """Whether a page asks. All else says of no cell which one runs, and speaks by jupyter_client, which numbers its
    messages within its session as no page does."""
    header, metadata = _request().get("header", {}), _request().get("metadata", {})
    is_client = str(header.get("msg_id")).startswith(f"{header.get('session')}_")
    return not is_client or bool(metadata.get("cellId")) or _forgetful is not None


def _request() -> dict[str, Any]:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "get_parent", dict)() or {}


class Output:
    """A place in the cell's output that can be drawn again. Nothing is there before the first drawing."""

    def __init__(self) -> None:
        self.widget: CardWidget | None = None
        self._display_id = ""
        self._bundle: dict[str, Any] = {}
        self._insists = False

    @property
    def shown(self) -> bool:
        """Whether something stands here."""
        return bool(self._display_id)

    def draw(self, bundle: dict[str, Any]) -> None:
        """Show a bundle here, in place of what was here; in a terminal what was shown first stays."""
        from IPython.core.display_functions import display, update_display

        self._bundle = bundle
        if not self._display_id:
            self._display_id = uuid.uuid4().hex
            display(bundle, display_id=self._display_id, raw=True)
        elif in_kernel():  # a terminal cannot take back what it has printed
            update_display(bundle, display_id=self._display_id, raw=True)

    def live(
        self, html: str, still: dict[str, Any], handlers: Mapping[str, Callable[..., Any]], *, insists: bool = False
    ) -> CardWidget:
        """Show a widget here, with ``still`` beside it. ``insists``: it stays in front ends that may lose it, too."""
        from dockermagic.notebook.widgets import CardWidget

        hello = handlers.get("hello")
        self._insists = insists

        def greeted(message: dict[str, Any]) -> None:
            self._greeted(bool(message.get("keeps")))
            if hello is not None:
                hello(message)

        before, self._settled = self.widget, False
        self.widget = CardWidget(html, still, {**handlers, "hello": greeted})
        self.draw(self.widget.bundle())
        if before is not None:
            before.close()
        return self.widget

    def done(self, html: str, still: dict[str, Any], handlers: Mapping[str, Callable[..., Any]] | None = None) -> None:
        """Show what is to stay: the widget's last state, or the still card where the widget would be lost."""
        if not self._settled and not draws_again():
            self._display_id = ""  # what was shown meanwhile stays as it is: the end is an output of its own
        if self.widget is None:
            self._settled = True
            return self.draw(still)
        self.widget.still = still
        if self._stays:
            self.widget.handlers |= handlers or {}
            self.widget.html = html
        self._settled = True
        self._settle()
        return None

    _settled = False

    @property
    def _stays(self) -> bool:
        return self._insists or not _forgetful

    def _greeted(self, keeps: bool) -> None:
        global _forgetful
        _forgetful = not keeps
        if self._settled and not self._stays:
            self._settle()

    def _settle(self) -> None:
        assert self.widget is not None
        bundle = self.widget.bundle() if self._stays else self.widget.still
        if bundle != self._bundle:
            self.draw(bundle)
        if not self._stays:
            self.widget.close()


def forgets() -> bool:
    """Whether a widget that need not stay is not worth beginning with for a card that is done."""
    return bool(_forgetful)
