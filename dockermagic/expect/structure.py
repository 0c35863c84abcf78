"""Files of container-structure-test, version 2.0.0, run as they are: YAML or JSON into the same checks.

https://github.com/GoogleContainerTools/container-structure-test
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.containers.request import parse_volume
from dockermagic.errors import UsageError
from dockermagic.expect.checks import Check, Test

if TYPE_CHECKING:
    from dockermagic.expect.subject import Ran, Subject
    from dockermagic.view import TreeEntry

__all__ = ["is_structure", "read_structure"]

_KNOWN = {
    *("schemaVersion", "globalEnvVars", "containerRunOptions"),
    *("commandTests", "fileExistenceTests", "fileContentTests", "licenseTests", "metadataTest"),
}
_OPTIONS = {"user", "envVars", "capabilities", "bindMounts", "privileged", "allocateTty"}
_DOCUMENTATION = "/usr/share/doc"
_REFUSED_LICENSES, _EXEMPT_PACKAGES = ("AGPL", "WTFPL"), ("libgnutls30",)
_LETTERS = {"directory": "d", "link": "l", "fifo": "p", "socket": "s"}


def is_structure(text: str) -> bool:
    """Whether a text is such a file rather than sentences."""
    return re.search(r"^\s*[\"']?schemaVersion[\"']?\s*:", text, re.MULTILINE) is not None


def read_structure(text: str, name: str = "this file") -> tuple[Check, ...]:
    """The checks of a file. Raises UsageError for one that is not of version 2.0.0, or asks for what there is not."""
    import yaml

    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is neither YAML nor JSON: {error}") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != "2.0.0":
        raise UsageError(f"{name} does not say schemaVersion: 2.0.0")
    unknown = sorted(set(document) - _KNOWN)
    if unknown:
        raise UsageError(f"{name} asks for {', '.join(unknown)}, which dockermagic does not check")
    try:
        return tuple(_checks(document))
    except (KeyError, TypeError, AttributeError, re.error) as error:
        raise UsageError(f"{name} is not as version 2.0.0 wants it: {type(error).__name__}: {error}") from None


def _checks(document: Mapping[str, Any]) -> Iterator[Check]:
    common, options = _env(document.get("globalEnvVars")), _run_options(document.get("containerRunOptions") or {})
    for one in document.get("commandTests") or ():
        yield Check(f"command: {one['name']}", _command(one, common, options))
    for one in document.get("fileExistenceTests") or ():
        yield Check(f"file: {one['name']}", _existence(one))
    for one in document.get("fileContentTests") or ():
        yield Check(f"content: {one['name']}", _content(one))
    for one in document.get("licenseTests") or ():
        yield Check("licenses", _licenses(one))
    if document.get("metadataTest"):
        yield from _metadata(document["metadataTest"])


def _env(entries: Any) -> dict[str, str]:
    return {str(entry["key"]): str(entry["value"]) for entry in entries or ()}


def _expanded(env: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Values with ``$NAME`` and ``${NAME}`` replaced by those that are known; one that is not is empty."""

    def value(found: re.Match[str]) -> str:
        return known.get(found[1] or found[2], "")

    return {name: re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, text) for name, text in env.items()}


