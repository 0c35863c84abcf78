"""Output with colours and rewritten lines, as markup."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockermagic.notebook.ansi import AnsiLines, plain_lines, to_html

CASES = [
    (b"plain\n", ["plain"]),
    (b"a < b & c\n", ["a &lt; b &amp; c"]),
    (b"\x1b[31mred\x1b[0m x\n", ['<span style="color:var(--dm-red,#d1434b)">red</span> x']),
    (b"\x1b[1;4mboth\x1b[22;24m\n", ['<span style="font-weight:600;text-decoration:underline">both</span>']),
    (b"\x1b[38;5;196mx\x1b[m\n", ['<span style="color:#ff0000">x</span>']),
    (b"\x1b[38;2;1;2;3mx\x1b[39my\n", ['<span style="color:#010203">x</span>y']),
    (b"\x1b[41mx\x1b[49m\n", ['<span style="color:#fff;background:#d1434b">x</span>']),
    (
        b"\x1b[32mone\ntwo\x1b[0m\n",
        [
            '<span style="color:var(--dm-green,#2d9250)">one</span>',
            '<span style="color:var(--dm-green,#2d9250)">two</span>',
        ],
    ),
    (b"10%\r50%\r100%\n", ["100%"]),
    (b"100%\rok\n", ["ok0%"]),
    (b"100%\r\x1b[Kok\n", ["ok"]),
    (b"ab\bc\n", ["ac"]),
    (b"a\tb\n", ["a       b"]),
    (b"crlf\r\n", ["crlf"]),
    (b"\x1b]0;title\x07text\x1b[2J\x1b(B\n", ["text"]),
    (b"\x00\x07bell\n", ["bell"]),
    (b"caf\xc3\xa9 \xff\n", ["café \ufffd"]),
    (b"\x1b[31", []),
]


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_lines(data: bytes, expected: list[str]) -> None:
    assert [str(line) for line in AnsiLines().feed(data)] == expected


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_pieces_of_any_size_make_the_same_lines(data: bytes, expected: list[str]) -> None:
    lines = AnsiLines()

    assert [str(line) for byte in data for line in lines.feed(bytes([byte]))] == expected


@given(st.binary(max_size=200), st.integers(0, 200))
def test_nothing_is_markup_but_our_own(data: bytes, cut: int) -> None:
    """Whatever a process prints, only spans with a style come out."""
    lines = AnsiLines()
    shown = "".join([*lines.feed(data[:cut]), *lines.feed(data[cut:]), lines.rest()])
    bare = re.sub(r'<span style="[a-z0-9:;#,.() -]*">|</span>', "", shown)

    assert "<" not in bare and ">" not in bare
    assert "\x1b" not in unescape(bare) and "\r" not in bare


def test_the_line_that_has_not_ended_is_told_apart() -> None:
    lines = AnsiLines()

    assert lines.feed(b"one\ntwo") == ["one"]
    assert lines.rest() == "two"
    assert lines.feed(b"!\n") == ["two!"]


def test_a_line_without_end_is_cut() -> None:
    assert len(AnsiLines().feed(b"x" * 100_000 + b"\n")[0]) == 4000


def test_the_last_lines_and_how_many_there_were() -> None:
    assert to_html(b"a\nb\nc", last=2) == ("b\nc", 3)


def test_plain_lines_have_no_colours() -> None:
    assert plain_lines(b"\x1b[1mbold\x1b[0m\n10%\r20%\nend\r\n") == ["bold", "20%", "end"]
    assert plain_lines(b"") == []
