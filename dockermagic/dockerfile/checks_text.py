"""Checks that need no variables: casing, names of stages, comments, and what FROM's arguments may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dockermagic.dockerfile.directives import read_directive
from dockermagic.dockerfile.findings import Findings, phrase_range
from dockermagic.dockerfile.model import Arg, From, Instruction
from dockermagic.dockerfile.names import check_image_name, parse_platform
from dockermagic.dockerfile.parser import Node, Parsed
from dockermagic.dockerfile.shell import expand_with_matches
from dockermagic.dockerfile.stages import Dockerfile, Scope, Stage, global_scope
from dockermagic.dockerfile.suggest import nearest, with_suggestion
from dockermagic.dockerfile.text import quote
from dockermagic.errors import DockerfileSyntaxError

__all__ = [
    "check_arguments_of_from",
    "check_casing",
    "check_defaults",
    "check_instruction",
    "check_node",
    "check_parsed",
    "suggest_variable",
]

_RESERVED = frozenset({"context", "scratch"})


def check_parsed(parsed: Parsed, findings: Findings) -> None:
    """What the parser itself found odd."""
    for notice in parsed.notices:
        findings.add("NoEmptyContinuation", "Empty continuation line", None, line=notice.line)


def check_node(node: Node, findings: Findings) -> None:
    """What a FROM says wrong even when it is refused afterwards."""
    if node.keyword != "from" or len(node.words) != 3:
        return
    _, middle, name = node.words
    if name != name.lower():
        findings.add("StageNameCasing", f"Stage name '{name}' should be lowercase", node, phrase_range(node, name))
    keyword = node.written
    wanted = str.lower if keyword == keyword.lower() else str.upper if keyword == keyword.upper() else None
    if wanted and middle != wanted(middle):
        detail = f"'{middle}' and '{keyword}' keywords' casing do not match"
        findings.add("FromAsCasing", detail, node, node.word_ranges()[1])


def check_instruction(made: Instruction, findings: Findings) -> None:
    """What one instruction says, without looking at others."""
    node = made.node
    if node is None:
        return
    if made.name == "MAINTAINER":
        findings.add("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", node)
    elif isinstance(made, From) and made.alias:
        _check_description("FROM", (made.alias,), node, findings)
    elif isinstance(made, Arg):
        _check_description("ARG", tuple(name for name, _ in made.args), node, findings)


def _check_description(keyword: str, names: tuple[str, ...], node: Node, findings: Findings) -> None:
    comments = [comment for comment in node.comments if not read_directive(f"#{comment}", 0)]
    if not comments or comments[-1].split(" ")[0] in names:
        return
    example = names[0] if len(names) == 1 else "<arg_key>"
    detail = f"Comment for {keyword} should follow the format: `# {example} <description>`"
    findings.add("InvalidDefinitionDescription", detail, node)


def check_casing(dockerfile: Dockerfile, findings: Findings) -> None:
    """The names of stages against each other, and the case of keywords against that of most."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        node = stage.base.node
        if not stage.name or node is None:
            continue
        where = node.word_ranges()[2]
        if stage.name in _RESERVED:
            detail = f"Stage name should not use the same name as reserved stage {quote(stage.name)}"
            findings.add("ReservedStageName", detail, node, where)
        if stage.name in seen:
            detail = f"Duplicate stage name {quote(stage.name)}, stage names should be unique"
            findings.add("DuplicateStageName", detail, node, where)
        seen.add(stage.name)
    nodes = [
        made.node for stage in dockerfile.stages for made in (stage.base, *stage.instructions) if made.node is not None
    ]
    lower = sum(node.written == node.keyword for node in nodes)
    upper = sum(node.written == node.keyword.upper() for node in nodes)
    wanted, word = (str.lower, "lowercase") if lower > upper else (str.upper, "uppercase")
    for node in nodes:
        if node.written != wanted(node.written):
            detail = f"Command '{node.written}' should match the case of the command majority ({word})"
            findings.add("ConsistentInstructionCasing", detail, node, node.keyword_range())


def check_defaults(dockerfile: Dockerfile, automatic: Mapping[str, str], findings: Findings) -> None:
    """Whether every FROM would name an image without build arguments."""
    scope = global_scope(dockerfile, {}, automatic)
    for stage in dockerfile.stages:
        try:
            name = expand_with_matches(stage.base.image, scope.values, dockerfile.escape)[0]
        except DockerfileSyntaxError:
            return  # the error itself will be reported
        try:
            check_image_name(name)
        except ValueError:
            detail = f"Default value for ARG {stage.base.image} results in empty or invalid base image name"
            node = stage.base.node
            findings.add("InvalidDefaultArgInFrom", detail, node, node.word_ranges()[0] if node else None)


def check_arguments_of_from(stage: Stage, scope: Scope, escape: str, findings: Findings) -> None:
    """Undeclared arguments, and platforms that are constant or the default anyway."""
    base, node = stage.base, stage.base.node
    words = [base.image, base.platform] if base.platform else [base.image]
    for word in words:
        value, matched, unmatched = expand_with_matches(word, scope.values, escape)
        for name in sorted(unmatched - scope.declared):
            detail = with_suggestion(f"FROM argument '{name}' is not declared", name, sorted(scope.declared))
            findings.add("UndefinedArgInFrom", detail, node, phrase_range(node, name) if node else None)
        if word is base.platform:
            _check_platform(stage, value, matched, unmatched, scope, findings)


def _check_platform(
    stage: Stage, value: str, matched: set[str], unmatched: set[str], scope: Scope, findings: Findings
) -> None:
    written, node = stage.base.platform, stage.base.node
    where = node.flag_ranges()[0] if node else None
    if matched == {"TARGETPLATFORM"} and not unmatched and value == scope.values.get("TARGETPLATFORM"):
        detail = f"Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        findings.add("RedundantTargetPlatform", detail, node, where)
    if matched or unmatched:
        return
    try:
        platform = parse_platform(value)
    except ValueError:
        return  # the error itself will be reported
    if platform.os in stage.name or platform.architecture in stage.name:
        return
    detail = f"FROM --platform flag should not use constant value {quote(value)}"
    findings.add("FromPlatformFlagConstDisallowed", detail, node, where)


def suggest_variable(name: str, known: Iterable[str]) -> str:
    """BuildKit's words for a variable that nothing has set."""
    best = nearest(name, known)
    return f"Usage of undefined variable '${name}'" + (f" (did you mean ${best}?)" if best else "")
