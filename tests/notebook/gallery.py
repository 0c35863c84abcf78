"""Every view on one page, and pictures of it: ``python -m tests.notebook.gallery FOLDER``."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from dockermagic.notebook.bundle import bundle
from tests.notebook.scenes import scenes

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>dockermagic</title>
<meta name="viewport" content="width=device-width">
<style>:root{{color-scheme:light dark}}
body{{font:14px system-ui;margin:20px auto;max-width:64rem;padding:0 16px;background:{back};color:{fore}}}
h2{{font:600 12px system-ui;opacity:.5;margin:22px 0 6px}}pre.plain{{font:12px/1.4 monospace;overflow:auto}}</style>
</head><body>{body}</body></html>"""

THEMES = {"light": ("#fff", "rgba(0,0,0,.87)"), "dark": ("#111", "rgba(255,255,255,.87)")}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
CHROMIUM += ["--disable-component-update", "--disable-sync", "--hide-scrollbars"]

SHOTS = [
    # name, theme, width, how the page is made
    ("light", "light", 1000, {}),
    ("dark", "dark", 1000, {}),
    ("narrow", "light", 390, {}),
    ("bare", "light", 900, {"styles": False}),
    ("plain", "light", 1000, {"plain": True}),
]


def page(theme: str, *, plain: bool = False, styles: bool = True) -> str:
    """The gallery in one theme; without ``styles`` as a page shows it that drops them all."""
    body = []
    for name, view in scenes().items():
        parts = bundle(view)
        shown = parts["text/html"]
        if not styles:
            shown = re.sub(r"<style>.*?</style>| style=\"[^\"]*\"", "", shown)
        text = f'<pre class="plain">{escape(parts["text/plain"])}</pre>'
        body.append(f"<h2>{escape(name)}</h2>{text if plain else shown}")
    back, fore = THEMES[theme]
    return PAGE.format(body="".join(body), back=back, fore=fore)


def main(folder: Path) -> None:
    """Write the pages and their pictures."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        for name, theme, width, options in SHOTS:
            path = folder / f"{name}.html"
            path.write_text(page(theme, **options), encoding="utf-8")
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
            tab.goto(path.resolve().as_uri())
            if name in ("light", "dark"):
                tab.evaluate(
                    "document.querySelectorAll('details').forEach((one, at) => { if (at < 4) one.open = true })"
                )
            tab.screenshot(path=str(folder / f"{name}.png"), full_page=True)
            tab.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "gallery"))
