"""Typed instructions: what each one says, what it refuses, and what it suggests."""

from __future__ import annotations

import pytest

from dockermagic.dockerfile.heredoc import Heredoc
from dockermagic.dockerfile.instructions import parse_instructions, parse_trigger
from dockermagic.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Device,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from dockermagic.dockerfile.mounts import RunMount
from dockermagic.errors import DockerfileSyntaxError

SECOND = 1_000_000_000


MEANINGS: dict[str, Instruction] = {
    "FROM debian": From("debian"),
    "FROM --platform=$BUILDPLATFORM debian:12 AS Base": From("debian:12", "$BUILDPLATFORM", "base"),
    "ARG a b= c='d e'": Arg((("a", None), ("b", ""), ("c", "'d e'"))),
    "ENV a=1 b=$a": Env((("a", "1"), ("b", "$a"))),
    "ENV a 1 2": Env((("a", "1 2"),)),
    'LABEL "a b"=c': Label((('"a b"', "c"),)),
    "MAINTAINER Some One": Maintainer("Some One"),
    "EXPOSE 80 443/udp": Expose(("80", "443/udp")),
    "VOLUME /a /b": Volume(("/a", "/b")),
    'VOLUME [" /a "]': Volume(("/a",)),
    "USER a:b": User("a:b"),
    "WORKDIR a b": Workdir("a b"),
    "STOPSIGNAL SIGINT": StopSignal("SIGINT"),
    'SHELL ["bash", "-c"]': Shell(("bash", "-c")),
    "HEALTHCHECK NONE": Healthcheck(("NONE",)),
    "HEALTHCHECK CMD a b": Healthcheck(("CMD-SHELL", "a b")),
    'HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD ["a"]': Healthcheck(
        ("CMD", "a"), interval=90 * SECOND, timeout=SECOND // 2, retries=3
    ),
    "ONBUILD RUN  a  b": Onbuild("RUN  a  b"),
    "ONBUILD COPY <<E /\nx\nE": Onbuild("COPY <<E /\nx\nE"),
    "CMD a b": Cmd(Command(("a b",), True)),
    "CMD": Cmd(Command((), True)),
    "CMD []": Cmd(Command((), False)),
    'ENTRYPOINT ["a", "b"]': Entrypoint(Command(("a", "b"), False)),
    "RUN a && b": Run(Command(("a && b",), True)),
    'RUN ["a"]': Run(Command(("a",), False)),
    "RUN --network=none --security=insecure a": Run(Command(("a",), True), network="none", security="insecure"),
    "RUN --mount=type=cache,target=$X,ro a": Run(
        Command(("a",), True),
        mounts=(RunMount("type=cache,target=$X,ro", "cache", target="$X", readonly="true"),),
    ),
    "RUN --device=gpu,required a": Run(Command(("a",), True), devices=(Device("gpu", True),)),
    "RUN <<E\nx\nE": Run(Command(("<<E",), True), (Heredoc("E", "x\n"),)),
    "COPY a b c/": Copy(("a", "b"), "c/"),
    "COPY --from=x --chown=1:2 --chmod=755 --link --parents --exclude=p --exclude=q a b": Copy(
        ("a",), "b", from_="x", chown="1:2", chmod="755", link=True, parents=True, excludes=("p", "q")
    ),
    'COPY ["a b", "c"]': Copy(("a b",), "c"),
    "COPY <<E f /d/\nx\nE": Copy(("f",), "/d/", (Heredoc("E", "x\n"),)),
    "ADD --keep-git-dir=false --unpack --checksum=sha256:0 a b": Add(
        ("a",), "b", keep_git_dir=False, unpack=True, checksum="sha256:0"
    ),
}


def without_places(made: Instruction) -> Instruction:
    """Heredocs know their lines; a table does not."""
    if isinstance(made, Run | Copy | Add) and made.heredocs:
        from dataclasses import replace

        return replace(made, heredocs=tuple(Heredoc(h.name, h.content, h.expand, h.chomp, h.fd) for h in made.heredocs))
    return made


@pytest.mark.parametrize(("text", "expected"), MEANINGS.items(), ids=MEANINGS)
def test_meaning(text: str, expected: Instruction) -> None:
    """What an instruction says."""
    prefix = "" if text.startswith("FROM") else "FROM x\n"
    actual = without_places(parse_instructions(prefix + text)[-1])

    assert actual == expected


