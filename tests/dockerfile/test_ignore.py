"""Ignore files: lines, matches, and where a walk need not look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dockermagic.dockerfile.ignore import Matcher, PatternError, parse


def test_parse() -> None:
    text = "\ufeff# comment\n\n  /build/ \r\n!  ./build//keep\n #x\n*.py[co]\na/../b\n!\n"

    assert parse(text) == ["build", "!build/keep", "#x", "*.py[co]", "b", "!"]


MATCHES = {
    ("build",): {"build": True, "build/a/b": True, "src/build": False, "builder": False},
    ("*.log",): {"a.log": True, "a.log/b": True, "x/a.log": False, ".log": True},
    ("**/*.log",): {"a.log": True, "x/y/a.log": True, "a.logs": False},
    ("src/**/test",): {"src/test": True, "src/a/b/test/c": True, "src/a/tests": False},
    ("src/**",): {"src": False, "src/a": True, "src/a/b": True},
    ("**",): {"a": True, "a/b": True},
    ("**x",): {"x": True, "a/bx": True, "x/y": True, "xy": False},
    ("a?c",): {"abc": True, "a/c": False, "ac": False},
    ("[a-c]x", "[^a-c]y"): {"bx": True, "dx": False, "dy": True, "by": False, "[a-c]x": False},
    ("a\\*b",): {"a*b": True, "axb": False},
    ("a.c", "d+e", "f(g)"): {"a.c": True, "abc": False, "d+e": True, "dde": False, "f(g)": True},
    ("*", "!keep", "!src/*.py"): {"a": True, "keep": False, "keep/a": False, "src/a.py": False, "src/a.c": True},
    ("docs", "!docs/README.md", "docs/README.md"): {"docs/README.md": True},
    ("a/b/", "!a/b/c"): {"a/b": True, "a/b/c": False, "a/b/c/d": False, "a/b/d": True},
    ("",): {"a": False},
    (): {"a": False, "a/b": False},
}


@pytest.mark.parametrize(("patterns", "paths"), MATCHES.items(), ids=lambda value: " ".join(value))
def test_matches(patterns: tuple[str, ...], paths: dict[str, bool]) -> None:
    """A pattern stands for a path and all below it; the last one that matches decides."""
    matcher = Matcher(patterns)

    assert {path: matcher.matches(path) for path in paths} == paths


BELOW = {
    ("node_modules",): {"node_modules": False, "node_modules/a": False, "src": True},
    ("*", "!src/app.py"): {"src": True, "docs": False, "src/deep": False},
    ("*", "!src"): {"docs": False},
    ("*", "!**/keep"): {"docs": True, "docs/a/b": True},
    ("*", "!s*/a/?.py"): {"src": True, "src/a": True, "src/b": False, "doc": False},
    ("!src/keep", "src"): {"src": False},
    ("src", "!src/a", "src/a"): {"src": True, "src/a": False},
}


@pytest.mark.parametrize(("patterns", "directories"), BELOW.items(), ids=lambda value: " ".join(value))
def test_may_include_below(patterns: tuple[str, ...], directories: dict[str, bool]) -> None:
    """A left-out directory needs a look only when a later exclamation mark can mean something in it."""
    matcher = Matcher(patterns)

    assert {path: matcher.may_include_below(path) for path in directories} == directories


@pytest.mark.parametrize("pattern", ["[", "a[", "[]a]", "[z-a]", "[a-]", "\\", "!", "![", "a/[b"])
def test_bad_pattern(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        Matcher(["ok", pattern])

    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("patterns", [p for p in (*MATCHES, *BELOW) if p])
def test_pruned_walk_finds_what_a_full_walk_finds(patterns: tuple[str, ...], tmp_path: Path) -> None:
    """Pruning saves time and never a file."""
    names = ("src", "docs", "a", "keep", "build", "app.py", "x.log", "README.md")
    for first in names:
        for second in names:
            target = tmp_path / first / second
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("")
    matcher = Matcher(patterns)

    def walk(prune: bool) -> set[str]:
        found = set()
        for top, directories, files in os.walk(tmp_path):
            here = Path(top).relative_to(tmp_path)
            found |= {path for name in files if not matcher.matches(path := (here / name).as_posix())}
            if prune:
                directories[:] = [name for name in directories if matcher.may_include_below((here / name).as_posix())]
        return found

    assert walk(prune=True) == walk(prune=False)
