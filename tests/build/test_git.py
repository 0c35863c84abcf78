"""ADD of git repositories and contexts from them, over HTTP from this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dockermagic.build.gitcommand import Git
from dockermagic.build.request import BuildRequest, Secret
from dockermagic.errors import BuildError
from tests.build.kit import Bench, cached
from tests.build.servers import commit, git, make_repository, repositories, serving


@dataclass
class Hub:
    """Repositories on a server: ``url`` without a slash, ``first`` and ``second`` commits of ``app.git``."""

    root: Path
    url: str
    first: str
    second: str


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "hub"
    library = {"lib.txt": "library\n"}
    make_repository(root / "lib.git", library)
    app = root / "app.git"
    first = make_repository(app, {"file": "one\n", "dir/two": "2\n"})
    (app / "run").write_text("#!/bin/sh\n")
    (app / "run").chmod(0o755)
    (app / "dir/link").symlink_to("../file")
    git(app, "tag", "v1")
    with serving(repositories(root)) as url:
        second = commit(app, {"file": "two\n"})
        git(app, "tag", "-a", "-m", "annotated", "v2")
        git(app, "branch", "other", first)
        yield Hub(root, url, first, second)


@pytest.mark.parametrize(
    ("reference", "printed"),
    [
        ("", "two\n"),
        ("#main", "two\n"),
        ("#v1", "one\n"),
        ("#v2", "two\n"),
        ("#refs/tags/v1", "one\n"),
        ("#other", "one\n"),
        ("#{first}", "one\n"),
        ("?branch=other", "one\n"),
        ("?tag=v2", "two\n"),
        ("?ref={second}", "two\n"),
        ("?commit={first}&fetch-by-commit=1", "one\n"),
        ("?commit={second}&branch=main", "two\n"),
    ],
)
def test_references(bench: Bench, hub: Hub, reference: str, printed: str) -> None:
    """A branch, a tag of either kind, a commit, the default branch."""
    reference = reference.format(first=hub.first, second=hub.second)

    assert bench.printed(f"FROM busybox\nADD {hub.url}/app.git{reference} /app\nRUN cat /app/file\n") == printed


def test_what_is_copied(bench: Bench, hub: Hub) -> None:
    """Contents of the tree with git's modes, links as links, and neither .git nor anything else."""
    text = (
        f"FROM busybox\nADD {hub.url}/app.git /app\nRUN cd /app && find . | sort && stat -c '%a %u %g' file run dir\n"
    )

    assert bench.printed(text + "RUN readlink /app/dir/link\n").split("\n") == [
        ".", "./dir", "./dir/link", "./dir/two", "./file", "./run", "644 0 0", "755 0 0", "755 0 0", "../file", "",
    ]  # fmt: skip


@pytest.mark.parametrize("reference", ["#main:dir", "?subdir=dir", "#:dir"])
def test_subdirectory(bench: Bench, hub: Hub, reference: str) -> None:
    assert bench.printed(f"FROM busybox\nADD {hub.url}/app.git{reference} /d/\nRUN ls /d\n") == "link\ntwo\n"


def test_git_directory(bench: Bench, hub: Hub) -> None:
    """--keep-git-dir makes it a repository with its remote, without passwords; the flag beats the query."""
    address = hub.url.replace("//", "//name:secret@") + "/app.git"
    text = f"FROM busybox\nADD --keep-git-dir {address} /a\nADD --keep-git-dir=false {address}?keep-git-dir=1 /b\n"
    printed = bench.printed(text + "RUN grep url /a/.git/config; cat /a/.git/HEAD; ls -a /b\n")

    assert "name:xxxxx@" in printed
    assert "secret" not in printed
    assert hub.second in printed
    assert "\n.git\n" not in printed


def test_flags_of_copy(bench: Bench, hub: Hub) -> None:
    """--chown, --chmod and --exclude mean what they mean for files."""
    text = f"FROM busybox\nADD --chown=7:8 --chmod=700 --exclude=dir {hub.url}/app.git /a\nRUN ls /a\n"
    assert bench.printed(text) == "file\nrun\n"
    if bench.engine.sandbox.mode != "single":
        assert bench.printed(text + "RUN stat -c '%u:%g %a' /a/file\n").endswith("7:8 700\n")


def test_keyed_by_commit(bench: Bench, hub: Hub) -> None:
    """Another name of the same commit is the same layer; a branch that moves is another one, and says so."""
    text = "FROM busybox\nADD " + hub.url + "/app.git{} /app\n"
    assert cached(bench.build(text.format("#v2"))) == "x"
    assert cached(bench.build(text.format("#main"))) == "C"
    commit(hub.root / "app.git", {"file": "three\n"})
    again = bench.build(text.format("#main"))

    assert (cached(again), again.steps[-1].reason) == ("x", "what it copies changed")
    assert cached(bench.build(text.format("#v2"))) == "C"


