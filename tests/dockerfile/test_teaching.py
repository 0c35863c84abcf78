"""Rules for learners, each by a text that breaks it and one that does not, and hadolint's opinion of the same texts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.dockerfile.commands import shell_commands
from dockermagic.dockerfile.linter import lint
from dockermagic.dockerfile.rules import TEACHING

Finding = tuple[str, int]

INSTALL = "apt-get install -y --no-install-recommends"

CASES: dict[str, tuple[str, list[Finding]]] = {
    "clean": (
        f"FROM debian:12\nWORKDIR /app\nCOPY . .\nRUN apt-get update && {INSTALL} a=1 && rm -rf /var/lib/apt/lists/*\n",
        [],
    ),
    "a command for servers": ("FROM x:1\nRUN service nginx start", [("DL3001", 2)]),
    "root at the end": ("FROM x:1\nUSER 1\nUSER root", [("DL3002", 3)]),
    "root in between": ("FROM x:1\nUSER root\nUSER 1", []),
    "cd": ("FROM x:1\nRUN cd /a && make", [("DL3003", 2)]),
    "cd in a substitution": ("FROM x:1\nRUN a $(cd /b && pwd)", [("DL3003", 2)]),
    "sudo": ("FROM x:1\nRUN sudo make", [("DL3004", 2)]),
    "no tag": ("FROM debian", [("DL3006", 1)]),
    "no tag behind a port": ("FROM host:5000/debian", [("DL3006", 1)]),
    "a digest": ("FROM debian@sha256:" + "0" * 64, []),
    "a stage needs no tag": ("FROM x:1 AS a\nFROM a", []),
    "scratch needs no tag": ("FROM scratch", []),
    "a variable for an image": ("ARG a=x:1\nFROM $a", []),
    "latest": ("FROM debian:latest", [("DL3007", 1)]),
    "apt-get without versions": (f"FROM x:1\nRUN {INSTALL} a b=1", [("DL3008", 2)]),
    "apt-get of a file": (f"FROM x:1\nRUN {INSTALL} ./a.deb", []),
    "lists stay": (f"FROM x:1\nRUN apt-get update && {INSTALL} a=1", [("DL3009", 2)]),
    "lists on a cache mount": (
        f"FROM x:1\nRUN --mount=type=cache,target=/var/lib/apt apt-get update && {INSTALL} a=1",
        [],
    ),
    "no such port": ("FROM x:1\nEXPOSE 80 65536", [("DL3011", 2)]),
    "pip without versions": ("FROM x:1\nRUN pip install --no-cache-dir a b==1", [("DL3013", 2)]),
    "pip of a file": ("FROM x:1\nRUN pip install --no-cache-dir -r requirements.txt", []),
    "python -m pip": ("FROM x:1\nRUN python3 -m pip install --no-cache-dir a", [("DL3013", 2)]),
    "apt-get asks": ("FROM x:1\nRUN apt-get install --no-install-recommends a=1", [("DL3014", 2)]),
    "apt-get is quiet": ("FROM x:1\nRUN apt-get -qq install --no-install-recommends a=1", []),
    "recommended packages": ("FROM x:1\nRUN apt-get install -y a=1", [("DL3015", 2)]),
    "npm without versions": ("FROM x:1\nRUN npm install -g a", [("DL3016", 2)]),
    "npm with versions": ("FROM x:1\nRUN npm install @a/b@1 && npm install", []),
    "apk without versions": ("FROM x:1\nRUN apk add --no-cache a", [("DL3018", 2)]),
    "apk with a cache": ("FROM x:1\nRUN apk add a=1", [("DL3019", 2)]),
    "apk with a group": ("FROM x:1\nRUN apk --no-cache add --virtual .build a=1", []),
    "ADD of a file": ("FROM x:1\nADD a /a", [("DL3020", 2)]),
    "ADD of an archive": ("FROM x:1\nADD a.tar.gz https://host/b /a/", []),
    "several files to one": ("FROM x:1\nCOPY a b /c", [("DL3021", 2)]),
    "no such stage": ("FROM x:1 AS a\nFROM x:1\nCOPY --from=b /c /c", [("DL3022", 3)]),
    "files of an image": ("FROM x:1\nCOPY --from=b:1 /c /c", []),
    "apt": ("FROM x:1\nRUN apt list", [("DL3027", 2)]),
    "pip with a cache": ("FROM x:1\nRUN pip install a==1", [("DL3042", 2)]),
    "ENV that reads itself": ("FROM x:1\nENV a=1 b=$a", [("DL3044", 2)]),
    "ENV that reads an older one": ("FROM x:1\nENV a=1\nENV b=$a PATH=/b:$PATH", []),
    "COPY to somewhere": ("FROM x:1\nCOPY a b", [("DL3045", 2)]),
    "COPY into a WORKDIR": ("FROM x:1 AS a\nWORKDIR /a\nFROM a\nCOPY a b", []),
    "wget with progress": ("FROM x:1\nRUN wget https://host/a", [("DL3047", 2)]),
    "wget without": ("FROM x:1\nRUN wget -qO- https://host/a", []),
    "two RUNs": ("FROM x:1\nRUN a\nRUN b", [("DL3059", 3)]),
    "two RUNs that are more than one command": ("FROM x:1\nRUN a && b\nRUN c", []),
    "two RUNs apart": ("FROM x:1\nRUN a\nCOPY b /b\nRUN c", []),
    "curl and wget": ("FROM x:1\nRUN curl a && wget -q b", [("DL4001", 2)]),
    "a link for a shell": ("FROM x:1\nRUN ln -sf /bin/bash /bin/sh", [("DL4005", 2)]),
    "a pipe": ("FROM x:1\nRUN a | b", [("DL4006", 2)]),
    "a pipe with pipefail": ('FROM x:1\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN a | b', []),
    "a pipe in quotes": ("FROM x:1\nRUN echo 'a | b'", []),
    "a bar in a pattern": ("FROM x:1\nRUN case $a in b|c) d;; esac", []),
    "a heredoc is a script": ("FROM x:1\nRUN <<E\ncd /a\nE", [("DL3003", 2)]),
    "told to be silent": ("FROM x:1\n# hadolint ignore=DL3003,DL3004\nRUN cd /a && sudo b", []),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_rule(text: str, expected: list[Finding]) -> None:
    """Rule and line."""
    actual = sorted((found.rule, found.line) for found in lint(text, teaching=True) if found.rule in TEACHING)

    assert actual == sorted(expected)


def test_every_rule_has_a_case() -> None:
    """All but DL3023: a stage that reads itself is refused before."""
    tested = {rule for _, findings in CASES.values() for rule, _ in findings}

    assert set(TEACHING) - tested == {"DL3023"}


def test_off_by_default() -> None:
    assert lint("FROM debian\nRUN cd /a") == []


def test_underlined() -> None:
    """A finding about a command points at the command, in its line."""
    text = "FROM x:1\nRUN a && \\\n    cd /b && c\nRUN <<E\nd\n  sudo e\nE\n"
    found = [f for f in lint(text, teaching=True) if f.rule in ("DL3003", "DL3004")]
    lines = text.splitlines()

    assert [lines[f.range.start_line - 1][f.range.start_column : f.range.end_column] for f in found] == [
        "cd /b",
        "sudo e",
    ]


COMMANDS = {
    "a b; c && d || e | f & g": ["a b", "c", "d", "e", "f", "g"],
    "A=1 B=$(x y) a": ["x y", "a"],
    "if a; then b; else c; fi": ["a", "b", "c"],
    "for x in a b; do c $x; done": ["c $x"],
    "case $x in a|b) c;; *) d;; esac": ["c", "d"],
    "{ a; (b); } > out 2>&1": ["a", "b"],
    "a 'b; c' \"d && $(e 'f')\" # g": ["a b; c d && $(e 'f')", "e f"],
    'a "$(b "c d" | e)" `f`': ["a $(b c d | e) `f`", "b c d", "e", "f"],
    "a $((1 + 2))": ["a $((1 + 2))"],
    "": [],
    "'": [""],
}


@pytest.mark.parametrize(("text", "expected"), COMMANDS.items(), ids=COMMANDS)
def test_shell_commands(text: str, expected: list[str]) -> None:
    """Which programs a line starts, with which words."""
    assert [" ".join(command.words) for command in shell_commands(text)] == expected


def _hadolint() -> str | None:
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.exists() else shutil.which("hadolint")


# Where we differ on purpose: hadolint takes a registry's port for a tag, and wants the very directory of the lists.
OURS_ALONE = {"no tag behind a port", "lists on a cache mount"}


def test_hadolint_agrees(tmp_path: Path) -> None:
    """hadolint finds the same in the texts above, for the rules that both know."""
    program = _hadolint()
    if program is None:
        pytest.skip("hadolint is not installed")
    names = {name: f"{number:03}.Dockerfile" for number, name in enumerate(CASES)}
    for name, (text, _) in CASES.items():
        (tmp_path / names[name]).write_text(text)
    answer = subprocess.run(
        [program, "--no-fail", "--format", "json", *names.values()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs: dict[str, set[Finding]] = {}
    for item in json.loads(answer.stdout):
        if item["code"] in TEACHING:
            theirs.setdefault(item["file"], set()).add((item["code"], item["line"]))
    ours = {names[name]: set(expected) for name, (_, expected) in CASES.items() if name not in OURS_ALONE}
    different = {
        file: (found, theirs.get(file, set())) for file, found in ours.items() if found != theirs.get(file, set())
    }

    assert different == {}
