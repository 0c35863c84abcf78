"""What each instruction does to its stage: to the config, the history, the variables, and to the graph."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dockermagic.build import values
from dockermagic.build.config import quoted_list
from dockermagic.build.graph import (
    Copy,
    Exec,
    GitFiles,
    InlineFile,
    LocalSource,
    MakeDirectory,
    Operation,
    PathFiles,
    RemoteFile,
    Source,
    Vertex,
)
from dockermagic.build.mounts import lower_mounts
from dockermagic.dockerfile import model as ins
from dockermagic.dockerfile.gitref import GitRef, parse_git_ref
from dockermagic.dockerfile.heredoc import parse_heredoc
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.literals import format_duration
from dockermagic.dockerfile.parser import parse
from dockermagic.dockerfile.shell import expand, expand_text, expand_words
from dockermagic.dockerfile.stages import Stage
from dockermagic.dockerfile.text import quote
from dockermagic.errors import DockerfileSyntaxError

if TYPE_CHECKING:
    from dockermagic.build.frontend import LoweredStage, Lowering

__all__ = ["LAYERED", "NON_ENV_ARGS", "PROXY_ARGS", "StageBody"]

LAYERED = (ins.Run, ins.Copy, ins.Add, ins.Workdir)
PROXY_ARGS = tuple(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
NON_ENV_ARGS = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")


class StageBody:
    """Folds the instructions of one stage, triggers of the base image first."""

    def __init__(
        self, lowering: Lowering, stage: Stage, lowered: LoweredStage, shown: str, triggers: tuple[str, ...]
    ) -> None:
        self.lowering = lowering
        self.request = lowering.request
        self.stage = stage
        self.lowered = lowered
        self.config = lowered.config
        self.shown = shown
        self.triggers = [instruction(node) for text in triggers for node in parse(text).nodes]
        self.number = int(lowered.from_image)
        self.total = self.number + sum(isinstance(item, LAYERED) for item in (*self.triggers, *stage.instructions))
        base = lowered.base
        if lowered.from_image and base is not None and not base.name.startswith("["):
            # Stages on the same image share its vertex; the first one gives it the name.
            lowered.top = lowered.base = lowering.rename(base, self.prefix(1) + base.name)
        self.index = lowering.numbers[stage.index]
        self.node = stage.base.node  # of the instruction that is folded; the FROM for triggers

    def run(self) -> None:
        """Fold every instruction."""
        for trigger in self.triggers:
            self._one(trigger, self.index, self.stage.base)
        for offset, own in enumerate(self.stage.instructions, start=1):
            self._one(own, self.index + offset, own)
        labels = self.config.config.setdefault("Labels", {}) if self.request.labels else {}
        labels.update(self.request.labels)

    def _one(self, instruction: ins.Instruction, index: int, place: ins.Instruction) -> None:
        handler: Callable[[StageBody, Any, int], None] = HANDLERS[type(instruction)]
        before = len(self.config.history)
        self.node = place.node
        with self.lowering.at(place):
            handler(self, instruction, index)
        entries = self.config.history[before:]
        self.lowering.texts[index] = entries[0]["created_by"] if entries else instruction.original

    # words

    def word(self, text: str) -> str:
        """The text after variable expansion."""
        return expand(text, self.config.variables, self.lowering.escape)

    def words(self, text: str) -> list[str]:
        """The text after expansion and word splitting."""
        return expand_words(text, self.config.variables, self.lowering.escape)

    def prefix(self, number: int) -> str:
        """``[stage 2/5] ``, numbers as wide as the largest."""
        width = len(str(self.total))
        return f"[{self.shown + ' ' if self.shown else ''}{number:>{width}}/{self.total}] "

    def display(self, text: str) -> str:
        """An instruction for progress: known variables filled in, unknown ones and the quotes of RUN as written."""
        keyword, _, rest = text.partition(" ")
        quotes = keyword.upper() == "RUN"
        try:
            rest = expand(rest, self.config.variables, self.lowering.escape, keep_unset=True, keep_quotes=quotes)
        except DockerfileSyntaxError:
            pass  # a shell's own syntax, such as ${x^}: shown as it is
        return f"{keyword.upper()} {rest.strip()}"

    def add(self, op: Operation, instruction: ins.Instruction, index: int, note: str = "") -> None:
        """Put a vertex on top of the stage."""
        self.number += 1
        self.lowered.top = Vertex(
            op,
            self.lowered.top,
            self.prefix(self.number) + self.display(instruction.original) + note,
            self.stage.index,
            self.shown,
            index,
            instruction.range.start_line,
            instruction.original,
        )

    # config

    def env(self, instruction: ins.Env, index: int) -> None:
        pairs = [(self.word(name), self.word(value)) for name, value in instruction.pairs]
        for name, value in pairs:
            self.config.set_env(name, value)
        self.config.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))

    def arg(self, instruction: ins.Arg, index: int) -> None:
        shown = []
        for raw_name, default in instruction.args:
            name = self.word(raw_name)
            value: str | None
            if name in self.request.build_args:
                value = self.request.build_args[name]
            elif default is not None:
                value = self.word(default)
            else:
                value = self.lowering.scope.values.get(name)
            shown.append(name if value is None else f"{name}={value}")
            if name in NON_ENV_ARGS:
                continue
            self.config.args[name] = value
            if value is not None:
                self.config.variables[name] = value
        self.config.commit("ARG " + " ".join(shown))

    def label(self, instruction: ins.Label, index: int) -> None:
        labels = self.config.config.get("Labels") or {}
        pairs = []
        for name, value in instruction.pairs:
            name, value = self.word(name), self.word(value)
            labels[name] = value
            pairs.append(f"{name}={value}")
        self.config.config["Labels"] = labels
        self.config.commit("LABEL " + " ".join(pairs))

    def maintainer(self, instruction: ins.Maintainer, index: int) -> None:
        self.config.image["author"] = instruction.author
        self.config.commit(f"MAINTAINER {instruction.author}")

    def expose(self, instruction: ins.Expose, index: int) -> None:
        specs = [word for text in instruction.ports for word in self.words(text)]
        ports = sorted({port for spec in specs for port in values.expose_ports(spec)})
        exposed = self.config.config.setdefault("ExposedPorts", {}) or {}
        exposed.update({port: {} for port in ports})
        self.config.config["ExposedPorts"] = exposed
        self.config.commit("EXPOSE [" + " ".join(ports) + "]")

    def volume(self, instruction: ins.Volume, index: int) -> None:
        paths = [self.word(path) for path in instruction.paths]
        volumes = self.config.config.get("Volumes") or {}
        for path in paths:
            if not path:
                raise DockerfileSyntaxError("VOLUME specified can not be an empty string")
            volumes[path] = {}
        self.config.config["Volumes"] = volumes
        self.config.commit("VOLUME [" + " ".join(paths) + "]")

    def user(self, instruction: ins.User, index: int) -> None:
        user = self.word(instruction.user)
        self.config.config["User"] = user
        self.config.commit(f"USER {user}")

    def workdir(self, instruction: ins.Workdir, index: int) -> None:
        word = self.word(instruction.path)
        path = self.config.absolute(word)
        shown = path + "/" * (word.endswith("/") and path != "/")  # the reference keeps a trailing slash
        self.config.config["WorkingDir"] = shown
        self.config.commit(f"WORKDIR {shown}", layer=path != "/")
        if path != "/":
            self.add(MakeDirectory(path, self.config.config.get("User") or ""), instruction, index)
        else:
            self.number += 1

    def stopsignal(self, instruction: ins.StopSignal, index: int) -> None:
        signal = self.word(instruction.signal)
        values.check_signal(signal)
        self.config.config["StopSignal"] = signal
        self.config.commit(f"STOPSIGNAL {signal}")

    def shell(self, instruction: ins.Shell, index: int) -> None:
        self.config.config["Shell"] = list(instruction.words)
        self.config.commit("SHELL [" + " ".join(instruction.words) + "]")

    def healthcheck(self, instruction: ins.Healthcheck, index: int) -> None:
        check: dict[str, Any] = {"Test": list(instruction.test)}
        times = (
            ("Interval", instruction.interval),
            ("Timeout", instruction.timeout),
            ("StartPeriod", instruction.start_period),
            ("StartInterval", instruction.start_interval),
        )
        check |= {name: value for name, value in times if value}
        if instruction.retries:
            check["Retries"] = instruction.retries
        self.config.config["Healthcheck"] = check
        shown = " ".join(f"{name}:{format_duration(value)}" for name, value in times)
        test = " ".join(instruction.test)
        self.config.commit(f"HEALTHCHECK {{Test:[{test}] {shown} Retries:{instruction.retries}}}")

    def onbuild(self, instruction: ins.Onbuild, index: int) -> None:
        self.config.config["OnBuild"] = [*(self.config.config.get("OnBuild") or []), instruction.text]

    def with_shell(self, command: ins.Command) -> list[str]:
        """The argument vector: the shell form is handed to SHELL."""
        return [*self.config.shell, " ".join(command.words)] if command.shell else list(command.words)

    def cmd(self, instruction: ins.Cmd, index: int) -> None:
        words = self.with_shell(instruction.command)
        self.config.config["Cmd"] = words
        self.config.config["ArgsEscaped"] = True
        self.config.cmd_set = True
        self.config.commit("CMD " + quoted_list(words))

    def entrypoint(self, instruction: ins.Entrypoint, index: int) -> None:
        words = self.with_shell(instruction.command)
        self.config.config["Entrypoint"] = words
        if not self.config.cmd_set:
            self.config.config["Cmd"] = None
        self.config.commit("ENTRYPOINT " + quoted_list(words))

    # layers

    def run_command(self, instruction: ins.Run, index: int) -> None:
        words = list(instruction.command.words)
        shell = instruction.command.shell
        scripts: tuple[tuple[str, str], ...] = ()
        note = ""
        if instruction.heredocs:
            text = " ".join(words)
            first = instruction.heredocs[0]
            if parse_heredoc(text) is not None:
                note = f" ({values.summary(first.content)})"
                body = first.text
                if body.startswith("#!"):
                    scripts = ((first.name, body),)
                    words = [f"/dev/pipes/{first.name}"]
                else:
                    words = [body]
            else:
                words = [text + "".join(f"\n{item.content}{item.name}" for item in instruction.heredocs)]
        args = [*self.config.shell, " ".join(words)] if shell else words
        if not args:
            raise DockerfileSyntaxError("arguments are required", hint='Name a command: RUN ["echo", "hello"].')
        request, config = self.request, self.config
        env = {name: value for name, value in config.variables.items() if name not in NON_ENV_ARGS}
        proxies = {
            name: request.build_args[name]
            for name in PROXY_ARGS
            if name in request.build_args and name not in config.args
        }
        for upper in PROXY_ARGS[::2]:
            value = proxies.get(upper) or proxies.get(upper.lower())
            if value:
                proxies.setdefault(upper, value)
                proxies.setdefault(upper.lower(), value)
        network = instruction.network or "default"
        if network == "default" and request.network not in ("", "default", "host"):
            network = request.network
        op = Exec(
            tuple(args),
            tuple(env.items()),
            config.workdir,
            config.config.get("User") or "",
            lower_mounts(self, instruction),
            network,
            instruction.security or "sandbox",
            request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or request.hostname,
            request.add_hosts,
            scripts,
            request.shm_size,
            request.ulimits,
            tuple(proxies.items()),
            "/".join(config.image[key] for key in ("os", "architecture", "variant") if config.image.get(key)),
        )
        self.add(op, instruction, index, note)
        declared = {name: config.variables.get(name, value or "") for name, value in config.args.items()}
        prefix = [f"|{len(declared)}", *(f"{name}={value}" for name, value in declared.items())] if declared else []
        config.commit("RUN " + " ".join([*prefix, *args]) + " # buildkit", layer=True)

    def source(self, instruction: ins.Copy | ins.Add) -> Source:
        """Where the files come from."""
        name = instruction.from_ if isinstance(instruction, ins.Copy) else None
        if not name:
            return LocalSource()
        if "$" in name:
            raise DockerfileSyntaxError(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround"
            )
        return self.lowering.copy_source(name, self.stage)

    def copy(self, instruction: ins.Copy | ins.Add, index: int) -> None:
        is_add = isinstance(instruction, ins.Add)
        raw_destination = self.word(instruction.destination)
        chown = self.word(instruction.chown or "")
        chmod = self.word(instruction.chmod or "")
        if chmod:
            values.parse_chmod(chmod)
        files: list[PathFiles | InlineFile | RemoteFile | GitFiles] = []
        shown = []
        checksum = self.word(instruction.checksum or "") if isinstance(instruction, ins.Add) else ""
        if checksum and len(instruction.sources) + len(instruction.heredocs) != 1:
            raise DockerfileSyntaxError("checksum can't be specified for multiple sources")
        for raw in instruction.sources:
            path = self.word(raw)
            shown.append(path)
            git = parse_git_ref(path)
            git = None if git is not None and git.maybe_local else git
            if git is not None or values.is_http_url(path):
                files.append(self._remote(instruction, path, git, checksum))
            elif checksum:
                raise DockerfileSyntaxError("checksum requires HTTP(S) or Git sources")
            else:
                files.append(PathFiles(path))
        for heredoc in instruction.heredocs:
            data = heredoc.text
            if heredoc.expand:
                data, _ = expand_text(data, self.config.variables)
            files.append(InlineFile(heredoc.name, data))
            shown.append(f"<<{heredoc.name}")
        if len(files) > 1 and not raw_destination:
            raw_destination = "./"
        destination = self.config.absolute(raw_destination)
        if raw_destination in ("", ".", "..") or raw_destination.endswith(("/", "/.", "/..")):
            destination = posixpath.join(destination, "")
        op = Copy(
            self.source(instruction),
            tuple(files),
            destination,
            chown,
            chmod,
            bool(instruction.link),
            bool(getattr(instruction, "parents", False)),
            tuple(instruction.excludes),
            getattr(instruction, "unpack", None),
            is_add,
        )
        self.add(op, instruction, index)
        flags = [
            *(["--parents"] if op.parents else []),
            *([f"--chown={chown}"] if chown else []),
            *([f"--chmod={chmod}"] if chmod else []),
        ]
        keyword = "ADD" if is_add else "COPY"
        created_by = " ".join([keyword, *flags, *shown, raw_destination])
        self.config.commit(f"{created_by} # buildkit", layer=True)

    def _remote(
        self, instruction: ins.Copy | ins.Add, url: str, git: GitRef | None, checksum: str
    ) -> RemoteFile | GitFiles:
        if not isinstance(instruction, ins.Add):
            kind = "a git ref" if git else "a URL"
            raise DockerfileSyntaxError(f"source can't be {kind} for COPY", hint="ADD fetches from the network.")
        if git is None:
            return RemoteFile(url, checksum)
        if checksum and git.checksum and checksum != git.checksum:
            raise DockerfileSyntaxError(f"checksum mismatch {quote(checksum)} != {quote(git.checksum)}")
        said = instruction.keep_git_dir
        return GitFiles(url, checksum, bool(git.keep_git_dir) if said is None else said)


HANDLERS: dict[type, Callable[[StageBody, Any, int], None]] = {
    ins.Env: StageBody.env,
    ins.Arg: StageBody.arg,
    ins.Label: StageBody.label,
    ins.Maintainer: StageBody.maintainer,
    ins.Expose: StageBody.expose,
    ins.Volume: StageBody.volume,
    ins.User: StageBody.user,
    ins.Workdir: StageBody.workdir,
    ins.StopSignal: StageBody.stopsignal,
    ins.Shell: StageBody.shell,
    ins.Healthcheck: StageBody.healthcheck,
    ins.Onbuild: StageBody.onbuild,
    ins.Cmd: StageBody.cmd,
    ins.Entrypoint: StageBody.entrypoint,
    ins.Run: StageBody.run_command,
    ins.Copy: StageBody.copy,
    ins.Add: StageBody.copy,
}
