"""Contexts: tars, URLs and streams; named ones of every kind; ignore files; and what tries to lead out of them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest, Output
from dockermagic.errors import BuildError, ContextError, DockermagicError, ImageNotFoundError
from tests.build.kit import Bench, cached, write
from tests.build.servers import files, serving


def tar_of(*members: tuple[str, bytes | str], kind: str = "") -> bytes:
    """A tar of files, and of links where the content is text."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o640
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


SIMPLE = (("deep/er/a", b"a"), ("link", "deep"), ("Dockerfile", b"FROM busybox\n"))


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_tar_as_context(bench: Bench, kind: str) -> None:
    """A stream that is a tar, whatever its compression; it is gone afterwards."""
    with bench.engine.open_context(io.BytesIO(tar_of(*SIMPLE, kind=kind)), BuildRequest("")) as opened:
        assert opened.directory is not None
        text = "FROM busybox\nCOPY . /c\nRUN find /c | sort; readlink /c/link; stat -c %a /c/deep/er/a\n"
        printed = bench.printed(text, context=opened.directory, context_from="-")

    assert printed == "/c\n/c/Dockerfile\n/c/deep\n/c/deep/er\n/c/deep/er/a\n/c/link\ndeep\n640\n"
    assert not opened.directory.parent.exists()


def test_stream_that_is_no_tar_is_a_dockerfile(bench: Bench) -> None:
    with bench.engine.open_context(io.BytesIO(b"FROM busybox\n"), BuildRequest("")) as opened:
        assert (opened.directory, opened.dockerfile) == (None, b"FROM busybox\n")


def test_url_as_context(bench: Bench) -> None:
    """A URL is a tar or a Dockerfile, by its content; its time is the server's."""
    table = {"/ctx": tar_of(*SIMPLE, kind="gz"), "/Dockerfile": b"FROM busybox\nRUN echo me\n"}
    with serving(files(table, Last_Modified="Sun, 13 Sep 2020 12:26:40 GMT")) as url:
        with bench.engine.open_context(f"{url}/ctx", BuildRequest("")) as opened:
            assert opened.directory is not None
            assert (opened.directory / "deep/er/a").read_text() == "a"
            assert opened.time == 1600000000
        with bench.engine.open_context(f"{url}/Dockerfile", BuildRequest("")) as opened:
            assert opened.dockerfile == table["/Dockerfile"]
        with pytest.raises(BuildError, match="status 404"):
            with bench.engine.open_context(f"{url}/none", BuildRequest("")):
                pass


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((("../out", b"x"),), "would leave the root"),
        ((("link", "/tmp"), ("link/out", b"x")), "which is no directory"),
        ((("link", ".."), ("link/out", b"x")), "which is no directory"),
    ],
)
def test_tar_that_leads_out(bench: Bench, members: tuple[tuple[str, bytes | str], ...], message: str) -> None:
    """Nothing is written outside of the directory, and the reason is said."""
    with pytest.raises(ContextError, match=message):
        with bench.engine.open_context(io.BytesIO(tar_of(*members)), BuildRequest("")):
            pass

    assert not os.path.exists("/tmp/out")


def test_absolute_names_are_below_the_context(bench: Bench) -> None:
    with bench.engine.open_context(io.BytesIO(tar_of(("/a", b"1"))), BuildRequest("")) as opened:
        assert opened.directory is not None
        assert (opened.directory / "a").read_text() == "1"


@pytest.mark.parametrize(
    "data",
    [
        tar_of(("a", b"x" * 5000))[:2000],
        gzip.compress(tar_of(("a", b"x" * 5000)))[:-20],
        gzip.compress(b"no tar at all " * 100),
    ],
    ids=["cut short", "compressed and cut short", "no tar"],
)
def test_broken_tar(bench: Bench, data: bytes) -> None:
    with pytest.raises(ContextError, match="cannot be unpacked"):
        with bench.engine.open_context(io.BytesIO(data), BuildRequest("")):
            pass


