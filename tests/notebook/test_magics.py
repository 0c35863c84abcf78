"""The magics in a real kernel, spoken to as front ends do, on the real engine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.engine import Engine
from tests.notebook.kernels import Kernel, Reply
from tests.peers.registry import Registry

FROM = "%%dockerfile\nFROM busybox"
ONE = "%%dockerfile\nRUN echo one > /one"
TWO = "%%dockerfile -t app\nRUN cat /one > /two"
THREE = '%%dockerfile\nCMD ["cat", "/two"]'


@pytest.fixture
def kernel(home: Path, tmp_path: Path) -> Iterator[Kernel]:
    with Kernel(home, tmp_path, notebook=str(tmp_path / "lesson.ipynb")) as kernel:
        yield kernel


def chain(kernel: Kernel) -> str:
    """The cells as ``status`` lists them: their first words and states."""
    text = kernel.run("%dockerfile status", "looking").text
    return " ".join(f"{found[2]}:{found[1]}" for found in re.finditer(r"^cell \S+ +(\w+) +(?:\w+ )?(\S+)", text, re.M))


def run_all(kernel: Kernel, **cells: str) -> list[Reply]:
    replies = [kernel.run(code, cell) for cell, code in cells.items()]
    for reply in replies:
        assert (reply.status, reply.stderr, reply.message) == ("ok", "", "")
    return replies


def test_cells_become_an_image_and_a_container(id_mode: str, kernel: Kernel) -> None:
    """The main road, in every id mode."""
    _, one, two = run_all(
        kernel, a=FROM, b="%%dockerfile\nRUN echo out; id -u > /one", c="%%dockerfile -t app\nCMD cat /one"
    )

    assert re.match(r"Cell \[3\] built: 1 layer", one.text)
    assert "| out" in one.text
    assert "-> app" in two.text
    ran = kernel.run("%docker run --rm app", "d")
    assert (ran.status, ran.stderr, ran.text.split("\n")[0]) == ("ok", "", "0")
    assert "text/html" in two.displays[0]


def test_a_container_pulls_its_image(kernel: Kernel, home: Path, registry: Registry) -> None:
    """Told in the cell's output, before the container's; once."""
    name = f"{registry.address}/notebook/wanted"
    with Engine(home) as engine:
        engine.tag("busybox", name)
        engine.push(name)
        engine.remove_image(name)

    first, second = run_all(kernel, a=(line := f"%docker run --rm {name} echo runs"), b=line)
    assert first.stdout.startswith(f"Unable to find image '{name}:latest' locally\nlatest: Pulling from {name}\n")
    assert f"Status: Image is up to date for {name}:latest" in first.stdout
    assert (second.stdout, second.text.split("\n")[0]) == ("", "runs")


def test_a_second_run_is_all_cached(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)

    for reply in run_all(kernel, a=FROM, b=ONE, c=TWO):
        assert "all CACHED" in reply.text
        assert "stale" not in reply.text


def test_a_changed_cell_makes_the_later_ones_stale_until_they_are_replayed(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO, d=THREE)

    changed = kernel.run(ONE.replace("echo one", "echo another"), "b")
    assert "Cells [4] and [5] are stale" in changed.text
    assert "not CACHED" in changed.text
    assert chain(kernel) == 'busybox:built echo:built cat:stale ["cat",:stale'

    replayed = kernel.run("%dockerfile replay", "looking")
    assert [text.split(":")[0] for text in (one["text/plain"] for one in replayed.displays)] == [
        "Cell [4] built",
        "Cell [5] built",
    ]
    assert "-> app" in replayed.text
    assert kernel.run("%docker run --rm app cat /two", "x").text.startswith("another")
    assert "Nothing is stale" in kernel.run("%dockerfile replay", "looking").text


def test_undo_brings_the_chain_back(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)
    kernel.run(ONE.replace("echo one", "echo another"), "b")

    undone = kernel.run("%dockerfile undo", "looking")

    assert "On the chain again: cell [3], cell [4]." in undone.text
    assert (
        kernel.run("%dockerfile show", "looking").text == "FROM busybox\n\nRUN echo one > /one\n\nRUN cat /one > /two"
    )
    assert "all CACHED" in kernel.run(TWO, "c").text


def test_show_says_what_the_linter_says(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b="%%dockerfile\nWORKDIR relative")

    shown = kernel.run("%dockerfile show", "looking").displays[0]

    assert shown["text/plain"] == "FROM busybox\n\nWORKDIR relative"
    assert "WorkdirRelativePath" in shown["text/html"] and "underline" in shown["text/html"]


def test_reset_empties_the_chain(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE)

    assert "The chain is empty." in kernel.run("%dockerfile reset", "looking").text
    assert chain(kernel) == ""
    assert "RUN before any FROM" in kernel.run(ONE, "b").message


def test_a_failing_cell_is_an_error_and_not_on_the_chain(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE)

    failed = kernel.run("%%dockerfile\nRUN touch /kept\nRUN echo why >&2; touch /half; exit 3", "c")

    assert (failed.status, failed.error, failed.stderr) == ("error", "RunFailedError", "")
    assert "exit code: 3" in failed.message
    assert "cell [4]:3: RUN echo why >&2; touch /half; exit 3" in failed.message
    assert "| why" in failed.text
    assert plain(failed.traceback) == [f"{failed.error}: {failed.message}"]
    assert chain(kernel) == "busybox:built echo:built touch:failed"
    assert "+ /half" in kernel.run("%dockerfile diff --failed", "looking").text
    assert "half" in kernel.run("%dockerfile tree --failed", "looking").text
    mended = kernel.run("%%dockerfile\nRUN touch /kept\nRUN true", "c")
    assert "  1  CACHED" in mended.text and "  2  done" in mended.text


def test_a_failing_cell_in_the_middle_makes_the_later_ones_stale(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)

    failed = kernel.run("%%dockerfile\nRUN false", "b")

    assert "Stale now: cell [4]. %dockerfile undo brings the chain back as it was." in failed.message
    assert "stale" in failed.text
    kernel.run("%dockerfile undo", "looking")
    assert chain(kernel) == "busybox:built echo:built cat:built"


def test_a_restarted_kernel_goes_on_where_it_was(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE)

    kernel.restart()
    (third,) = run_all(kernel, c=TWO)

    assert third.text.startswith("Cell [2] built: 1 layer")
    assert chain(kernel) == "busybox:built echo:built cat:built"


def test_an_interrupt_ends_the_run_and_leaves_the_chain(kernel: Kernel) -> None:
    run_all(kernel, a=FROM)
    mark = f"9{os.getpid()}"
    interrupted = []

    def stop(reply: Reply) -> None:
        if "| started" in reply.text and not interrupted:
            interrupted.append(True)
            kernel.interrupt()

    reply = kernel.run(f"%%dockerfile\nRUN echo started; sleep {mark}", "b", watch=stop)

    assert (reply.status, reply.error, reply.stderr) == ("error", "BuildInterruptedError", "")
    assert reply.seconds < 30
    assert chain(kernel) == "busybox:built started;:failed".replace("started;", "echo")
    assert mark not in "".join(commands())
    assert "built" in kernel.run(ONE, "b").text


def test_an_interrupt_ends_a_container(shared: Kernel) -> None:
    mark, interrupted = f"8{os.getpid()}", []

    def stop(reply: Reply) -> None:
        if "started" in reply.text and not interrupted:
            interrupted.append(True)
            shared.interrupt()

    reply = shared.run(f"%docker run --rm busybox sh -c 'echo started; sleep {mark}'", "x", watch=stop)

    assert (reply.status, reply.error, reply.message, reply.stderr) == (
        "error",
        "BuildInterruptedError",
        "interrupted",
        "",
    )
    assert plain(reply.traceback) == ["BuildInterruptedError: interrupted"]
    assert mark not in "".join(commands())


def plain(traceback: list[str]) -> list[str]:
    """A traceback without its colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in traceback]


