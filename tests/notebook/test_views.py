"""The fold of events into a built cell, and every view as a bundle that reads well with and without styles."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import pytest

from dockermagic.buildview import build_view, with_results
from dockermagic.events import Event, Progress, Status, Vertex
from dockermagic.files import Change, changed_tree
from dockermagic.notebook.bundle import bundle
from dockermagic.notebook.treeview import MOST
from dockermagic.view import (
    BuildView,
    ContainerView,
    Instruction,
    TreeEntry,
    TreeView,
)
from tests.notebook.scenes import CELL, NOW, all_cached, built, failed, fold, running, scenes, small_tree, step

VOID = {"br", "hr", "img", "input"}


class Page(HTMLParser):
    """Reads markup strictly: every element ends where it should; collects text and what must not be there."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.bad: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "link", "object", "img") or any(name.startswith("on") for name, _ in attrs):
            self.bad.append(tag)
        # A link may lead outside; nothing may be fetched from there.
        fetched = (value or "" for _, value in attrs if tag != "a" or not re.match("https:", value or ""))
        self.bad += [value for value in fetched if re.search(r"https?:|javascript:|url\(", value)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.bad.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_pull_stays_as_a_row_with_its_bytes_and_no_number() -> None:
    began = NOW - 5
    events: list[Event] = [
        Vertex("pull", "[internal] pull localhost/debian:12", started=began, completed=began + 4),
        Status("pull", "sha256:" + "ab" * 32, "", 2_000_000, 2_000_000, NOW, began),
        Status("pull", "sha256:" + "cd" * 32, "", 1_000_000, 1_000_000, NOW, began),
        *step(0, "[1/1] FROM localhost/debian:12", -1, -0.9, cached=True, layer_size=3_000_000),
    ]
    view = build_view(fold(events), (Instruction(0, "FROM localhost/debian:12", 2),), finished=True)
    first = bundle(view)["text/plain"].split("\n")[1]

    assert first.split() == ["done", "4.0s", "pull", "localhost/debian:12", "(3MB)"]


@pytest.mark.parametrize("name", scenes())
def test_markup_is_sound_and_needs_no_script(name: str) -> None:
    page = Page(bundle(scenes()[name])["text/html"])

    assert page.bad == []
    assert page.open == []


@pytest.mark.parametrize("name", scenes())
def test_plain_text_is_there_and_has_no_markup(name: str) -> None:
    text = bundle(scenes()[name])["text/plain"]

    assert text.strip()
    assert "<span" not in text and "style=" not in text and "\x1b" not in text


FACTS = {
    # scene -> what both its page and its plain text say
    "built": (
        "4 layers",
        "38.2MB",
        "CACHED",
        "12.4s",
        "312 paths added",
        "4 modified",
        "1 removed",
        "the command changed",
        "app.py changed",
        "0 B, metadata",
        "demo:latest",
        "Cells [4] and [5]",
        "%dockerfile replay",
        "JSONArgsRecommended",
        "line 11",
        "Hello from a layer",
    ),
    "all cached": ("all CACHED", "4.26MB", "0 B, metadata"),
    "running": ("RUN", "waiting"),
    "failed": ("failed", "exit code: 2", "unknown type name 'itn'", "not run", "%dockerfile tree --failed", "Cell [8]"),
    "history": ("117MB", "38.2MB", "12 days ago"),
    "tree": ("315 added", "app.py", "requirements.txt", "4.7kB", "usr/bin", "compared with cell [2]"),
    "changes": ("/etc/motd", "4.1kB"),
    "images": ("bookworm", "3f9a1bd2c7e4", "155MB", "4 seconds ago"),
    "usage": ("Local Volumes", "155MB", "38.2MB (24%)", "96MB (100%)"),
    "diff": ("config.Env", '["A=<2>"]', "8c7f00d1aa42", "/app/main.py", "content, time", "200 more paths", "--all"),
    "no diff": ("The images are the same.",),
    "container": ("Hello from a container", "exit code 0", "0.2s"),
    "container failed": ("exit code 3",),
    "container that lasts": ("running", "web", "127.0.0.1:8000->8000/tcp"),
    "containers": ("web", "0f3c2d9b7a11", "Up 3 minutes", "127.0.0.1:8000->8000/tcp", "Exited (3) 2 hours ago"),
    "session": ("cell app", "stale", "app.py changed", "%dockerfile replay", "failed"),
    "show": ("FROM debian:bookworm AS build", "WORKDIR app"),
    "check": ("WorkdirRelativePath", "Relative workdir"),
    "info": ("newuidmap and /etc/subuid allow 65536 ids", "binfmt_misc has no qemu"),
    "inspect": ("3f9a1bd2c7e4", "demo:latest", "GREETING=Hello, world", "maintainer", "arm64", "8000/tcp", "49153"),
    "message": ("busybox was made", "FROM busybox uses it."),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_same_facts_stand_in_both(name: str) -> None:
    parts = bundle(scenes()[name])
    page = re.sub(r"(?<=\[)\s|\s(?=\])", "", Page(parts["text/html"]).text).replace(" :", ":")
    plain = " ".join(parts["text/plain"].split())

    for fact in FACTS[name]:
        assert re.sub(r"\s", "", fact) in re.sub(r"\s", "", page), "page"
        assert re.sub(r"\s", "", fact) in re.sub(r"\s", "", plain), "plain text"


def test_an_inspected_image_shows_what_matters_and_folds_the_rest() -> None:
    parts = bundle(scenes()["inspect"])
    facts, _, folded = Page(parts["text/html"]).text.partition("JSON")

    for fact in ("Image demo:latest", "155MB in 2 layers", "linux/arm64/v8", "Container web", "exited, exit code 3"):
        assert fact in facts
    for fact in ("python app.py --port 8000", "127.0.0.1:49153 -> 8000/tcp", "/srv"):
        assert fact in facts
    assert "53/udp" not in facts
    assert json.loads(folded) == json.loads(parts["text/plain"])


def test_a_metadata_instruction_is_never_called_cached() -> None:
    text = bundle(all_cached())["text/plain"].splitlines()

    assert [("CACHED" in line, "metadata" in line) for line in text[1:]] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_markup_in_what_is_shown_is_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    cell = (Instruction(0, f"RUN echo '{evil}'"),)
    digest = f"sha256:{0:064d}"
    events: list[Event] = step(0, "x", 0, None, logs=evil.encode() + b"\n", reason=evil)
    events.append(Vertex(digest, "x", started=0, completed=1, instruction=0, error=evil))
    view = replace(
        build_view(fold(events), cell, cell=evil, finished=True), stale=(evil,), images=(evil,), notes=(evil,)
    )
    tree = TreeView((TreeEntry(evil, "link", link=evil),), title=evil, against=evil)
    for shown in (view, tree, ContainerView(evil, (evil,), 0, evil.encode())):
        assert Page(bundle(shown)["text/html"]).bad == []


# ---- the fold -------------------------------------------------------------------------------------------------------


def states(view: BuildView) -> list[str]:
    return [step.state for step in view.steps]


def test_a_row_per_instruction_in_the_order_of_the_text() -> None:
    view = running()

    assert [step.text for step in view.steps] == [one.text for one in CELL]
    assert states(view) == ["running", "running", *["waiting"] * 5]


def test_what_stands_behind_a_failure_was_not_run() -> None:
    assert states(failed()) == ["cached", "failed", "skipped"]


def test_config_only_instructions_are_done_when_the_build_is() -> None:
    assert states(built()) == ["cached", "done", "done", "done", "done", "done", "done"]


def test_without_instructions_the_rows_are_those_that_were_heard_of() -> None:
    view = build_view(fold(step(3, "[2/2] RUN make", 0, 1)), finished=True)

    assert [(step.number, step.text, step.state) for step in view.steps] == [(1, "RUN make", "done")]


def test_one_instruction_with_two_vertices_shows_the_one_that_matters() -> None:
    first = Vertex("a", "[1/2] ADD http://x", started=0, completed=1, instruction=0)
    second = Vertex("b", "[2/2] ADD http://x", started=1, instruction=0)
    broken = replace(second, completed=2, error="404")
    cell = (Instruction(0, "ADD http://x /"),)

    assert states(build_view(fold([first, second]), cell)) == ["running"]
    assert states(build_view(fold([first, broken]), cell, finished=True)) == ["failed"]
    assert states(build_view(Progress(), cell, finished=True, failed=True)) == ["skipped"]  # refused before it began


def test_an_interrupt_is_a_stop_and_no_failure() -> None:
    event = Vertex("a", "x", started=0, completed=1, instruction=0, error="interrupted")
    view = build_view(fold([event]), (Instruction(0, "RUN sleep 9"),), finished=True)

    assert states(view) == ["stopped"]
    assert not view.failed
    assert "stopped" in bundle(view)["text/plain"]


@dataclass(frozen=True)
class Fact:
    index: int
    snapshot: int | None
    cached: bool = False
    reason: str = ""
    size: int = 0
    seconds: float = 0.0
    added: int = 0
    modified: int = 0
    removed: int = 0


def test_what_the_engine_knows_at_the_end_completes_the_rows() -> None:
    cell = (Instruction(4, "RUN make"), Instruction(5, "ENV A=1"))
    view = build_view(fold([]), cell, finished=True)
    view = with_results(
        view, [Fact(4, 7, size=12, seconds=0.5, added=3, reason="the command changed"), Fact(5, None)], cell
    )

    assert [(one.size, one.added, one.reason, one.seconds(0)) for one in view.steps] == [
        (12, 3, "the command changed", 0.5),
        (None, 0, "", None),
    ]
    assert (len(view.layers), view.size) == (1, 12)


# ---- size -----------------------------------------------------------------------------------------------------------


def test_a_large_tree_is_cut_and_says_so() -> None:
    many = tuple(TreeEntry(f"file-{n}") for n in range(5000))
    tree = TreeView((TreeEntry("usr", "directory", children=many), TreeEntry("etc", "directory", children=many)))
    page = bundle(tree)["text/html"]

    assert page.count("<li") < MOST
    assert "4,880 more" in page
    assert len(page) < 300_000


def test_entries_that_nobody_fetched_are_counted() -> None:
    parts = bundle(TreeView((TreeEntry("a"), TreeEntry("b")), more=119_998))

    assert "… 119,998 more" in parts["text/html"]
    assert parts["text/plain"].endswith("  ├── a  0B\n  ├── b  0B\n  └── … 119,998 more")


def test_a_long_log_is_folded_and_cut() -> None:
    data = b"".join(b"line %d\n" % n for n in range(3000))
    view = build_view(fold(step(0, "x", 0, 1, logs=data)), (Instruction(0, "RUN x"),), finished=True)
    parts = bundle(view)

    assert "3000 lines" in parts["text/html"] and "line 2999" in parts["text/html"]
    assert "line 2500" not in parts["text/html"]
    assert len(parts["text/plain"].splitlines()) < 30


def test_a_tree_reads_with_a_screen_reader() -> None:
    page = bundle(small_tree())["text/html"]

    assert 'aria-label="added"' in page and 'role="img"' in page


def test_changed_paths_become_a_tree() -> None:
    """Directories on the way are there, unchanged; those that hold something tell so, and how much it is."""
    tree = changed_tree(
        (
            Change("/app", "added", "directory", 0),
            Change("/app/a", "added", "file", 3),
            Change("/etc/motd", "removed", "file", 9),
            Change("/etc/passwd", "modified", "file", 5),
            Change("/empty", "added", "directory", 0),
        )
    )
    app, empty, etc = tree

    assert [(one.name, one.kind, one.state, one.size) for one in tree] == [
        ("app", "directory", "added", 3),
        ("empty", "directory", "added", 0),
        ("etc", "directory", "", 5),
    ]
    assert [(one.name, one.state) for one in etc.children or ()] == [("motd", "removed"), ("passwd", "modified")]
    assert (app.changed_below, empty.changed_below, empty.children) == (True, False, ())
    page = Page(bundle(TreeView(tree))["text/html"])
    assert page.bad == [] and "motd" in page.text
