"""The linter: BuildKit's checks with BuildKit's messages, and on demand rules for learners.

:func:`check` gives what was found and the error that ended the search, if any; :func:`lint` raises the error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dockermagic.dockerfile.checks_stages import BaseImage, StageCheck, State
from dockermagic.dockerfile.checks_text import (
    check_arguments_of_from,
    check_casing,
    check_defaults,
    check_instruction,
    check_node,
    check_parsed,
)
from dockermagic.dockerfile.directives import CheckOptions, find_directive, parse_check
from dockermagic.dockerfile.findings import Diagnostic, Findings
from dockermagic.dockerfile.hints import hint_for
from dockermagic.dockerfile.ignore import Matcher
from dockermagic.dockerfile.instructions import instruction
from dockermagic.dockerfile.names import check_image_name, parse_platform
from dockermagic.dockerfile.parser import Parsed, parse
from dockermagic.dockerfile.stages import (
    Dockerfile,
    References,
    Scope,
    Stage,
    divide,
    global_scope,
    platform_arguments,
    reachable,
    references,
)
from dockermagic.dockerfile.text import quote
from dockermagic.errors import DockerfileSyntaxError, Place
from dockermagic.values import dataclass

__all__ = ["BaseImage", "Diagnostic", "Report", "check", "lint"]

Bases = Callable[[str], BaseImage | None]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, in the order of the lines. ``error`` is what ended the search, None if nothing did.

    ``violation`` says that ``# check=error=true`` makes an error of the findings.
    """

    diagnostics: tuple[Diagnostic, ...]
    error: DockerfileSyntaxError | None = None
    violation: bool = False

    @property
    def message(self) -> str:
        """The error of a build that this report forbids, '' where it does not."""
        if self.error:
            return self.error.message
        names = dict.fromkeys(diagnostic.rule for diagnostic in self.diagnostics)
        return f"lint violation found for rules: {', '.join(names)}" if self.violation and names else ""


def lint(text: str, **options: Any) -> list[Diagnostic]:
    """The findings of :func:`check`, for other programs. Raises DockerfileSyntaxError for what is no Dockerfile."""
    report = check(text, **options)
    if report.error:
        raise report.error
    return list(report.diagnostics)


def check(
    text: str,
    *,
    ignore: Sequence[str] | None = None,
    reachable_only: bool = False,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    platform: str | None = None,
    bases: Bases | None = None,
    contexts: Collection[str] = (),
    teaching: bool = False,
) -> Report:
    """The findings about a Dockerfile, in the order of the lines, and the error of what is none beside them.

    ``ignore`` holds the patterns of the ignore file. ``reachable_only`` leaves out stages that ``target`` does not
    need, as a build does. ``bases`` knows the configuration of a base image by its name; without it a base image sets
    PATH alone. ``contexts`` are named contexts. ``teaching`` adds the rules for learners.
    """
    given = build_args or {}
    options, error = _options(text, given)
    findings = Findings(options)
    if error is None:
        walk = _Walk(findings, given, target or "", platform or "linux/amd64", bases, contexts)
        walk.ignore = Matcher(list(ignore)) if ignore else None
        try:
            walk.run(text, reachable_only, teaching)
        except DockerfileSyntaxError as raised:
            error = raised
    found = sorted(findings.found, key=lambda diagnostic: diagnostic.line)
    return Report(tuple(found), error, options.error and bool(found))


def _options(text: str, build_args: Mapping[str, str]) -> tuple[CheckOptions, DockerfileSyntaxError | None]:
    directive = find_directive(text, "check")
    value = build_args.get("BUILDKIT_DOCKERFILE_CHECK", directive.value if directive else "")
    try:
        return parse_check(value), None
    except ValueError as error:
        place = Place(directive.line, text=f"# check={directive.value}") if directive else None
        return CheckOptions(), DockerfileSyntaxError(str(error), place=place, hint=hint_for(str(error)))


class _Walk:
    """One run over one text."""

    def __init__(
        self,
        findings: Findings,
        build_args: Mapping[str, str],
        target: str,
        platform: str,
        bases: Bases | None,
        contexts: Collection[str],
    ) -> None:
        self.findings = findings
        self.build_args = build_args
        self.target = target
        self.platform = platform
        self.bases = bases
        self.contexts = contexts
        self.ignore: Matcher | None = None

    def run(self, text: str, reachable_only: bool, teaching: bool) -> None:
        parsed = parse(text)
        check_parsed(parsed, self.findings)
        dockerfile = self.stages(parsed)
        check_casing(dockerfile, self.findings)
        if teaching:
            from dockermagic.dockerfile.teaching import check_teaching

            check_teaching(dockerfile, self.findings)
        automatic = platform_arguments(self.platform, self.platform, self.target)
        scope = global_scope(dockerfile, self.build_args, automatic)
        check_defaults(dockerfile, automatic, self.findings)
        for stage in dockerfile.stages:
            try:
                check_arguments_of_from(stage, scope, dockerfile.escape, self.findings)
            except DockerfileSyntaxError as error:
                error.place = error.place or stage.base.place()
                raise
        known = references(dockerfile, scope, self.contexts)
        wanted = reachable(dockerfile, self.target, known) if reachable_only else range(len(dockerfile.stages))
        self.walk_stages(dockerfile, scope, known, list(wanted))

    def stages(self, parsed: Parsed) -> Dockerfile:
        made = []
        for node in parsed.nodes:
            check_node(node, self.findings)
            made.append(instruction(node))
            check_instruction(made[-1], self.findings)
        dockerfile = divide(made, parsed)
        if not dockerfile.stages:
            message = "dockerfile contains no stages to build"
            raise DockerfileSyntaxError(message, place=parsed.nodes[-1].place(), hint=hint_for(message))
        return dockerfile

    def walk_stages(
        self, dockerfile: Dockerfile, scope: Scope, known: tuple[References, ...], wanted: list[int]
    ) -> None:
        states: dict[int, State] = {}
        for index in wanted:
            stage, reference = dockerfile.stages[index], known[index]
            if reference.base_stage is None:
                state, triggers = self.base(stage, reference.base, reference.platform)
            else:
                state, triggers = states[reference.base_stage].copy(), ()
            walk = StageCheck(state, scope, self.build_args, dockerfile.escape, self.ignore, self.findings)
            walk.walk(stage, triggers)
            states[index] = state

    def base(self, stage: Stage, name: str, platform: str) -> tuple[State, tuple[str, ...]]:
        state = State()
        if name == "scratch" or name in self.contexts:
            return state, ()
        try:
            check_image_name(name)
        except ValueError as error:
            message = f"failed to parse stage name {quote(name)}: {error}"
            raise DockerfileSyntaxError(message, place=stage.base.place(), hint=hint_for(message)) from None
        image = self.bases(name) if self.bases else None
        if image is None:
            return state, ()
        state.env.update(image.env)
        state.shell = bool(image.shell)
        expected = platform or self.platform
        if image.platform and parse_platform(image.platform) != parse_platform(expected):
            detail = (
                f"Base image {name} was pulled with platform {quote(image.platform)}, "
                f"expected {quote(str(parse_platform(expected)))} for current build"
            )
            self.findings.add("InvalidBaseImagePlatform", detail, stage.base.node)
        return state, image.onbuild
