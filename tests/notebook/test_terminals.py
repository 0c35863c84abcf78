"""A terminal whose page is loaded again: what it shows then, and that nothing is run twice."""

from __future__ import annotations

import threading
from queue import Queue
from typing import Any, cast

from dockermagic.containers.terminal import TerminalSession
from dockermagic.notebook.terminals import Terminals
from dockermagic.notebook.widgets import CardWidget

WAIT = 60
Sent = tuple[dict[str, Any], list[bytes]]


class Page:
    """What a widget sends, and a program that says a word each time that it is let."""

    def __init__(self, *, stays: bool) -> None:
        self.sent: Queue[Sent] = Queue()
        self.goes_on = threading.Semaphore(0)
        self.begun = 0
        self.handlers = Terminals(lambda: cast(CardWidget, self), {"run": self.begin}, stays=stays).handlers()

    def send(self, content: dict[str, Any], pieces: list[bytes]) -> None:
        self.sent.put((content, pieces))

    def begin(self, **screen: Any) -> TerminalSession:
        self.begun += 1

        def work(output: Any, began: Any, cancel: Any) -> int:
            for word in (b"one", b"two"):
                output(1, word)
                self.goes_on.acquire(timeout=WAIT)
            return 5

        return TerminalSession(work, **screen)

    def open(self, name: str) -> bool:
        return bool(self.handlers["terminal.open"]({"of": "run", "terminal": name, "rows": 24, "columns": 80}))

    def next(self) -> Sent:
        return self.sent.get(timeout=WAIT)


def test_a_page_that_is_loaded_again_goes_on_with_the_session_and_sees_how_it_ended() -> None:
    page = Page(stays=True)
    assert page.open("a")
    assert page.next() == ({"t": "terminal.a"}, [b"one"])

    assert not page.open("b")
    assert page.next() == ({"t": "terminal.a", "moved": True}, [])
    assert page.next() == ({"t": "terminal.b", "again": True}, [b"one"])
    page.goes_on.release()
    assert page.next() == ({"t": "terminal.b"}, [b"two"])
    page.goes_on.release()
    assert page.next() == ({"t": "terminal.b", "code": 5}, [])

    assert not page.open("c")
    assert page.next() == ({"t": "terminal.b", "moved": True}, [])
    assert page.next() == ({"t": "terminal.c", "again": True, "code": 5}, [b"onetwo"])
    assert page.begun == 1


def test_a_button_begins_another_session() -> None:
    page = Page(stays=False)
    assert page.open("a") and page.open("b")
    assert page.begun == 2