def _run_options(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What ``containerRunOptions`` say of the containers that commands run in. Raises UsageError."""
    unknown = sorted(name for name, value in wanted.items() if value and name not in _OPTIONS)
    if unknown or wanted.get("privileged"):
        raise UsageError(f"containerRunOptions: {', '.join(unknown) or 'privileged'} is not possible here")
    return {
        "user": str(wanted.get("user") or ""),
        "tty": bool(wanted.get("allocateTty")),
        "cap_add": tuple(map(str, wanted.get("capabilities") or ())),
        "binds": tuple(parse_volume(str(bind), Path.cwd()) for bind in wanted.get("bindMounts") or ()),
        "env": tuple((name, os.environ[name]) for name in map(str, wanted.get("envVars") or ()) if name in os.environ),
    }


def _patterns(one: Mapping[str, Any], key: str) -> list[re.Pattern[str]]:
    return [re.compile(str(pattern)) for pattern in one.get(key) or ()]


def _texts(text: str, what: str, expected: Sequence[re.Pattern[str]], excluded: Sequence[re.Pattern[str]]) -> str:
    """What is wrong with a text: an expected pattern that is not in it, or an excluded one that is."""
    for pattern in expected:
        if not pattern.search(text):
            return f"{what} has no {pattern.pattern!r}."
    for pattern in excluded:
        if pattern.search(text):
            return f"{what} has {pattern.pattern!r}."
    return ""


def _command(one: Mapping[str, Any], common: Mapping[str, str], options: Mapping[str, Any]) -> Test:
    """``setup`` commands come first and ``teardown`` ones last, each in a container of its own where there are any."""
    words = (str(one["command"]), *map(str, one.get("args") or ()))
    if one.get("setup") or one.get("teardown"):
        import shlex

        steps = [*(one.get("setup") or ()), list(words), *(one.get("teardown") or ())]
        lines = [shlex.join(map(str, step)) for step in steps]
        # What the streams and the exit code are asked of is the command itself.
        main = len(one.get("setup") or ())
        script = "".join(f"{line} >/dev/null 2>&1\n" for line in lines[:main]) + f"{lines[main]}\ncode=$?\n"
        script += "".join(f"{line} >/dev/null 2>&1\n" for line in lines[main + 1 :]) + "exit $code\n"
        words = ("/bin/sh", "-c", script)
    own = _env(one.get("envVars"))
    expected, excluded = _patterns(one, "expectedOutput"), _patterns(one, "excludedOutput")
    expected_error, excluded_error = _patterns(one, "expectedError"), _patterns(one, "excludedError")
    code = int(one.get("exitCode", 0))

    def test(subject: Subject) -> str:
        image = subject.env
        env = _expanded(common, image)
        env |= _expanded(own, {**image, **env})
        ran: Ran = subject.run(words, **{**options, "entrypoint": (), "env": (*options["env"], *env.items())})
        if ran.exit_code != code:
            return f"it ended with exit code {ran.exit_code}, not {code}."
        return _texts(ran.stdout.decode("utf-8", "replace"), "its output", expected, excluded) or _texts(
            ran.stderr.decode("utf-8", "replace"), "its error output", expected_error, excluded_error
        )

    return test


def _existence(one: Mapping[str, Any]) -> Test:
    path, wanted = str(one["path"]), bool(one.get("shouldExist", True))

    def test(subject: Subject) -> str:
        entry = subject.entry(path)
        if entry is None or not wanted:
            return ("" if not wanted else f"there is no {path}.") if entry is None else f"{path} is there."
        found = _permissions(entry)
        if one.get("permissions") and one["permissions"] != found:
            return f"{path} is {found}."
        for name, value in (("uid", entry.uid), ("gid", entry.gid)):
            if name in one and int(one[name]) != value:
                return f"the {name} of {path} is {value}."
        bits = {"owner": 0o100, "group": 0o010, "other": 0o001, "any": 0o111}.get(str(one.get("isExecutableBy", "")), 0)
        return f"{path} is {found}." if bits and not (entry.mode or 0) & bits else ""

    return test


def _permissions(entry: TreeEntry) -> str:
    """As Go's FileMode prints them."""
    mode = entry.mode or 0
    special = "".join(letter for bit, letter in ((0o4000, "u"), (0o2000, "g"), (0o1000, "t")) if mode & bit)
    bits = "".join(letter if mode & (0o400 >> place) else "-" for place, letter in enumerate("rwxrwxrwx"))
    return (_LETTERS.get(entry.kind, "") + special or "-") + bits


def _content(one: Mapping[str, Any]) -> Test:
    path = str(one["path"])
    expected, excluded = _patterns(one, "expectedContents"), _patterns(one, "excludedContents")

    def test(subject: Subject) -> str:
        if subject.entry(path) is None:
            return f"there is no {path}."
        return _texts(subject.read(path, 16 << 20).decode("utf-8", "replace"), path, expected, excluded)

    return test


def _licenses(one: Mapping[str, Any]) -> Test:
    """With ``debian``, every package has a copyright file; neither those nor ``files`` name a license to be refused."""
    files, debian = [str(path) for path in one.get("files") or ()], bool(one.get("debian"))

    def test(subject: Subject) -> str:
        packages = subject.folders(_DOCUMENTATION) if debian else []
        paths = [f"{_DOCUMENTATION}/{name}/copyright" for name in packages if name not in _EXEMPT_PACKAGES]
        for path in [*paths, *files]:
            if subject.entry(path) is None:
                return f"there is no {path}."
            text = subject.read(path, 16 << 20).upper()
            for name in _REFUSED_LICENSES:
                if name.encode() in text:
                    return f"{path} names {name}."
        return ""

    return test


def _metadata(wanted: Mapping[str, Any]) -> Iterator[Check]:
    for key, part in (("envVars", "Env"), ("env", "Env"), ("labels", "Labels")):
        for one in wanted.get(key) or ():
            yield Check(f"{part.lower().rstrip('s')} {one['key']}", _pair(part, one))
    for key in wanted.get("unboundEnvVars") or ():
        name = str(key["key"] if isinstance(key, dict) else key)
        yield Check(f"no env {name}", _unbound(name))
    for key, part in (("exposedPorts", "ExposedPorts"), ("volumes", "Volumes")):
        for one in wanted.get(key) or ():
            yield Check(f"{part.lower()} {one}", _member(part, str(one), True))
    for key, part in (("unexposedPorts", "ExposedPorts"), ("unmountedVolumes", "Volumes")):
        for one in wanted.get(key) or ():
            yield Check(f"not in {part.lower()}: {one}", _member(part, str(one), False))
    for key, part in (("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("workdir", "WorkingDir"), ("user", "User")):
        if key in wanted:
            yield Check(key, _equal(part, wanted[key]))


def _pair(part: str, one: Mapping[str, Any]) -> Test:
    name, value = str(one["key"]), str(one["value"])

    def test(subject: Subject) -> str:
        known = subject.env if part == "Env" else subject.config.get(part) or {}
        if name not in known:
            return f"{name} is not set."
        right = re.search(value, known[name]) if one.get("isRegex") else known[name] == value
        return "" if right else f"it is {known[name]!r}."

    return test


def _unbound(name: str) -> Test:
    def test(subject: Subject) -> str:
        return f"{name} is set." if name in subject.env else ""

    return test


def _member(part: str, one: str, wanted: bool) -> Test:
    def test(subject: Subject) -> str:
        names = set(subject.config.get(part) or {})
        there = bool({one, f"{one}/tcp"} & names)
        return "" if there == wanted else f"there is {', '.join(sorted(names)) or 'none'}."

    return test


def _equal(part: str, value: Any) -> Test:
    wanted = [str(word) for word in value] if isinstance(value, list) else str(value)

    def test(subject: Subject) -> str:
        found = subject.config.get(part) or type(wanted)()
        return "" if found == wanted else f"it is {found!r}."

    return test
