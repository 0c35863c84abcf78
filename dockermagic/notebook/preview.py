"""A file's content as something to look at: highlighted text, an image, bytes, or the difference to what it was."""

from __future__ import annotations

import difflib
from contextlib import suppress

from dockermagic.notebook.markup import Html, el, esc, join
from dockermagic.values import dataclass

__all__ = ["SHOWN", "Preview", "difference", "preview"]

SHOWN = 256 * 1024
"""Bytes of a text that are shown."""

IMAGES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
IMAGES |= {"svg": "image/svg+xml", "ico": "image/x-icon", "bmp": "image/bmp"}
DUMPED = 4096
COMPARED_LINES = 3000


@dataclass(frozen=True, slots=True)
class Preview:
    """``kind`` is text, image, bytes or diff; ``html`` is what to show, of an image its bytes are, of type ``mime``."""

    kind: str
    html: str = ""
    mime: str = ""
    note: str = ""


def preview(name: str, data: bytes, size: int) -> Preview:
    """What to show of a file that begins with ``data`` and has ``size`` bytes."""
    mime = IMAGES.get(name.rpartition(".")[2].lower(), "")
    if mime and len(data) == size and size:
        return Preview("image", mime=mime)
    note = "" if len(data) >= size else f"the first {len(data):,} of {size:,} bytes"
    text = as_text(data, whole=len(data) >= size)
    if text is None:
        cut = min(size, DUMPED)
        note = f"the first {cut:,} of {size:,} bytes" if cut < size else ""
        return Preview("bytes", _dump(data[:DUMPED]), note=note)
    return Preview("text", highlighted(name, text), note=note or ("an empty file" if not text else ""))


def as_text(data: bytes, *, whole: bool) -> str | None:
    """The bytes as text, None where they are none; a character that is cut off at the end does not count."""
    if b"\0" in data:
        return None
    for cut in (0,) if whole else (0, 1, 2, 3):
        try:
            return data[: len(data) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
    return None


def highlighted(name: str, text: str) -> Html:
    """Text in quiet colours, after its name or its first line."""
    from pygments.lexers import get_lexer_for_filename, guess_lexer
    from pygments.lexers.special import TextLexer
    from pygments.token import Comment, Keyword, Name, Number, Operator, String
    from pygments.util import ClassNotFound

    tones = {Comment: "soft", Keyword: "key", Operator.Word: "key", String: "ok", Number: "warn"}
    tones |= {Name.Function: "run", Name.Class: "run", Name.Tag: "key", Name.Attribute: "run", Name.Variable: "warn"}
    as_it_is = {"stripnl": False, "ensurenl": False}
    lexer = TextLexer(**as_it_is)
    with suppress(ClassNotFound):
        lexer = guess_lexer(text, **as_it_is) if text.startswith("#!") else lexer
        lexer = get_lexer_for_filename(name, **as_it_is)
    out: list[Html] = []
    for kind, value in lexer.get_tokens(text):
        tone = next((tones[part] for part in reversed(kind.split()) if part in tones), "")
        out.append(el("span", value, style=f"color:@{tone}") if tone and value.strip() else esc(value))
    return join(out)


def _dump(data: bytes) -> Html:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        words = " ".join(f"{one:02x}" for one in row)
        letters = "".join(chr(one) if 32 <= one < 127 else "·" for one in row)
        lines.append(join([el("span", f"{at:06x}", style="color:@soft"), f"  {words:<47}  {letters}"]))
    return join(lines, "\n")


def difference(before: bytes, after: bytes) -> Preview:
    """What changed in a file, line by line."""
    old, new = as_text(before, whole=True), as_text(after, whole=True)
    if old is None or new is None:
        return Preview("diff", note=f"not text: {len(before):,} bytes before, {len(after):,} bytes now")
    one, two = old.splitlines(), new.splitlines()
    if max(len(one), len(two)) > COMPARED_LINES:
        return Preview("diff", note=f"too long to compare line by line: {len(one):,} lines before, {len(two):,} now")
    rows = []
    for line in list(difflib.unified_diff(one, two, lineterm="", n=3))[2:]:
        tone = {"+": "ok", "-": "bad", "@": "soft"}.get(line[:1], "")
        rows.append(el("span", line, style=f"color:@{tone}") if tone else esc(line))
    same = "the content is the same: only its mode, owner or time changed" if not rows else ""
    return Preview("diff", join(rows, "\n"), note=same)
