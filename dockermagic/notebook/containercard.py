"""A container that outlives its cell, as a card: how it stands, what it uses, what it prints, and buttons for it."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from dockermagic.containers.container import Container
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.events import now
from dockermagic.notebook.bundle import bundle
from dockermagic.notebook.containermarkup import OUTPUT
from dockermagic.notebook.livelog import LiveLog
from dockermagic.notebook.markup import Html, button, card, chip, el, head, join, muted, pre
from dockermagic.notebook.stage import Output, widgets_possible
from dockermagic.tables import command_line, human_size
from dockermagic.verbs.containers import published
from dockermagic.view import ContainerView

__all__ = ["ContainerCard"]

EVERY = 1.0
KEPT = 60
"""Figures in a sparkline: a minute."""

TAIL = 200
WIDTH, HEIGHT = 72, 16


class ContainerCard:
    """One container's card, kept true by threads of its own until the container is removed."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self.engine = engine
        self.container = container
        self.place = Output()
        self._log = LiveLog()
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._cpu: deque[float] = deque(maxlen=KEPT)
        self._memory: deque[int] = deque(maxlen=KEPT)
        self._before: tuple[float, float] | None = None
        self._hurry = threading.Event()
        self._trouble = ""
        self._gone = False
        self._fresh = True

    def show(self) -> None:
        """Show it, and keep it true while the kernel lives."""
        if not widgets_possible():
            self.place.draw(self._still())
            return
        block = pre(style=OUTPUT, class_="dm-scroll", tabindex="0", aria_label="output", data_log="output")
        page = str(card(el("div", self._heading(), data_part="head"), block))
        self.place.live(page, self._still(), self._handlers(), insists=True)
        self.place.done(page, self._still())
        for work in (self._follow, self._watch):
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(work,), name="dockermagic-container", daemon=True).start()

    # ---- how it looks -----------------------------------------------------------------------------------------------

    def _still(self) -> dict[str, Any]:
        state = self.container.state
        taken = state.finished - state.started if state.finished and state.started else None
        code = None if self.container.is_running else state.exit_code
        request = self.container.request
        view = ContainerView(
            self.container.image,
            request.command,
            code,
            bytes(self._tail),
            started=state.started,
            seconds=taken,
            name=self.container.name,
            id=self.container.id[:12],
            ports=published(self.container),
        )
        return bundle(view)

    def _heading(self) -> Html:
        state, running = self.container.state, self.container.is_running
        mark, tone = ("●", "ok") if running else ("✓", "ok") if not state.exit_code else ("✕", "bad")
        word = "removed" if self._gone else "running" if running else "exited"
        facts: list[object] = []
        if running and state.started is not None:
            facts.append(el("span", class_="dm-clock", data_since=f"{state.started:.3f}"))
        elif state.exit_code is not None:
            facts.append(f"exit code {state.exit_code}")
        facts += [self.container.name, muted(command_line(self.container.request.command))]
        facts += [_port(port.host, port.container) for port in state.ports if port.host]
        figures = self._figures() if running else Html("")
        title = join([el("span", mark, style=f"color:@{tone}", aria_hidden="true"), " ", word])
        line = head(title, *[fact for fact in facts if fact], aside=chip(self.container.image, tone="key"))
        trouble = el("div", self._trouble, style="color:@bad") if self._trouble else ""
        below = el("div", *self._buttons(), figures, style="display:flex;flex-wrap:wrap;gap:6px;align-items:center")
        if self._gone:
            return line
        return join([line, el("div", below, trouble, style="padding:6px 12px;border-bottom:1px solid @line")])

    def _buttons(self) -> list[Html]:
        if self.container.is_running:
            return [
                button("stop", data_send="stop", data_busy="stopping…"),
                button("restart", data_send="restart", data_busy="restarting…"),
            ]
        return [
            button("start", data_send="restart", data_busy="starting…"),
            button("remove", data_send="remove", data_busy="removing…"),
        ]

    def _figures(self) -> Html:
        if not self._memory:
            return Html("")
        words = f"CPU {100 * self._cpu[-1]:.0f} %" if self._cpu else "CPU"
        parts = [muted(words), sparkline(list(self._cpu), "processor time of the last minute")]
        parts += [muted(human_size(self._memory[-1])), sparkline(list(self._memory), "memory of the last minute")]
        style = "margin-left:auto;font-size:12px;display:inline-flex;gap:6px;align-items:center"
        return el("span", *parts, style=style)

    # ---- what keeps it true -----------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        running, name = self.engine.running, self.container.id

        def act(work: Callable[[], Any]) -> Callable[[dict[str, Any]], None]:
            return lambda message: threading.Thread(target=self._act, args=(work,), daemon=True).start()

        return {
            "hello": self._hello,
            "stop": act(lambda: running.stop(name)),
            "restart": act(lambda: running.stop(name, again=True)),
            "remove": act(lambda: running.remove(name)),
        }

    def _act(self, work: Callable[[], Any]) -> None:
        self._trouble = ""
        try:
            work()
        except DockermagicError as error:
            self._trouble = error.message
        self._hurry.set()

    def _hello(self, message: object) -> None:
        self._fresh = True
        self._hurry.set()

    def _send(self, message: dict[str, Any]) -> None:
        if self.place.widget is not None:
            self.place.widget.send(message)

    def _follow(self) -> None:
        """Take in what it prints, each time that it runs."""
        tail = TAIL
        while not self._gone:
            try:
                for piece in self.engine.running.logs(self.container.id, follow=True, tail=tail):
                    with self._lock:
                        self._log.add(piece.data)
                        self._tail += piece.data
                        del self._tail[: -64 * 1024]
            except DockermagicError:
                return
            tail = 0
            while not self._gone and not self.container.is_running:
                self._hurry.wait(EVERY)
                time.sleep(0.05)

    def _watch(self) -> None:
        sent = ""
        while not self._gone:
            try:
                self.container = self.engine.running.get(self.container.id)
            except DockermagicError:
                self._gone = True
            self._measure()
            part = str(self._heading())
            with self._lock:
                fresh, self._fresh = self._fresh, False
                logs = {"output": self._log.take(everything=fresh)} if fresh or self._log.waits else {}
            if part != sent or logs:
                self._send({"t": "patch", "now": now(), "parts": {"head": part}, "order": [], "logs": logs})
            sent = part
            self._hurry.wait(EVERY if not logs else 0.1)
            self._hurry.clear()
        self.place.draw(self._still())

    def _measure(self) -> None:
        found = self.engine.running.usage(self.container) if self.container.is_running else None
        if found is None:
            self._before = None
            return
        at = time.monotonic()
        if self._before is None or at - self._before[0] > EVERY / 2:
            if self._before is not None:
                self._cpu.append(max(0.0, (found.cpu - self._before[1]) / (at - self._before[0])))
            self._memory.append(found.memory)
            self._before = at, found.cpu


def sparkline(figures: list[float] | list[int], words: str) -> Html:
    """The last figures as a line, the newest at the right."""
    largest = max(figures, default=0) or 1
    step = WIDTH / (KEPT - 1)
    start = WIDTH - step * (len(figures) - 1)
    points = " ".join(
        f"{start + step * at:.1f},{HEIGHT - 1 - (HEIGHT - 2) * figure / largest:.1f}"
        for at, figure in enumerate(figures)
    )
    line = el("polyline", points=points, fill="none", stroke="currentColor", stroke_width="1.5")
    style = "color:@run;background:@tint;border-radius:3px"
    return el("svg", line, width=str(WIDTH), height=str(HEIGHT), role="img", aria_label=words, style=style)


def _port(host: int, inside: int) -> Html:
    """A published port as a link; behind a hub through jupyter-server-proxy."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    address = f"{prefix}proxy/{host}/" if prefix else f"http://127.0.0.1:{host}/"
    return el("a", f"port {host} → {inside}", href=address, target="_blank", rel="noopener", style="color:@key")