def test_bomb(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than the limit is stopped on the way."""
    monkeypatch.setenv("DOCKERMAGIC_ADD_LIMIT", "1000000")
    data = tar_of(("a", bytes(2_000_000)), kind="gz")
    with pytest.raises(ContextError, match="more than is allowed"):
        with bench.engine.open_context(io.BytesIO(data), BuildRequest("")):
            pass


# links of a context


@pytest.mark.parametrize(
    ("link", "source"),
    [("->/etc/passwd", "l"), ("->../../../../etc/passwd", "l"), ("->/etc", "l/passwd"), ("->..", "l/outside")],
)
def test_links_do_not_lead_out(bench: Bench, link: str, source: str) -> None:
    """A link's target is looked for inside the context, whatever it says."""
    write(bench.context.parent, {"outside": "secret"})
    write(bench.context, {"l": link})

    with pytest.raises(ContextError, match="not found"):
        bench.build(f"FROM busybox\nCOPY {source} /x\n")


def test_links_inside_are_followed_inside(bench: Bench) -> None:
    """Absolute links start at the context's root; those in a directory are copied as they are."""
    write(bench.context, {"etc/passwd": "mine\n", "l": "->/etc/passwd", "d/l": "->/etc/passwd"})

    assert bench.printed("FROM busybox\nCOPY l /l\nCOPY d /d\nRUN cat /l; readlink /d/l\n") == "mine\n/etc/passwd\n"


# ignore files


def test_ignore_file_of_the_dockerfile_wins(bench: Bench) -> None:
    write(bench.context, {"a": "", "b": "", ".dockerignore": "a\n", "My.dockerignore": "b\n"})
    text = "FROM busybox\nCOPY . /c\nRUN ls /c\n"

    assert bench.printed(text) == "My.dockerignore\nb\n"
    assert bench.printed(text, filename="My") == "My.dockerignore\na\n"


def test_malformed_ignore_file(bench: Bench) -> None:
    write(bench.context, {"a": "", ".dockerignore": "a\n!\n"})

    with pytest.raises(ContextError, match='illegal exclusion pattern: "!"'):
        bench.build("FROM busybox\nCOPY a /\n")


def test_ignored_file_has_a_hint(bench: Bench) -> None:
    write(bench.context, {"a": "", ".dockerignore": "a\n"})

    with pytest.raises(ContextError) as caught:
        bench.build("FROM busybox\nCOPY a /\n")
    assert ".dockerignore leaves it out" in caught.value.hint


# named contexts


def test_named_directory(bench: Bench, tmp_path: Path) -> None:
    """Its own ignore file counts, that of the main context does not."""
    write(bench.context, {".dockerignore": "*\n"})
    other = write(tmp_path / "other", {"a": "1", "b": "2", ".dockerignore": "b\n"})
    text = "FROM busybox\nCOPY --from=other . /o\nRUN --mount=from=other,target=/m ls /o /m\n"

    assert bench.printed(text, build_contexts={"other": str(other)}) == "/m:\na\n\n/o:\na\n"


def replace_by_directory(bench: Bench, tmp_path: Path) -> str:
    return str(write(tmp_path / "given", {"file": "given\n"}))


def replace_by_image(bench: Bench, tmp_path: Path) -> str:
    bench.build("FROM scratch\nCOPY <<A /file\ngiven\nA\nENV GIVEN=1\n", tags=("given:x",))
    return "docker-image://given:x"


def layout_of(bench: Bench, tmp_path: Path) -> Path:
    target = tmp_path / "layout"
    output = Output("oci", str(target), {"tar": "false"})
    text = "FROM scratch\nCOPY <<A /file\ngiven\nA\nENV GIVEN=1\n"
    bench.build(text, outputs=(Output("oci", str(target), {"tar": "false", "name": "given:x"}),))
    bench.build(text + "ENV TWO=2\n", outputs=(Output(output.type, output.dest, {"tar": "false", "name": "two"}),))
    return target


def replace_by_layout(bench: Bench, tmp_path: Path) -> str:
    return f"oci-layout://{layout_of(bench, tmp_path)}:x"


KINDS = [replace_by_directory, replace_by_image, replace_by_layout]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("base", "FROM busybox AS base\nRUN false\nFROM busybox\nCOPY --from=base /file /f\nRUN cat /f\n"),
        ("nowhere.example/x", "FROM busybox\nCOPY --from=nowhere.example/x /file /f\nRUN cat /f\n"),
        ("docker.io/library/x", "FROM busybox\nRUN --mount=from=x:latest,target=/m cat /m/file\n"),
        ("base", "FROM base AS mine\nFROM busybox\nCOPY --from=mine /file /f\nRUN cat /f\n"),
    ],
)
def test_named_context_replaces(
    bench: Bench, tmp_path: Path, make: Callable[[Bench, Path], str], name: str, text: str
) -> None:
    """A stage or an image by its name, in any of its forms; the stage's own instructions are not run."""
    assert bench.printed(text, build_contexts={name: make(bench, tmp_path)}) == "given\n"


