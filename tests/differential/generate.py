# ruff: noqa: E501  (tables of words are easier to read than columns of them)
"""Dockerfiles that nobody wrote, with their contexts: a hypothesis strategy over the instructions and what they mix with.

Names come from small pools, so that steps meet on the same paths. What Docker 26 does not know yet, or does otherwise
than today's BuildKit, is left out here (``--parents``, ``--exclude``, directories that a COPY makes on its way under
``--chmod``) or made alike in :func:`older`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.differential.cases import Case, Directory, File, Item, Link, archive

NAMES = ("a", "b.txt", "c d", ".hidden", "ü", "Dir", "x.tar", "-n", "$A", "[q]")
FOLDERS = ("dir", "dir/sub", "dir/sub/deep", "e", "e/f", "lib")
VARIABLES = ("A", "B", "C_1", "PATH", "empty")
USERS = ("nobody", "www-data", "33", "1000:1001", "root", "www-data:mail", "0:5", "nobody:33", "4242")
PLACES = (
    "/",
    "/w",
    "/w/",
    "/w/x",
    "/etc",
    "/etc/",
    "/new/deep/",
    "/var/www",
    "/l",
    "/l/",
    "/w/./y/../z",
    "w",
    ".",
    "./s/",
    "..",
)
STANDING = ("/", "/etc/", "/var/", "/root/")
PATHS = (
    "/w",
    "/w/x",
    "/w/a",
    "/w/sub/f",
    "/l",
    "/new",
    "/new/deep",
    "/etc/group",
    "/var/www",
    "/data",
    "/data/f",
    "/root/r",
)
MODES = st.sampled_from((0o644, 0o600, 0o755, 0o4755, 0o2644, 0o1777, 0o444, 0o407))
FLAG_MODES = ("600", "0755", "4711", "1777", "777", "0", "2750")


def pick(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def sometimes(strategy: st.SearchStrategy[str], otherwise: str = "", of: int = 4) -> st.SearchStrategy[str]:
    """``strategy`` once in about ``of`` times."""
    return st.integers(1, of).flatmap(lambda number: strategy if number == 1 else st.just(otherwise))


# --- contexts ---------------------------------------------------------------------------------------------------------

FILES = st.builds(File, st.one_of(pick("", "text\n", "#!/bin/sh\necho hi\n"), st.binary(max_size=20)), MODES)
LINKS = st.builds(Link, pick("a", "b.txt", "../a", "/dir", "dir", "sub", "nowhere", "../../../a", ".", "l"))
ARCHIVES = st.builds(File, st.builds(archive, pick("", "gz", "bz2", "xz")))


@st.composite
def contexts(draw: st.DrawFn) -> dict[str, Item]:
    """A small tree; a name is a file, a link, a directory or an archive."""
    tree: dict[str, Item] = {}
    for folder in sorted(draw(st.sets(pick(*FOLDERS), min_size=1, max_size=4))):
        tree[folder] = Directory(draw(pick(0o755, 0o700, 0o1777, 0o2755)))
    folders = ["", *(f"{folder}/" for folder in tree)]
    for _ in range(draw(st.integers(2, 9))):
        name = draw(st.sampled_from(folders)) + draw(pick(*NAMES, "l"))
        if name not in tree:
            # Docker follows every link below what a wildcard matches, and misses those that lead nowhere.
            link = st.just(Link(".")) if "/" in name else LINKS
            tree[name] = draw(st.one_of(FILES, FILES, FILES, link, ARCHIVES))
    regular = sorted(name for name, item in tree.items() if isinstance(item, File))
    if regular and draw(st.booleans()):
        tree["hard"] = Link(draw(st.sampled_from(regular)), hard=True)
    if lines := draw(st.one_of(st.just([]), st.lists(IGNORES, min_size=1, max_size=4))):
        tree[".dockerignore"] = "\n".join(lines) + "\n"
    return tree


IGNORES = st.builds(
    "{}{}".format,
    sometimes(st.just("!"), of=3),
    pick("a", "*.txt", "dir", "dir/*", "**/a", "dir/sub", "/e", "e/", "**/*.t?t", "dir/**", "l", ".*", "*", "# no", "[a-c]*", "**/sub/**"),
)  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------

VARIABLE = st.builds(
    str.format,
    pick("${0}", "${{{0}}}", "${{{0}:-d}}", "${{{0}-d}}", "${{{0}:+s}}", "${{{0}+s}}", "${{{0}:-${{B}}e}}", "\\${0}", "${{{0}#*1}}",
         "${{{0}%.*}}", "${{{0}%%.*}}", "${{{0}##?}}", "${{{0}/1/2}}", "${{{0}//./_}}"),
    pick(*VARIABLES),
)  # fmt: skip
BARE = st.one_of(pick("x", "1.2.1", "/", "a.b", "-", "\\ ", "\\\\", "\\x", "é", "=", ":"), VARIABLE)
QUOTED = st.one_of(
    st.lists(st.one_of(pick("x", " ", "  ", "'", '\\"', "\\\\", "\\x", "#"), VARIABLE), max_size=3).map(
        lambda parts: '"' + "".join(parts) + '"'
    ),
    st.lists(pick("x", " ", '"', "\\", "$A", "${B}", "#"), max_size=3).map(lambda parts: "'" + "".join(parts) + "'"),
)
VALUES = st.lists(st.one_of(BARE, BARE, QUOTED), max_size=3).map("".join)


def assignments(names: Sequence[str]) -> st.SearchStrategy[str]:
    return st.lists(st.builds("{}={}".format, pick(*names), VALUES), min_size=1, max_size=3).map(" ".join)


# --- instructions -----------------------------------------------------------------------------------------------------

COMMANDS = st.one_of(
    st.builds("mkdir -p {}".format, pick(*PATHS)),
    st.builds("mkdir -p /w && {} {}".format, pick("touch", "mkdir", "echo x >>"), pick(*PATHS)),
    st.builds("rm -rf {}".format, pick(*PATHS)),
    st.builds("{} {} {}".format, pick("mv", "cp -a", "ln", "ln -s", "cp -r"), pick(*PATHS), pick(*PATHS)),
    st.builds("ln -s {} {}".format, pick("w", "../etc", "/nowhere", "/var/www", "x"), pick(*PATHS, "/l")),
    st.builds("chmod {} {}".format, pick("700", "4755", "1777", "g+s", "a-w"), pick(*PATHS)),
    st.builds("chown {} {} {}".format, pick("", "-h", "-R"), pick(*USERS[:5]), pick(*PATHS)),
    st.builds("mkfifo {}".format, pick(*PATHS)),
    st.builds("(env; pwd; id; umask) | grep -v HOSTNAME | sort > {}".format, pick("/tmp/env", "/w/env", "env")),
    pick("true", "echo $A ${B:-d} > /tmp/v", "ls -a . > /tmp/ls", "cat < /dev/null > /tmp/null", "rm -rf /var /home"),
)
SCRIPTS = st.lists(COMMANDS, min_size=1, max_size=3)


@st.composite
def runs(draw: st.DrawFn, stages: Sequence[str]) -> str:
    commands = draw(SCRIPTS)
    mount = draw(sometimes(mounts(stages)))
    match draw(pick("shell", "shell", "lines", "exec", "heredoc", "shebang", "stdin")):
        case "shell":
            return f"RUN {mount}{' ; '.join(commands)} || true"
        case "lines":
            return f"RUN {mount}" + " ; \\\n  # why\n  ".join(commands) + " ; true"
        case "exec":
            return f'RUN {mount}["/bin/sh", "-c", "{commands[0]} || true"]'
        case "heredoc":
            quote = draw(pick("", "'", '"'))
            return f"RUN {mount}<<{quote}EOF\n" + "\n".join(commands) + "\ntrue\nEOF"
        case "shebang":
            return f"RUN {mount}<<EOF\n#!/bin/sh\n" + "\n".join(commands) + "\nexit 0\nEOF"
    return f"RUN {mount}cat > /tmp/in <<-A && cat >> /tmp/in <<B\n\tone $A\n\tA\n\ttwo\nB"


def mounts(stages: Sequence[str]) -> st.SearchStrategy[str]:
    sources = [f",from={stage}" for stage in stages] or [""]
    return st.one_of(
        st.builds("--mount=type=bind{},target={}{} ".format, pick("", *sources), pick("/m", "/w/m", "m"), pick("", ",rw")),
        st.builds("--mount=type=tmpfs,target={} ".format, pick("/m", "/w", "/tmp")),
        st.builds("--mount=type=cache,target={}{} ".format, pick("/m/c", "/w/c"), pick("", ",mode=0700", ",uid=33,gid=33")),
        st.builds("--mount=type=bind,source={},target={} ".format, pick("a", "dir", "."), pick("/m", "/w/f")),
        pick("--mount=type=secret,id=none ", "--network=none ", "--mount=type=tmpfs,target=/m,size=1m --network=none "),
    )  # fmt: skip


@dataclass
class Draft:
    """What is written so far."""

    context: dict[str, Item]
    stages: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def sources(context: dict[str, Item]) -> st.SearchStrategy[str]:
    """A path that is there, now and then with a detour, or a wildcard."""
    there = [name for name in context if not name.startswith(".dockerignore")]
    escaped = st.sampled_from(there).map(
        lambda name: re.sub(r"[\[$ ]", lambda found: "?" if found[0] != "[" else "[[]", name)
    )
    return st.one_of(
        escaped,
        escaped,
        st.builds("{}{}".format, pick("./", "/", "../", "dir/../"), escaped),
        pick(
            "dir",
            "dir/",
            ".",
            "*",
            "*.txt",
            "d*",
            "d*/*",
            "[a-e]*",
            "?",
            "*/sub",
            "no*match",
            "nope/*",
            ".[a-z]*",
            "missing",
        ),
    )


@st.composite
def copies(draw: st.DrawFn, draft: Draft, based_on_busybox: bool) -> str:
    word = draw(pick("COPY", "COPY", "COPY", "ADD"))
    flags, destination = "", draw(pick(*PLACES))
    if word == "COPY" and draft.stages and draw(st.booleans()):
        stage = draw(st.sampled_from([*draft.stages, "busybox", "0"]))
        flags += f"--from={stage} "
        names = draw(st.lists(pick("/w", "/etc", "/etc/passwd", "/var/www", "/tmp", "/etc/*", "/w*", "/l", "/new", "/data/", "/w/x", "."),
                              min_size=1, max_size=2))  # fmt: skip
    else:
        names = draw(st.lists(sources(draft.context), min_size=1, max_size=3))
    look = draw(sometimes(st.builds("{}{}".format, sometimes(pick(*(f"--chown={user} " for user in USERS), "--chown=ghost "), of=2),
                                    sometimes(pick(*(f"--chmod={mode} " for mode in FLAG_MODES)), of=2)), of=2))  # fmt: skip
    if look and not (word == "ADD" and any(map(is_archive, draft.context.values()))):
        flags += look
        destination = draw(pick(*STANDING)) if based_on_busybox else "/"
        names = names[:1]
    elif draw(st.integers(1, 6)) == 1:
        flags += "--link "
    bodies = ""
    if "--from" not in flags and draw(st.integers(1, 5)) == 1:
        quote, dash = draw(pick("", "'")), draw(pick("", "-"))
        names = [*names[:1], f"<<{dash}{quote}here{quote}"]
        bodies = f"\n{draw(VALUES)}\n\ttabs $A \\$B\n{'	' if dash else ''}here"
        destination = destination if look else draw(pick("/etc/", "/w/", "./"))
        destination += "" if destination.endswith("/") else "/"
    elif draw(st.integers(1, 6)) == 1:
        return f"{word} {flags}" + json_list([*names, destination])
    return f"{word} {flags}{' '.join(names)} {destination}{bodies}"


def is_archive(item: Item) -> bool:
    return isinstance(item, File) and isinstance(item.content, bytes) and len(item.content) > 100


def json_list(words: Sequence[str]) -> str:
    import json

    return json.dumps(list(words), ensure_ascii=False)


CONFIG = st.one_of(
    assignments(VARIABLES).map("ENV {}".format),
    st.builds("ENV {} {}".format, pick("A", "B"), VALUES).filter(lambda line: line.split(" ", 2)[2].strip() != ""),
    st.builds("ARG {}{}".format, pick("A", "B", "G", "given"), sometimes(VALUES.map("={}".format), of=2)),
    assignments(("a", "b.c", "d-e")).map("LABEL {}".format),
    st.builds("WORKDIR {}".format, pick("/w", "/w/x", "rel", "../up", "/l", "/etc", "$A/q", "/", "/new/deep/")),
    pick(*(f"USER {user}" for user in USERS)),
    st.builds("EXPOSE {}".format, pick("80", "80/udp 81", "8000-8002", "53/tcp 53/udp", "${A:-90}0")),
    pick("VOLUME /data", 'VOLUME ["/w", "/a b"]', "VOLUME /new /data", "VOLUME $A/v"),
    st.builds("{} {}".format, pick("CMD", "ENTRYPOINT"), pick('["a", "b c"]', "echo $A && x", "[]", '["a", not json', "exec x")),
    pick("STOPSIGNAL SIGKILL", "STOPSIGNAL 9", "STOPSIGNAL ${X:-SIGTERM}"),
    pick("HEALTHCHECK NONE", "HEALTHCHECK --interval=1m30s --retries=3 CMD true", 'HEALTHCHECK --timeout=1.5s CMD ["a", "b"]'),
    pick('SHELL ["/bin/sh", "-ec"]', 'SHELL ["/bin/busybox", "ash", "-c"]'),
    pick("MAINTAINER me <a@b>", "# just a comment", "onbuild run echo triggered >> /triggered", "ONBUILD COPY . /copied/", "ONBUILD ENV A=on"),
)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A Dockerfile of one to three stages on the busybox archive, with its context and its build arguments."""
    draft = Draft(draw(contexts()))
    lines = draft.lines
    lines += draw(sometimes(pick("# escape=\\", "# a comment"), of=5)).splitlines()
    lines += draw(sometimes(pick("ARG G=global", "ARG G=1.2 A=$G", "ARG BASE=busybox"), of=2)).splitlines()
    for number in range(draw(st.integers(1, 3))):
        based = draw(pick("busybox", "busybox", "busybox", "scratch", *draft.stages))
        name = draw(pick("", "one", "two", "Three")) if number else draw(pick("one", "base"))
        lines.append(f"FROM {based}" + (f" AS {name}" if name else ""))
        for _ in range(draw(st.integers(1, 7))):
            copy = copies(draft, based != "scratch")
            steps = [copy, copy, CONFIG]
            if based != "scratch":
                steps += [runs(draft.stages), runs(draft.stages)]
            lines.append(draw(st.one_of(steps)))
        lines.append("WORKDIR /made")  # Docker cannot save an image without a layer
        if name and name.lower() not in draft.stages:
            draft.stages.append(name.lower())
    if draw(st.integers(1, 8)) == 1:
        lines[:] = [line if "<<" in line else draw(pick(str.lower, str.upper))(line.split(" ")[0]) + line[len(line.split(" ")[0]) :] for line in lines]  # fmt: skip
    arguments = draw(sometimes(pick(("--build-arg", "A=arg"), ("--build-arg", "given=x y"), ("--target", "one"), ("--label", "l=1"),
                                    ("--build-arg", "G=z", "--build-arg", "A=")), otherwise=(), of=3))  # fmt: skip
    return Case("generated", "\n".join(lines) + "\n", draft.context, arguments)


# --- Docker 26 and today's BuildKit -----------------------------------------------------------------------------------


def older(config: dict[str, Any]) -> dict[str, Any]:
    """A config with that made alike which Docker 26 writes otherwise into the history; :data:`NEWER` tests it."""
    history = []
    for entry in config["history"]:
        text = re.sub(r"^(EXPOSE|HEALTHCHECK|ARG) .*", r"\1", entry["created_by"], flags=re.DOTALL)
        text = re.sub(r"^RUN \|\d+ .*?(?=/bin/)", "RUN ", text, flags=re.DOTALL)
        history.append({**entry, "created_by": text})
    return {**config, "history": history}
