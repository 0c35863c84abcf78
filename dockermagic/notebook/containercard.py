"""A container that outlives its cell, as a card: how it stands, what it uses, what it prints, and buttons for it."""

from __future__ import annotations

import contextvars
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO, Any

from dockermagic.containers.container import Container
from dockermagic.containers.request import Port
from dockermagic.engine import Engine
from dockermagic.errors import DockermagicError
from dockermagic.events import now
from dockermagic.notebook.bundle import bundle
from dockermagic.notebook.containermarkup import OUTPUT, container_heading
from dockermagic.notebook.downloads import Downloads
from dockermagic.notebook.livelog import LiveLog
from dockermagic.notebook.markup import Html, button, card, el, muted, pre
from dockermagic.notebook.stage import Output, widgets_possible
from dockermagic.tables import human_size
from dockermagic.values import replace
from dockermagic.verbs.containers import published
from dockermagic.view import ContainerView

__all__ = ["ContainerCard"]

EVERY = 1.0
KEPT = 60
"""Figures in a sparkline: a minute."""

KEPT_OUTPUT = 64 * 1024
WIDTH, HEIGHT = 72, 16
_LINE = "display:flex;flex-wrap:wrap;gap:6px;align-items:center;justify-content:space-between"


class ContainerCard:
    """One container's card, kept true by threads of its own until the container is removed."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self.engine = engine
        self.container = container
        self.place = Output()
        self._log = LiveLog()
        self._tail = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()
        self._cpu: deque[float] = deque(maxlen=KEPT)
        self._memory: deque[int] = deque(maxlen=KEPT)
        self._before: tuple[float, float] | None = None
        self._hurry = threading.Event()
        self._trouble = ""
        self._stopped = False
        self._gone = False
        self._fresh = True

    def show(self) -> None:
        """Show it, and keep it true while the kernel lives."""
        if not widgets_possible():
            self.place.draw(self._still())
            return
        block = pre(style=OUTPUT, class_="dm-scroll", tabindex="0", aria_label="output", data_log="output")
        parts = {name: el("div", part, data_part=name) for name, part in self._parts().items()}
        tools = el("div", parts["buttons"], parts["figures"], style=f"{_LINE};padding:6px 12px")
        below = el("div", tools, parts["trouble"], style="border-bottom:1px solid @line")
        page = str(card(parts["head"], below, block))
        self.place.live(page, self._still(), self._handlers(), insists=True)
        self.place.done(page, self._still())
        for work in (self._follow, partial(self._watch, page)):
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(work,), name="dockermagic-container", daemon=True).start()

    # ---- how it looks -----------------------------------------------------------------------------------------------

    def _view(self) -> ContainerView:
        container, state = self.container, self.container.state
        running = container.is_running and not self._gone
        ended = state.finished if state.started and not running else None
        return ContainerView(
            container.image,
            container.request.command,
            None if running else state.exit_code,
            bytes(self._tail),
            self._dropped,
            started=state.started,
            seconds=ended - state.started if ended and state.started else None,
            name=container.name,
            stopped=self._stopped and not running,
            id=container.id[:12],
            ports=published(container) if running else "",
            health=state.health if running else "",
            gone=self._gone,
        )

    def _still(self) -> dict[str, Any]:
        with self._lock:
            return bundle(self._view())

    def _parts(self) -> dict[str, Html]:
        """What is drawn apart: what changes each second must not take the buttons away from who presses them."""
        running = self.container.is_running
        links = [_port(port) for port in self.container.state.ports if running and port.host]
        trouble = el("div", self._trouble, style="color:@bad;padding:0 12px 6px") if self._trouble else Html("")
        return {
            "head": container_heading(replace(self._view(), output=b""), links=links),
            "buttons": el("div", *self._buttons(running), style=_LINE),
            "figures": self._figures() if running else Html(""),
            "trouble": trouble,
        }

    def _buttons(self, running: bool) -> list[Html]:
        save = button("save the whole log", data_save=f"{self.container.name}.log", data_of="log")
        acts = [("stop", "stop", "stopping…"), ("restart", "restart", "restarting…")]
        if not running:
            acts = [("start", "restart", "starting…"), ("remove", "remove", "removing…")]
        late = "no answer: is the kernel there?"
        shown = [button(words, data_send=what, data_busy=busy, data_late=late) for words, what, busy in acts]
        return [*shown, save] if self._tail else shown

    def _figures(self) -> Html:
        if not self._memory:
            return Html("")
        words = f"CPU {100 * self._cpu[-1]:.0f} %" if self._cpu else "CPU"
        parts = [muted(words), sparkline(list(self._cpu), "processor time of the last minute", least=1.0)]
        parts += [muted(human_size(self._memory[-1])), sparkline(list(self._memory), "memory of the last minute")]
        return el("span", *parts, style=f"{_LINE};font-size:12px;font-variant-numeric:tabular-nums")

    # ---- what keeps it true -----------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        running, name = self.engine.running, self.container.id

        def act(work: Callable[[], Any], *, stops: bool = False) -> Callable[[dict[str, Any]], None]:
            return lambda message: threading.Thread(target=self._act, args=(work, stops), daemon=True).start()

        return {
            "hello": self._hello,
            "stop": act(lambda: running.stop(name), stops=True),
            "restart": act(lambda: running.stop(name, again=True)),
            "remove": act(lambda: running.remove(name)),
            "download": Downloads({"log": self._saved}).answer,
        }

    def _act(self, work: Callable[[], Any], stops: bool) -> None:
        self._trouble = ""
        self._stopped = self._stopped or stops
        try:
            work()
        except DockermagicError as error:
            self._trouble = error.message
        self._hurry.set()
        if self.place.widget is not None:
            self.place.widget.free()

    def _hello(self, message: object) -> None:
        self._fresh = True
        self._hurry.set()

    def _saved(self, message: object) -> tuple[IO[bytes], str]:
        """All that its log has."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever downloads it closes it
        for piece in self.engine.running.logs(self.container.id):
            file.write(piece.data)
        return file, ""

    def _follow(self) -> None:
        """Take in what it prints, each time that it runs."""
        running, name = self.engine.running, self.container.id
        seen = 0.0
        while not self._gone:
            try:
                started = running.get(name).state.started
                old = True
                for piece in running.logs(name, follow=True):
                    # First comes what was here before. Two streams may be written in another order than that of their
                    # times, and a clock may be set back: what is behind something new is new.
                    old = old and piece.time <= seen
                    if old:
                        continue
                    seen = max(seen, piece.time)
                    with self._lock:
                        self._log.add(piece.data)
                        self._tail += piece.data
                        if len(self._tail) > 2 * KEPT_OUTPUT:
                            self._dropped += len(self._tail) - KEPT_OUTPUT
                            del self._tail[:-KEPT_OUTPUT]
                time.sleep(0.05)
                while not self._gone and not self._runs_again(started):
                    self._hurry.wait(EVERY)
                    time.sleep(0.05)
            except DockermagicError:
                return

    def _runs_again(self, started: float | None) -> bool:
        """Whether it runs now, or did since then; what the watch saw last may be a second old."""
        container = self.engine.running.get(self.container.id)
        return container.is_running or container.state.started != started

    def _watch(self, page: str) -> None:
        sent: dict[str, Html] = {}
        ran = self.container.is_running
        while not self._gone:
            try:
                self.container = self.engine.running.get(self.container.id)
            except DockermagicError:
                self._gone = True
                break
            runs = self.container.is_running
            if runs and not ran:
                self._stopped = False
            self._measure()
            with self._lock:
                fresh, self._fresh = self._fresh, False
                parts = self._parts()
                changed = {name: part for name, part in parts.items() if fresh or sent.get(name) != part}
                logs = {"output": self._log.take(everything=fresh)} if fresh or self._log.waits else {}
            if (changed or logs) and self.place.widget is not None:
                self.place.widget.send({"t": "patch", "now": now(), "parts": changed, "order": [], "logs": logs})
            sent = parts
            if runs != ran:
                self.place.done(page, self._still())  # a notebook that is saved has how it ended and what it printed
            ran = runs
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


def sparkline(figures: list[float] | list[int], words: str, *, least: float = 0) -> Html:
    """The last figures as a line, the newest at the right; its top is the largest of them, but at ``least`` so much."""
    largest = max([*figures, least]) or 1
    step = WIDTH / (KEPT - 1)
    start = WIDTH - step * (len(figures) - 1)
    points = " ".join(
        f"{start + step * at:.1f},{HEIGHT - 1 - (HEIGHT - 2) * figure / largest:.1f}"
        for at, figure in enumerate(figures)
    )
    line = el("polyline", points=points, fill="none", stroke="currentColor", stroke_width="1.5")
    style = "color:@run;background:@tint;border-radius:3px"
    return el("svg", line, width=str(WIDTH), height=str(HEIGHT), role="img", aria_label=words, style=style)


def _port(port: Port) -> Html:
    """A published port as a link; behind a hub through jupyter-server-proxy."""
    words = f"port {port.host} → {port.container}"
    if port.protocol != "tcp":
        return muted(f"{words}/{port.protocol}")
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    address = f"{prefix}proxy/{port.host}/" if prefix else f"http://127.0.0.1:{port.host}/"
    return el("a", words, href=address, target="_blank", rel="noopener", style="color:@key")
