"""HTML that needs no script and no style sheet: elements with inline styles, in colours that suit light and dark pages.

What matters is in the structure (tables, lists, folded details), so that a page that drops every style still reads
well. Inline colours are variables with mid-tone fallbacks; :data:`STYLE`, where it survives, sets the variables to the
page's theme. Nothing here depends on what is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from html import escape

__all__ = [
    "CODE",
    "STYLE",
    "TEXT",
    "Html",
    "button",
    "card",
    "chip",
    "code",
    "colour",
    "details",
    "el",
    "esc",
    "join",
    "muted",
    "note",
    "pre",
]


class Html(str):
    """Text that is markup already. Everything else is escaped when it goes into an element."""

    __slots__ = ()


COLOURS = {
    # name: (on either background, on a light page, on a dark page)
    "soft": ("#768090", "#5d677b", "#9aa5b5"),
    "line": ("rgba(128,138,150,.26)", "rgba(20,32,54,.13)", "rgba(255,255,255,.15)"),
    "tint": ("rgba(128,138,150,.08)", "rgba(40,60,100,.045)", "rgba(255,255,255,.05)"),
    "key": ("#6d7fd6", "#4052c0", "#a3b3ff"),
    "run": ("#3b82d6", "#1d6ed0", "#6cb0ff"),
    "ok": ("#2f9461", "#157a4a", "#56c892"),
    "warn": ("#b07a1c", "#8f5f00", "#e2b04e"),
    "bad": ("#d64550", "#bf2633", "#ff7c85"),
    "bar": ("#8c9be0", "#a3b0ee", "#5f72cf"),
    # what a process paints its output with
    "red": ("#d1434b", "#b3261e", "#ff8087"),
    "green": ("#2d9250", "#176a38", "#5fcb8c"),
    "yellow": ("#a9791c", "#7a5200", "#e2b04e"),
    "blue": ("#3b7ddd", "#1d5fbf", "#78b6ff"),
    "magenta": ("#a35ac6", "#83379f", "#d9a0f2"),
    "cyan": ("#2090a0", "#0c6773", "#62cbd8"),
    "grey": ("#76808c", "#5b6472", "#a3adba"),
    "warntint": ("rgba(190,140,30,.12)", "rgba(214,160,32,.12)", "rgba(226,176,78,.12)"),
    "badtint": ("rgba(214,69,80,.1)", "rgba(200,40,54,.07)", "rgba(255,110,120,.12)"),
}

FONT = "var(--jp-ui-font-family,system-ui,-apple-system,'Segoe UI',Roboto,sans-serif)"
CODE = "var(--jp-code-font-family,ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace)"

TEXT = (
    "font:12px/1.6 @code;white-space:pre-wrap;overflow-wrap:anywhere;text-align:left;background:transparent;"
    "color:inherit;padding:0;margin:0;border:0"
)
"""How a Dockerfile's own words are written."""


def colour(name: str) -> str:
    """A colour for an inline style: the theme's where a style sheet survives."""
    return f"var(--dm-{name},{COLOURS[name][0]})"


@lru_cache(maxsize=1024)
def _style(style: str) -> str:
    """The attribute of an inline style with the names in it spelled out."""
    fonts = {"code": CODE, "font": FONT}
    return _attribute("style", re.sub(r"@([a-z]+)", lambda found: fonts.get(found[1]) or colour(found[1]), style))