def commands() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


def test_a_deleted_cell_leaves_the_chain(kernel: Kernel) -> None:
    """JupyterLab names deleted cells with the next cell that runs, whatever that is."""
    run_all(kernel, a=FROM, b=ONE, c="%%dockerfile\nRUN echo three > /three")

    assert kernel.run("1 + 1", "python", deleted=("b",)).status == "ok"

    assert chain(kernel) == "busybox:built echo:stale"
    run_all(kernel, d="%dockerfile replay")
    assert kernel.run("%dockerfile show", "looking").text == "FROM busybox\n\nRUN echo three > /three"


def test_a_name_and_after_put_a_cell_where_it_belongs(kernel: Kernel) -> None:
    run_all(kernel, a="%%dockerfile --name base\nFROM busybox", b=ONE)

    placed = kernel.run("%%dockerfile --after base\nENV between=1", "c")

    assert "[3] is stale" in placed.text
    run_all(kernel, d="%dockerfile replay")
    text = kernel.run("%dockerfile show", "looking").text
    assert text == "FROM busybox\n\nENV between=1\n\nRUN echo one > /one"


def test_another_session_has_a_chain_of_its_own(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c="%%dockerfile -s other\nFROM scratch\nLABEL a=b")

    assert kernel.run("%dockerfile show -s other", "x").text == "FROM scratch\nLABEL a=b"
    assert chain(kernel) == "busybox:built echo:built"


