"""Which sources of ADD are git repositories, and what they say about the commit, the directory and the rest."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dockermagic.dockerfile.literals import boolean
from dockermagic.dockerfile.text import quote
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass

__all__ = ["GitRef", "parse_git_ref"]

_SCP = re.compile(r"([a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:[^?#]*)(?:\?([^#]*))?(?:#(.*))?\Z", re.DOTALL)
_SCHEME = re.compile(r"(https?|git|ssh)://", re.IGNORECASE)
_KEYS = frozenset(
    ("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "mtime", "fetch-by-commit")
)


@dataclass(frozen=True, slots=True)
class GitRef:
    """``remote`` is what git clones. Options are '' or None where they were not said.

    ``maybe_local`` is a name like ``github.com/x/y``, which can be a path, too; ``unencrypted`` is HTTP or git.
    """

    remote: str
    short_name: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False
    maybe_local: bool = False
    unencrypted: bool = False


def parse_git_ref(text: str) -> GitRef | None:
    """The repository that a source names; None when it names none: a path, or another URL.

    Raises DockerfileSyntaxError when it is a repository with options that are wrong.
    """
    if text.startswith(("./", "../", "/")):
        return None
    local = text.startswith("github.com/")
    found = None if local else _SCP.match(text)
    if found:
        remote, query, fragment = found[1], found[2] or "", found[3] or ""
        scheme = "ssh"
    else:
        if not local and not _SCHEME.match(text):
            return None
        try:
            parts = urlsplit(f"https://{text}" if local else text)
        except ValueError:
            return None
        scheme, query, fragment = parts.scheme.lower(), parts.query, parts.fragment
        if not local and scheme in ("http", "https") and not parts.path.endswith(".git"):
            return None
        remote = f"{parts.netloc}{parts.path}" if local else f"{scheme}://{parts.netloc}{parts.path}"
    name = remote.rsplit("/", 1)[-1].removesuffix(".git")
    try:
        options = _options(query, fragment)
    except ValueError as error:
        raise DockerfileSyntaxError(str(error)) from None
    unencrypted = not local and scheme in ("http", "git")
    return GitRef(remote, name, **options, maybe_local=local, unencrypted=unencrypted)


def _options(query: str, fragment: str) -> dict[str, Any]:
    ref, _, subdir = fragment.partition(":")
    values = {}
    for key, given in parse_qs(query, keep_blank_values=True).items():
        if key not in _KEYS:
            raise ValueError(f"unexpected query {quote(key)}")
        if len(given) > 1:
            raise ValueError(f"query {quote(key)} has multiple values")
        values[key] = given[0]
    if "tag" in values and "branch" in values:
        raise ValueError("branch conflicts with tag")
    for key, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if values.get(key):
            wanted = prefix + values[key].removeprefix(prefix)
            if ref and ref != wanted:
                raise ValueError(f"ref conflicts: {quote(ref)} vs {quote(wanted)}")
            ref = wanted
    if values.get("subdir"):
        if subdir and subdir != values["subdir"]:
            raise ValueError(f"subdir conflicts: {quote(subdir)} vs {quote(values['subdir'])}")
        subdir = values["subdir"]
    checksum, commit = values.get("checksum", ""), values.get("commit", "")
    if checksum and commit and checksum != commit:
        raise ValueError(f"checksum conflicts: {quote(checksum)} vs {quote(commit)}")
    mtime = values.get("mtime", "")
    if mtime not in ("", "checkout", "commit"):
        raise ValueError(f'invalid mtime value: {quote(mtime)} (must be "checkout" or "commit")')
    return {
        "ref": ref,
        "subdir": subdir,
        "checksum": checksum or commit,
        "keep_git_dir": _switch(values, "keep-git-dir"),
        "submodules": _switch(values, "submodules"),
        "mtime": mtime,
        "fetch_by_commit": bool(_switch(values, "fetch-by-commit")),
    }


def _switch(values: dict[str, str], key: str) -> bool | None:
    if key not in values:
        return None
    try:
        return boolean(values[key]) if values[key] else True
    except ValueError:
        raise ValueError(f"invalid {key} value: {quote(values[key])}") from None
