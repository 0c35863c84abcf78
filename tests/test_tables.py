"""Sizes, ages and durations in Docker's words, and columns that stand below one another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dockermagic.tables import (
    age,
    align,
    clip,
    command_line,
    duration,
    history_table,
    human_size,
    images_table,
    many,
    short_id,
)
from dockermagic.view import HistoryRow, ImageRow

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

SIZES = [
    (0, "0B"),
    (2, "2B"),
    (999, "999B"),
    (1000, "1kB"),
    (4_812, "4.81kB"),
    (4_261_000, "4.26MB"),
    (999_499, "999kB"),
    (999_600, "1MB"),
    (117_000_000, "117MB"),
    (1_230_000_000, "1.23GB"),
    (5_000_000_000_000, "5TB"),
]

AGES = [
    # seconds ago, words
    (0.2, "Less than a second ago"),
    (1, "1 second ago"),
    (59, "59 seconds ago"),
    (60, "About a minute ago"),
    (119, "About a minute ago"),
    (120, "2 minutes ago"),
    (3599, "59 minutes ago"),
    (3600, "About an hour ago"),
    (3600 * 1.6, "2 hours ago"),
    (3600 * 47, "47 hours ago"),
    (3600 * 49, "2 days ago"),
    (86400 * 13, "13 days ago"),
    (86400 * 14, "2 weeks ago"),
    (86400 * 59, "8 weeks ago"),
    (86400 * 61, "2 months ago"),
    (86400 * 365 * 2, "2 years ago"),
]

DURATIONS = [(0, "0ms"), (0.004, "4ms"), (0.05, "0.1s"), (0.3, "0.3s"), (12.41, "12.4s"), (59.94, "59.9s")]
DURATIONS += [(59.96, "1m 00s"), (72, "1m 12s"), (3599.6, "1h 00m"), (7500, "2h 05m"), (-1, "0ms")]

COMMANDS = [
    (("echo", "hi"), "echo hi"),
    (("sh", "-c", "exit 3"), "sh -c 'exit 3'"),
    (("python", "-c", "print('x')"), "python -c \"print('x')\""),
    (("echo", "it's $5"), "echo 'it'\"'\"'s $5'"),
    (("echo", ""), "echo ''"),
]


@pytest.mark.parametrize(("size", "words"), SIZES)
def test_sizes(size: int, words: str) -> None:
    assert human_size(size) == words


@pytest.mark.parametrize(("seconds", "words"), AGES)
def test_ages(seconds: float, words: str) -> None:
    then = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

    assert age(then, NOW) == words


@pytest.mark.parametrize("text", ["", "0001-01-01T00:00:00Z", "yesterday"])
def test_no_time_has_no_age(text: str) -> None:
    assert age(text, NOW) == "N/A"


def test_a_time_with_nanoseconds_is_read() -> None:
    assert age("2026-11-21T11:59:30.123456789Z", NOW) == "29 seconds ago"


@pytest.mark.parametrize(("seconds", "words"), DURATIONS)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("words", "line"), COMMANDS)
def test_command_lines(words: tuple[str, ...], line: str) -> None:
    assert command_line(words) == line


def test_wide_characters_take_two_columns() -> None:
    assert align([("中文", "x"), ("abcd", "x")], gap=1, least=0) == "中文 x\nabcd x\n"


def test_cut_text_stays_in_one_line() -> None:
    assert clip("RUN a \\\n    b", 40) == "RUN a \\ b"
    assert clip("x" * 50, 45) == "x" * 44 + "…"


def test_words_for_counts() -> None:
    assert [many(0, "layer"), many(1, "layer"), many(2, "entry", "entries")] == ["0 layers", "1 layer", "2 entries"]


def test_images_as_docker_prints_them() -> None:
    rows = [
        ImageRow("demo", "latest", "sha256:3f9a1bd2c7e4aa", "", 4_261_000),
        ImageRow("", "", "sha256:" + "0" * 64, "", 0),
    ]

    assert images_table(rows) == (
        "REPOSITORY   TAG       IMAGE ID       CREATED   SIZE\n"
        "demo         latest    3f9a1bd2c7e4   N/A       4.26MB\n"
        "<none>       <none>    000000000000   N/A       0B\n"
    )


def test_history_as_docker_prints_it() -> None:
    rows = [
        HistoryRow("", 'CMD ["sh"]', 0, "buildkit.dockerfile.v0", "sha256:3f9a1bd2c7e4aa"),
        HistoryRow("", "RUN /bin/sh -c apt-get update && apt-get install -y jq # buildkit", 38_214_000),
    ]

    assert history_table(rows) == (
        "IMAGE          CREATED   CREATED BY                                      SIZE      COMMENT\n"
        '3f9a1bd2c7e4   N/A       CMD ["sh"]                                      0B        buildkit.dockerfile.v0\n'
        "<missing>      N/A       RUN /bin/sh -c apt-get update && apt-get ins…   38.2MB\n"
    )


def test_short_ids() -> None:
    assert short_id("sha256:0123456789abcdef") == "0123456789ab"
