"""Containers as markup: one that runs or ran, with its output, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence

from dockermagic.events import now
from dockermagic.notebook.ansi import to_html
from dockermagic.notebook.markup import Html, card, cell, chip, code, el, head, join, muted, pre, row, table
from dockermagic.tables import clip, command_line, duration, many
from dockermagic.view import ContainersView, ContainerView

__all__ = ["OUTPUT", "container_card", "container_heading", "containers_card", "live_container"]

CONTAINER_LINES = 1000
NOTE = "padding:8px 12px;color:@soft"
OUTPUT = "background:transparent;padding:9px 12px;max-height:30rem;overflow:auto;border-radius:0"

STATES = {"running": ("●", "ok"), "restarting": ("●", "warn"), "created": ("○", "soft")}


HEALTH = {"healthy": "ok", "unhealthy": "bad"}


def container_heading(view: ContainerView, button: Html | None = None, links: Sequence[Html] | None = None) -> Html:
    """Which image and command, and how it ended. With a ``button`` or ``links`` to its ports it is part of a widget."""
    if view.exit_code is None:
        mark, tone = ("■", "warn") if view.stopped or view.gone else ("●", "run")
        words = "removed" if view.gone else "stopped" if view.stopped else "running"
    else:
        mark, tone = ("✓", "ok") if view.exit_code == 0 else ("■", "warn") if view.stopped else ("✕", "bad")
        words = f"stopped, exit code {view.exit_code}" if view.stopped else f"exit code {view.exit_code}"
        words += ", removed" if view.gone else ""
    state = join([el("span", mark, style=f"color:@{tone}", aria_hidden="true"), " ", words])
    command = code(command_line(view.command), style="overflow-wrap:anywhere") if view.command else ""
    taken: object = duration(view.seconds) if view.seconds is not None else ""
    if view.exit_code is None and not view.stopped and not view.gone and view.started is not None:
        words = "" if button or links is not None else duration(now() - view.started)
        taken = el("span", words, class_="dm-clock", data_since=f"{view.started:.3f}")
    words = "health: starting" if view.health == "starting" else view.health
    health = el("span", words, style=f"color:@{HEALTH.get(words, 'soft')}") if words else ""
    lasting = [muted(one) for one in (view.name, "" if links else view.ports) if one and view.id]
    return head(
        state,
        muted(taken) if taken else "",
        health,
        *lasting,
        *(links or ()),
        command,
        aside=join([chip(view.image, tone="key"), button or ""], " "),
    )


def container_card(view: ContainerView) -> Html:
    """The whole card."""
    if not view.output.strip():
        silent = "It printed nothing." if view.exit_code is not None else ""
        return card(container_heading(view), el("div", silent, style=NOTE) if silent else "")
    text, count = to_html(view.output.rstrip(b"\r\n"), last=CONTAINER_LINES)
    cut = view.output_dropped or count > CONTAINER_LINES
    before = el("div", "… the lines before these were not kept", style=f"{NOTE};padding-bottom:0") if cut else ""
    block = pre(text, style=OUTPUT, class_="dm-scroll", tabindex="0", aria_label="output")
    return card(container_heading(view), before, block)


def live_container(view: ContainerView, button: Html) -> Html:
    """A card of a running container, whose output a widget fills in."""
    block = pre(style=OUTPUT, class_="dm-scroll", tabindex="0", aria_label="output", data_log="output")
    return card(el("div", container_heading(view, button), data_part="head"), block)


def containers_card(view: ContainersView) -> Html:
    """The whole card: a row per container, the newest first."""
    if not view.rows:
        hint = el(
            "div", "None. ", code("%docker run IMAGE"), " runs one; ", code("%docker ps -a"), " shows ended ones."
        )
        return card(head("Containers"), el("div", hint, style=NOTE))
    rows = []
    for one in view.rows:
        mark, tone = STATES.get(one.state, ("✕", "bad") if one.exit_code else ("✓", "ok"))
        sign = el("span", mark, style=f"color:@{tone}", aria_hidden="true")
        name = el("strong", one.name, style="font:600 13px/1.5 @code")
        apart = "display:inline-block;margin-right:10px"
        places = [el("span", place, style=apart) for place in (one.id, one.ports) if place]
        under = el("div", join(places, " "), style="color:@soft;font:11px/1.6 @code")
        rows.append(
            row(
                cell(name, " ", chip(one.image, tone="key"), under),
                cell(code(clip(command_line(one.command), 80), style="overflow-wrap:anywhere"), class_="dm-wide"),
                cell(sign, " ", one.status, style="width:1%;white-space:nowrap"),
                class_="dm-whole",
            )
        )
    running = sum(one.state == "running" for one in view.rows)
    facts = [many(len(view.rows), "container"), f"{running} running"]
    return card(head("Containers", *facts), table(*rows, label="containers, the newest first"))
