"""Rules for learners, under hadolint's names: how images stay small, repeatable and safe."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from dockermagic.dockerfile.commands import ShellCommand, shell_commands
from dockermagic.dockerfile.findings import Findings
from dockermagic.dockerfile.gitref import parse_git_ref
from dockermagic.dockerfile.model import Add, Copy, Env, Expose, Instruction, Run, Shell, User, Workdir
from dockermagic.dockerfile.packages import PACKAGE_RULES
from dockermagic.dockerfile.shell import expand_with_matches
from dockermagic.dockerfile.stages import Dockerfile, Stage
from dockermagic.dockerfile.text import Range
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass, field

__all__ = ["check_teaching"]

_POINTLESS = frozenset({"free", "kill", "mount", "ps", "service", "shutdown", "ssh", "top", "vim"})
_ARCHIVE = re.compile(r"\.(?:tar(?:\.\w+)?|tgz|tbz2?|txz|tzst|tlz|tz2|tzma|gz|bz2|xz|zst|lzma|Z|zip)['\"]?\Z")
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/\w+)?\Z")
_NO_PIPEFAIL = frozenset({"dash", "pwsh", "powershell", "cmd"})


def check_teaching(dockerfile: Dockerfile, findings: Findings) -> None:
    """All of it, on every stage."""
    names: dict[str, int] = {}
    ends: dict[str, _End] = {}
    for stage in dockerfile.stages:
        _check_base(stage, names, findings)
        below = ends.get(stage.base.image, _End())
        walk = _Walk(stage, names, findings, _End(below.workdir, below.pipefail))
        walk.run()
        if stage.name:
            names[stage.name] = stage.index
            ends[stage.name] = walk.end


@dataclass(slots=True)
class _End:
    """What a stage on top of this one inherits."""

    workdir: bool = False
    pipefail: bool = False


def _check_base(stage: Stage, names: dict[str, int], findings: Findings) -> None:
    base = stage.base
    image = base.image
    if image == "scratch" or image in names:
        return
    where = base.node.word_ranges()[0] if base.node else None
    name, at, _ = image.partition("@")
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    if not tag and not at and not image.startswith("$"):
        findings.add("DL3006", f"{image} has no tag: name the version you mean", base.node, where)
    elif tag == "latest" and not at:
        findings.add("DL3007", f"{image} can be another image tomorrow: name the version you mean", base.node, where)


@dataclass(slots=True)
class _Walk:
    """One stage, instruction by instruction."""

    stage: Stage
    names: dict[str, int]
    findings: Findings
    end: _End
    last_user: User | None = None
    last_run: Run | None = None
    fetchers: set[str] = field(default_factory=set)

    def run(self) -> None:
        for made in self.stage.instructions:
            handler = _HANDLERS.get(type(made))
            if handler:
                handler(self, made)
            if not isinstance(made, Run):
                self.last_run = None
        user = self.last_user
        if user and user.user.partition(":")[0] in ("root", "0"):
            self.note("DL3002", "The last USER is root: switch to another user before the program starts", user)

    def note(self, rule: str, detail: str, made: Instruction, where: Range | None = None) -> None:
        self.findings.add(rule, detail, made.node, where)

    def user(self, made: User) -> None:
        self.last_user = made

    def workdir(self, made: Workdir) -> None:
        self.end.workdir = True

    def shell(self, made: Shell) -> None:
        words = made.words
        program = posixpath.basename(words[0])
        self.end.pipefail = program in _NO_PIPEFAIL or any(
            word == "pipefail"
            or (word.startswith("-") and not word.startswith("--") and "o" in word and "pipefail" in words)
            for word in words
        )

    def expose(self, made: Expose) -> None:
        for port in made.ports:
            match = _PORT.match(port)
            if match and any(int(number[:9]) > 65535 for number in match.groups() if number):
                self.note("DL3011", f"{port} is no port: the last one is 65535", made)

    def env(self, made: Env) -> None:
        own = {name for name, _ in made.pairs}
        before: set[str] = set()
        for name, value in made.pairs:
            try:
                used = expand_with_matches(value, {})[2]
            except DockerfileSyntaxError:
                continue
            for other in sorted(used & before):
                if other in own and other != name:
                    detail = f"${other} still has its old value here: set it in an ENV of its own, above"
                    self.note("DL3044", detail, made)
            before.add(name)

    def add(self, made: Add) -> None:
        for source in made.sources:
            if not _fetched_or_unpacked(source):
                self.note("DL3020", f"COPY {source} says what is meant: ADD would fetch or unpack", made)
                break
        self.destination(made)

    def copy(self, made: Copy) -> None:
        self.destination(made)
        if not made.from_:
            return
        where = (
            next(
                (r for f, r in zip(made.node.flags, made.node.flag_ranges(), strict=True) if f.startswith("--from")),
                None,
            )
            if made.node
            else None
        )
        name = made.from_.lower()
        if name == self.stage.name:
            self.note("DL3023", f"--from={made.from_} is the stage itself", made, where)
        elif name.isdigit():
            if int(name[:9]) >= self.stage.index:
                self.note("DL3022", f"There is no stage {name} above", made, where)
        elif name not in self.names and ":" not in name and "@" not in name:
            self.note("DL3022", f"There is no stage {made.from_} above", made, where)

    def destination(self, made: Add | Copy) -> None:
        several = len(made.sources) + len(made.heredocs) > 1
        target = made.destination.strip("'\"")
        if several and not target.endswith("/") and isinstance(made, Copy):
            self.note("DL3021", f"Several files go to {target}: end it with a / to make it a directory", made)
        if not self.end.workdir and isinstance(made, Copy) and not target.startswith(("/", "$")) and target[1:2] != ":":
            self.note("DL3045", f"Where {target} is depends on the base image: set a WORKDIR first", made)

    def run_command(self, made: Run) -> None:
        commands = list(_commands_of(made))
        mergeable = len(commands) == 1 and _mergeable(made)
        if mergeable and self.last_run is not None:
            self.note("DL3059", "This RUN could be one with the RUN above it", made)
        self.last_run = made if mergeable else None
        for command, where in commands:
            self.command(command, made, where)
        others = [command for command, _ in commands]
        for command, where in commands:
            for check in PACKAGE_RULES:
                for rule, detail in check(command, made, others):
                    self.note(rule, detail, made, where)
        pipe = next((where for command, where in commands if command.piped), None)
        safe = self.end.pipefail or any(
            (command.program == "set" and "pipefail" in command.words) or command.program in _NO_PIPEFAIL
            for command, _ in commands
        )
        if any(command.piped for command, _ in commands) and made.command.shell and not safe:
            detail = 'Only the last command of the pipe is looked at: SHELL ["/bin/bash", "-o", "pipefail", "-c"]'
            self.note("DL4006", detail, made, pipe)

    def command(self, command: ShellCommand, made: Run, where: Range | None) -> None:
        program = command.program
        if program in _POINTLESS:
            self.note("DL3001", f"{program} has no use in a build", made, where)
        elif program == "cd":
            self.note("DL3003", f"cd {' '.join(command.arguments)} ends with this RUN: use WORKDIR", made, where)
        elif program == "sudo":
            self.note("DL3004", "Leave out sudo: RUN is root, or use USER", made, where)
        elif program == "apt":
            self.note("DL3027", "Use apt-get: apt is made for people", made, where)
        elif program == "wget" and not command.has("--progress", "-q", "--quiet", "-nv", "--no-verbose", "-o", "-a"):
            if not any(word.startswith(("-nv", "--output-file", "--append-output")) for word in command.words):
                self.note("DL3047", "wget fills the log with its progress: add -q or --progress=dot:giga", made, where)
        elif program == "ln" and command.words[-1] == "/bin/sh":
            self.note("DL4005", "Use SHELL to change the shell", made, where)
        if program in ("curl", "wget"):
            if self.fetchers and program not in self.fetchers:
                self.note("DL4001", "Both wget and curl are used: one of them is enough", made, where)
            self.fetchers.add(program)


def _mergeable(made: Run) -> bool:
    return not made.mounts and not made.heredocs and made.network == "default" and made.security == "sandbox"


def _fetched_or_unpacked(source: str) -> bool:
    source = source.strip("'\"")
    if source.startswith(("http://", "https://", "$")) or _ARCHIVE.search(source):
        return True
    try:
        return parse_git_ref(source) is not None
    except DockerfileSyntaxError:
        return True


def _commands_of(made: Run) -> Iterator[tuple[ShellCommand, Range | None]]:
    node = made.node
    if not made.command.shell:
        if made.command.words and made.command.words[0]:
            yield ShellCommand(made.command.words, 0, 0), None
        return
    text = made.command.words[0] if made.command.words else ""
    offset = node.original.rfind(text) if node and text else -1
    for command in shell_commands(text):
        where = node.between(offset + command.start, offset + command.end) if node and offset >= 0 else None
        yield command, where
    for heredoc in made.heredocs:
        body = heredoc.text
        first = body.partition("\n")[0]
        if first.startswith("#!") and "sh" not in first:
            continue
        if text.strip() and not _is_shell_heredoc(text):
            continue
        for command in shell_commands(body.replace("\\\n", "  ")):
            yield command, _heredoc_range(body, heredoc.range.start_line, command)


def _is_shell_heredoc(text: str) -> bool:
    """Whether the heredoc is the script itself: nothing else in the line, or a shell that reads it."""
    words = [command.words for command in shell_commands(text)]
    return not words or all(posixpath.basename(word[0]) in ("sh", "bash", "ash", "dash", "zsh") for word in words)


def _heredoc_range(body: str, first: int, command: ShellCommand) -> Range:
    def at(offset: int) -> tuple[int, int]:
        line = body.count("\n", 0, offset)
        return first + line, offset - (body.rfind("\n", 0, offset) + 1)

    return Range(*at(command.start), *at(command.end))


_HANDLERS: dict[type[Instruction], Callable[..., None]] = {
    Add: _Walk.add,
    Copy: _Walk.copy,
    Env: _Walk.env,
    Expose: _Walk.expose,
    Run: _Walk.run_command,
    Shell: _Walk.shell,
    User: _Walk.user,
    Workdir: _Walk.workdir,
}
