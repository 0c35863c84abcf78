"""The lint rules as data: their names, and in one sentence why they exist.

BuildKit's rules have its names and messages. The DL rules are for learners: names and meaning are hadolint's; what
BuildKit has a rule for is not said twice.
"""

from __future__ import annotations

import re
from typing import Literal

from dockermagic.values import dataclass

__all__ = ["RULES", "TEACHING", "Level", "Rule"]

Level = Literal["error", "warning", "info", "style"]

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Rule:
    """``description`` says in a sentence why the rule exists. ``url`` leads to more, '' where there is no page."""

    name: str
    description: str
    url: str
    level: Level = "warning"
    experimental: bool = False


def _buildkit(name: str, description: str, *, page: bool = True, experimental: bool = False) -> Rule:
    slug = _HUMP.sub("-", name).lower()
    url = f"https://docs.docker.com/go/dockerfile/rule/{slug}/" if page else ""
    return Rule(name, description, url, experimental=experimental)


_ALL = (
    _buildkit("StageNameCasing", "Stage names are kept in lower case, so write them that way."),
    _buildkit("FromAsCasing", "FROM and AS belong together and read better in the same case."),
    _buildkit("NoEmptyContinuation", "An empty line inside a continued instruction is going to be an error."),
    _buildkit("ConsistentInstructionCasing", "Instructions read better when all are upper case, or all lower case."),
    _buildkit("DuplicateStageName", "When two stages have the same name, only the later one can be reached by it."),
    _buildkit("ReservedStageName", "These names already have a meaning and cannot name a stage of yours."),
    _buildkit(
        "JSONArgsRecommended", "In the shell form a shell stands between the container's signals and the program."
    ),
    _buildkit("MaintainerDeprecated", "A label can name the author and any tool can read it; MAINTAINER is history."),
    _buildkit("UndefinedArgInFrom", "FROM sees only the ARGs that stand before the first FROM."),
    _buildkit("WorkdirRelativePath", "Where a relative directory ends up depends on the base image's own directory."),
    _buildkit("UndefinedVar", "A variable that nothing has set becomes empty text without a word."),
    _buildkit("MultipleInstructionsDisallowed", "Of several of these in a stage only the last one has an effect."),
    _buildkit("LegacyKeyValueFormat", "The old form with a space sets only one variable and is easily misread."),
    _buildkit(
        "InvalidBaseImagePlatform", "The base image was made for another kind of machine than this build.", page=False
    ),
    _buildkit("RedundantTargetPlatform", "FROM uses the target platform anyway."),
    _buildkit("SecretsUsedInArgOrEnv", "Values of ARG and ENV stay readable in the image; mount a secret instead."),
    _buildkit("InvalidDefaultArgInFrom", "Without build arguments, FROM would name no valid image."),
    _buildkit("FromPlatformFlagConstDisallowed", "A fixed platform takes the choice away from whoever builds."),
    _buildkit("CopyIgnoredFile", "The ignore file keeps this file out of the build context, so it cannot be copied."),
    _buildkit(
        "InvalidDefinitionDescription",
        "A comment above a stage or an argument describes it when it begins with its name.",
        experimental=True,
    ),
    _buildkit("ExposeProtoCasing", "The protocol of a port is written in lower case."),
    _buildkit(
        "ExposeInvalidFormat", "EXPOSE names a port inside the container; addresses and mappings are for running it."
    ),
)

RULES = {rule.name: rule for rule in _ALL}
"""BuildKit's rules by name."""


def _hadolint(name: str, level: Level, description: str) -> Rule:
    return Rule(name, description, f"https://github.com/hadolint/hadolint/wiki/{name}", level)


_TEACHING = (
    _hadolint("DL3001", "info", "This command has no use in a container, which runs one program and no services."),
    _hadolint("DL3002", "warning", "A container whose last user is root gives whoever breaks in all rights inside it."),
    _hadolint("DL3003", "warning", "cd lasts until the end of its RUN; WORKDIR lasts."),
    _hadolint("DL3004", "error", "RUN is root unless USER says otherwise, and sudo behaves oddly without a terminal."),
    _hadolint("DL3006", "warning", "Without a tag the newest image is taken, and tomorrow that is another one."),
    _hadolint("DL3007", "warning", "latest moves: the same Dockerfile builds something else next month."),
    _hadolint(
        "DL3008", "warning", "Without versions the packages are whatever the archive holds on the day of the build."
    ),
    _hadolint("DL3009", "info", "The package lists stay in the layer unless the same RUN removes them."),
    _hadolint("DL3011", "error", "Port numbers end at 65535."),
    _hadolint("DL3013", "warning", "Without versions pip installs whatever is newest on the day of the build."),
    _hadolint("DL3014", "warning", "A build has no terminal, so apt-get cannot ask; -y answers for you."),
    _hadolint("DL3015", "info", "Recommended packages make the image larger, often by a lot."),
    _hadolint("DL3016", "warning", "Without versions npm installs whatever is newest on the day of the build."),
    _hadolint("DL3018", "warning", "Without versions apk installs whatever the archive holds on the day of the build."),
    _hadolint("DL3019", "info", "apk keeps its index in the layer unless it is told not to."),
    _hadolint("DL3020", "error", "COPY only copies; ADD also fetches and unpacks, which here is not wanted."),
    _hadolint("DL3021", "error", "Several files need a directory to go to, and a directory ends with a slash."),
    _hadolint("DL3022", "warning", "This --from is no stage above, so an image of that name would be fetched."),
    _hadolint("DL3023", "error", "A stage cannot copy from itself while it is being made."),
    _hadolint(
        "DL3027", "warning", "apt is made for people; its output and options change. apt-get is made for scripts."
    ),
    _hadolint("DL3042", "warning", "pip's cache in a layer helps no later build and makes the image larger."),
    _hadolint("DL3044", "error", "A variable set by an ENV is not yet known inside the same ENV."),
    _hadolint("DL3045", "warning", "Without a WORKDIR a relative destination depends on the base image."),
    _hadolint("DL3047", "info", "wget's progress bar fills the log of a build with thousands of lines."),
    _hadolint("DL3059", "info", "Each RUN is a layer; those that belong together can be one."),
    _hadolint("DL4001", "warning", "Two tools for the same purpose are one too many in an image."),
    _hadolint("DL4005", "warning", "SHELL changes the shell of what follows without touching /bin/sh."),
    _hadolint("DL4006", "warning", "A pipe succeeds when its last command does; with pipefail every command counts."),
)

TEACHING = {rule.name: rule for rule in _TEACHING}
"""Rules for learners by name."""
