"""A container's log while it is written: pieces, files that change, a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dockermagic.containers.logs import Log, Piece, Reader, read


def text(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def test_who_follows_misses_nothing_when_the_file_changes(tmp_path: Path) -> None:
    """Each time the reader is told there is as much more as two files hold."""
    log = Log(tmp_path, limit=1000)
    written = b""

    def more() -> bool:
        nonlocal written
        for _ in range(50):
            line = b"line %d\n" % len(written)
            log.write(1, line)
            written += line
        return len(written) < 10_000

    log.write(2, b"before\n")
    with Reader(tmp_path) as reader:
        reader.start_at(log.here())
        found = text(list(reader.coming(more)))
    log.close()
    assert found == written


def test_half_a_piece_is_not_written_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path)
    log.write(1, b"first")
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: whole(fd, [parts[0], parts[1][:2]]))
    log.write(1, b"second")
    monkeypatch.undo()
    log.write(1, b"third")
    log.close()
    assert text(list(read(tmp_path))) == b"firstthird"


def test_a_file_that_cannot_be_begun_costs_no_other_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, limit=10)
    log.write(1, b"first")
    opened = os.open

    def full(path: str, *words: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        monkeypatch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space left"):
            log.write(1, b"is not kept")
        monkeypatch.setattr(os, "open", opened)
    with (tmp_path / "other").open("wb") as other:
        log.write(1, b"second")
        other.write(b"is still open")
    log.close()
    assert text(list(read(tmp_path))) == b"firstsecond"
