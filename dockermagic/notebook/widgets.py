"""The widget: a card that Python draws and that lives in the page. Importing this module imports anywidget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from dockermagic.errors import DockermagicError, UsageError
from dockermagic.notebook import modules
from dockermagic.notebook.bundle import CARD

__all__ = ["VIEW", "CardWidget"]

VIEW = "application/vnd.jupyter.widget-view+json"


def _nobody(message: dict[str, Any]) -> Any:
    raise UsageError("nobody answers here any more", hint="Run the cell again.")


class CardWidget(anywidget.AnyWidget):
    """A card in the page. ``html`` is all of it; messages replace parts and add output while something runs.

    ``handlers`` hear messages from the page by their kind; what they return answers those that ask
    for it, as a value or as a value and buffers; a function among them takes long and is called in a thread of its own.
    ``still`` is the card's bundle without the widget, for front ends that show none.
    """

    _esm = modules.STATIC / "card.js"
    _css = modules.STATIC / "card.css"
    html = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, html: str, still: dict[str, Any], handlers: Mapping[str, Callable[[dict[str, Any]], Any]]
    ) -> None:
        super().__init__(html=html)
        self.still = still
        self.waits = False
        self.handlers = {"module": modules.text, **handlers}
        self.on_msg(self._received)
        # ipykernel 7.4 hands a comm's messages to the shell that the kernel last sent from: the one that runs the cell
        # and hears nothing until it is done. The button to stop it is heard where the front end sends it.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda data, default: default

    def _received(self, widget: object, content: Any, buffers: object) -> None:
        if not isinstance(content, dict):
            return
        handler = self.handlers.get(str(content.get("t", "")))
        if "id" not in content:
            if content.get("waits"):
                self.waits = True
                self.send({"t": "heard"})
            if handler is not None:
                handler(content)
            return
        if handler is None:
            handler = _nobody
        self._answer(content["id"], lambda: handler(content))

    def _answer(self, question: Any, find: Callable[[], Any]) -> None:
        answer: dict[str, Any] = {"t": "answer", "id": question}
        pieces: list[bytes] = []
        try:
            value = find()
            if callable(value):
                threading.Thread(target=self._answer, args=(question, value), daemon=True).start()
                return
            answer["value"], pieces = value if isinstance(value, tuple) else (value, [])
        except Exception as error:
            words = (error.message, error.hint) if isinstance(error, DockermagicError) else (str(error) or repr(error),)
            answer["error"] = ". ".join(part.rstrip(".") for part in words if part)
        self.send(answer, pieces)

    def free(self) -> None:
        """Let buttons be pressed again whose work is done: the card may be the same as before."""
        if self.waits:
            self.waits = False
            self.send({"t": "free"})

    def bundle(self) -> dict[str, Any]:
        """The mime bundle: the widget's view, and what is shown where there is no widget."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {CARD: {}, **self.still, VIEW: view}

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.bundle(), {}
