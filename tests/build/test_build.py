"""Builds on the real engine, in every id mode: what ends up in the image, in the config and in the cache."""

from __future__ import annotations

import os
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from dockermagic.build.request import Secret
from dockermagic.errors import BuildError, ContextError, DockerfileSyntaxError, ImageNotFoundError, RunFailedError
from dockermagic.events import Vertex
from dockermagic.oci.image import Image
from tests.build.kit import Bench, cached, write

pytestmark = pytest.mark.plain


def test_run_sees_its_environment(bench: Bench) -> None:
    """ENV and ARG reach the process, the host's environment does not."""
    os.environ["LEAK"] = "host"
    text = bench.printed("FROM busybox\nENV A=1 B='x y'\nARG C=3\nRUN env | sort\n", build_args={"C": "4"})

    names = dict(line.split("=", 1) for line in text.splitlines())
    assert names == {
        "A": "1",
        "B": "x y",
        "C": "4",
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **{name: names[name] for name in ("PWD", "SHLVL") if name in names},
        **({"APT_CONFIG": names["APT_CONFIG"]} if "APT_CONFIG" in names else {}),
    }


def test_layers_stand_on_one_another(bench: Bench) -> None:
    """A later RUN sees, changes and removes what an earlier one made."""
    text = bench.printed(
        "FROM busybox\nRUN echo 1 > /a; echo 2 > /b\nRUN rm /a; echo 3 >> /b\nRUN ls /a 2>&1; cat /b\n"
    )

    assert text == "ls: /a: No such file or directory\n2\n3\n"


def test_second_build_is_cached(bench: Bench) -> None:
    """Nothing changed: every layer is reused, and the image is the same one."""
    write(bench.context, {"app/main.py": "print(1)\n"})
    text = "FROM busybox\nWORKDIR /app\nCOPY app .\nRUN ls > /list\nCMD ['sh']\n"
    first = bench.build(text, tags=("demo",))
    second = bench.build(text, tags=("demo",))

    assert cached(first) == "xxx"
    assert cached(second) == "CCC"
    assert first.image_id == second.image_id


