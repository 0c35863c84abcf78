"""An output that is drawn while something runs: by a widget where there can be one, else again and again as a page.

Events may come from any thread; a thread of its own draws them in batches. What is over in a moment is drawn once.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from dockermagic.events import now
from dockermagic.notebook.markup import Html, button, el
from dockermagic.notebook.stage import Output, forgets, in_kernel, widgets_possible

__all__ = ["Handlers", "Live", "Stop"]

MOMENT = 0.15
"""Seconds before anything is drawn: what is done by then was never seen running."""

INTERVAL = 0.08
STILL_INTERVAL = 0.5
NEWCOMER = 2.5
"""For how many seconds after a view was made everything is sent each time: what came before it is lost to it."""

NEWCOMER_INTERVAL = 0.25

UNMOVED = el(
    "div",
    "Shown again when it is done. To see it while it runs, Jupyter itself needs the package jupyterlab_widgets.",
    style="font:12px/1.5 @font;opacity:.7;margin:0 0 6px 2px",
)
"""What stands below a card that runs where the front end shows no widgets: its page cannot be drawn meanwhile."""

Stop = Callable[[], None]

Handlers = Mapping[str, Callable[[dict[str, Any]], Any]]
"""Answers to a card's page by the kind of message."""


class Live:
    """A place that is drawn again and again by a thread of its own, from when it takes longer than a moment.

    A context manager; what is to stay is shown by :meth:`stay`.
    """

    def __init__(self, stop: Stop | None, place: Output | None = None) -> None:
        self.place = place or Output()
        self._stop = stop
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._newcomer_until = 0.0
        self._finished = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Begin to draw."""
        if in_kernel():
            # In the cell's own context: elsewhere the kernel takes what is shown for an answer to its latest message,
            # which may have been one of the widget's.
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._draw,), name="dockermagic-display", daemon=True)
            self._thread.start()
        elif sys.stdout.isatty():
            self._start_terminal()

    def end(self) -> None:
        """Draw no more; returns when the thread is done."""
        self._over.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        self._end_terminal()

    def stay(self, page: Callable[[], Html], still: dict[str, Any], handlers: Handlers | None = None) -> None:
        """Draw no more and show what is to stay: as a widget where one can live on, with ``still`` beside it.

        ``page`` is asked for where there is a widget.
        """
        self.end()
        self._finished = True
        if self.place.widget is None and (forgets() or not widgets_possible()):
            return self.place.done("", still)
        shown = str(page())
        if self.place.widget is None:
            self.place.live(shown, still, handlers or {})
        return self.place.done(shown, still, handlers)

    def _draw(self) -> None:
        if self._over.wait(MOMENT):
            return
        try:
            handlers = {"stop": self._stopped, "hello": self._hello}
            if widgets_possible():
                with self._lock:
                    still = self._still()
                    self.place.live(str(self._first()), still | {"text/html": still["text/html"] + UNMOVED}, handlers)
                self._hello({})
            while not self._over.is_set():
                widget = self.place.widget
                newcomer = time.monotonic() < self._newcomer_until
                if widget is None:
                    self.place.draw(self._still())
                else:
                    with self._lock:
                        message = self._message(everything=newcomer)
                    if message is not None:
                        widget.send({"t": "patch", "now": now(), **message})
                pause = STILL_INTERVAL if widget is None else NEWCOMER_INTERVAL if newcomer else INTERVAL
                self._over.wait(pause)
                if not newcomer and widget is not None:
                    self._changed.wait()
                self._changed.clear()
        except Exception as error:  # a picture that fails must not fail the build
            self.trouble = error

    trouble: Exception | None = None

    def _stopped(self, message: object) -> None:
        if self._stop is not None:
            self._stop()

    def _hello(self, message: object) -> None:
        self._newcomer_until = time.monotonic() + NEWCOMER
        self._changed.set()

    @property
    def _button(self) -> Html:
        if self._stop is None:
            return Html("")
        return button("stop", data_send="stop", data_busy="stopping…", data_late="press ■ in the toolbar")

    def _start_terminal(self) -> None:
        """Begin to show it in IPython's terminal."""

    def _end_terminal(self) -> None:
        """Leave the terminal to what comes."""

    def _first(self) -> Html:
        raise NotImplementedError

    def _still(self) -> dict[str, Any]:
        raise NotImplementedError

    def _message(self, *, everything: bool) -> dict[str, Any] | None:
        raise NotImplementedError
