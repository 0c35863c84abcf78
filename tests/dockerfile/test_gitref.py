"""Which sources of ADD are git repositories."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.gitref import GitRef, parse_git_ref
from dockermagic.errors import DockerfileSyntaxError

REPOSITORIES = {
    "https://host/a/b.git": GitRef("https://host/a/b.git", "b"),
    "https://host/b.git#v1:docs": GitRef("https://host/b.git", "b", "v1", "docs"),
    "https://host/b.git#:docs": GitRef("https://host/b.git", "b", subdir="docs"),
    "https://host/b.git?branch=x&subdir=d": GitRef("https://host/b.git", "b", "refs/heads/x", "d"),
    "https://host/b.git?tag=refs/tags/x": GitRef("https://host/b.git", "b", "refs/tags/x"),
    "https://host/b.git?commit=abc&keep-git-dir=1": GitRef(
        "https://host/b.git", "b", checksum="abc", keep_git_dir=True
    ),
    "http://host/b.git": GitRef("http://host/b.git", "b", unencrypted=True),
    "git://host/b": GitRef("git://host/b", "b", unencrypted=True),
    "ssh://git@host:22/b": GitRef("ssh://git@host:22/b", "b"),
    "git@host:a/b.git#x": GitRef("git@host:a/b.git", "b", "x"),
    "github.com/a/b": GitRef("github.com/a/b", "b", maybe_local=True),
}


@pytest.mark.parametrize(("text", "expected"), REPOSITORIES.items(), ids=REPOSITORIES)
def test_repository(text: str, expected: GitRef) -> None:
    """What a URL says."""
    assert parse_git_ref(text) == expected


@pytest.mark.parametrize(
    "text",
    ["https://host/b.tar.gz", "https://host/b.git/", "./b.git", "/b.git", "b.git", "ftp://host/b.git", "", "a@b"],
)
def test_no_repository(text: str) -> None:
    assert parse_git_ref(text) is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?tag=a&branch=b", "branch conflicts with tag"),
        ("?ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("?x=1", 'unexpected query "x"'),
        ("?ref=a&ref=b", 'query "ref" has multiple values'),
        ("?mtime=now", 'invalid mtime value: "now"'),
        ("?submodules=maybe", 'invalid submodules value: "maybe"'),
    ],
)
def test_refused(query: str, message: str) -> None:
    """A repository whose options contradict."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse_git_ref(f"https://host/b.git{query}")

    assert message in caught.value.message
