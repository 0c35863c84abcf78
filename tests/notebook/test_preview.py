"""What is shown of a file: text in colours, pictures, bytes, and what changed in it."""

from __future__ import annotations

import re

import pytest

from dockermagic.notebook.preview import DUMPED, difference, preview


def words(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


@pytest.mark.parametrize(
    ("name", "data"),
    [("main.py", "import os\n"), ("Dockerfile", "FROM a\n"), ("run", "#!/bin/sh\necho ü\n"), ("notes", "plain\n\n")],
)
def test_text_is_coloured_and_keeps_every_character(name: str, data: str) -> None:
    shown = preview(name, data.encode(), len(data.encode()))

    assert (shown.kind, words(shown.html), shown.note) == ("text", data, "")
    assert ("<span" in shown.html) == (name != "notes")


def test_what_a_file_says_is_never_markup() -> None:
    assert "<script" not in preview("x.html", b"<script>alert(1)</script>", 25).html
    assert "<b>" not in difference(b"a", b"<b>").html


def test_a_character_that_is_cut_off_makes_no_bytes_of_a_text() -> None:
    shown = preview("long", "é".encode() * 10 + b"\xc3", 5000)

    assert (shown.kind, shown.html, shown.note) == ("text", "é" * 10, "the first 21 of 5,000 bytes")


def test_what_is_no_text_is_shown_as_bytes() -> None:
    shown = preview("program", b"\x7fELF\0" + b"A" * 5000, 5005)

    assert shown.kind == "bytes" and shown.note == f"the first {DUMPED:,} of 5,005 bytes"
    first = words(shown.html).split("\n")[0]
    assert first == "000000  7f 45 4c 46 00 41 41 41 41 41 41 41 41 41 41 41  ·ELF·AAAAAAAAAAA"
    assert preview("latin", b"\xe9t\xe9", 3).kind == "bytes"


def test_a_picture_is_one_only_where_all_of_it_is_here() -> None:
    assert preview("a.PNG", b"\x89PNG", 4).mime == "image/png"
    assert preview("a.png", b"\x89PNG", 9).kind != "image"
    assert preview("a.png", b"", 0).note == "an empty file"


@pytest.mark.parametrize(
    ("before", "after", "shown", "note"),
    [
        (b"a\nb\n", b"a\nc\n", "@@ -1,2 +1,2 @@\n a\n-b\n+c", ""),
        (b"a\n", b"a\n", "", "the content is the same: only its mode, owner or time changed"),
        (b"a\n", b"\0", "", "not text: 2 bytes before, 1 bytes now"),
        (b"a\n" * 3001, b"", "", "too long to compare line by line: 3,001 lines before, 0 now"),
    ],
)
def test_what_changed_in_a_file(before: bytes, after: bytes, shown: str, note: str) -> None:
    found = difference(before, after)

    assert (found.kind, words(found.html), found.note) == ("diff", shown, note)