def test_without_ids_a_fresh_kernel_begins_a_fresh_chain(home: Path, tmp_path: Path) -> None:
    """As nbclient does it; the environment may be that of another notebook's kernel."""
    notebook = str(tmp_path / "lesson.ipynb")
    with Kernel(home, tmp_path, notebook=notebook) as lab:
        run_all(lab, a=FROM, b="%%dockerfile\nRUN echo mine > /mine")
        for number in range(2):
            with Kernel(home, tmp_path, notebook=notebook, name="same") as kernel:
                replies = [kernel.run(code) for code in (FROM, ONE, "%%dockerfile -t app\nRUN cat /one > /two")]
                assert [("all CACHED" in reply.text) for reply in replies] == [True, bool(number), bool(number)]
                assert kernel.run("%dockerfile show").text.count("FROM") == 1
        assert chain(lab) == "busybox:built echo:built"


def test_a_failed_cell_without_an_id_can_be_mended(home: Path, tmp_path: Path) -> None:
    with Kernel(home, tmp_path) as kernel:
        kernel.run(FROM)
        assert kernel.run("%%dockerfile\nRUN false").status == "error"
        assert kernel.run(ONE).status == "ok"
        assert kernel.run("%dockerfile show").text == "FROM busybox\n\nRUN echo one > /one"
        assert "Nothing is stale" in kernel.run("%dockerfile replay").text


def test_vs_code_finds_its_cells_again_by_their_text(home: Path, tmp_path: Path) -> None:
    """The fragments of its URIs are dealt anew when a notebook is opened again."""
    uri = f"vscode-notebook-cell:{tmp_path}/lesson.ipynb#W"
    for order in ("123", "231"):
        with Kernel(home, tmp_path) as kernel:
            kernel.run(f"__vsc_ipynb_file__ = {str(tmp_path / 'lesson.ipynb')!r}")
            for handle, code in zip(order, (FROM, ONE, TWO), strict=True):
                assert kernel.run(code, f"{uri}{handle}sZmlsZQ==").status == "ok"
            changed = kernel.run(ONE.replace("echo one", f"echo {order}"), f"{uri}{order[1]}sZmlsZQ==")
            assert "[5] is stale" in changed.text
            assert kernel.run(ONE, f"{uri}{order[1]}sZmlsZQ==").status == "ok"
            assert kernel.run(TWO, f"{uri}{order[2]}sZmlsZQ==").status == "ok"
            assert chain(kernel) == "busybox:built echo:built cat:built"


def test_a_renamed_notebook_keeps_its_chain(home: Path, tmp_path: Path) -> None:
    """Even if the first cell to run is one that was never seen: the file holds the ids of the others."""
    old, new = tmp_path / "old.ipynb", tmp_path / "new.ipynb"
    cells = [{"cell_type": "code", "id": one, "source": text} for one, text in {"a": FROM, "b": ONE}.items()]
    old.write_text(json.dumps({"cells": cells}))
    with Kernel(home, tmp_path, notebook=str(old)) as kernel:
        run_all(kernel, a=FROM, b=ONE)
    old.rename(new)
    with Kernel(home, tmp_path, notebook=str(new)) as kernel:
        run_all(kernel, c=TWO)
        assert chain(kernel) == "busybox:built echo:built cat:built"


def placed(*order: str) -> dict[str, object]:
    """What the lab extension adds to a request."""
    return {"dockermagic": {"cells": list(order)}}


