"""The magics in a real kernel, spoken to as front ends do, on the real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dockermagic.engine import Engine
from tests.notebook.kernels import Kernel
from tests.notebook.lesson import FROM, ONE, THREE, TWO, chain, run_all
from tests.notebook.lesson import kernel as kernel
from tests.peers.registry import Registry


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
    assert f"Status: Downloaded newer image for {name}:latest" in first.stdout
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


def test_looking_at_what_was_built(kernel: Kernel, tmp_path: Path) -> None:
    run_all(kernel, a=FROM, b="%%dockerfile --name made\nRUN mkdir /d && echo one > /d/one", c=THREE)

    assert re.search(r"\+ .*one  4B", kernel.run("%dockerfile tree /d --cell made", "x").text)
    assert "+ /d/one  4B" in kernel.run("%dockerfile diff made", "x").text
    apart = kernel.run("%dockerfile diff image busybox made", "x").text
    assert apart.startswith("Files: cell made: 2 added, compared with image busybox")
    assert "1 removed" not in apart
    assert "2 removed" not in kernel.run("%dockerfile diff made stage 0", "x").text
    assert "no cell, stage or image is called nothing" in kernel.run("%dockerfile diff made nothing", "x").message
    history = kernel.run("%dockerfile history", "x").text.split("\n")
    assert [line.split("   ")[2].strip()[:12] for line in history[1:3]] == ['CMD ["cat" "', "RUN /bin/sh "]
    assert kernel.run("%dockerfile export Dockerfile", "x").status == "ok"
    assert (
        tmp_path / "Dockerfile"
    ).read_text() == 'FROM busybox\n\nRUN mkdir /d && echo one > /d/one\n\nCMD ["cat", "/two"]\n'
    kernel.run("%%dockerfile --name 'my own'\nRUN touch /d/own", "d")
    assert "+ /d/own" in kernel.run("%dockerfile diff my own", "x").text


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
