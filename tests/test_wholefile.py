"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dockermagic import wholefile
from dockermagic.wholefile import whole_file, write_whole


@pytest.fixture(params=["nameless", "named"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, also where the system knows no files without a name."""
    if request.param == "named":
        monkeypatch.delattr(wholefile.os, "O_TMPFILE", raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_is_replaced_and_keeps_its_mode(place: Path) -> None:
    path = place / "f"
    write_whole(path, b"one")
    assert mode(path) == 0o666 & ~umask()
    path.chmod(0o640)
    write_whole(path, b"two")
    assert (path.read_bytes(), mode(path)) == (b"two", 0o640)
    write_whole(path, b"three", 0o600)
    assert (path.read_bytes(), mode(path)) == (b"three", 0o600)
    assert os.listdir(place) == ["f"]


def test_a_link_stays_and_what_it_names_is_written(place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real/file")
    for text in (b"new", b"again"):
        write_whole(place / "link", text)
        assert (place / "link").is_symlink()
        assert (place / "real/file").read_bytes() == text
    assert os.listdir(place / "real") == ["file"]


def test_a_failure_changes_nothing(place: Path) -> None:
    write_whole(place / "f", b"old")
    with pytest.raises(ZeroDivisionError), whole_file(place / "f") as file:
        file.write(b"new")
        raise ZeroDivisionError

    assert (place / "f").read_bytes() == b"old"
    assert os.listdir(place) == ["f"]


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