def test_cells_stand_in_the_chain_as_they_stand_in_the_notebook(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)

    inserted = kernel.run("%%dockerfile\nENV between=1", "d", metadata=placed("a", "d", "b", "c"))
    assert "Cells [3] and [4] are stale" in inserted.text
    assert kernel.run("%dockerfile show", "x").text == "FROM busybox\n\nENV between=1"
    kernel.run("%dockerfile replay", "x")
    moved = kernel.run("%dockerfile status", "x", metadata=placed("a", "b", "d", "c"))
    assert [line.split()[2] for line in moved.text.split("\n") if line.startswith("cell [")] == [
        *("built", "stale", "stale", "stale")
    ]
    again = kernel.run(ONE, "b", metadata=placed("a", "b", "d", "c"))
    assert "are stale" in again.text
    kernel.run("%dockerfile replay", "x")
    assert kernel.run("%dockerfile show", "x").text.split("\n\n")[1:3] == ["RUN echo one > /one", "ENV between=1"]


def test_a_cell_further_down_that_bears_a_name_changes_the_cell_of_that_name_where_it_stands(kernel: Kernel) -> None:
    """As the first lesson does it; a later look at the chain must not move it down."""
    order = placed("a", "b", "c", "d")
    greeting = "%%dockerfile --name greeting\nENV GREETING="
    cells = {"a": FROM, "b": f"{greeting}one", "c": "%%dockerfile\nENV later=1", "d": f"{greeting}another"}
    for cell, code in cells.items():
        assert kernel.run(code, cell, metadata=dict(order)).status == "ok"

    for _ in range(2):
        status = kernel.run("%dockerfile status", "x", metadata=dict(order)).text
        assert re.findall(r"^cell (\S+) +(\w+)", status, re.MULTILINE) == [
            ("[2]", "built"),
            ("greeting", "built"),
            ("[4]", "stale"),
        ]
    assert "are stale" not in kernel.run("%dockerfile replay", "x", metadata=dict(order)).text
    shown = kernel.run("%dockerfile show", "x", metadata=dict(order)).text
    assert shown.split("\n\n")[1] == "ENV GREETING=another"


def test_a_front_end_that_tells_the_order_hears_which_cells_are_stale(kernel: Kernel) -> None:
    order = placed("a", "b", "c")
    for cell, code in {"a": FROM, "b": ONE, "c": TWO}.items():
        assert kernel.run(code, cell, metadata=dict(order)).marks == []

    changed = kernel.run(ONE.replace("echo one", "echo two"), "b", metadata=dict(order))

    assert changed.marks == ["c"]
    assert kernel.run("1 + 1", "x", metadata=dict(order)).marks is None
    assert kernel.run("%dockerfile replay", "x", metadata=dict(order)).marks == []
    assert kernel.run(ONE, "b").marks is None