@lru_cache(maxsize=1024)
def _attribute(name: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')


def _variables(index: int) -> str:
    return ";".join(f"--dm-{name}:{values[index]}" for name, values in COLOURS.items())


STYLE = Html(
    "<style>"
    f".dockermagic{{{_variables(1)}}}"
    f"[data-jp-theme-light=false] .dockermagic,.vscode-dark .dockermagic,html[theme=dark] .dockermagic,"
    f".dm-dark .dockermagic{{{_variables(2)}}}"
    "@media (prefers-color-scheme:dark){body:not([data-jp-theme-light]):not([class*=vscode]):not(.nbviewer)"
    f":not(.dm-light) .dockermagic{{{_variables(2)}}}}}"
    ".dockermagic summary{cursor:pointer}"
    ".dockermagic summary::marker{color:var(--dm-soft);font-size:.8em}"
    ".dockermagic summary:focus-visible{outline:2px solid var(--dm-run);outline-offset:2px;border-radius:3px}"
    ".dockermagic details[open]>summary .dm-closed{display:none}"
    ".dockermagic tr:last-child>td,.dockermagic>:last-child{border-bottom:0!important}"
    ".dm-hover:hover{background:var(--dm-tint)!important}"
    "@media (max-width:560px){.dockermagic .dm-wide{display:none!important}"
    ".dockermagic td{padding-left:8px!important;padding-right:8px!important}"
    ".dockermagic .dm-figures{display:flex;flex-direction:column-reverse;align-items:flex-end}}"
    "@media print{.dockermagic{print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    f".dockermagic{{{_variables(1)}}}.dockermagic .dm-scroll{{max-height:none!important;overflow:visible!important}}"
    ".dockermagic tr,.dockermagic .dm-whole{break-inside:avoid}}"
    "</style>"
)


def esc(text: object) -> Html:
    """The text as markup: itself if it is markup, escaped if not."""
    return text if isinstance(text, Html) else Html(escape(str(text), quote=False))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one behind the other; ``between`` is markup."""
    return Html(between.join([esc(part) for part in parts]))


def el(name: str, *children: object, style: str = "", **attributes: str | bool | None) -> Html:
    """An element. ``style`` may hold ``@name`` for a colour; an underscore at the end of an attribute is dropped."""
    written = "".join([_attribute(*one) for one in attributes.items()]) if attributes else ""
    return Html(f"<{name}{written}{_style(style) if style else ''}>{''.join([esc(one) for one in children])}</{name}>")


def card(*children: object) -> Html:
    """The frame around an output, with the style sheet that makes it follow the theme."""
    style = (
        "font:13px/1.5 @font;text-align:left;max-width:62rem;margin:2px 0 6px;border:1px solid @line;"
        "border-radius:8px;overflow:hidden"
    )
    # Notebooks typeset what stands between two dollar signs as a formula, unless it is told to be none.
    return el("div", STYLE, *children, class_="dockermagic mathjax_ignore tex2jax_ignore", style=style)


def head(title: object, *facts: object, aside: object = "") -> Html:
    """A card's first line: what it is, facts about it, and something at the right end."""
    right = el("span", aside, " ", style="float:right;margin-left:12px") if aside else ""
    shown = [fact for fact in facts if fact]
    after = muted(" · ", join(shown, " · ")) if shown else ""
    style = "padding:7px 12px;background:@tint;border-bottom:1px solid @line"
    return el("div", right, el("strong", title, style="font-weight:600"), after, style=style)


def muted(*children: object) -> Html:
    """Text of less weight."""
    return el("span", *children, style="color:@soft")


def code(*children: object, style: str = "") -> Html:
    """Words of a command or a Dockerfile within a sentence."""
    plain = "font:12px/1.5 @code;background:@tint;border:0;border-radius:4px;padding:1px 5px;color:inherit"
    return el("code", *children, style=f"{plain};{style}" if style else plain)


def chip(*children: object, tone: str = "soft") -> Html:
    """A word in a frame: a name, a state."""
    style = "display:inline-block;font:11px/16px @code;border:1px solid @line;border-radius:99px;padding:0 8px"
    return el("span", *children, style=f"{style};white-space:nowrap;color:@{tone}")


def pre(*children: object, style: str = "", **attributes: str) -> Html:
    """Text with its own line ends."""
    plain = (
        "margin:0;padding:8px 10px;background:@tint;border:0;border-radius:6px;color:inherit;font:12px/1.5 @code;"
        "white-space:pre-wrap;overflow-wrap:anywhere;text-align:left"
    )
    return el("pre", *children, style=f"{plain};{style}" if style else plain, **attributes)


def details(
    summary: object, *children: object, opened: bool = False, style: str = "", **attributes: str | None
) -> Html:
    """Something folded away under a line."""
    line = el("summary", summary, style="color:@soft;cursor:pointer")
    return el("details", line, *children, style=style, open=opened, **attributes)


def button(words: str, **attributes: str) -> Html:
    """A button of a widget's card; its ``data_`` attributes say what it does (see ``static/card.js``)."""
    return el("button", words, type="button", class_="dm-button", **attributes)


def note(*children: object, tone: str = "warn") -> Html:
    """A sentence at the foot of a card that asks for attention."""
    ground = f"background:@{tone}tint" if tone in ("warn", "bad") else ""
    return el("div", *children, style=f"padding:7px 12px;margin-top:-1px;border-top:1px solid @line;{ground}")


def table(*rows: object, label: str = "", columns: str = "") -> Html:
    """Rows in columns that end at the frame; it undoes what notebooks do to tables."""
    style = "border-collapse:collapse;width:100%;margin:0;font-size:13px;border:0;table-layout:auto"
    return el("table", Html(columns), el("tbody", *rows), style=style, aria_label=label or None, border="0")


def row(*cells: Html, style: str = "", **attributes: str) -> Html:
    """A row of a table."""
    return el("tr", *cells, style=f"background:transparent;{style}", **attributes)


def cell(*children: object, style: str = "", head: bool = False, **attributes: str) -> Html:
    """A cell of a table."""
    plain = "padding:6px 12px;text-align:left;vertical-align:top;border:0;border-bottom:1px solid @line"
    more = ";font-weight:400;color:@soft;font-size:12px" if head else ""
    return el("th" if head else "td", *children, style=f"{plain}{more};{style}", **attributes)
