"""The client's side of a terminal."""

from __future__ import annotations

import os
import select

import pytest

from dockermagic.sandbox.terminal import LetGoError, Terminal


def test_keys_that_let_go_are_not_typed_and_a_beginning_waits() -> None:
    read, write = os.pipe()
    terminal = Terminal(write, None, b"\x10\x11")
    for typed in (b"a\x10", b"b", b"\x10", b"\x10c"):
        terminal.type(typed)

    assert os.read(read, 100) == b"a\x10b\x10\x10c"
    terminal.type(b"d\x10")
    with pytest.raises(LetGoError):
        terminal.type(b"\x11e")
    with pytest.raises(LetGoError):
        terminal.type(b"f\x10\x11g")
    assert os.read(read, 100) == b"df"
    os.close(read)
    os.close(write)


def test_what_is_typed_as_it_ends_is_nothing() -> None:
    read, write = os.pipe()
    poll = select.poll()
    terminal = Terminal(-1, read)
    terminal.listen(poll)
    os.write(write, b"x")
    for _ in poll.poll():  # the process's end came in the same turn, and was seen to first
        terminal.stop(poll)
        terminal.feed(poll)
    os.close(read)
    os.close(write)