REFUSED = {
    "FROM a b": "FROM requires either one or three arguments",
    "FROM a AS 1b": 'invalid name for build stage: "1b"',
    "FROM --platfrom=x a": "unknown flag: --platfrom (did you mean platform?)",
    "RUNN a": "unknown instruction: RUNN (did you mean RUN?)",
    "copie a b": "unknown instruction: copie (did you mean copy?)",
    "COPY a": "COPY requires at least two arguments",
    "COPY a <<E\nE": "COPY cannot accept a heredoc as a destination",
    "COPY --link=maybe a b": "expecting boolean value for flag --link, not: maybe",
    "COPY --chown a b": "missing a value on flag: --chown",
    "COPY --from=a --from=b c d": "duplicate flag specified: --from",
    "RUN --network=some a": 'invalid network mode "some"',
    "RUN --security=some a": 'security "some" is not valid',
    "RUN --mount=from=$x,target=/y z": "'from' doesn't support variable expansion",
    "RUN --mount= z": "failed to parse csv mounts: EOF",
    "RUN --device=a,name=b c": "device name already set to a",
    "SHELL bash": "SHELL requires the arguments to be in JSON form",
    "SHELL []": "SHELL requires at least one argument",
    'VOLUME [" "]': "VOLUME specified can not be an empty string",
    "ENV =a": "ENV names can not be blank",
    "ARG =a": "ARG names can not be blank",
    "WORKDIR": "WORKDIR requires exactly one argument",
    "USER --x a": "unknown flag: --x",
    "ONBUILD ONBUILD RUN a": "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    "ONBUILD FROM a": "FROM isn't allowed as an ONBUILD trigger",
    "HEALTHCHECK NONE a": "HEALTHCHECK NONE takes no arguments",
    "HEALTHCHECK CMD": "Missing command after HEALTHCHECK CMD",
    "HEALTHCHECK TCP 80": 'Unknown type "TCP" in HEALTHCHECK (try CMD)',
    "HEALTHCHECK --interval=5 CMD a": 'time: missing unit in duration "5"',
    "HEALTHCHECK --interval=1us CMD a": 'Interval "interval" cannot be less than 1ms',
    "HEALTHCHECK --retries=-1 CMD a": "--retries cannot be negative (-1)",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_refused(text: str, message: str) -> None:
    """What an instruction refuses, and the line it stands in."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse_instructions(f"FROM x\n\n{text}")

    assert message in caught.value.message
    assert caught.value.line == 3
    assert caught.value.hint or "did you mean" in caught.value.message


def test_only_arg_may_stand_before_from() -> None:
    assert parse_instructions("ARG a\nFROM x") == [Arg((("a", None),)), From("x")]
    with pytest.raises(DockerfileSyntaxError, match="no build stage in current context"):
        parse_instructions("ARG a\nENV b=c\nFROM x")


@pytest.mark.parametrize(
    ("text", "underlined"),
    [
        ("  RUNN a", "RUNN"),
        ("COPY --link --frm=a b c", "--frm=a"),
        ("RUN --network a", "--network"),
        ("RUN --network=none --mount=from=$x,target=/y z", "--mount=from=$x,target=/y"),
        ("RUN --device=a --device=b,c z", "--device=b,c"),
        ("HEALTHCHECK --timeout=1s \\\n  --interval=5 CMD a", "--interval=5"),
        ("FROM a b", "FROM a b"),
    ],
)
def test_error_underlines_what_is_wrong(text: str, underlined: str) -> None:
    """The keyword or the flag, where there is one to blame, else the line."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse_instructions(f"FROM x\n{text}")

    place = caught.value.place
    assert place is not None
    assert place.text[place.column : place.end_column] == underlined


def test_error_reads_like_a_sentence() -> None:
    """Message, line and hint, as a learner sees them."""
    with pytest.raises(DockerfileSyntaxError) as caught:
        parse_instructions("FROM x\nCOPY app.py\n")

    assert str(caught.value) == (
        "COPY requires at least two arguments, but only one was provided. Destination could not be determined\n"
        "  line 2: COPY app.py\n"
        "First what to copy, then where to: COPY app.py /app/."
    )


def test_instructions_know_where_they_stand() -> None:
    made = parse_instructions("FROM x\n# why\nRUN a \\\n  b\n")[1]

    assert (made.line, made.range.end_line, made.original, made.comments) == (3, 4, "RUN a   b", ("why",))
    assert Workdir("/x").line is None


def test_trigger() -> None:
    """A trigger of a base image is one instruction, of any kind that ONBUILD allows."""
    assert parse_trigger("COPY a b") == Copy(("a",), "b")
    with pytest.raises(DockerfileSyntaxError, match="single expression"):
        parse_trigger("RUN a\nRUN b")
