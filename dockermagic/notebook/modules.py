"""Modules of the page: what needs more than markup is fetched by the card when somebody opens it, once a page."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from dockermagic.errors import UsageError
from dockermagic.notebook.markup import Html, button, el

__all__ = ["STATIC", "opener", "place", "text"]

STATIC = Path(__file__).parent / "static"
NAMES = ("files", "terminal")


@cache
def _named(name: str) -> str:
    """The module's name with a digest of its text, so that a page never mixes two versions."""
    return f"{name}@{sha256((STATIC / f'{name}.js').read_bytes()).hexdigest()[:12]}"


def text(message: dict[str, Any]) -> str:
    """The text of the module that a page asks for."""
    if message.get("name") not in NAMES:
        raise UsageError(f"there is no module {message.get('name')}")
    return (STATIC / f"{message['name']}.js").read_text(encoding="utf-8")


def place(name: str, module: str = "", words: object = "", **options: Any) -> Html:
    """Where a module works in the card, with ``words`` until it has come; without one a button begins it there."""
    if not module:
        return el("div", data_place=name, hidden=True)
    return el("div", words, data_place=name, data_module=_named(module), data_options=json.dumps(options))


def opener(words: str, where: str, module: str, **options: Any) -> Html:
    """A button that begins a module in a place, or ends it there."""
    given = {"data_opens": where, "data_module": _named(module), "data_options": json.dumps(options)}
    return button(words, aria_pressed="false", **given)
