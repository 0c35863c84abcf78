"""Checks that walk a stage with its variables: what is undefined, what is said twice, what is a secret."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

from dockermagic.dockerfile.checks_text import suggest_variable
from dockermagic.dockerfile.findings import Findings, phrase_range
from dockermagic.dockerfile.gitref import parse_git_ref
from dockermagic.dockerfile.ignore import Matcher
from dockermagic.dockerfile.instructions import parse_trigger
from dockermagic.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from dockermagic.dockerfile.mounts import resolve_mount
from dockermagic.dockerfile.parser import Node
from dockermagic.dockerfile.shell import expand_text, expand_with_matches, expand_words
from dockermagic.dockerfile.stages import Scope, Stage, argument_value
from dockermagic.dockerfile.text import Range, quote
from dockermagic.errors import DockerfileSyntaxError
from dockermagic.values import dataclass, field

__all__ = ["BaseImage", "StageCheck", "State"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_HARMLESS = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_EVERYTHING = frozenset({"*", "**", "**/*"})


@dataclass(frozen=True, slots=True)
class BaseImage:
    """What the linter can use of a base image's configuration."""

    env: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    shell: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


@dataclass(slots=True)
class State:
    """What an instruction knows from those before it, in this stage and in those below."""

    env: dict[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    declared: set[str] = field(default_factory=set)
    shell: bool = False
    workdir: bool = False

    def copy(self) -> State:
        """For a stage that stands on this one."""
        return State(dict(self.env), set(self.declared), self.shell, self.workdir)


class StageCheck:
    """One walk through one stage; afterwards ``state`` is what a stage on top of it inherits."""

    def __init__(
        self,
        state: State,
        scope: Scope,
        build_args: Mapping[str, str],
        escape: str,
        ignore: Matcher | None,
        findings: Findings,
    ) -> None:
        self.state = state
        self.scope = scope
        self.build_args = build_args
        self.escape = escape
        self.ignore = None if ignore and any(pattern.startswith("!") for pattern in ignore.patterns) else ignore
        self.findings = findings
        self.once: dict[str, Node | None] = {}
        self.node: Node | None = None

    def walk(self, stage: Stage, triggers: tuple[str, ...] = ()) -> None:
        """Every instruction in turn, after the triggers of the base image. Raises DockerfileSyntaxError."""
        for text in triggers:
            self.step(parse_trigger(text), stage.base.node)
        for made in stage.instructions:
            self.step(made, made.node)

    def step(self, made: Instruction, node: Node | None) -> None:
        """One instruction; ``node`` is where its findings belong."""
        self.node = node
        try:
            handler = _HANDLERS.get(type(made))
            if handler:
                handler(self, made)
        except DockerfileSyntaxError as error:
            if error.place is None and node:
                error.place = node.place()
            raise

    def word(self, text: str) -> str:
        """The word with its variables replaced; those that are unset are noted."""
        if "$" not in text and "\\" not in text and '"' not in text and "'" not in text and "`" not in text:
            return text
        value, _, unmatched = expand_with_matches(text, self.state.env, self.escape)
        if unmatched:
            self.undefined(unmatched)
        return value

    def undefined(self, names: set[str]) -> None:
        for name in sorted(names - self.state.declared - _HARMLESS):
            self.findings.patience -= len(self.state.env)
            known = self.state.env if self.findings.patience >= 0 else ()
            self.findings.add("UndefinedVar", suggest_variable(name, known), self.node, self.variable_range(name))

    def variable_range(self, name: str) -> Range | None:
        if self.node is None:
            return None
        for start in (f"${{{name}", f"${name}"):
            for match in re.finditer(re.escape(start) + r"(?!\w)\}?", self.node.original):
                return self.node.between(*match.span())
        return None

    def note(self, rule: str, detail: str, phrase: str = "") -> None:
        self.findings.add(rule, detail, self.node, phrase_range(self.node, phrase) if phrase and self.node else None)

    def only_once(self, made: Instruction) -> None:
        earlier = self.once.get(made.name)
        if made.name in self.once:
            name = earlier.written if earlier else made.name
            rest = "instructions should not be used in the same stage because only the last one will be used"
            detail = f"Multiple {name} {rest}"
            self.findings.add("MultipleInstructionsDisallowed", detail, earlier)
        self.once[made.name] = self.node

    # ---- one method an instruction -----------------------------------------------------------------------------------

    def env(self, made: Env) -> None:
        self.legacy(made)
        pairs = []
        for name, value in made.pairs:
            self.secret("ENV", name)
            pairs.append((self.word(name), self.word(value)))
        self.state.env.update(pairs)

    def label(self, made: Label) -> None:
        self.legacy(made)
        for name, value in made.pairs:
            self.word(name)
            self.word(value)

    def legacy(self, made: Env | Label) -> None:
        if made.legacy:
            name = self.node.written if self.node else made.name
            detail = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
            self.note("LegacyKeyValueFormat", detail)

    def secret(self, keyword: str, name: str) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            detail = f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quote(name)})"
            self.note("SecretsUsedInArgOrEnv", detail, name)

    def arg(self, made: Arg) -> None:
        for raw, default in made.args:
            self.secret("ARG", raw)
            name = self.word(raw)
            value = argument_value(name, None if default is None else self.word(default), self.scope, self.build_args)
            self.state.declared.add(name)
            if value is not None:
                self.state.env[name] = value

    def run_command(self, made: Run) -> None:
        for mount in made.mounts:
            resolve_mount(mount, self.word, self.node)

    def copy(self, made: Copy | Add) -> None:
        self.word(made.chown)
        self.word(made.chmod)
        self.word(getattr(made, "checksum", ""))
        remote = isinstance(made, Copy) and bool(made.from_)
        for raw in made.sources:
            source = self.word(raw)
            if self.ignore and not remote and not _elsewhere(source):
                self.ignored("Add" if isinstance(made, Add) else "Copy", source, raw)
        self.word(made.destination)
        for heredoc in made.heredocs:
            if heredoc.expand:
                self.undefined(expand_text(heredoc.text, self.state.env)[1])

    def ignored(self, verb: str, source: str, raw: str) -> None:
        path = posixpath.normpath(source).lstrip("/") or "."
        assert self.ignore is not None
        left_out = not _EVERYTHING.isdisjoint(self.ignore.patterns) if path == "." else self.ignore.matches(path)
        if left_out:
            detail = f"Attempting to {verb} file {quote(path)} that is excluded by .dockerignore"
            self.note("CopyIgnoredFile", detail, raw)

    def expose(self, made: Expose) -> None:
        for raw in made.ports:
            for port in expand_words(raw, self.state.env, self.escape):
                mapping, _, protocol = port.partition("/")
                if protocol != protocol.lower():
                    detail = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    self.note("ExposeProtoCasing", detail, raw)
                if ":" in mapping:
                    detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    self.note("ExposeInvalidFormat", detail, raw)

    def volume(self, made: Volume) -> None:
        for path in made.paths:
            self.word(path)

    def user(self, made: User) -> None:
        self.word(made.user)

    def workdir(self, made: Workdir) -> None:
        path = self.word(made.path)
        if not self.state.workdir and not path.startswith("/"):
            detail = f"Relative workdir {quote(path)} can have unexpected results if the base image changes"
            self.note("WorkdirRelativePath", detail)
        self.state.workdir = True

    def stopsignal(self, made: StopSignal) -> None:
        self.word(made.signal)

    def shell(self, made: Shell) -> None:
        self.state.shell = True

    def healthcheck(self, made: Healthcheck) -> None:
        self.only_once(made)

    def program(self, made: Cmd | Entrypoint) -> None:
        if made.command.shell and not self.state.shell:
            name = self.node.written if self.node else made.name
            detail = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            self.note("JSONArgsRecommended", detail)
        self.only_once(made)


def _elsewhere(source: str) -> bool:
    """Whether ADD fetches this."""
    if source.startswith(("http://", "https://")):
        return True
    try:
        return parse_git_ref(source) is not None
    except DockerfileSyntaxError:
        return True


_HANDLERS: dict[type, Callable[..., None]] = {
    Add: StageCheck.copy,
    Arg: StageCheck.arg,
    Cmd: StageCheck.program,
    Copy: StageCheck.copy,
    Entrypoint: StageCheck.program,
    Env: StageCheck.env,
    Expose: StageCheck.expose,
    Healthcheck: StageCheck.healthcheck,
    Label: StageCheck.label,
    Run: StageCheck.run_command,
    Shell: StageCheck.shell,
    StopSignal: StageCheck.stopsignal,
    User: StageCheck.user,
    Volume: StageCheck.volume,
    Workdir: StageCheck.workdir,
}
