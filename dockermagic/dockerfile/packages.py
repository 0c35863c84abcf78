"""Rules for learners about package managers: versions, caches, and what comes along unasked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from dockermagic.dockerfile.commands import ShellCommand
from dockermagic.dockerfile.model import Run

__all__ = ["PACKAGE_RULES"]

Finding = tuple[str, str]
PackageRule = Callable[[ShellCommand, Run, Sequence[ShellCommand]], Iterator[Finding]]

_APT_WITH_VALUE = frozenset({"-t", "--target-release", "-o", "--option", "-c", "--config-file"})
_APK_WITH_VALUE = frozenset({"-t", "--virtual", "-X", "--repository", "-p", "--root", "--arch", "--keys-dir", "--wait"})
_PIP_WITH_VALUE = frozenset(
    (
        *("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-t", "--target", "-i", "--index-url"),
        *("--extra-index-url", "-f", "--find-links", "--prefix", "--root", "--platform", "--python-version"),
        *("--trusted-host", "--proxy", "--timeout", "--retries", "--cache-dir", "--log", "--src", "--upgrade-strategy"),
    )
)
_PIP_PINNED = re.compile(r"(?:==|===|>=|<=|~=|!=|<|>|@)")
_PIP_FILE = re.compile(r"\.(?:whl|tar\.gz|zip)\Z")
_PYTHON = re.compile(r"python[0-9.]*\Z")
_PIP = re.compile(r"pip[0-9.]*\Z")


def _plain(words: Sequence[str], with_value: frozenset[str]) -> list[str]:
    """The words that are no options and no values of options."""
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in with_value
        else:
            found.append(word)
    return found


def _variable(word: str) -> bool:
    return word.startswith(("$", "`"))


def _mounted(made: Run, directory: str) -> bool:
    """Whether a cache or tmpfs is mounted there, or above, so that nothing of it gets into the layer."""
    targets = [(mount.target or "").rstrip("/") for mount in made.mounts if mount.type in ("cache", "tmpfs")]
    return any(target and (directory + "/").startswith(target + "/") for target in targets)


def apt(command: ShellCommand, made: Run, others: Sequence[ShellCommand]) -> Iterator[Finding]:
    """apt-get: versions, -y, recommended packages, the lists that stay behind."""
    if command.program != "apt-get":
        return
    words = _plain(command.words[1:], _APT_WITH_VALUE)
    removed = any(
        (other.program == "rm" and any("/var/lib/apt/lists" in word for word in other.words))
        or (other.program == "apt-get" and "dist-clean" in other.words)
        for other in others
    )
    if "update" in words and not removed and not _mounted(made, "/var/lib/apt/lists"):
        yield "DL3009", "End this RUN with rm -rf /var/lib/apt/lists/*"
    if "install" not in words:
        return
    packages = words[words.index("install") + 1 :]
    loose = [word for word in packages if "=" not in word and "/" not in word and not word.endswith(".deb")]
    if loose:
        yield "DL3008", f"Name the version of {_some(loose)}: apt-get install {loose[0]}=VERSION"
    quiet = sum(word in ("-q", "--quiet") for word in command.words)
    silent = quiet > 1 or any("qq" in option or option == "-q=2" for option in command.options)
    if not silent and not command.has("-y", "--yes", "--assume-yes"):
        yield "DL3014", "Add -y: nobody is there to answer"
    if not command.has("--no-install-recommends") and not any(
        "install-recommends" in word.lower() for word in command.words
    ):
        yield "DL3015", "Add --no-install-recommends to leave out what is not needed"


def apk(command: ShellCommand, made: Run, others: Sequence[ShellCommand]) -> Iterator[Finding]:
    """apk: versions, and its cache."""
    if command.program != "apk":
        return
    words = _plain(command.words[1:], _APK_WITH_VALUE)
    if words[:1] != ["add"]:
        return
    loose = [word for word in words[1:] if not re.search(r"[=<>~]|\.apk\Z", word) and not _variable(word)]
    if loose:
        yield "DL3018", f"Name the version of {_some(loose)}: apk add {loose[0]}=VERSION"
    if not command.has("--no-cache") and not _mounted(made, "/var/cache/apk"):
        removed = any(other.program == "rm" and any("/var/cache/apk" in w for w in other.words) for other in others)
        if not removed:
            yield "DL3019", "Add --no-cache"


def _pip_words(command: ShellCommand) -> Sequence[str] | None:
    """What follows ``pip install``; None for another command."""
    words = command.words
    if _PYTHON.match(command.program) and words[1:3] == ("-m", "pip"):
        words = words[2:]
    elif not _PIP.match(command.program):
        return None
    plain = _plain(words[1:], _PIP_WITH_VALUE)
    return words[words.index("install") + 1 :] if plain[:1] == ["install"] else None


def pip(command: ShellCommand, made: Run, others: Sequence[ShellCommand]) -> Iterator[Finding]:
    """pip: versions, and its cache."""
    words = _pip_words(command)
    if words is None:
        return
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    if not options & {"-r", "--requirement", "-c", "--constraint", "-e", "--editable"}:
        packages = [word for word in _plain(words, _PIP_WITH_VALUE) if not _variable(word)]
        loose = [
            word
            for word in packages
            if not _PIP_PINNED.search(word) and not _PIP_FILE.search(word) and "://" not in word and word[0] not in "./"
        ]
        if loose:
            yield "DL3013", f"Name the version of {_some(loose)}: pip install {loose[0]}==VERSION"
    if "--no-cache-dir" not in options and not _mounted(made, "/root/.cache/pip"):
        yield "DL3042", "Add --no-cache-dir"


def npm(command: ShellCommand, made: Run, others: Sequence[ShellCommand]) -> Iterator[Finding]:
    """npm: versions of packages that are named."""
    if command.program != "npm":
        return
    words = _plain(command.words[1:], frozenset({"--prefix", "--registry", "-C"}))
    if words[:1] not in (["install"], ["i"], ["add"]):
        return
    loose = [
        word
        for word in words[1:]
        if "@" not in word[1:]
        and "://" not in word
        and word[0] not in "./~$"
        and not word.endswith((".tgz", ".tar.gz"))
    ]
    if loose:
        yield "DL3016", f"Name the version of {_some(loose)}: npm install {loose[0]}@VERSION"


def _some(words: Sequence[str]) -> str:
    shown = ", ".join(words[:3])
    return f"{shown} and {len(words) - 3} more" if len(words) > 3 else shown


PACKAGE_RULES: tuple[PackageRule, ...] = (apt, apk, pip, npm)
