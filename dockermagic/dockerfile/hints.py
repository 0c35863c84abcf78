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
    ("unsupported sharing value", "The modes are shared, private and locked."),
    ("unexpected key", "There is no such option here: mend its name, or leave it out."),
    ("invalid field", "Every option has a value: target=/path. Only ro, rw and required may stand alone."),
    ("failed to parse csv mounts", "Write the options with commas between them: type=cache,target=/root/.cache."),
    ("invalid secret mount", "Say which secret: --mount=type=secret,id=NAME."),
    ("invalid value", "A mode is octal (0755), uid and gid are numbers, a size is 64m or 1g, the rest true or false."),
    ("both source and id", "For a secret both say the same thing: leave one out."),
    ("security ", "It is sandbox or insecure."),
    ("checksum can't be specified", "Fetch one file with each ADD --checksum."),
    ("checksum requires", "--checksum is for what is fetched: an http:// or https:// address, or a git repository."),
    ("checksum mismatch", "--checksum and the address name different commits: leave one of them out."),
    ("duplicate flag specified", "Take one of them out."),
    ("device name already set", "Name one device only: --device=NAME."),
    ("expecting boolean value", "Write the flag alone, or with =true or =false."),
    ("--retries cannot be negative", "It is a number of tries: --retries=3."),
    ("strconv.ParseInt", "It is a number: --retries=3."),
    ("Interval", "Write at least 1ms; 0, or no flag at all, means the default."),
    ("HEALTHCHECK NONE takes", "NONE stands alone; a check is HEALTHCHECK CMD and a command."),
    ("circular dependency", "A stage can only be made of stages above it."),
    ("dockerfile contains no stages", "Add a FROM after the ARGs."),
    ("empty platform value", "Give the variable a value: ARG NAME=linux/amd64 before the first FROM."),
    ("failed to parse platform", "A platform is a system and an architecture: linux/amd64, linux/arm64."),
    ("failed to parse stage name", "An image is written name:tag, in lower case: FROM python:3.12."),
    ("invalid from flag value", "Stages count from 0. A name is clearer: FROM image AS name, then --from=name."),
    (
        "variable expansion is not supported",
        "ARG VERSION at the top, FROM image:$VERSION AS name, then --from=name.",
    ),
    ("invalid escape token", "Write # escape=` or leave the line out."),
    ("invalid check option", "Write # check=skip=RULE,RULE or # check=error=true."),
    ("failed to parse check option", "Write # check=error=true or # check=error=false."),
    ("Chaining ONBUILD", "Write the instruction itself after ONBUILD."),
    ("Unknown type", "Write HEALTHCHECK CMD and a command, or HEALTHCHECK NONE."),
    (
        "Missing command after HEALTHCHECK",
        "HEALTHCHECK CMD curl -f http://localhost/ asks the program whether it is well.",
    ),
)


_BY_PART = (
    ("unsupported modifier", "There are ${x:-y} ${x:+y} ${x:?y} ${x#y} ${x##y} ${x%y} ${x%%y} ${x/y/z} and ${x//y/z}."),
    ("bad substitution", "Write ${NAME}; for a dollar as such write \\$."),
    ("missing '}'", "A ${ ends with a }; for a dollar as such write \\$."),
    ("missing '/'", "Two parts follow the name: ${NAME/OLD/NEW}."),
    ("looking for matching", "A quote is opened and not closed. For one as such write a backslash before it."),
    ("invalid escape", "In a pattern a backslash stands before * ? \\ / or } only."),
)


def hint_for(message: str, keyword: str = "") -> str:
    """What to try, '' where the message says it all. ``keyword`` is the instruction's, lower case."""
    name = keyword.upper()
    for beginning, hint in _BY_BEGINNING:
        if message.startswith(beginning):
            return hint
    for part, hint in _BY_PART:
        if message.startswith("failed to process") and part in message:
            return hint
    if message.endswith("cannot accept a heredoc as a destination"):
        return f"First the text, then where to: {name} <<NAME /path."
    if message.endswith("isn't allowed as an ONBUILD trigger"):
        return "A trigger is an instruction that goes on with a stage, such as RUN or COPY."
    if " not allowed for " in message or "should not " in message or message.startswith("invalid cache sharing"):
        return "That option is for mounts of another type: leave it out, or change type=."
    if "requires exactly one" in message or "requires at least one" in message or "can not be" in message:
        from dockermagic.dockerfile.guide import INSTRUCTIONS

        return f"For example: {INSTRUCTIONS[message.partition(' ')[0]].example}"
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
