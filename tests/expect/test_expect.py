"""What an image shall be: sentences, files of container-structure-test, and the cell that counts points."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import UsageError
from dockermagic.expect import FORMS, examine, expect, read_checks
from dockermagic.expect.structure import is_structure, read_structure
from tests.notebook.kernels import Kernel

DOCKERFILE = """\
FROM busybox
RUN mkdir /app && echo 'print("hi there")' > /app/main.py && ln -s ../app /srv && chmod 640 /app/main.py
RUN chown 7:8 /app/main.py && echo "Under the agpl" > /app/LICENSE \\
 && mkdir -p /usr/share/doc/fine /usr/share/doc/libgnutls30 && echo MIT > /usr/share/doc/fine/copyright
WORKDIR /app
ENV GREETING="good day"
LABEL version=2
EXPOSE 8000
VOLUME /data
USER 1000
HEALTHCHECK CMD true
ENTRYPOINT ["sh", "-c"]
CMD ["echo $GREETING"]
"""

RIGHT = """
# what holds
has file /app/main.py
has directory /app
has file /srv/main.py
has no /app/other.py
file /app/main.py contains hi there
exposes 8000
runs as non-root
runs as 1000
env GREETING
env "GREETING=good day"
label version=2
workdir /app
volume /data
healthcheck
entrypoint sh -c
cmd "echo $GREETING"
run layers on busybox <= 2
layers on busybox <= 3
layers <= 4
size < 50MB
prints good day
command "'exit 3'" exits 3
command "'echo to stderr >&2'" prints to stderr
"""

WRONG = {
    "has file /app": "/app is a directory.",
    "has file /app/x": "there is no /app/x.",
    "has no /app": "/app is there.",
    "file /app/main.py contains bye": "/app/main.py does not contain it.",
    "exposes 80": "it exposes 8000/tcp.",
    "runs as root": "it runs as 1000.",
    "env OTHER": "OTHER is not set.",
    "env GREETING=x": "GREETING is 'good day'.",
    "label x": "it has no label x.",
    "workdir /": "its working directory is /app.",
    "volume /x": "its volumes: /data.",
    "cmd x": "it is \"'echo $GREETING'\".",
    "RUN layers on busybox <= 1": "there are 2.",
    "RUN layers on nothing <= 1": "no such image: nothing.",
    "size < 1kB": "it has 1.98MB.",
    "prints bye": "it printed 'good day'.",
    "command true exits 1": "it ended with exit code 0.",
}

STRUCTURE = r"""
schemaVersion: 2.0.0
globalEnvVars: [{key: WHO, value: you}, {key: PATH, value: "/app:$PATH"}]
containerRunOptions: {user: "7", capabilities: [NET_RAW], envVars: [NOBODY_HAS_THIS]}
commandTests:
  - name: greets
    command: sh
    args: ["-c", "echo hello $WHO; echo oh >&2; exit 3"]
    expectedOutput: ["hello \\w+$"]
    excludedOutput: ["bye"]
    expectedError: ["^oh"]
    exitCode: 3
  - {name: paths, command: sh, args: [-c, "id -u; echo $PATH $TOO"], envVars: [{key: TOO, value: "${WHO}-$NOT"}],
     expectedOutput: ["^7\\n/app:/usr/.* you-\\n"], excludedOutput: ["^/app"]}
  - {name: set up, setup: [[touch, /tmp/x]], command: ls, args: [/tmp], expectedOutput: [x], teardown: [[rm, /tmp/x]]}
  - {name: wrong, command: "true", expectedOutput: [x]}
fileExistenceTests:
  - {name: program, path: /app/main.py, permissions: "-rw-r-----", uid: 7, gid: 8}
  - {name: nothing, path: /none, shouldExist: false}
  - {name: root, path: /, permissions: drwxr-xr-x, uid: 0, gid: 0, isExecutableBy: group}
  - {name: directory, path: /app, permissions: drwxr-xr-x, isExecutableBy: any}
  - {name: wrong, path: /none}
