"""What a command imports: its start is most of what it takes, so it imports what it uses and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Commands

pytestmark = pytest.mark.alike

PROGRAM = """
import sys
from dockermagic.cli import main
code = main(sys.argv[1:])
print("", *sys.modules)
sys.exit(code)
"""

NOBODY = {
    *(
        "argparse",
        "asyncio",
        "concurrent.futures",
        "csv",
        "dataclasses",
        "difflib",
        "email",
        "http",
        "importlib.metadata",
    ),
    *("inspect", "locale", "logging", "optparse", "random", "secrets", "ssl", "subprocess", "tarfile", "tempfile"),
    *(
        "textwrap",
        "tokenize",
        "traceback",
        "urllib.request",
        "zoneinfo",
        "IPython",
        "pathspec",
        "rich",
        "urllib3",
        "yaml",
    ),
}
"""Modules that no command needs when all goes well."""

LOOKS = {"ctypes", "shutil", "socket", "dockermagic.sandbox.worker"}
COMMANDS = {
    ("--help",): {"json", "pathlib", "dockermagic.engine"},
    ("--version",): {"json", "pathlib", "sqlite3", "dockermagic.engine"},
    ("images",): {*LOOKS, "dockermagic.view"},
    ("history", "busybox"): LOOKS,
    ("ps",): {*LOOKS, "hashlib", "sqlite3", "dockermagic.containers.runtime", "dockermagic.oci.store"},
    ("run", "--rm", "busybox", "true"): {
        *(
            "ctypes",
            "shutil",
            "dockermagic.build.request",
            "dockermagic.build.unpacking",
            "dockermagic.containers.keeper",
        ),
        *("dockermagic.events", "dockermagic.terminal", "dockermagic.verbs.registry"),
    },
    ("build", "-q", "-t", "cached", "."): {*LOOKS, "dockermagic.build.copier", "dockermagic.build.remote"},
}
"""A command, and what it does without besides."""


def imported(commands: Commands, words: tuple[str, ...]) -> set[str]:
    program = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(program, env=commands.env, cwd=commands.directory, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_imports_what_it_uses(id_mode: str, busybox: Commands, words: tuple[str, ...]) -> None:
    busybox.file("Dockerfile", "FROM busybox\nRUN true\nWORKDIR /w\nCOPY Dockerfile .\n")
    if words[0] == "build":
        assert imported(busybox, words) & COMMANDS[words]  # what builds is there where something is built

    assert not imported(busybox, words) & (NOBODY | COMMANDS[words])
