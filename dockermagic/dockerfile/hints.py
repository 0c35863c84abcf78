"""What to try when a Dockerfile is refused: a sentence for each mistake that people make."""

from __future__ import annotations

from dockermagic.dockerfile.flags import FLAGS

__all__ = ["hint_for"]

_BY_BEGINNING = (
    ("FROM requires either", "Write FROM image or FROM image AS name; a comment needs a line of its own."),
    ("invalid name for build stage", "A name begins with a letter; letters, digits, - _ and . may follow."),
    ("Syntax error - can't find =", 'Put quotes around a value with spaces: NAME="two words".'),
    ("when using JSON array syntax", 'Every word needs double quotes: ["sleep", "10"].'),
    ("SHELL requires the arguments", 'Write it as JSON: SHELL ["/bin/bash", "-c"].'),
    (
        "'from' doesn't support variable",
        "Name a stage for it: FROM image:$VERSION AS name, with ARG above, and from=name.",
    ),
    ("invalid network mode", "The modes are default, none and host."),
    ("time: ", "A duration has a unit: 30s, 1m30s, 500ms."),
    ("unsupported mount type", "The types are bind, cache, tmpfs, secret and ssh."),
    ("Chaining ONBUILD", "Write the instruction itself after ONBUILD."),
    ("Unknown type", "Write HEALTHCHECK CMD and a command, or HEALTHCHECK NONE."),
    (
        "Missing command after HEALTHCHECK",
        "HEALTHCHECK CMD curl -f http://localhost/ asks the program whether it is well.",
    ),
)


def hint_for(message: str, keyword: str = "") -> str:
    """What to try, '' where the message says it all. ``keyword`` is the instruction's, lower case."""
    name = keyword.upper()
    for beginning, hint in _BY_BEGINNING:
        if message.startswith(beginning):
            return hint
    if message.startswith("unknown instruction"):
        return "" if "did you mean" in message else "Does it belong to the line above? That one then ends with a \\."
    if message.startswith("unknown flag"):
        names = ", ".join(f"--{flag}" for flag in FLAGS.get(keyword, ()))
        return f"The flags of {name} are {names}." if names else f"{name} has no flags."
    if message.startswith("missing a value on flag"):
        flag = message.rpartition(" ")[2]
        return f"Write it with an equals sign: {flag}=VALUE."
    if "requires at least two arguments" in message:
        return f"First what to copy, then where to: {name} app.py /app/."
    if message.endswith("must have two arguments"):
        return f"Write {name} NAME=VALUE."
    return ""