def test_submodules(bench: Bench, hub: Hub) -> None:
    """They come along, unless the reference says no; a file of this machine is no submodule."""
    app = hub.root / "app.git"
    git(app, "submodule", "--quiet", "add", "-b", "main", f"{hub.url}/lib.git", "lib")
    commit(app, {})
    text = f"FROM busybox\nADD {hub.url}/app.git /a\nADD {hub.url}/app.git?submodules=false /b\n"
    assert bench.printed(text + "RUN find /a/lib /b/lib\n") == "/a/lib\n/a/lib/lib.txt\n/b/lib\n"

    modules = (app / ".gitmodules").read_text().replace(hub.url, f"file://{hub.root}")
    commit(app, {".gitmodules": modules})
    with pytest.raises(BuildError, match="submodule") as caught:
        bench.build(text)
    assert "transport 'file' not allowed" in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "reference", "message"),
    [
        ("", "#nowhere", "repository does not contain ref nowhere"),
        ("", "#0123456789012345678901234567890123456789", "git fetch of"),
        ("", "#main:none", "subdir 'none' not found"),
        ("", "#main:file", "subdir 'file' is not a directory"),
        ("--checksum={first}", "#main", "expected checksum to match {first}, got {second}"),
        ("", "?branch=main&checksum={first}", "expected checksum to match {first}, got {second}"),
        ("--checksum=nothex", "", "invalid checksum nothex"),
        ("--checksum={second}", "?checksum={first}", "checksum mismatch"),
        ("", "?what=1", 'unexpected query "what"'),
    ],
)
def test_refused(bench: Bench, hub: Hub, flags: str, reference: str, message: str) -> None:
    """What is wrong is said in words, with the line."""
    flags, reference, message = (
        text.format(first=hub.first, second=hub.second) for text in (flags, reference, message)
    )
    with pytest.raises(Exception) as caught:
        bench.build(f"FROM busybox\nADD {flags} {hub.url}/app.git{reference} /a\n")

    assert message in str(caught.value)
    assert getattr(caught.value, "line", None) == 2


def test_checksum_may_be_short(bench: Bench, hub: Hub) -> None:
    text = f"FROM busybox\nADD --checksum={hub.second[:10]} {hub.url}/app.git /a\nRUN cat /a/file\n"

    assert bench.printed(text) == "two\n"


def test_missing_repository(bench: Bench, hub: Hub) -> None:
    with pytest.raises(BuildError, match="git ls-remote of"):
        bench.build(f"FROM busybox\nADD {hub.url}/none.git /a\n")


def test_private_repository(bench: Bench, hub: Hub, tmp_path: Path) -> None:
    """The secret GIT_AUTH_TOKEN opens it; without it nobody is asked, and it is in no record."""
    (tmp_path / "token").write_text("open-sesame\n")
    with serving(repositories(hub.root, token="open-sesame")) as url:
        text = f"FROM busybox\nADD {url}/app.git /a\nRUN cat /a/file\n"
        with pytest.raises(BuildError) as caught:
            bench.build(text)
        secrets = {"GIT_AUTH_TOKEN": Secret(tmp_path / "token")}

        assert "GIT_AUTH_TOKEN" in caught.value.hint
        assert bench.printed(text, secrets=secrets) == "two\n"
    assert "open-sesame" not in repr(bench.events)


def test_hooks_and_configuration_have_no_say(
    bench: Bench, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a repository's own hooks nor the user's configuration run anything."""
    home = tmp_path / "userhome"
    (home / "templates/hooks").mkdir(parents=True)
    trap = home / "templates/hooks/post-checkout"
    trap.write_text(f"#!/bin/sh\ntouch {home}/trapped\n")
    trap.chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\ntemplateDir = {home}/templates\n[core]\nhooksPath = {home}/templates/hooks\n"
    )
    monkeypatch.setenv("HOME", str(home))
    bench.build(f"FROM busybox\nADD {hub.url}/app.git /a\n")

    assert not (home / "trapped").exists()


def test_secrets_are_not_in_the_list_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords and tokens reach git through its environment."""
    (tmp_path / "token").write_text("open-sesame")
    request = BuildRequest("", secrets={"GIT_AUTH_TOKEN": Secret(tmp_path / "token")})
    program = tmp_path / "git"
    program.write_text('#!/bin/sh\necho "$@"\nenv | grep -c open-sesame\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = Git("https://u:open-sesame@host/x.git", request, tmp_path / "known")("fetch", "origin", at=tmp_path)

    assert said.split("\n")[0] == "fetch origin"


def test_context_from_a_repository(bench: Bench, hub: Hub) -> None:
    """The subdirectory is the context; its .dockerignore counts; SOURCE_DATE_EPOCH=context is the commit's time."""
    commit(hub.root / "app.git", {"ctx/Dockerfile": "x", "ctx/a": "a", "ctx/b": "b", "ctx/.dockerignore": "b\n"})
    with bench.engine.open_context(f"{hub.url}/app.git#main:ctx", BuildRequest("")) as opened:
        assert opened.directory is not None
        result = bench.build(
            "FROM busybox\nCOPY . /c\nRUN ls /c\n",
            context=opened.directory,
            context_from=hub.url,
            context_time=opened.time,
            build_args={"SOURCE_DATE_EPOCH": "context"},
        )

    assert bench.output() == "Dockerfile\na\n"
    assert not opened.directory.exists()
    assert result.stages[0].config["created"] == "2020-09-13T12:26:40Z"


def test_named_context_from_a_repository(bench: Bench, hub: Hub) -> None:
    """A named context that is a repository; what it ignores does not count."""
    commit(hub.root / "app.git", {".dockerignore": "file\n"})
    text = "FROM busybox\nCOPY --from=src . /c\nRUN ls /c\n"

    assert bench.printed(text, build_contexts={"src": f"{hub.url}/app.git"}) == "dir\nfile\nrun\n"


def test_git_is_told_to_stop(tmp_path: Path) -> None:
    """An interrupt ends git and what it started."""
    import threading

    from dockermagic.errors import BuildInterruptedError
    from dockermagic.sandbox.base import Cancel

    cancel, reached = Cancel(), threading.Event()

    def stall(handler: object) -> None:
        reached.set()
        cancel.set()
        threading.Event().wait(20)

    with serving(stall) as url:
        call = Git(f"{url}/x.git", BuildRequest(""), tmp_path / "known", cancel)
        with pytest.raises(BuildInterruptedError):
            call("ls-remote", "origin", at=tmp_path)

    assert reached.is_set()
    assert subprocess.run(["pgrep", "-f", f"{url}/x.git"], capture_output=True).stdout == b""