def test_a_run_that_only_looks_is_counted_without_a_question(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layer is empty; one with something in it is counted where all of it can be read."""
    bench.build("FROM busybox\n")  # the base is counted once
    asked: list[str] = []
    call = bench.engine.sandbox.call

    def watched(name: str, **given: Any) -> Any:
        asked.append(name)
        return call(name, **given)

    monkeypatch.setattr(bench.engine.sandbox, "call", watched)
    looked = bench.build("FROM busybox\nRUN true\n").steps[-1]
    before = list(asked)
    changed = bench.build("FROM busybox\nRUN true\nRUN echo 1 > /a && rm /bin/sh\n").steps[-1]

    assert (looked.size, looked.added, looked.modified, looked.removed) == (0, 0, 0, 0)
    assert "dockermagic.build.facts:count" not in before
    assert (changed.size, changed.added, changed.modified, changed.removed) == (2, 1, 0, 1)


@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        ("touch", "CCCC", ""),
        ("content", "CxxC", "main.py changed"),
        ("mode", "CxxC", "main.py changed"),
        ("new file", "CxxC", "more.py is new"),
        ("ignored", "CCCC", ""),
    ],
)
def test_what_changes_in_the_context(bench: Bench, change: str, expected: str, reason: str) -> None:
    """The content, names and modes of copied files count; their times and files that are left out do not."""
    write(bench.context, {"app/main.py": "print(1)\n", ".dockerignore": "**/*.log\n", "app/x.log": "1"})
    head = "FROM busybox AS base\nRUN echo head > /head\nCOPY app /app\nRUN cat /app/main.py\n"
    text = head + "FROM busybox\nCOPY --from=base /head /head\n"
    bench.build(text)
    main = bench.context / "app/main.py"
    match change:
        case "touch":
            os.utime(main, (1, 1))
        case "content":
            main.write_text("print(2)\n")
        case "mode":
            main.chmod(0o755)
        case "new file":
            (bench.context / "app/more.py").write_text("")
        case "ignored":
            (bench.context / "app/x.log").write_text("2")
    again = bench.build(text)

    assert cached(again) == expected
    assert reason in " ".join(step.reason for step in again.steps)


def test_reason_names_the_build_argument(bench: Bench) -> None:
    """A miss says which value differs."""
    text = "FROM busybox\nARG WHO=a\nRUN echo $WHO\n"
    bench.build(text)
    again = bench.build(text, build_args={"WHO": "b"})

    assert again.steps[-1].reason == "the value of WHO changed"


def test_reason_for_a_changed_parent(bench: Bench) -> None:
    """A step below one that changed says so."""
    bench.build("FROM busybox\nRUN echo 1\nRUN echo 2\n")
    again = bench.build("FROM busybox\nRUN echo one\nRUN echo 2\n")

    assert [step.reason for step in again.steps[1:]] == ["the instruction changed", "a step before it changed"]


def test_no_cache_builds_again(bench: Bench) -> None:
    """--no-cache builds every step and says why."""
    text = "FROM busybox\nRUN echo 1\nRUN echo 2\n"
    bench.build(text)
    again = bench.build(text, no_cache=True)

    assert cached(again) == "xx"
    assert {step.reason for step in again.steps[1:]} == {"--no-cache"}
    assert cached(bench.build(text)) == "CC"


def test_no_cache_is_not_mixed_with_what_was_made_before(bench: Bench) -> None:
    """What stood on the old result of a step is built again on the new one."""
    first = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x; cat /x\n"
    text = first + "RUN echo again; cat /x > /y; cat /y\n"
    bench.build(text)
    fresh = bench.printed(first, no_cache=True)
    again = bench.build(text)

    assert cached(again) == "Cx"
    assert bench.output() == f"again\n{fresh}"
    assert again.steps[-1].reason == "a step before it was built again"
    assert cached(bench.build(text)) == "CC"


def test_copy_from_a_stage_is_keyed_by_content(bench: Bench) -> None:
    """A stage that was built again with the same files keeps what copies them."""
    text = (
        "FROM busybox AS made\nRUN echo {}; echo same > /out\nFROM busybox\nCOPY --from=made /out /out\nRUN cat /out\n"
    )
    bench.build(text.format(1))
    again = bench.build(text.format(2))

    assert cached(again) == "xCC"


def test_unneeded_stage_is_not_built(bench: Bench) -> None:
    """Only what the target reads is built."""
    text = "FROM busybox AS broken\nRUN false\nFROM busybox AS good\nRUN echo fine\n"

    assert bench.printed(text) == "fine\n"
    with pytest.raises(RunFailedError):
        bench.build(text, target="broken")


def test_owners_and_modes(bench: Bench) -> None:
    """--chown by name and number, --chmod, and the defaults: the saved layer has them in every id mode."""
    write(bench.context, {"f": "x"})
    text = (
        "FROM busybox\nRUN echo app:x:1234:1234::/home:/bin/sh >> /etc/passwd; echo app:x:1234: >> /etc/group\n"
        "COPY f /plain\nCOPY --chown=app:app f /named\nCOPY --chown=5:6 --chmod=4711 f /numbered\n"
        "USER app\nWORKDIR /work/deep\n"
    )
    result = bench.build(text, tags=("owned",))

    members = layer_members(bench, "owned", result.stages[0].snapshots)
    assert {name: members[name][:2] for name in ("plain", "named", "numbered", "work/deep")} == {
        "plain": (0, 0),
        "named": (1234, 1234),
        "numbered": (5, 6),
        "work/deep": (1234, 1234),
    }
    assert stat.S_IMODE(members["numbered"][2]) == 0o4711


def layer_members(bench: Bench, name: str, snapshots: tuple[int, ...]) -> dict[str, tuple[int, int, int]]:
    """Owner and mode of every file, read from the image's blobs."""
    image = Image.load(bench.engine.store, bench.engine.store.find(name).descriptor)
    found = {}
    for layer in image.layers:
        with tarfile.open(bench.engine.store.blob(layer.digest)) as tar:
            found.update({member.name.rstrip("/"): (member.uid, member.gid, member.mode) for member in tar})
    return found


def test_run_chown_reaches_the_layer(bench: Bench) -> None:
    """An owner that a program sets is in the image, also where the file system cannot hold it."""
    bench.build("FROM busybox\nRUN mkdir /data; touch /data/f; chown -R 33:44 /data\n", tags=("data",))

    members = layer_members(bench, "data", ())
    assert members["data"][:2] == (33, 44)
    assert members["data/f"][:2] == (33, 44)


def test_a_directory_made_anew_lists_what_is_gone(bench: Bench) -> None:
    """As BuildKit's layers do: whiteouts for what was there, and no mark of an opaque directory."""
    text = "FROM busybox\nRUN mkdir -p /d/sub /d/gone && touch /d/kept /d/f /d/sub/old\n"
    bench.build(f"{text}RUN rm -r /d && mkdir -p /d/sub && touch /d/kept /d/sub/new\n", tags=("anew",))
    image = Image.load(bench.engine.store, bench.engine.store.find("anew").descriptor)
    with tarfile.open(bench.engine.store.blob(image.layers[-1].digest)) as tar:
        names = tar.getnames()

    inside = ["d/.wh.f", "d/.wh.gone", "d/kept", "d/sub", "d/sub/.wh.old", "d/sub/new"]
    assert names == ["d", *inside]


def test_add_unpacks_archives(bench: Bench, tmp_path: Path) -> None:
    """ADD unpacks by content, whatever the name; COPY does not."""
    write(tmp_path, {"in/file": "content"})
    for kind in ("", "gz", "bz2", "xz"):
        with tarfile.open(bench.context / f"a{kind}.bin", f"w:{kind}") as tar:
            tar.add(tmp_path / "in/file", "in/file")
    text = "".join(f"ADD a{kind}.bin /{kind or 'tar'}\n" for kind in ("", "gz", "bz2", "xz"))
    text = f"FROM busybox\n{text}COPY a.bin /copied\nRUN cat /tar/in/f* /gz/in/f* /bz2/in/f* /xz/in/f*; ls /copied\n"

    assert bench.printed(text) == "content" * 4 + "/copied\n"


def test_heredocs(bench: Bench) -> None:
    """RUN's body goes to the shell; COPY's is a file, with variables replaced unless its word is quoted."""
    text = (
        "FROM busybox\nENV WHO=me\nRUN <<EOF\necho one\necho two\nEOF\n"
        "COPY <<A <<'B' /files/\nfor $WHO\nA\nfor $WHO\nB\nRUN cat /files/A /files/B\n"
    )

    assert bench.printed(text) == "one\ntwo\nfor me\nfor $WHO\n"


def test_secret_is_seen_and_not_kept(bench: Bench, tmp_path: Path) -> None:
    """A secret is a file of the RUN alone: not in the layer, the history, the key's record or an event."""
    (tmp_path / "token").write_text("s3cr3t-value")
    text = "FROM busybox\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token\nRUN ls /run/secrets; true\n"
    printed = bench.printed(text, secrets={"token": Secret(tmp_path / "token")}, tags=("quiet",))

    assert printed.startswith("12\n")
    assert "No such file" in printed
    assert "s3cr3t-value" not in repr(bench.events)
    bench.engine.close()
    for path in bench.engine.home.rglob("*"):
        if path.is_file() and os.access(path, os.R_OK):
            assert b"s3cr3t-value" not in path.read_bytes(), path


def test_cache_mount_keeps_its_files(bench: Bench) -> None:
    """A cache mount lasts from build to build and is in no layer."""
    line = "RUN --mount=type=cache,target=/cache echo {} >> /cache/log; cat /cache/log\n"
    bench.build("FROM busybox\n" + line.format(1))

    assert bench.printed("FROM busybox\n" + line.format(2)) == "1\n2\n"
    assert bench.printed("FROM busybox\nRUN ls /cache; true\n") == "ls: /cache: No such file or directory\n"


@pytest.mark.isolated
def test_bind_mount_is_read_only(bench: Bench) -> None:
    """A bind mount shows the context; what is written to a writable one is thrown away."""
    write(bench.context, {"src/a": "1\n"})
    text = (
        "FROM busybox\nRUN --mount=type=bind,source=src,target=/src cat /src/a; touch /src/b || echo refused\n"
        "RUN --mount=type=bind,source=src,target=/src,rw touch /src/b; ls /src\n"
    )
    printed = bench.printed(text)

    assert printed.splitlines()[0] == "1"
    assert "refused" in printed
    assert printed.endswith("a\nb\n")
    assert not (bench.context / "src/b").exists()


def test_onbuild_triggers(bench: Bench) -> None:
    """Triggers of a base run right after FROM, and are gone in the child."""
    bench.build("FROM busybox\nONBUILD RUN echo trigger > /t\nONBUILD ENV T=1\n", tags=("parent",))
    result = bench.build("FROM parent\nRUN cat /t; echo $T\n")

    assert bench.output() == "trigger\n1\n"
    assert "OnBuild" not in result.stages[0].config["config"]


def test_failing_run_is_told_in_full(bench: Bench) -> None:
    """The error has the line, the code and the tail; layers before it stay cached; the half-made one can be seen."""
    text = "FROM busybox\nRUN echo kept > /kept\n# a comment\nRUN echo half > /half; echo to the log; exit 3\n"
    with pytest.raises(RunFailedError) as caught:
        bench.build(text)

    error = caught.value
    assert (error.line, error.process_exit_code, error.log_tail) == (4, 3, ("to the log",))
    assert "exit code: 3" in error.message
    assert error.failed is not None
    assert cached(bench.build(text.rsplit("RUN", 1)[0])) == "C"


def test_command_not_found(bench: Bench) -> None:
    with pytest.raises(RunFailedError) as caught:
        bench.build("FROM busybox\nRUN no-such-command\n")

    assert caught.value.process_exit_code == 127
    assert "not found" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("FROM busybox\nCOPY missing.txt /\n", ContextError, '"/missing.txt": not found'),
        ("FROM nowhere/at-all\n", ImageNotFoundError, "not found"),
        ("FROM busybox\nFORM x\n", DockerfileSyntaxError, "unknown instruction: FORM (did you mean FROM?)"),
        (
            "FROM busybox AS a\nCOPY --from=b /x /y\nFROM busybox AS b\nCOPY --from=a /x /y\n",
            DockerfileSyntaxError,
            "circular dependency",
        ),
        ("FROM busybox\nCOPY a b c /file\n", ContextError, "not found"),
        ('FROM busybox\nENV ""=1\nRUN true\n', BuildError, "did not complete successfully: exit code: 1"),
        ("FROM busybox\nRUN []\n", DockerfileSyntaxError, "arguments are required"),
        ("FROM busybox\nUSER nobody-here\nRUN true\n", BuildError, "unable to find user nobody-here"),
    ],
)
def test_errors_have_a_line(bench: Bench, text: str, kind: type[Exception], message: str) -> None:
    """What is wrong, and on which line."""
    from dockermagic.errors import DockermagicError

    with pytest.raises(DockermagicError) as caught:
        bench.build(text, target="a" if " AS a" in text else "")

    assert message in caught.value.message
    assert caught.value.line is not None
    assert kind is BuildError or isinstance(caught.value, kind)
    assert caught.value.hint or "did you mean" in message or kind is BuildError


