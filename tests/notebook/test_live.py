"""Live displays in a real kernel, without a browser: what is sent, how much of it, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.notebook.stage import Output
from tests.notebook.kernels import Kernel

LOAD = "from tests.notebook.fakebuild import build, container; from dockermagic.notebook import display, stage"
VIEW = "application/vnd.jupyter.widget-view+json"

REFUSED = """
import time
from dockermagic.errors import ContainerError
def refuse(shown):
    with shown:
        while not shown.place.shown: time.sleep(0.01)
        raise ContainerError("no such image", exit_code=125)
refuse(display.%s)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("live")
    with Kernel(folder / "home", folder, DOCKERMAGIC_WIDGETS="1") as kernel:
        assert kernel.run(LOAD).status == "ok"
        yield kernel


@pytest.mark.parametrize(
    "code", ["build();", "build(lines=60, pause=0.01);", "container();", "container(lines=60, pause=0.01);"]
)
def test_one_output_with_widget_page_and_text(kernel: Kernel, code: str) -> None:
    reply = kernel.run(code, page=True)

    assert (reply.status, reply.stderr, reply.stdout, len(reply.displays)) == ("ok", "", "", 1)
    assert {"text/html", "text/plain", VIEW} <= set(reply.displays[0])
    assert ("built" if "build" in code else "exit code 3") in reply.displays[0]["text/plain"]


def test_where_nobody_looks_on_there_is_no_widget(kernel: Kernel) -> None:
    """As nbclient and papermill ask: a page that is made of it shows the card without the network."""
    (shown,) = kernel.run("build(lines=60, pause=0.01);").displays

    assert set(shown) == {"text/html", "text/plain"}


@pytest.mark.parametrize("code", ["build();", "build(lines=60, pause=0.01);"])
def test_a_console_which_changes_no_output_is_shown_the_end(kernel: Kernel, code: str) -> None:
    reply = kernel.run(code, allow_stdin=True)

    assert [text["text/plain"].split(":")[0] for text in reply.displays][-1] == "Cell [2] built"
    assert len(reply.displays) == (2 if "pause" in code else 1)


def test_a_page_whose_cells_have_no_ids_is_shown_one_card(kernel: Kernel) -> None:
    """As the classic notebook's."""
    reply = kernel.run("build(lines=60, pause=0.01);", allow_stdin=True, page=True)

    assert [text["text/plain"].split(":")[0] for text in reply.displays] == ["Cell [2] built"]


def test_what_a_thread_shows_belongs_to_the_cell(kernel: Kernel) -> None:
    """Also when the kernel has heard another message since, as from a widget's view."""
    reply = kernel.run(
        "import threading, time\n"
        "shell = get_ipython()\n"
        "other = threading.Thread(target=lambda: (time.sleep(0.05), shell.display_pub.set_parent({'header': {}})))\n"
        "other.start(); build(lines=60, pause=0.01);"
    )

    assert len(reply.displays) == 1


def test_a_failure_leaves_its_card_and_one_clean_error(kernel: Kernel) -> None:
    reply = kernel.run("build(fail=True)")

    assert (reply.status, reply.error, reply.stderr) == ("error", "RunFailedError", "")
    assert "exit code: 2" in reply.message and "no rule" not in reply.message  # the card has the output
    assert "Traceback" not in "".join(reply.traceback)
    assert "FAILED" in reply.displays[0]["text/plain"]


def test_an_interrupt_is_shown_as_a_stop(kernel: Kernel) -> None:
    interrupted = []

    def interrupt(reply: object) -> None:
        if not interrupted and getattr(reply, "displays", None):
            interrupted.append(kernel.interrupt())

    reply = kernel.run("build(lines=3000, pause=0.02)", watch=interrupt)  # type: ignore[arg-type]

    assert reply.status == "error"
    assert "stopped" in reply.displays[0]["text/plain"]


def test_a_flood_is_sent_in_few_messages(kernel: Kernel) -> None:
    """Batches: some dozens of messages for thirty thousand lines, and no card that grows with them."""
    count = [0]

    def watch(reply: object) -> None:
        count[0] += 1

    reply = kernel.run("build(lines=30_000);", watch=watch)  # type: ignore[arg-type]

    assert reply.status == "ok"
    assert count[0] < 40 + 15 * reply.seconds
    assert len(reply.displays[0]["text/html"]) < 200_000


def test_a_front_end_that_would_lose_the_widget_keeps_the_card(kernel: Kernel) -> None:
    """Its first message says so; from then on what is done has no widget, and what is done already loses it."""
    reply = kernel.run(
        "try:\n"
        "    place = display.Output(); place.live('<p>live</p>', {'text/plain': 'still'}, {})\n"
        "    place.done('<p>done</p>', {'text/plain': 'done'})\n"
        "    place.widget.handlers['hello']({'keeps': False})\n"
        "    build()\n"
        "finally:\n"
        "    stage._forgetful = None\n"
    )

    assert [set(bundle) for bundle in reply.displays] == [{"text/plain"}, {"text/html", "text/plain"}]


def test_a_button_is_told_that_it_was_heard_and_when_it_can_be_pressed_again(kernel: Kernel) -> None:
    reply = kernel.run(
        "place = display.Output()\n"
        "widget = place.live('<p>live</p>', {'text/plain': 'still'}, {'go': lambda message: None})\n"
        "sent = []\n"
        "widget.send = lambda content, buffers=None: sent.append(content['t'])\n"
        "widget._received(widget, {'t': 'go', 'waits': True}, [])\n"
        "widget.free(); widget.free(); print(sent)"
    )

    assert reply.stdout == "['heard', 'free']\n"


def test_switched_off_it_is_a_page_that_is_drawn_again(tmp_path: Path) -> None:
    with Kernel(tmp_path / "home", tmp_path, DOCKERMAGIC_WIDGETS="0") as kernel:
        kernel.run(LOAD)
        seen: list[str] = []
        reply = kernel.run(
            "build(lines=60, pause=0.02);",
            watch=lambda reply: seen.append(reply.displays[0]["text/plain"] if reply.displays else ""),
        )

        refused = [kernel.run(REFUSED % make).text for make in ("BuildDisplay(cell='cell x')", "ContainerDisplay('x')")]

    assert any("running" in text for text in seen)
    assert set(reply.displays[0]) == {"text/html", "text/plain"}
    assert reply.displays[0]["text/plain"].startswith("Cell [2] built")
    assert [text.split("\n")[0].split(" after")[0] for text in refused] == [
        "Cell x failed",
        "x: exit code 125",
    ]


def test_loading_the_extension_imports_no_widgets(kernel: Kernel, tmp_path: Path) -> None:
    with Kernel(tmp_path / "home", tmp_path) as fresh:
        reply = fresh.run("import sys; print({'anywidget', 'ipywidgets', 'rich'} & set(sys.modules))")

    assert reply.stdout == "set()\n"


def test_a_terminal_is_not_drawn_on_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A card whose cell has become stale was printed long ago, and others stand below it."""
    place = Output()
    for text in ("built", "stale"):
        place.draw({"text/plain": f"cell [1] {text}"})

    assert "built" in (said := capsys.readouterr().out)
    assert "stale" not in said
