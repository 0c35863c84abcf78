"""The verbs for real: each command its own process, as root and as ordinary users."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Commands

pytestmark = pytest.mark.alike

FROM = "FROM busybox\n"


def test_build_look_run_and_remove(busybox: Commands) -> None:
    """The way of a first lesson."""
    busybox.file("hello.txt", "hello from a file\n")
    busybox.file(
        "Dockerfile",
        FROM + 'WORKDIR /app\nCOPY hello.txt .\nENV WHO=me\nRUN echo made > made\nCMD ["cat", "hello.txt"]\n',
    )

    built = busybox("build", "--progress=plain", "-t", "first", ".")
    assert built.out == ""
    for line in (
        "#1 [internal] load build definition from Dockerfile",
        "[internal] load metadata for docker.io/library/busybox:latest",
        "[internal] load build context",
        "[2/4] WORKDIR /app",
        "[4/4] RUN echo made > made",
        "exporting to image",
        "naming to docker.io/library/first:latest",
    ):
        assert line in built.err
    assert busybox("build", "--progress=plain", "-t", "first", ".").err.count("CACHED\n") == 4

    identity = busybox("inspect", "--format", "{{.Id}}", "first").out.strip()
    rows = [line.split() for line in busybox("images").out.splitlines()]
    assert rows[0][:2] == ["REPOSITORY", "TAG"]
    assert rows[1][:3] == ["first", "latest", identity.removeprefix("sha256:")[:12]]
    history = busybox("history", "--no-trunc", "first").out.splitlines()
    assert history[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert history[1].startswith(identity)
    assert 'CMD ["cat" "hello.txt"]' in history[1]
    assert "RUN /bin/sh -c echo made > made # buildkit" in history[2]

    assert busybox("run", "--rm", "first").out == "hello from a file\n"
    assert busybox("run", "--rm", "first", "sh", "-c", "echo $WHO; pwd").out == "me\n/app\n"

    busybox("tag", "first", "second:v1")
    removed = busybox("rmi", "first").out
    assert removed == "Untagged: first:latest\n"
    assert f"Deleted: {identity}" in busybox("rmi", "second:v1").out
    assert "first" not in busybox("images").out


def test_an_image_stays_while_a_container_stands_on_it(busybox: Commands) -> None:
    """Docker's rules and words: by name and by id, of one that runs and one that does not, with -f."""
    image = busybox.build(FROM + "CMD sleep 1000\n", "-q", "-t", "app").out.strip()
    number = image.removeprefix("sha256:")[:12]
    container = busybox("run", "-d", "--name", "box", "app").out[:12]
    by_name = f'ERROR: conflict: unable to remove repository reference "app" (must force) - container {container} '
    by_name += f"is using its referenced image {number}\n"
    by_id = (
        f"ERROR: conflict: unable to delete {number} (%s be forced) - image is being used by %s container {container}\n"
    )
    busybox("tag", "app", "second")
    assert busybox("rmi", "second").out == "Untagged: second:latest\n"
    assert busybox("rmi", "app", code=1).err.startswith(by_name)
    for force in ((), ("-f",)):
        assert busybox("rmi", *force, number, code=1).err.startswith(by_id % ("cannot", "running"))
    assert busybox("rmi", "-f", "app").out == "Untagged: app:latest\n"
    busybox("tag", number, "app")
    busybox("stop", "box")
    assert busybox("rmi", "app", code=1).err.startswith(by_name)
    assert busybox("rmi", number, code=1).err.startswith(by_id % ("must", "stopped"))
    assert busybox("rmi", "-f", "app").out == f"Untagged: app:latest\nDeleted: {image}\n"
    busybox("start", "box")
    busybox("rm", "-f", "box")


def test_quiet_build_prints_the_id_that_run_takes(busybox: Commands) -> None:
    done = busybox.build(FROM + "CMD echo ran\n", "-q")

    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.out)
    assert done.err == ""
    assert busybox("run", "--rm", done.out.strip()).out == "ran\n"
    assert busybox("images", "-q", "--filter", "dangling=true").out.strip() == done.out[7:19]