def test_unknown_target(bench: Bench) -> None:
    with pytest.raises(DockerfileSyntaxError, match='target stage "x" could not be found'):
        bench.build("FROM busybox AS a\n", target="x")


def test_nothing_of_the_host_is_in_the_layer(bench: Bench) -> None:
    """resolv.conf, hosts and mount points are there for the run and not in the layer."""
    result = bench.build(
        "FROM busybox\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null; echo x > /x\n", tags=("clean",)
    )

    layer = Path(bench.engine.files.directories(result.stages[0].snapshots)[-1])
    assert sorted(path.name for path in layer.iterdir()) == ["x"]


def test_names_of_steps(bench: Bench) -> None:
    """Progress names the steps as BuildKit does."""
    write(bench.context, {"f": "1"})
    bench.build("FROM busybox AS one\nRUN echo a\nFROM busybox\nENV E=5\nCOPY --from=one /etc/passwd /p\nRUN echo $E\n")

    assert bench.names() == [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for docker.io/library/busybox:latest",
        "[internal] load .dockerignore",
        "[one 1/2] FROM docker.io/library/busybox:latest",
        "[one 2/2] RUN echo a",
        "[stage-1 2/3] COPY --from=one /etc/passwd /p",
        "[stage-1 3/3] RUN echo 5",
    ]