fileContentTests:
  - {name: text, path: /etc/passwd, expectedContents: ["^root:.*:/root"], excludedContents: [alice]}
licenseTests:
  - {debian: true, files: [/etc/passwd]}
  - {files: [/app/LICENSE]}
metadataTest:
  envVars: [{key: GREETING, value: "good .*", isRegex: true}]
  labels: [{key: version, value: "2"}]
  unboundEnvVars: [OTHER]
  exposedPorts: ["8000"]
  unexposedPorts: ["80"]
  volumes: [/data]
  entrypoint: [sh, -c]
  workdir: /app
  user: "1000"
"""


def build(engine: Engine) -> None:
    engine.base("busybox")
    engine.build(BuildRequest(DOCKERFILE, tags=("app",)))


def test_what_is_right_passes_and_what_is_wrong_is_said(id_mode: str, engine_home: Path) -> None:
    with Engine(engine_home) as engine:
        build(engine)

        right = examine(engine, "app", read_checks(RIGHT))
        wrong = expect("app", *WRONG, engine=engine)
        structure = examine(engine, "app", read_structure(STRUCTURE))

    assert [str(outcome) for outcome in right.outcomes if not outcome.passed] == []
    assert right.summary == "app: all right, 23 of 23."
    assert {outcome.text: outcome.found for outcome in wrong.outcomes} == WRONG
    assert [str(outcome) for outcome in structure.outcomes if not outcome.passed] == [
        "✗ command: wrong: its output has no 'x'.",
        "✗ file: wrong: there is no /none.",
        "✗ licenses: /app/LICENSE names AGPL.",
    ]


def test_every_form_is_tried_above() -> None:
    tried = {line.split()[0].lower() for line in [*RIGHT.split("\n"), *WRONG] if line}

    assert {form.split()[0].lower() for form in FORMS} <= tried


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("has file", "no sentence that a check knows"),
        ("size < big", "'big' is not a size"),
        ("layers <= many", "'many' is not a number"),
        ("  Hint: x", "a hint stands below the sentence"),
        ("prints 'x", "cannot read this line"),
    ],
)
def test_a_sentence_that_is_none_is_said_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        read_checks(f"healthcheck\n{text}" if "int" not in text else text)

    assert caught.value.line in (1, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schemaVersion: 1.0.0", "does not say schemaVersion: 2.0.0"),
        ("schemaVersion: 2.0.0\notherTests: []", "otherTests, which dockermagic does not check"),
        ("schemaVersion: 2.0.0\ncontainerRunOptions: {privileged: true}", "privileged is not possible here"),
        ("schemaVersion: 2.0.0\ncommandTests: [{name: x}]", "KeyError: 'command'"),
        ("schemaVersion: [", "neither YAML nor JSON"),
    ],
)
def test_a_structure_file_that_cannot_be_run_is_said(text: str, problem: str) -> None:
    assert is_structure(text)
    with pytest.raises(UsageError, match=problem):
        read_structure(text)


def test_a_cell_shows_a_friendly_line_and_counts_points(id_mode: str, engine_home: Path, tmp_path: Path) -> None:
    with Engine(engine_home) as engine:
        build(engine)
    cell = "%%dockercheck app --points 4\nhas file /app/main.py\nexposes 9000\n    Hint: EXPOSE says it.\n"
    with Kernel(engine_home, tmp_path) as kernel:
        reply = kernel.run(cell)
        bad = kernel.run("%%dockercheck app\nhas cheese")

    assert (reply.status, reply.stderr) == ("ok", "")
    shown, points = reply.displays
    assert shown["text/plain"].split("\n") == [
        "app: 1 of 2 are right.",
        "  ✓ has file /app/main.py",
        "  ✗ exposes 9000: it exposes 8000/tcp. Hint: EXPOSE says it.",
        "Change your cell, run it again, and then this one.",
    ]
    assert points["text/plain"] == "2.0"
    assert (bad.status, bad.error) == ("error", "UsageError")