def test_iidfile_and_an_image_without_a_name(busybox: Commands) -> None:
    busybox.build(FROM + "LABEL a=b\n", "--iidfile", "id", "--label", "c=d")
    identity = (busybox.directory / "id").read_text()

    config = json.loads(busybox("inspect", "-f", "{{json .Config}}", identity).out)
    assert (config["Labels"]["a"], config["Labels"]["c"]) == ("b", "d")
    assert None not in config.values()


def test_context_and_dockerfile_from_many_places(busybox: Commands) -> None:
    busybox.file("ctx/a.txt", "a\n")
    busybox.file("ctx/skip.txt", "s\n")
    busybox.file("ctx/sub/other.Dockerfile", FROM + "COPY . /all\nCMD ls /all\n")
    busybox.file("ctx/sub/other.Dockerfile.dockerignore", "skip.txt\nsub\n")
    busybox.file("ctx/.dockerignore", "a.txt\n")

    busybox("build", "-q", "-t", "x", "-f", "ctx/sub/other.Dockerfile", "ctx")
    assert busybox("run", "--rm", "x").out == "a.txt\n"

    busybox("build", "-q", "-t", "x", "-f", "-", "ctx", stdin=(FROM + "COPY . /all\nCMD ls /all\n").encode())
    assert busybox("run", "--rm", "x").out == "skip.txt\nsub\n"

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in (("Dockerfile", FROM + "COPY f /f\nCMD ls -l /f\n"), ("f", "tarred\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o640
            tar.addfile(member, io.BytesIO(content.encode()))
    busybox("build", "-q", "-t", "x", "-", stdin=archive.getvalue())
    assert busybox("run", "--rm", "x").out.startswith("-rw-r-----")


def test_build_arguments_targets_and_named_contexts(busybox: Commands) -> None:
    busybox.file("more/f", "named\n")
    busybox.environment["FROM_HERE"] = "taken"
    text = FROM.strip() + " AS one\nARG A\nARG FROM_HERE\nRUN echo $A $FROM_HERE > /f\nCMD cat /f\n"
    text += FROM.strip() + " AS two\nCOPY --from=more f /f\nCMD cat /f\n"

    words = ("-q", "-t", "x", "--build-arg", "A=1", "--build-arg", "FROM_HERE", "--build-context", "more=more")
    busybox.build(text, *words, "--target", "one")
    assert busybox("run", "--rm", "x").out == "1 taken\n"
    busybox.build(text, *words)
    assert busybox("run", "--rm", "x").out == "named\n"


def test_secrets_reach_the_run_and_nothing_else(busybox: Commands) -> None:
    busybox.file("token", "hush")
    busybox.environment["PASS"] = "word"
    text = FROM + "RUN --mount=type=secret,id=t --mount=type=secret,id=PASS,env=P cat /run/secrets/t; echo $P\n"
    done = busybox.build(text, "--secret", "id=t,src=token", "--secret", "id=PASS", "--progress=plain", "-t", "x")

    assert "hushword" in done.err
    assert "run" not in busybox("run", "--rm", "x", "ls", "/").out.split()


def test_raw_json_has_the_fields_of_buildkit(busybox: Commands) -> None:
    done = busybox.build(FROM + "RUN echo one\n", "--progress=rawjson", "-t", "x")
    vertexes = [vertex for line in done.err.splitlines() for vertex in json.loads(line).get("vertexes", [])]

    last = {vertex["digest"]: vertex for vertex in vertexes}
    run = next(vertex for vertex in last.values() if vertex["name"] == "[2/2] RUN echo one")
    assert set(run) >= {"digest", "name", "started", "completed"}


def test_a_failed_run_is_named_as_buildkit_names_it_and_its_output_said_twice_at_most(busybox: Commands) -> None:
    text = FROM + "ENV X=one\nRUN echo \"a $X\" '$X' && false\n"
    done = busybox.build(text, "--progress=plain", code=1)
    name = """[2/2] RUN echo "a one" '$X' && false"""

    assert f"{name}\n" in done.err
    assert f"------\n > {name}:\n" in done.err
    assert r"""process "/bin/sh -c echo \"a $X\" '$X' && false" did not complete""" in done.err
    assert done.err.count("a one $X\n") == 2
    quiet = busybox.build(FROM + 'RUN ["nosuch"]\n', "-q", code=1)
    assert quiet.err.count("executable file not found in $PATH") == 1


FAILURES = [
    ("FROM busybox\nRAN x\n", 1, ("unknown instruction: RAN", "Dockerfile:2", "RUN?")),
    ("FROM busybox\nRUN exit 7\n", 1, ("exit code: 7", "Dockerfile:2")),
    ("FROM busybox\nRUN nosuchthing\n", 1, ("exit code: 127", "nosuchthing: not found")),
    ("FROM busybox\nCOPY nope /\n", 1, ("nope", "not found", "Dockerfile:2")),
    ("FROM nosuchimage\n", 1, ("nosuchimage", "not found")),
    ("FROM busybox\nCOPY --from=nostage /a /b\n", 1, ("nostage",)),
    ("FROM busybox AS tools\nFROM busybox\nCOPY --from=tool /a /b\n", 1, ("Did you mean the stage tools?",)),
    ("", 1, ("no instructions",)),
]


@pytest.mark.parametrize(("dockerfile", "code", "said"), FAILURES)
def test_a_failed_build_says_what_and_where(
    busybox: Commands, dockerfile: str, code: int, said: tuple[str, ...]
) -> None:
    done = busybox.build(dockerfile, "-t", "x", code=code)
    last = done.err[done.err.rindex("ERROR: ") :]

    assert [words for words in said if words not in done.err] == []
    assert said[0] in last


def test_an_unknown_target(busybox: Commands) -> None:
    assert "nope" in busybox.build(FROM, "--target", "nope", code=1).err


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_save_and_load(busybox: Commands, form: str) -> None:
    busybox.build(FROM + "RUN echo kept > /kept\nCMD cat /kept\n", "-q", "-t", "kept:v1")
    identity = busybox("inspect", "-f", "{{.Id}}", "kept:v1").out
    busybox("save", "--format", form, "-o", "kept.tar", "kept:v1")
    piped = busybox.raw("save", "--format", form, "kept:v1").stdout
    assert piped == (busybox.directory / "kept.tar").read_bytes()

    busybox("rmi", "kept:v1")
    assert busybox("load", "-i", "kept.tar").out == "Loaded image: kept:v1\n"
    assert busybox("inspect", "-f", "{{.Id}}", "kept:v1").out == identity
    busybox("rmi", "kept:v1")
    assert busybox("load", stdin=piped).out == "Loaded image: kept:v1\n"
    assert busybox("run", "--rm", "kept:v1").out == "kept\n"


def test_output_to_an_archive(busybox: Commands) -> None:
    busybox.build(FROM + "LABEL a=b\n", "--output", "type=oci,dest=out.tar", "-t", "x")
    with tarfile.open(busybox.directory / "out.tar") as archive:
        names = set(archive.getnames())

    assert {"oci-layout", "index.json"} <= names


def test_check(busybox: Commands) -> None:
    busybox.file("Dockerfile", FROM + "MAINTAINER me\n")

    shown = busybox("check", code=1).out
    assert "WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/" in shown
    assert "   2 | >>> MAINTAINER me" in shown
    assert busybox("build", "--check", ".", code=1).out == shown
    document = json.loads(busybox("check", "--format", "json", ".", code=1).out)
    assert [warning["ruleName"] for warning in document["warnings"]] == ["MaintainerDeprecated"]
    busybox.file("Dockerfile", FROM + 'CMD ["x"]\n')
    assert busybox("check").out == "Check complete, no warnings found.\n"
    busybox.file("Dockerfile", "FROM busybox\nRAN x\n")
    assert json.loads(busybox("check", "--format", "json", code=1).out)["buildError"]["message"].endswith(
        "unknown instruction: RAN (did you mean RUN?)"
    )


def test_templates_and_lists(busybox: Commands) -> None:
    busybox("tag", "busybox", "copy:v2")

    assert busybox("images", "--format", "{{.Repository}}:{{.Tag}}", "copy").out == "copy:v2\n"
    assert busybox("images", "--format", "table {{.Tag}}\\t{{.Repository}}", "copy").out.split() == [
        "TAG",
        "REPOSITORY",
        "v2",
        "copy",
    ]
    assert json.loads(busybox("images", "--format", "json", "copy").out)["Tag"] == "v2"
    assert len(set(busybox("images", "-q").out.split())) == 1
    assert "sha256:" in busybox("images", "--digests", "--no-trunc").out
    assert busybox("images", "--filter", "reference=co*").out.count("\n") == 2
    assert busybox("inspect", "busybox", "-f", "{{len .RootFS.Layers}} {{.Config.Healthcheck}}").out == "1 <nil>\n"
    missing = busybox("inspect", "busybox", "nope", "--format", "{{.Id}}", code=1)
    assert missing.out.startswith("sha256:")
    assert "nope" in missing.err


USAGE = [
    (("imagse",), 1, "Did you mean 'dockermagic images'?"),
    (("image", "lst"), 1, "image ls"),
    (("build",), 1, "'dockermagic build' requires exactly 1 argument"),
    (("build", "a", "b"), 1, "requires exactly 1 argument"),
    (("build", "--tagg", "x", "."), 125, "did you mean --tag?"),
    (("build", "nowhere"), 1, 'path "nowhere" not found'),
    (("build", "."), 1, "failed to read dockerfile"),
    (("build", "-f", "nofile", "."), 1, "nofile"),
    (("build", "git://127.0.0.1:1/x.git"), 1, "git"),
    (("build", "--progress=loud", "."), 125, "invalid progress mode loud"),
    (("tag", "a"), 1, "requires exactly 2 arguments"),
    (("tag", "nope", "b"), 1, "nope"),
    (("tag", "nope", "B A D"), 1, ""),
    (("history", "nope"), 1, "nope"),
    (("rmi", "nope"), 1, "nope"),
    (("images", "--filter", "colour=red"), 1, "invalid filter 'colour'"),
    (("images", "--format", "{{.Nope"), 1, "unclosed action"),
    (("load", "-i", "nofile"), 1, "cannot read nofile: No such file or directory"),
    (("load",), 1, ""),
    (("save", "nope", "-o", "x.tar"), 1, "nope"),
    (("run",), 1, "requires at least 1 argument"),
    (("run", "--nmae", "x", "y"), 125, "did you mean --name?"),
    (("run", "--pull", "never", "nope"), 125, "No such image: nope"),
    (("run", "busyBox"), 125, "busyBox"),
    (("run", "--pull", "never", "-d", "nope"), 125, "No such image: nope"),
    (("run", "-v", "a:b", "nope"), 125, "mount path must be absolute"),
    (("--wrong",), 125, "unknown flag: --wrong"),
]


@pytest.mark.parametrize(("words", "code", "said"), USAGE)
def test_wrong_words(commands: Commands, words: tuple[str, ...], code: int, said: str) -> None:
    done = commands(*words, code=code)

    assert done.err.startswith("ERROR: ")
    assert said in done.err


def test_help_of_every_verb(commands: Commands) -> None:
    names = re.findall(r"^  (\w+) ", commands("--help").out, re.MULTILINE)

    assert {"build", "run", "images", "save", "check", "lab"} <= set(names)
    for name in names:
        shown = commands(name, "--help").out
        assert shown.startswith(f"Usage:  dockermagic {name}")
    assert commands("help", name).out == shown


def test_dockers_management_commands(busybox: Commands) -> None:
    assert busybox("image", "ls").out == busybox("images").out
    assert busybox("container", "run", "--rm", "busybox", "echo", "x").out == "x\n"


def test_a_file_that_cannot_be_written(busybox: Commands) -> None:
    done = busybox("save", "-o", "no/such/dir.tar", "busybox", code=1)

    assert "cannot write no/such/dir.tar: No such file or directory" in done.err


def test_a_failed_save_leaves_no_file(busybox: Commands) -> None:
    busybox("save", "-o", "x.tar", "busybox", "nope", code=1)

    assert list(Path(busybox.directory).iterdir()) == []


@pytest.mark.alike
def test_streams_that_are_closed_lead_nowhere(busybox: Commands) -> None:
    """As where a service starts a command: their numbers are not those of other files."""
    program = f"exec {sys.executable} -m dockermagic run --rm busybox sh -c 'cat; echo out; echo err >&2; exit 7'"
    done = subprocess.run(
        ["sh", "-c", f"{program} <&- >&- 2>&-"], env=busybox.env, cwd=busybox.directory, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