def test_steps_name_what_they_stand_on(bench: Bench) -> None:
    bench.build(
        "FROM busybox AS one\nRUN echo a > /a\nFROM busybox AS two\nCOPY --from=one /a /b\n"
        "RUN --mount=from=one,target=/m ls /m\n"
    )
    steps = {
        event.digest: event for event in bench.events if isinstance(event, Vertex) and event.instruction is not None
    }
    below = {step.name: [steps[digest].name for digest in step.inputs] for step in steps.values()}
    base = "FROM docker.io/library/busybox:latest"

    assert below == {
        f"[one 1/2] {base}": [],
        "[one 2/2] RUN echo a > /a": [f"[one 1/2] {base}"],
        "[two 2/3] COPY --from=one /a /b": [f"[one 1/2] {base}", "[one 2/2] RUN echo a > /a"],
        "[two 3/3] RUN --mount=from=one,target=/m ls /m": [
            "[two 2/3] COPY --from=one /a /b",
            "[one 2/2] RUN echo a > /a",
        ],
    }


def test_an_interrupt_ends_the_look_at_the_context(bench: Bench, tmp_path: Path) -> None:
    """However large a file is: a terabyte, of which no block is on the disk."""
    from dockermagic.build.request import BuildRequest
    from dockermagic.errors import BuildInterruptedError
    from dockermagic.events import Vertex
    from dockermagic.sandbox.base import Cancel

    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    cancel, told = Cancel(), []

    def emit(event: object) -> None:
        if isinstance(event, Vertex) and event.name == "[internal] load build context":
            told.append(event.error)
            threading.Timer(0, cancel.set).start()

    with pytest.raises(BuildInterruptedError):
        bench.engine.build(BuildRequest("FROM scratch\nCOPY large /\n", tmp_path), emit, cancel=cancel)

    assert told == ["", "interrupted"]


def test_interrupt_ends_everything(bench: Bench) -> None:
    """Cancelling kills the process tree, and the store is as it was."""
    from dockermagic.build.request import BuildRequest
    from dockermagic.errors import BuildInterruptedError
    from dockermagic.events import Log
    from dockermagic.sandbox.base import Cancel

    cancel, seen = Cancel(), threading.Event()

    def emit(event: object) -> None:
        if isinstance(event, Log):
            seen.set()
            cancel.set()

    request = BuildRequest("FROM busybox\nRUN (sleep 1000 &) ; echo started; sleep 1000\n")
    with pytest.raises(BuildInterruptedError):
        bench.engine.build(request, emit, cancel=cancel)

    assert seen.is_set()
    assert cached(bench.build("FROM busybox\nRUN echo after\n")) == "x"
