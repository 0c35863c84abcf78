"""What each instruction, flag and mount option does, its form and an example: the texts behind Shift-Tab and ``?``."""

from __future__ import annotations

from collections.abc import Mapping

from dockermagic.values import dataclass

__all__ = ["FLAG_TOPICS", "INSTRUCTIONS", "MOUNT_TOPICS", "VALUES", "Topic", "flag_topic"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to know: ``name`` as it is written, what it ``does``, its ``form`` and an ``example``."""

    name: str
    does: str
    form: str
    example: str


def _topics(*rows: tuple[str, str, str, str]) -> dict[str, Topic]:
    return {name: Topic(name, does, form, example) for name, does, form, example in rows}


INSTRUCTIONS: Mapping[str, Topic] = _topics(
    (
        "ADD",
        "Copies files into the image as COPY does, and more: it unpacks local tar archives, downloads a URL and clones "
        "a git repository. Where COPY is enough, take COPY.",
        "ADD [--chown=USER:GROUP] [--chmod=MODE] SOURCE... DESTINATION",
        "ADD rootfs.tar.xz /",
    ),
    (
        "ARG",
        "Declares a variable for the build alone. `--build-arg` sets it; containers do not see it. An ARG above the "
        "first FROM counts in FROM lines only; `ARG NAME` below FROM brings it into that stage.",
        "ARG NAME[=DEFAULT]",
        "ARG VERSION=3.12",
    ),
    (
        "CMD",
        "The command that a container runs if `docker run` names none. Only the last CMD counts; nothing runs during "
        "the build. With an ENTRYPOINT it holds that program's arguments.",
        'CMD ["PROGRAM", "ARGUMENT", ...]   or   CMD COMMAND LINE',
        'CMD ["python", "main.py"]',
    ),
    (
        "COPY",
        "Copies files from the build context (the notebook's folder), or from another stage, into the image. Of a "
        "folder the content is copied, not the folder. A changed file means that this step and those after it are "
        "built again.",
        "COPY [--from=STAGE] [--chown=USER:GROUP] [--chmod=MODE] SOURCE... DESTINATION",
        "COPY requirements.txt main.py /app/",
    ),
    (
        "ENTRYPOINT",
        "The program that a container always starts. What stands behind the image's name in `docker run`, or else CMD, "
        "becomes its arguments.",
        'ENTRYPOINT ["PROGRAM", "ARGUMENT", ...]',
        'ENTRYPOINT ["python", "-m", "http.server"]',
    ),
    (
        "ENV",
        "Sets environment variables, for the steps below and for containers. Do not put secrets there: everybody who "
        "has the image can read them.",
        "ENV NAME=VALUE ...",
        "ENV LANG=C.UTF-8 PORT=8000",
    ),
    (
        "EXPOSE",
        "Notes on which port the program listens. It opens nothing: `docker run -p` does that.",
        "EXPOSE PORT[/PROTOCOL] ...",
        "EXPOSE 8000",
    ),
    (
        "FROM",
        "Begins a stage: the image to build on. `scratch` is an image with no file. A stage with a name can be copied "
        "from later; the last stage becomes the image.",
        "FROM [--platform=PLATFORM] IMAGE[:TAG] [AS NAME]",
        "FROM python:3.12-slim AS build",
    ),
    (
        "HEALTHCHECK",
        "A command that tells whether the program in a container is well: exit code 0 is healthy, 1 is not.",
        "HEALTHCHECK [--interval=30s] [--timeout=30s] [--retries=3] CMD COMMAND   or   HEALTHCHECK NONE",
        "HEALTHCHECK --interval=1m CMD wget -qO- http://localhost:8000/ || exit 1",
    ),
    (
        "LABEL",
        "Facts about the image for people and tools: who made it, from which source.",
        "LABEL NAME=VALUE ...",
        'LABEL org.opencontainers.image.authors="me@example.com"',
    ),
    (
        "MAINTAINER",
        "The author, as it was written before there was LABEL. Write a LABEL instead.",
        "MAINTAINER NAME",
        'LABEL org.opencontainers.image.authors="me@example.com"',
    ),
    (
        "ONBUILD",
        "An instruction to be kept for later: it runs when somebody builds FROM this image, at once after that FROM.",
        "ONBUILD INSTRUCTION",
        "ONBUILD COPY . /app",
    ),
    (
        "RUN",
        "Runs a command in the image while it is built and keeps what it changed as a layer. Each RUN begins afresh: "
        "of `cd` and `export` nothing is left in the next one (use WORKDIR and ENV).",
        'RUN [--mount=...] [--network=...] COMMAND LINE   or   RUN ["PROGRAM", "ARGUMENT", ...]',
        "RUN pip install --no-cache-dir flask",
    ),
    (
        "SHELL",
        "The shell that reads the command lines of RUN, CMD and ENTRYPOINT from here on.",
        'SHELL ["PROGRAM", "OPTION", ...]',
        'SHELL ["/bin/bash", "-o", "pipefail", "-c"]',
    ),
    (
        "STOPSIGNAL",
        "The signal that asks the program in a container to end; SIGTERM where nothing is said.",
        "STOPSIGNAL SIGNAL",
        "STOPSIGNAL SIGINT",
    ),
    (
        "USER",
        "Who runs the commands below and the container's program: a name of /etc/passwd or a number. It does not "
        "change who owns what COPY brings.",
        "USER NAME[:GROUP]",
        "USER nobody",
    ),
    (
        "VOLUME",
        "Marks folders that each container keeps in a volume, apart from its other files. A new volume begins with "
        "what the image has there; `docker run -v NAME:PATH` takes one with a name, which outlives the container.",
        "VOLUME PATH ...",
        "VOLUME /var/lib/data",
    ),
    (
        "WORKDIR",
        "The folder in which the commands below and the container start; it is made if it is missing. A relative path "
        "counts from the last WORKDIR.",
        "WORKDIR PATH",
        "WORKDIR /app",
    ),
)

_CHMOD = (
    "chmod",
    "The permissions of what is copied, as for chmod.",
    "--chmod=MODE",
    "COPY --chmod=755 run.sh /usr/local/bin/",
)
_CHOWN = (
    "chown",
    "Who owns what is copied; root without it, whatever USER says.",
    "--chown=USER[:GROUP]",
    "COPY --chown=app:app . /app",
)
_EXCLUDE = (
    "exclude",
    "Leaves out what matches, as a line of .dockerignore does. May be repeated.",
    "--exclude=PATTERN",
    "COPY --exclude=*.pyc . /app",
)
_LINK = (
    "link",
    "Copies into a layer of its own that does not look at the image below, so that it stays cached if that changes.",
    "--link",
    "COPY --link dist/ /srv/",
)

FLAG_TOPICS: Mapping[str, Mapping[str, Topic]] = {
    "ADD": _topics(
        _CHMOD,
        _CHOWN,
        _EXCLUDE,
        _LINK,
        (
            "checksum",
            "Refuses a download whose digest, or a repository whose commit, is another one.",
            "--checksum=sha256:DIGEST",
            "ADD --checksum=sha256:24454f83... https://example.com/data.csv /data/",
        ),
        (
            "keep-git-dir",
            "Keeps the .git folder of a repository.",
            "--keep-git-dir",
            "ADD --keep-git-dir https://example.com/project.git /src",
        ),
        (
            "unpack",
            "Unpacks archives, downloaded ones too; `--unpack=false` copies a local archive as it is.",
            "--unpack[=false]",
            "ADD --unpack https://example.com/project.tar.gz /src",
        ),
    ),
    "COPY": _topics(
        _CHMOD,
        _CHOWN,
        _EXCLUDE,
        _LINK,
        (
            "from",
            "Copies from another stage or image instead of the build context.",
            "--from=STAGE|IMAGE",
            "COPY --from=build /src/app /usr/local/bin/",
        ),
        (
            "parents",
            "Keeps the folders in which the sources lie; without it all land side by side.",
            "--parents",
            "COPY --parents src/a.py src/lib/b.py /app/",
        ),
    ),
    "FROM": _topics(
        (
            "platform",
            "The operating system and processor to take the image for; this machine's where nothing is said.",
            "--platform=OS/ARCHITECTURE",
            "FROM --platform=$BUILDPLATFORM golang AS build",
        ),
    ),
    "HEALTHCHECK": _topics(
        ("interval", "The time between two checks; 30s.", "--interval=TIME", "HEALTHCHECK --interval=1m CMD true"),
        (
            "timeout",
            "A check that takes longer has failed; 30s.",
            "--timeout=TIME",
            "HEALTHCHECK --timeout=3s CMD true",
        ),
        (
            "start-period",
            "Failures in this time after the start do not count; 0s.",
            "--start-period=TIME",
            "HEALTHCHECK --start-period=20s CMD true",
        ),
        (
            "start-interval",
            "The time between two checks while it starts; 5s.",
            "--start-interval=TIME",
            "HEALTHCHECK --start-period=20s --start-interval=1s CMD true",
        ),
        (
            "retries",
            "After so many failures in a row the container is unhealthy; 3.",
            "--retries=NUMBER",
            "HEALTHCHECK --retries=5 CMD true",
        ),
    ),
    "RUN": _topics(
        (
            "mount",
            "Lays a folder or file over the image for this command alone; nothing of it gets into the layer. Types: "
            "bind (files of the context or a stage), cache (a folder that outlives the build), secret, ssh, tmpfs.",
            "--mount=type=TYPE,OPTION=VALUE,...",
            "RUN --mount=type=cache,target=/root/.cache/pip pip install flask",
        ),
        (
            "network",
            "Which network the command sees: default, none, or host.",
            "--network=default|none|host",
            "RUN --network=none make test",
        ),
        (
            "security",
            "sandbox is the usual one; insecure asks for all rights and is refused where they cannot be had.",
            "--security=sandbox|insecure",
            "RUN --security=sandbox make",
        ),
        (
            "device",
            "Makes a device of the machine available to the command.",
            "--device=NAME",
            "RUN --device=vendor.com/gpu=all nvidia-smi",
        ),
    ),
}
"""The flags of each instruction, by their names without dashes."""

MOUNT_TOPICS: Mapping[str, Topic] = _topics(
    (
        "type",
        "What is laid there.",
        "type=bind|cache|secret|ssh|tmpfs",
        "RUN --mount=type=tmpfs,target=/tmp make",
    ),
    (
        "target",
        "Where it stands in the image.",
        "target=PATH",
        "RUN --mount=type=cache,target=/root/.cache pip install flask",
    ),
    (
        "source",
        "bind, cache: the path within the context, stage or cache.",
        "source=PATH",
        "RUN --mount=type=bind,source=requirements.txt,target=/r.txt pip install -r /r.txt",
    ),
    (
        "from",
        "bind, cache: another stage or image instead of the build context.",
        "from=STAGE|IMAGE",
        "RUN --mount=type=bind,from=build,source=/out,target=/out cp /out/app /app",
    ),
    (
        "id",
        "The name of the cache, secret or agent.",
        "id=NAME",
        "RUN --mount=type=secret,id=token cat /run/secrets/token",
    ),
    (
        "sharing",
        "cache: whether builds that run at once use one folder (shared), one each (private), or wait (locked).",
        "sharing=shared|private|locked",
        "RUN --mount=type=cache,target=/var/cache/apt,sharing=locked apt-get update",
    ),
    (
        "readonly",
        "The command cannot write there.",
        "readonly",
        "RUN --mount=type=bind,target=/src,readonly make -C /src",
    ),
    (
        "readwrite",
        "The command may write there; for bind it is thrown away.",
        "readwrite",
        "RUN --mount=type=bind,target=/src,readwrite make -C /src",
    ),
    (
        "required",
        "secret, ssh: fail if it was not given.",
        "required",
        "RUN --mount=type=secret,id=token,required make",
    ),
    (
        "env",
        "secret: give it as this variable instead of a file.",
        "env=NAME",
        "RUN --mount=type=secret,id=t,env=T make",
    ),
    ("mode", "The permissions, in octal.", "mode=MODE", "RUN --mount=type=secret,id=token,mode=0444 make"),
    ("uid", "The owner's number.", "uid=NUMBER", "RUN --mount=type=cache,target=/cache,uid=1000 make"),
    ("gid", "The group's number.", "gid=NUMBER", "RUN --mount=type=cache,target=/cache,gid=1000 make"),
    ("size", "tmpfs: the most bytes it may hold.", "size=BYTES", "RUN --mount=type=tmpfs,target=/tmp,size=64m make"),
)

_TIMES = ("5s", "30s", "1m", "5m")
VALUES: Mapping[str, tuple[str, ...]] = {
    "--chmod": ("644", "755", "u=rwX,go=rX"),
    "--interval": _TIMES,
    "--keep-git-dir": ("true", "false"),
    "--link": ("true", "false"),
    "--network": ("default", "none", "host"),
    "--parents": ("true", "false"),
    "--platform": ("linux/amd64", "linux/arm64", "$BUILDPLATFORM", "$TARGETPLATFORM"),
    "--retries": ("1", "3", "5"),
    "--security": ("sandbox", "insecure"),
    "--start-interval": _TIMES,
    "--start-period": _TIMES,
    "--timeout": _TIMES,
    "--unpack": ("true", "false"),
    "sharing": ("shared", "private", "locked"),
    "type": ("bind", "cache", "secret", "ssh", "tmpfs"),
    "STOPSIGNAL": ("SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2"),
}
"""The values that a flag, a mount option or an instruction commonly takes."""


def flag_topic(instruction: str, flag: str) -> Topic | None:
    """The topic of a flag, with or without dashes; of any instruction that has it where ``instruction`` does not."""
    name = flag.lstrip("-").partition("=")[0]
    places = [FLAG_TOPICS.get(instruction.upper(), {}), *FLAG_TOPICS.values()]
    return next((place[name] for place in places if name in place), None)