@pytest.mark.parametrize("make", KINDS[1:])
def test_config_of_a_named_image(bench: Bench, tmp_path: Path, make: Callable[[Bench, Path], str]) -> None:
    """FROM an image context takes its config."""
    result = bench.build("FROM base\n", build_contexts={"base": make(bench, tmp_path)})

    assert "GIVEN=1" in result.stages[0].config["config"]["Env"]


def test_references_into_a_layout(bench: Bench, tmp_path: Path) -> None:
    """By tag, by digest, by the tag latest without one; it stays out of the list of names."""
    layout = layout_of(bench, tmp_path)
    bench.build("FROM base\n", build_contexts={"base": f"oci-layout://{layout}:x"}, tags=("made",))
    digest = bench.engine.store.find("made").descriptor.digest
    with pytest.raises(ImageNotFoundError, match="could not find"):
        bench.build("FROM base\n", build_contexts={"base": f"oci-layout://{layout}:y"})
    for place, wanted in ((f"@{digest}", "GIVEN=1"), ("", "TWO=2"), (":latest", "TWO=2")):
        result = bench.build("FROM base\n", build_contexts={"base": f"oci-layout://{layout}{place}"})
        assert wanted in result.stages[0].config["config"]["Env"]

    assert sorted(image.repository for image in bench.engine.images() if image.repository != "<none>") == [
        "busybox",
        "made",
    ]


def test_named_url(bench: Bench) -> None:
    """A URL is one file, not unpacked, with the server's time and mode 600; it is fetched once a build."""
    seen: list[str] = []
    with serving(files({"/a/data.tar": tar_of(*SIMPLE)}, seen, Last_Modified="Sun, 13 Sep 2020 12:26:40 GMT")) as url:
        text = "FROM busybox\nCOPY --from=data data.tar /x/\nCOPY --from=data . /y/\nRUN stat -c '%a %Y' /?/data.tar\n"
        printed = bench.printed(text, build_contexts={"data": f"{url}/a/data.tar?q=1"})

    assert printed == "600 1600000000\n" * 2
    assert seen == ["/a/data.tar"]


def test_named_context_of_a_second_build_is_cached(bench: Bench) -> None:
    with serving(files({"/data": b"1"})) as url:
        request = {"build_contexts": {"data": f"{url}/data"}}
        text = "FROM busybox\nCOPY --from=data data /\n"
        bench.build(text, **request)
        assert cached(bench.build(text, **request)) == "C"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/no/such/directory", "not a directory"),
        ("docker-image://nowhere.invalid/x", "not found"),
        ("oci-layout:///no/such/layout:x", "is not an image layout"),
        ("http://127.0.0.1:1/x", "failed to load"),
    ],
)
def test_named_context_that_is_not_there(bench: Bench, value: str, message: str) -> None:
    with pytest.raises(DockermagicError) as caught:
        bench.build("FROM busybox\nCOPY --from=other /x /x\n", build_contexts={"other": value})

    assert message in str(caught.value)
    assert caught.value.line == 2
