"""Options are read as Docker's own command line reads them."""

from __future__ import annotations

import pytest

from dockermagic.errors import UsageError
from dockermagic.verbs.options import flag, help_text, many, parse, text, unsupported


def digits(value: str) -> int:
    return int(value)


OPTIONS = (
    flag("interactive", "i", "Keep STDIN open"),
    flag("tty", "t"),
    flag("human", "H", default=True),
    text("name", "n", "A name", value="word"),
    text("count", "c", check=digits, default="3"),
    many("env", "e", "Variables"),
    flag("quiet-builds", "", hidden=True),
    unsupported("detach", "d", "containers run in the foreground."),
)

READ = [
    # words, option -> what it is, words beside them
    ([], {"interactive": False, "human": True, "name": "", "count": "3", "env": ()}, ()),
    (["-it", "x"], {"interactive": True, "tty": True}, ("x",)),
    (["-ti=false", "x"], {"interactive": False, "tty": True}, ("x",)),
    (["--tty=false", "x"], {"tty": False}, ("x",)),
    (["--tty", "false"], {"tty": True}, ("false",)),
    (["--human=0"], {"human": False}, ()),
    (["--tty", "--tty=0"], {"tty": False}, ()),
    (["--name", "a"], {"name": "a"}, ()),
    (["--name=a=b"], {"name": "a=b"}, ()),
    (["--name="], {"name": ""}, ()),
    (["--name", "--tty"], {"name": "--tty", "tty": False}, ()),
    (["-na"], {"name": "a"}, ()),
    (["-n=a"], {"name": "a"}, ()),
    (["-n", "a"], {"name": "a"}, ()),
    (["-itn", "a", "b"], {"interactive": True, "tty": True, "name": "a"}, ("b",)),
    (["-n", "a", "-n", "b"], {"name": "b"}, ()),
    (["-e", "A=1", "--env", "B=2,3", "--env=C"], {"env": ("A=1", "B=2,3", "C")}, ()),
    (["x", "-t", "y"], {"tty": True}, ("x", "y")),
    (["x", "--", "-t"], {"tty": False}, ("x", "-t")),
    (["-"], {}, ("-",)),
    (["-c", "7"], {"count": "7"}, ()),
]


@pytest.mark.parametrize(("words", "expected", "beside"), READ)
def test_reads(words: list[str], expected: dict[str, object], beside: tuple[str, ...]) -> None:
    arguments = parse(OPTIONS, words)
    read = {
        name: arguments.flag(name)
        if isinstance(value, bool)
        else arguments.many(name)
        if isinstance(value, tuple)
        else arguments.text(name)
        for name, value in expected.items()
    }

    assert (read, arguments.words) == (expected, beside)


@pytest.mark.parametrize(
    ("words", "beside"),
    [
        (["-t", "image", "-i", "--name", "x"], ("image", "-i", "--name", "x")),
        (["image", "--help"], ("image", "--help")),
        (["--", "-image"], ("-image",)),
        (["image", "--", "x"], ("image", "--", "x")),
    ],
)
def test_options_end_with_the_first_word_of_run(words: list[str], beside: tuple[str, ...]) -> None:
    assert parse(OPTIONS, words, interspersed=False).words == beside


REFUSED = [
    (["--nmae", "x"], "unknown flag: --nmae (did you mean --name?)"),
    (["--wxyz"], "unknown flag: --wxyz"),
    (["-x"], "unknown shorthand flag: 'x' in -x"),
    (["-tx"], "unknown shorthand flag: 'x' in -tx"),
    (["--name"], "flag needs an argument: --name"),
    (["-tn"], "flag needs an argument: 'n' in -tn"),
    (["--tty=maybe"], 'invalid argument "maybe" for "-t, --tty" flag'),
    (["--tty="], 'invalid argument "" for "-t, --tty" flag'),
    (["-c", "many"], 'invalid argument "many" for "-c, --count" flag: invalid literal'),
    (["--nam", "x"], "unknown flag: --nam (did you mean --name?)"),
    (["-d"], "--detach is an option of Docker that dockermagic does not have: containers run in the foreground."),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_refuses(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(OPTIONS, words)

    assert caught.value.message.startswith(message)


def test_help_is_aligned_and_hides_what_changes_nothing() -> None:
    assert help_text(OPTIONS, 60).splitlines() == [
        "  -c, --count string   (default 3)",
        "  -e, --env list       Variables",
        "  -H, --human          (default true)",
        "  -i, --interactive    Keep STDIN open",
        "  -n, --name word      A name",
        "  -t, --tty",
    ]
