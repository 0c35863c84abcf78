"""What goes wrong in a cell is one clean error that says where; the chain stays right."""

from __future__ import annotations

import os
import re

import pytest

from tests.notebook.kernels import Kernel, Reply
from tests.notebook.lesson import FROM, ONE, TWO, chain, commands, plain, run_all
from tests.notebook.lesson import kernel as kernel
from tests.notebook.lesson import shared as shared


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