@pytest.mark.parametrize(
    ("code", "error", "parts"),
    [
        ("%%dockerfile\nRUM a", "DockerfileSyntaxError", ["RUM (did you mean RUN?)", "cell [9]:2: RUM a"]),
        ("%%dockerfile\n\nRUN echo \\", "DockerfileSyntaxError", ["ends in the middle", "cell [9]:3: RUN echo \\"]),
        ("%%dockerfile\nCOPY missing /", "ContextError", ["missing", "cell [9]:2: COPY missing /"]),
        ("%%dockerfile\nCOPY --from=nowhere /a /b", "DockermagicError", ["nowhere", "cell [9]:2"]),
        ("%%dockerfile\nFROM no-such-image", "ImageNotFoundError", ["no-such-image", "cell [9]:2: FROM no-such-image"]),
        ("%%dockerfile\nRUN no-such-command", "RunFailedError", ["exit code: 127", "cell [9]:2: RUN no-such-command"]),
        ("%%dockerfile\n# 1 point\nraise NotImplementedError()", "SessionError", ["not answered yet"]),
        ("%%dockerfile --target nowhere\nRUN true", "DockermagicError", ["nowhere"]),
        ("%%dockerfile --nonsense\nRUN true", "UsageError", ["--nonsense", "%%dockerfile? shows what it takes"]),
        ("%%dockerfile -t Bad:Name!\nRUN true", "InvalidReferenceError", ["Bad:Name!"]),
        ("%%dockerfile --after nowhere\nRUN true", "SessionError", ["no cell nowhere", "cell [2]"]),
        ("%%dockerfile -c /no/such/folder\nCOPY a /", "ContextError", ["/no/such/folder"]),
        ("%dockerfile nonsense", "UsageError", ["unknown action", "show, status"]),
        ("%dockerfile 'open", "UsageError", ["No closing quotation"]),
        ("%dockerfile diff nowhere", "SessionError", ["no cell nowhere", "cell [2]"]),
        ("%dockerfile tree /no/such", "UsageError", ["/no/such"]),
        ("%dockerfile tree --failed", "SessionError", ["no RUN of this session has failed"]),
        ("%dockerfile export", "UsageError", ["needs the name of one file"]),
        ("%dockerfile undo -s nothing", "SessionError", ["nothing to undo"]),
        ("%dockerfile history -s nothing", "SessionError", ["nothing is built yet"]),
        ("%docker nonsense", "UsageError", ["nonsense"]),
        ("%docker rmi nonsense", "ImageNotFoundError", ["nonsense"]),
        ("%docker run --pull never nonsense", "ContainerError", ["nonsense"]),
        ("%docker save app", "UsageError", ["-o"]),
    ],
)  # fmt: skip
def test_what_a_person_can_do_wrong_is_a_clean_error(shared: Kernel, code: str, error: str, parts: list[str]) -> None:
    reply = shared.run(code, "wrong")

    assert (reply.status, reply.stderr) == ("error", "")
    assert reply.error == error or error == "DockermagicError"
    message = re.sub(r"cell \[\d+\]:", "cell [9]:", reply.message)
    assert [part for part in parts if part not in message] == []
    assert plain(reply.traceback) == [f"{reply.error}: {reply.message}"]
    assert shared.run("%dockerfile show", "looking").text == "FROM busybox"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with one cell, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    with Engine(folder / "home") as engine:
        engine.base("busybox")
    with Kernel(folder / "home", folder, notebook=str(folder / "x.ipynb")) as kernel:
        run_all(kernel, a=FROM)
        yield kernel


def test_looking_at_what_was_built(kernel: Kernel, tmp_path: Path) -> None:
    run_all(kernel, a=FROM, b="%%dockerfile --name made\nRUN mkdir /d && echo one > /d/one", c=THREE)

    assert re.search(r"\+ .*one  4B", kernel.run("%dockerfile tree /d --cell made", "x").text)
    assert "+ /d/one  4B" in kernel.run("%dockerfile diff made", "x").text
    history = kernel.run("%dockerfile history", "x").text.split("\n")
    assert [line.split("   ")[2].strip()[:12] for line in history[1:3]] == ['CMD ["cat" "', "RUN /bin/sh "]
    assert kernel.run("%dockerfile export Dockerfile", "x").status == "ok"
    assert (
        tmp_path / "Dockerfile"
    ).read_text() == 'FROM busybox\n\nRUN mkdir /d && echo one > /d/one\n\nCMD ["cat", "/two"]\n'


