"""Completion and help as a front end asks for them, of real kernels with a real store."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockermagic.engine import Engine
from dockermagic.notebook.cursor import cursor_at
from dockermagic.notebook.surroundings import Surroundings
from dockermagic.notebook.workbench import Workbench
from tests.notebook.kernels import DockerfileKernel, Kernel

FIRST = "FROM busybox AS tools\nARG VERSION=1.5\nENV GREETING=hello\nRUN mkdir -p /srv/data/inner && touch /srv/page\n"
SECOND = "FROM busybox\nARG VERSION=2\nENV PLACE=/srv/$VERSION\nWORKDIR /srv\nRUN mkdir -p /srv/here /srv/.hidden"
INSTRUCTIONS = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesson")
    with Engine(folder / "home") as engine:
        engine.base("busybox")
    (folder / "app").mkdir()
    (folder / "app/main.py").touch()
    for name in ("apple.txt", "a.ipynb", "b.ipynb", "left-in.txt", "left-out.txt"):
        (folder / name).touch()
    (folder / ".dockerignore").write_text("left-*\n!left-in*\n")
    return folder


@pytest.fixture(scope="module")
def dockerfile(folder: Path) -> Iterator[DockerfileKernel]:
    with DockerfileKernel(folder / "home", folder, notebook=str(folder / "a.ipynb")) as kernel:
        for cell, text in {"a": FIRST, "b": SECOND}.items():
            assert kernel.run(text, cell).status == "ok"
        yield kernel


@pytest.fixture(scope="module")
def python(folder: Path) -> Iterator[Kernel]:
    with Kernel(folder / "home", folder, notebook=str(folder / "b.ipynb")) as kernel:
        for cell, text in {"a": FIRST, "b": SECOND}.items():
            assert kernel.run(f"%%dockerfile --name {cell}\n{text}", cell).status == "ok"
        assert kernel.run("%docker create --name keen busybox", "create").status == "ok"
        assert kernel.run("%docker volume create kept", "volume").status == "ok"
        assert kernel.run("%%dockerfile -s other\nFROM busybox", "other").status == "ok"
        assert kernel.run("%dockerfile show", "back").status == "ok"
        yield kernel


def test_an_image_that_is_not_unpacked_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with Engine(folder / "home") as engine:
        engine.save(["busybox"], archive)
    archive.seek(0)
    with Engine(tmp_path / "home") as engine:
        engine.load(archive)
        bench = Workbench(SimpleNamespace(user_ns={}, history_manager=None))
        bench.engine = engine
        assert Surroundings(bench, "FROM busybox\n").files("/") == []
        for thread in threading.enumerate():
            if thread.name == "dockermagic-unpack":
                thread.join()

        assert "bin/" in Surroundings(bench, "FROM busybox\n").files("/")


def test_a_notebook_in_which_nothing_has_run_yet_completes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "new.ipynb"))
    bench = Workbench(SimpleNamespace(user_ns={}, history_manager=None))
    with Engine(folder / "home") as bench.engine:
        assert "etc/" in Surroundings(bench, "FROM busybox\n").files("/")
        session = bench.latest_session()
        assert session is not None
        session.file.path.parent.mkdir(exist_ok=True)
        session.file.path.write_text("damaged")
        assert "etc/" in Surroundings(bench, "FROM busybox\n").files("/")


def offered(kernel: Kernel, text: str) -> list[str]:
    """What the cell would be after each completion at ``|``, without what stays the same in front of it."""
    before, _, behind = text.partition("|")
    reply = kernel.ask("complete", before + behind, cursor_pos=len(before))
    assert reply["status"] == "ok" and reply["cursor_end"] == len(before)
    return list(reply["matches"])


CASES = [
    ("FR|", ["FROM"]),
    ("f|", ["from"]),
    ("FROM x\nE|", ["ENTRYPOINT", "ENV", "EXPOSE"]),
    ("ONBUILD CO|", ["COPY"]),
    ("RUN echo \\\n  FR|", []),
    ("# escape=`\nRUN echo `\n  FR|", []),
    ("# escape=`\nRUN echo \\\nFR|", ["FROM"]),
    ("COPY --l|", ["--link"]),
    ("COPY --link --|", ["--chown=", "--from=", "--chmod=", "--exclude=", "--parents"]),
    ("COPY --from=t|", ["tools"]),
    ("COPY --from=|", ["tools", "busybox"]),
    ("COPY --from=tools /srv/|", ["/srv/data/", "/srv/page"]),
    ("COPY --from=tools /srv/page he|", ["here/"]),
    ("RUN --network=n|", ["none"]),
    ("RUN --mount=ty|", ["type="]),
    ("RUN --mount=type=ca|", ["cache"]),
    ("RUN --mount=type=cache,sh|", ["sharing="]),
    ("RUN --mount=type=cache,target=/srv/h|", ["/srv/here/"]),
    ("RUN --mount=source=ap|", ["app/", "apple.txt"]),
    ("FROM --platform=linux/ar|", ["linux/arm64"]),
    ("FROM --platform=$BUILDP|", ["BUILDPLATFORM"]),
    ("FROM |", ["tools", "busybox", "scratch"]),
    ("FROM busybox A|", ["AS"]),
    ("RUN echo $V|", ["VERSION"]),
    ("RUN echo ${V|", ["VERSION}"]),
    ("RUN echo ${V|}", ["VERSION"]),
    ("ENV MINE=1\nRUN echo $M|", ["MINE"]),
    ("FROM scratch\nENV MINE=1\nRUN echo $|", ["MINE"]),
    ("COPY ap|", ["app/", "apple.txt"]),
    ("COPY app/m|", ["app/main.py"]),
    ("COPY app/main.py /srv/h|", ["/srv/here/"]),
    ("WORKDIR /s|", ["/srv/", "/sys/"]),
    ("WORKDIR h|", ["here/"]),
    ("RUN ls /srv/.|", ["/srv/.hidden/"]),
    ("RUN ls h|", ["here/"]),
    ("RUN true && wge|", ["wget"]),
    ("STOPSIGNAL SIGT|", ["SIGTERM"]),
    ("USER ro|", ["root"]),
    ("COPY --chown=root:ro|", ["root:root"]),
    ("COPY left|", ["left-in.txt"]),  # .dockerignore leaves the others out
    ("FROM busybox\nWORKDIR /et|", ["/etc/"]),  # a base that is here, before anything is built
    ("FROM busybox AS x\nENV A=1\nFROM x\nRUN cat /etc/pass|", ["/etc/passwd"]),
    ("FROM busybox\nRUN echo $PA|", ["PATH"]),
    ("FROM scratch\nCOPY --from=busybox /etc/pass|", ["/etc/passwd"]),
    ("# FR|", []),
    ("RUN <<END\nFR|", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_the_kernel_completes(dockerfile: DockerfileKernel, text: str, expected: list[str]) -> None:
    assert offered(dockerfile, text) == expected


@pytest.mark.parametrize(("text", "expected"), [*CASES[::4], ("# F|", []), ("COPY i|", [])])  # 'if' is Python's
def test_a_cell_of_the_magic_completes(python: Kernel, text: str, expected: list[str]) -> None:
    assert sorted(offered(python, f"%%dockerfile -t x\n{text}")) == sorted(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%dockerfile --t|", ["--tag", "--target"]),
        ("%%dockerfile --target t|", ["tools"]),
        ("%%dockerfile --after |\nRUN x", ["a", "b"]),
        ("%%dockerfile -t bu|", ["busybox"]),
        ("%%dockerfile -c a|", ["app/"]),
        ("%dockerfile re|", ["reset", "replay"]),
        ("%dockerfile tree /srv/h|", ["/srv/here/"]),
        ("%dockerfile history |", ["a", "b"]),
        ("%dockerfile diff |", ["a", "b", "tools", "busybox"]),
        ("x = 1\n%docker imag|", ["images", "image"]),
        ("%docker image l|", ["list", "load", "ls"]),
        ("%docker run --ent|", ["--entrypoint"]),
        ("%docker run b|", ["busybox"]),
        ("%docker load -i app|", ["app/", "apple.txt"]),
        ("%docker build --file=app|", ["app/", "apple.txt"]),
        ("%docker run --network |", ["bridge", "host", "none"]),
        ("%docker run --net=h|", []),
        ("%docker run --network=h|", ["host"]),
        ("%docker run --name b|", []),
        ("%docker run -v ke|", ["kept:"]),
        ("%docker run busybox cat /etc/pas|", ["/etc/passwd"]),
        ("%docker run busybox ls -|", []),
        ("%docker volume rm |", ["kept"]),
        ("%docker ps |", []),
        ("%docker rename keen |", []),
        ("%docker commit keen b|", ["busybox"]),
        ("%docker inspect |", ["busybox", "keen"]),
        ("%dockerfile tree --image b|", ["busybox"]),
        ("%dockerfile show -s |", ["other"]),
        ("%dockerfile shell |", ["a", "b"]),
        ("%dockerfile help --mou|", ["--mount"]),
        ("%dockerfile help WORK|", ["WORKDIR"]),
        ("%%dockercheck b|", ["busybox"]),
        ("%docker run --rm b|", ["busybox"]),
        ("%docker rm kee|", ["keen"]),
        ("%docker logs kee|", ["keen"]),
        ("%docker stop kee|", []),
        ("%docker cp kee|", ["keen:"]),
    ],
)
def test_magic_lines_complete(python: Kernel, text: str, expected: list[str]) -> None:
    assert sorted(offered(python, text)) == sorted(expected)


def told(kernel: Kernel, text: str) -> str:
    before, _, behind = text.partition("|")
    reply = kernel.ask("inspect", before + behind, cursor_pos=len(before), detail_level=0)
    assert reply["status"] == "ok" and reply["found"] == bool(reply["data"])
    return str(reply["data"].get("text/plain", ""))


HELP = [
    ("WORK|DIR /a", ["WORKDIR", "The folder in which", "Form:", "Example: WORKDIR /app", "Here:    /srv"]),
    ("RUN ec|ho a", ["RUN", "Runs a command"]),
    ("COPY --fr|om=tools /a /b", ["--from", "Copies from another stage"]),
    ("RUN --mount=type=cache,shar|ing=locked x", ["sharing", "cache:"]),
    ("RUN echo $VER|SION", ["$VERSION", "Set by ARG in", "Here: 2"]),
    ("RUN echo ${PLACE|}", ["$PLACE", "Here: /srv/2"]),
    ("RUN echo $NO|THING", ["Nothing sets this variable"]),
    ("FROM busy|box", ["busybox:latest", "An image of the store", "Size:", "CMD:  sh"]),
    ("COPY --from=to|ols a b", ["--from"]),
]


@pytest.mark.parametrize(("text", "parts"), HELP)
def test_help_says_what_it_is_and_what_it_is_here(dockerfile: DockerfileKernel, text: str, parts: list[str]) -> None:
    shown = told(dockerfile, text)

    assert [part for part in parts if part not in shown] == []


def test_help_in_a_cell_of_the_magic(python: Kernel) -> None:
    assert "Here:    /srv" in told(python, "%%dockerfile\nRUN true\nWORKDIR| /x")
    assert told(python, "%%dockerfile\n# a com|ment") == ""
    assert "Draw" not in told(python, "prin|t(1)") and "print" in told(python, "prin|t(1)")


def test_a_question_mark_asks(dockerfile: DockerfileKernel, python: Kernel) -> None:
    assert dockerfile.run("RUN?").status == "ok"
    assert "Runs a command" in dockerfile.run("%dockerfile help RUN").text
    assert "Copies from another stage" in python.run("%dockerfile help --from", "x").text
    assert "no help on nonsense" in python.run("%dockerfile help nonsense", "x").message


@pytest.mark.parametrize(
    ("text", "keyword", "word", "inside"),
    [
        ("RUN a \\\n  b|", "RUN", "b", ""),
        ("RUN a \\\n# why\n  b|", "RUN", "b", ""),
        ("RUN a\nCO|PY", "", "CO", ""),
        ("COPY <<A <<B /x\n1\nA\n2\nB\nENV |", "ENV", "", ""),
        ("COPY <<A /x\nENV |", "", "", "heredoc"),
        ("  # x|", "", "", "comment"),
        ("|", "", "", ""),
    ],
)
def test_the_cursor_knows_where_it_is(text: str, keyword: str, word: str, inside: str) -> None:
    before, _, behind = text.partition("|")
    cursor = cursor_at(before + behind, len(before))

    assert (cursor.keyword, cursor.word.text, cursor.inside) == (keyword, word, inside)
