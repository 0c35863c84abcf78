"""The linter: for each of BuildKit's rules a text that breaks it and one that does not."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.linter import BaseImage, check, lint
from dockermagic.dockerfile.rules import RULES, TEACHING
from dockermagic.errors import DockerfileSyntaxError

Finding = tuple[str, int, str]

CASES: dict[str, tuple[str, list[Finding]]] = {
    "clean": ('FROM debian:12 AS base\nWORKDIR /app\nCOPY . .\nCMD ["./run"]', []),
    "stage in upper case": (
        "FROM x AS Base",
        [("StageNameCasing", 1, "Stage name 'Base' should be lowercase")],
    ),
    "as beside FROM": ("FROM x as a", [("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")]),
    "AS beside from": ("from x AS a", [("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match")]),
    "From is its own matter": (
        "FROM x\nFROM x\nFrom x as a",
        [
            (
                "ConsistentInstructionCasing",
                3,
                "Command 'From' should match the case of the command majority (uppercase)",
            )
        ],
    ),
    "majority is lower case": (
        "from x\nrun a\nRUN b",
        [("ConsistentInstructionCasing", 3, "Command 'RUN' should match the case of the command majority (lowercase)")],
    ),
    "a tie is upper case": (
        "FROM x\nrun a",
        [("ConsistentInstructionCasing", 2, "Command 'run' should match the case of the command majority (uppercase)")],
    ),
    "global ARG does not count": ("arg a=x\nFROM $a", []),
    "empty continuation": (
        "FROM x\nRUN a \\\n\n\n b\nRUN c",
        [("NoEmptyContinuation", 5, "Empty continuation line")],
    ),
    "two stages of one name": (
        "FROM x AS a\nFROM y AS A",
        [
            ("DuplicateStageName", 2, 'Duplicate stage name "a", stage names should be unique'),
            ("StageNameCasing", 2, "Stage name 'A' should be lowercase"),
        ],
    ),
    "a reserved name": (
        "FROM x AS context",
        [("ReservedStageName", 1, 'Stage name should not use the same name as reserved stage "context"')],
    ),
    "CMD as text": (
        "FROM x\nCMD a",
        [
            (
                "JSONArgsRecommended",
                2,
                "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            )
        ],
    ),
    "CMD as text after SHELL": ('FROM x AS a\nSHELL ["sh", "-c"]\nFROM a\nENTRYPOINT b', []),
    "MAINTAINER": (
        "FROM x\nMAINTAINER me",
        [("MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label")],
    ),
    "undeclared argument of FROM": (
        "ARG VERSION=1\nFROM x:1$VERSOIN",
        [("UndefinedArgInFrom", 2, "FROM argument 'VERSOIN' is not declared (did you mean VERSION?)")],
    ),
    "declared without a value": ("ARG SUFFIX\nFROM x$SUFFIX", []),
    "relative WORKDIR": (
        "FROM x\nWORKDIR app\nWORKDIR lib",
        [
            (
                "WorkdirRelativePath",
                2,
                'Relative workdir "app" can have unexpected results if the base image changes',
            )
        ],
    ),
    "relative WORKDIR on an absolute one": ("FROM x AS a\nWORKDIR /a\nFROM a\nWORKDIR b", []),
    "undefined variable": (
        "FROM x\nARG NAME\nENV OTHER=1\nCOPY $NAME $OHTER /",
        [("UndefinedVar", 4, "Usage of undefined variable '$OHTER' (did you mean $OTHER?)")],
    ),
    "undefined variable in a heredoc": (
        "FROM x\nCOPY <<E /f\n$NOTHING\nE\nCOPY <<'E' /g\n$NOTHING\nE",
        [("UndefinedVar", 2, "Usage of undefined variable '$NOTHING'")],
    ),
    "variables of RUN are the shell's": ("FROM x\nRUN echo $NOTHING", []),
    "an inherited variable": ("FROM x AS a\nENV b=1\nFROM a\nUSER $b", []),
    "a global ARG needs ARG in the stage": (
        "ARG a=1\nFROM x\nUSER $a",
        [("UndefinedVar", 3, "Usage of undefined variable '$a'")],
    ),
    "two CMDs": (
        'FROM x\nCMD ["a"]\nRUN b\nCMD ["c"]',
        [
            (
                "MultipleInstructionsDisallowed",
                2,
                "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            )
        ],
    ),
    "two CMDs in two stages": ('FROM x AS a\nCMD ["a"]\nFROM a\nCMD ["c"]', []),
    "ENV with a space": (
        "FROM x\nENV a b",
        [("LegacyKeyValueFormat", 2, '"ENV key=value" should be used instead of legacy "ENV key value" format')],
    ),
    "TARGETPLATFORM": (
        "FROM --platform=$TARGETPLATFORM x",
        [
            (
                "RedundantTargetPlatform",
                1,
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            )
        ],
    ),
    "a constant platform": (
        "FROM --platform=linux/arm64 x",
        [("FromPlatformFlagConstDisallowed", 1, 'FROM --platform flag should not use constant value "linux/arm64"')],
    ),
    "a constant platform in a stage of its name": ("FROM --platform=linux/arm64 x AS for_arm64", []),
    "secrets": (
        "FROM x\nARG DB_PASSWORD\nENV API_TOKEN=1 TOKENS=2 PUBLIC_KEY=3",
        [
            (
                "SecretsUsedInArgOrEnv",
                2,
                'Do not use ARG or ENV instructions for sensitive data (ARG "DB_PASSWORD")',
            ),
            (
                "SecretsUsedInArgOrEnv",
                3,
                'Do not use ARG or ENV instructions for sensitive data (ENV "API_TOKEN")',
            ),
        ],
    ),
    "a protocol in upper case": (
        "FROM x\nEXPOSE 80/TCP 81/udp",
        [("ExposeProtoCasing", 2, "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase")],
    ),
    "a mapping in EXPOSE": (
        "FROM x\nARG p=80:80\nEXPOSE $p",
        [
            (
                "ExposeInvalidFormat",
                3,
                "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'",
            )
        ],
    ),
    "an experimental rule is off": ("FROM x\n# something\nARG a", []),
    "an experimental rule is on": (
        "# check=experimental=InvalidDefinitionDescription\nFROM x\n# something\nARG a\n# b is it\nARG b",
        [
            (
                "InvalidDefinitionDescription",
                4,
                "Comment for ARG should follow the format: `# a <description>`",
            )
        ],
    ),
    "skip a rule": ("# check=skip=MaintainerDeprecated\nFROM x\nMAINTAINER me", []),
    "skip all": ("# check=skip=all\nfrom x as A\nmaintainer me", []),
    "skip for one instruction": (
        "FROM x\n# check=skip=LegacyKeyValueFormat // old habits\nENV a b\nENV c d",
        [("LegacyKeyValueFormat", 4, '"ENV key=value" should be used instead of legacy "ENV key value" format')],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_rule(text: str, expected: list[Finding]) -> None:
    """Rule, line and message."""
    actual = sorted((found.rule, found.line, found.detail) for found in lint(text))

    assert actual == sorted(expected)


def test_every_rule_has_a_case() -> None:
    """Three rules need more than a text; they have tests of their own below."""
    tested = {finding[0] for _, findings in CASES.values() for finding in findings}

    assert set(RULES) - tested == {"CopyIgnoredFile", "InvalidBaseImagePlatform", "InvalidDefaultArgInFrom"}


def test_rules_explain_themselves() -> None:
    """A sentence and a page for each rule."""
    for rule in (*RULES.values(), *TEACHING.values()):
        assert rule.description.endswith(".")
        assert rule.url.startswith("https://") or rule.name == "InvalidBaseImagePlatform"
    assert RULES["JSONArgsRecommended"].url.endswith("/rule/json-args-recommended/")


IGNORED = [
    ("COPY secret.txt /", ["*.txt"], 'Attempting to Copy file "secret.txt" that is excluded by .dockerignore'),
    ("ADD ./a/b /", ["a"], 'Attempting to Add file "a/b" that is excluded by .dockerignore'),
    ("COPY . /", ["**"], 'Attempting to Copy file "." that is excluded by .dockerignore'),
    ("COPY . /", ["a*"], ""),
    ("COPY a /", ["*", "!a"], ""),
    ("COPY --from=x a /", ["a"], ""),
    ("ADD https://host/a /", ["**"], ""),
    ("ADD git@host:a.git /", ["**"], ""),
]


@pytest.mark.parametrize(("instruction", "patterns", "detail"), IGNORED)
def test_ignored_file(instruction: str, patterns: list[str], detail: str) -> None:
    """What the ignore file leaves out cannot be copied; with exceptions nothing is certain."""
    found = lint(f"FROM scratch AS x\nFROM scratch\n{instruction}", ignore=patterns)

    assert [(f.rule, f.detail) for f in found] == ([("CopyIgnoredFile", detail)] if detail else [])


def test_base_image() -> None:
    """The variables, shell, triggers and platform of a base image count, where they are known."""
    text = "FROM app:1 AS x\nUSER $APP_UID\nCMD run\n"
    base = BaseImage({"APP_UID": "1"}, "linux/arm64", ("bash", "-c"), ("WORKDIR $NOWHERE",))

    assert {f.rule for f in lint(text)} == {"UndefinedVar", "JSONArgsRecommended"}
    assert [(f.rule, f.line) for f in lint(text, bases={"app:1": base}.get, platform="linux/arm64")] == [
        ("UndefinedVar", 1),
        ("WorkdirRelativePath", 1),
    ]
    found = lint("FROM app:1", bases={"app:1": base}.get, platform="linux/amd64")
    assert found[0].detail == (
        'Base image app:1 was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    )


def test_reachable_only() -> None:
    """A build looks at what its target needs, a check at everything."""
    text = "FROM x AS a\nENV b c\nFROM x AS d\nENV e f\nFROM d"

    assert [f.line for f in lint(text)] == [2, 4]
    assert [f.line for f in lint(text, reachable_only=True)] == [4]
    assert [f.line for f in lint(text, reachable_only=True, target="A")] == [2]


def test_build_args() -> None:
    """A build argument gives a value to FROM, and options to the check."""
    text = "ARG base\nFROM $base\nMAINTAINER me"

    with pytest.raises(DockerfileSyntaxError, match="should not be blank"):
        lint(text)
    assert [(f.rule, f.line, f.detail) for f in lint(text, build_args={"base": "x"})] == [
        ("InvalidDefaultArgInFrom", 2, "Default value for ARG $base results in empty or invalid base image name"),
        ("MaintainerDeprecated", 3, "Maintainer instruction is deprecated in favor of using label"),
    ]
    assert lint(text, build_args={"base": "x", "BUILDKIT_DOCKERFILE_CHECK": "skip=all"}) == []


def test_findings_before_an_error_are_kept() -> None:
    report = check("FROM x as Y\nMAINTAINER me\nWAT\nMAINTAINER you")

    assert [f.rule for f in report.diagnostics] == ["StageNameCasing", "FromAsCasing", "MaintainerDeprecated"]
    assert report.error is not None
    assert (report.error.line, report.message) == (3, "unknown instruction: WAT")


def test_error_option_makes_violations() -> None:
    assert check("# check=error=true\nFROM x\nENV a b").message == (
        "lint violation found for rules: LegacyKeyValueFormat"
    )
    assert check("# check=error=true\nFROM x").message == ""
    assert check("FROM x\nENV a b").message == ""


@pytest.mark.parametrize("option", ["wat", "wat=1", "error=perhaps"])
def test_bad_option(option: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match="check option") as caught:
        lint(f"# check={option}\nFROM x")

    assert caught.value.line == 1


UNDERLINED = {
    "FROM x AS Base": "Base",
    "FROM x as base": "as",
    "FROM x\nrun a\nRUN b": "run",
    "FROM x\nCOPY a \\\n  ${wat} /": "${wat}",
    "FROM x\nENV a=1 my_secret=2": "my_secret",
    "FROM x\nEXPOSE 80 81/TCP": "81/TCP",
    "FROM --platform=linux/arm64 x": "--platform=linux/arm64",
}


@pytest.mark.parametrize(("text", "expected"), UNDERLINED.items(), ids=UNDERLINED.values())
def test_underlined(text: str, expected: str) -> None:
    """A finding points at the word it is about."""
    where = lint(text)[0].range
    line = text.splitlines()[where.start_line - 1]

    assert line[where.start_column : where.end_column] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nRUN --mount=type=tmpfs,target=/x \\\n  --mount=type=cash,target=/y z", "--mount=type=cash,target=/y"),
        ("FROM x\nCOPY --link --from=7 a b", "--from=7"),
    ],
)
def test_error_underlines_the_flag(text: str, expected: str) -> None:
    """What only shows when values are looked at points at its flag, too."""
    error = check(text).error

    assert error is not None and error.place is not None and error.hint
    assert error.place.text[error.place.column : error.place.end_column] == expected


def test_order_of_lines() -> None:
    found = lint("FROM x\nENV a b\nMAINTAINER me\nENV c d")

    assert [f.line for f in found] == [2, 3, 4]