def test_the_context_is_the_notebooks_folder_or_another(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    run_all(kernel, a=FROM, b="%%dockerfile -t app\nCOPY file /file")
    assert kernel.run("%docker run --rm app cat /file", "x").text.startswith("here")

    (tmp_path / "file").write_text("changed")
    assert chain(kernel) == "busybox:built file:stale"
    again = kernel.run("%%dockerfile -t app\nCOPY file /file", "b")
    assert "not CACHED" in again.text
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("there")
    run_all(kernel, b="%%dockerfile -t app -c other\nCOPY file /file")
    assert kernel.run("%docker run --rm app cat /file", "x").text.startswith("there")


def test_saving_the_notebook_changes_no_copy(home: Path, tmp_path: Path) -> None:
    """The notebook itself and Jupyter's checkpoints are no part of the context, unless a cell names the folder."""
    folder = tmp_path / "course [1]"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    notebook = folder / "lesson [a].ipynb"
    notebook.write_text("saved")
    (folder / "other.ipynb").write_text("data")
    copy, look = "%%dockerfile\nFROM busybox\nCOPY . /all/", "%%dockerfile --name look\nRUN ls -A /all/"
    with Kernel(home, folder, notebook=str(notebook)) as kernel:
        kernel.run(copy, cell="a")
        seen = kernel.run(look, cell="b").text
        assert "other.ipynb" in seen and "lesson" not in seen and "checkpoints" not in seen

        notebook.write_text("saved again")
        (folder / ".ipynb_checkpoints/lesson-checkpoint.ipynb").write_text("saved again")

        again = kernel.run(copy, cell="a").text
        assert "CACHED" in again and "not CACHED" not in again
        given = kernel.run("%%dockerfile -s given -c .\nFROM busybox\nCOPY . /all/\nRUN ls -A /all/", cell="c")
        assert "lesson [a].ipynb" in given.text


def test_build_args_and_stages(kernel: Kernel) -> None:
    run_all(
        kernel,
        a="%%dockerfile --build-arg WHAT=stage\nFROM busybox AS first\nARG WHAT=nothing\nRUN echo $WHAT > /made",
        b="%%dockerfile -t second\nFROM busybox\nCOPY --from=first /made /copied",
        c="%%dockerfile -t one --target first\n# the first stage, under a name",
    )

    assert kernel.run("%docker run --rm second cat /copied", "x").text.startswith("stage")
    assert kernel.run("%docker run --rm one cat /made", "x").text.startswith("stage")


def test_warnings_count_lines_in_the_cell_and_are_said_once(kernel: Kernel) -> None:
    one, two, three = run_all(
        kernel,
        a="%%dockerfile\nFROM busybox AS Base",
        b="%%dockerfile\n\nMAINTAINER me",
        c="%%dockerfile\nFROM busybox\nLABEL a=b",
    )

    assert "warning: line 2: StageNameCasing" in one.text
    assert "warning: line 3: MaintainerDeprecated" in two.text and two.text.count("warning") == 1
    assert "warning" not in three.text
    assert "  1  CACHED        FROM busybox" in three.text


def test_no_cache_builds_this_cell_again_and_no_other(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b=ONE, c=TWO)

    again = kernel.run(TWO.replace("-t app", "-t app --no-cache"), "c")

    assert "not CACHED: --no-cache" in again.text
    assert "all CACHED" in kernel.run(ONE, "b").text


def test_the_verbs_of_docker(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b="%%dockerfile -t app\nRUN true")

    images = kernel.run("%docker images", "x")
    assert [line.split()[:2] for line in images.text.split("\n")[1:]] == [["app", "latest"], ["busybox", "latest"]]
    assert "CREATED BY" in kernel.run("%docker history app", "x").text
    kernel.run("code = 3", "x")
    failing = kernel.run("%docker run --rm app sh -c 'code=out; echo ${code}; echo err >&2; exit {code}'", "x")
    assert (failing.status, failing.stderr) == ("ok", "")
    assert re.match("out\nerr\n", failing.text) and "exit code 3" in failing.text
    assert kernel.run("_exit_code", "x").text == "3"
    assert "images" in kernel.run("%docker", "x").stdout


def test_loading_the_extension_imports_nothing_heavy(kernel: Kernel) -> None:
    names = "anywidget ipywidgets urllib3 dockermagic.engine dockermagic.session dockermagic.notebook.actions sqlite3"

    seen = kernel.run(f"import sys; print([name for name in {names.split()} if name in sys.modules])", "x").stdout

    assert "dockermagic" not in seen and "anywidget" not in seen and "urllib3" not in seen


def test_a_widget_stands_beside_what_needs_no_script(home: Path, tmp_path: Path) -> None:
    with Kernel(home, tmp_path, notebook=str(tmp_path / "lesson.ipynb"), DOCKERMAGIC_WIDGETS="1") as kernel:
        for reply in run_all(kernel, a=FROM, b=ONE, c="%dockerfile tree", d="%docker run --rm busybox true"):
            view = reply.displays[-1]
            assert view["text/html"] and view["text/plain"]
            assert "application/vnd.jupyter.widget-view+json" in view


@pytest.mark.parametrize(
    ("magic", "words"),
    [("%%dockerfile", ["%%dockerfile [-t", "--build-arg", "--after"]), ("%dockerfile", ["replay", "export FILE"])],
)
def test_help_tells_the_options(shared: Kernel, magic: str, words: list[str]) -> None:
    pages = []
    client = shared.client
    client.shell_channel.send(client.session.msg("execute_request", {"code": f"{magic}?", "silent": False}))
    while not pages:
        pages = client.get_shell_msg(timeout=60)["content"].get("payload") or []

    assert [word for word in words if word not in pages[0]["data"]["text/plain"]] == []


def test_two_kernels_on_one_session(home: Path, tmp_path: Path) -> None:
    notebook = str(tmp_path / "lesson.ipynb")
    with Kernel(home, tmp_path, notebook=notebook) as one, Kernel(home, tmp_path, notebook=notebook) as other:
        run_all(one, a=FROM)
        run_all(other, b=ONE)
        run_all(one, c=TWO)
        assert chain(other) == "busybox:built echo:built cat:built"


def test_a_cells_value_is_what_it_built(kernel: Kernel) -> None:
    """It shows nothing of its own, and can be asked in the next cell."""
    built = kernel.run("%%dockerfile\nFROM busybox\nRUN echo one > /one", "a")
    assert len(built.displays) == 1

    asked = kernel.run("assert _.run('cat /one').stdout == 'one\\n'\n_.file('/one').read_text()", "b")
    assert (asked.status, asked.message, asked.stderr, asked.text) == ("ok", "", "", "'one\\n'")
    named = kernel.run("%%dockerfile -t app\nCMD true", "c")
    assert named.status == "ok"
    by_name = kernel.run("import dockermagic\nprint(dockermagic.image('app').config['Cmd'])\n_", "d")
    assert by_name.stdout == "['/bin/sh', '-c', 'true']\n" and by_name.displays[0]["text/plain"] == "<image app>"
    assert "Image app" in by_name.displays[0]["text/html"] and "/bin/sh" in by_name.displays[0]["text/html"]
    missing = kernel.run("dockermagic.image('nothing')", "e")
    assert (missing.error, missing.stderr) == ("ImageNotFoundError", "")


def test_a_dockerfile_is_loaded_exported_and_verified(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("here")
    (tmp_path / "in" / ".dockerignore").write_text("secret\n")
    dockerfile = tmp_path / "in" / "Dockerfile"
    dockerfile.write_text("# The base.\nFROM busybox\nCOPY file /\n\nENV a=b\nRUN cat /file\n")

    loaded = kernel.run("%dockerfile load in/Dockerfile", "a")
    assert (loaded.status, loaded.message) == ("ok", "")
    assert kernel.run("%dockerfile show", "x").text == "FROM busybox\n\nCOPY file /\n\nENV a=b\n\nRUN cat /file"
    assert "cell Dockerfile:3" in kernel.run("%dockerfile status", "x").text
    dockerfile.write_text(dockerfile.read_text() + "RUN exit 3\n")
    assert ":7: RUN exit 3" in kernel.run("%dockerfile load in/Dockerfile", "a").message
    kernel.run("%dockerfile undo", "x")

    exported = kernel.run("%dockerfile export Out", "x")
    assert f"docker build -f Out {tmp_path / 'in'}" in exported.text
    assert (tmp_path / "Out.dockerignore").read_text() == "secret\n"
    verified = kernel.run("%dockerfile verify", "x")
    assert (verified.status, verified.stderr, verified.message) == ("ok", "", "")
    assert "Verified: a replay from nothing gives the same" in verified.text
    assert "dockermagic.invalid" not in kernel.run("%docker images", "x").text
    assert "all CACHED" in kernel.run("%dockerfile load in/Dockerfile", "a").text
    without_id = kernel.run("%%dockerfile\nRUN cat /file")
    assert (without_id.status, without_id.message) == ("ok", "")


def test_a_replay_that_gives_something_else_says_what(kernel: Kernel) -> None:
    run_all(kernel, a=FROM, b="%%dockerfile\nRUN cat /proc/sys/kernel/random/uuid > /chance")

    verified = kernel.run("%dockerfile verify", "x")

    assert "A replay from nothing gives something else." in verified.text
    assert "changed /chance (content" in verified.text
    assert "all CACHED" in kernel.run("%%dockerfile\nRUN cat /proc/sys/kernel/random/uuid > /chance", "b").text


def test_an_export_has_the_notebooks_texts_as_comments(kernel: Kernel, tmp_path: Path) -> None:
    texts = [("markdown", "t", "# A title\n\nwith words"), ("code", "a", FROM), ("code", "p", "1"), ("code", "b", ONE)]
    cells = [{"cell_type": kind, "id": one, "source": text} for kind, one, text in texts]
    (tmp_path / "lesson.ipynb").write_text(json.dumps({"cells": cells}))
    run_all(kernel, a=FROM, b=ONE, x="%dockerfile export --markdown Out")

    assert (tmp_path / "Out").read_text() == "# # A title\n#\n# with words\nFROM busybox\n\nRUN echo one > /one\n"
