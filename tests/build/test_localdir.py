"""An archive's files in a directory of the user's: it may be as deep as its maker likes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dockermagic.build.localdir import write_directory
from dockermagic.errors import ArchiveError
from dockermagic.oci.tarheader import FILE, RECORD, SYMLINK, Entry, header


def test_directories_that_have_no_entry_are_made_however_deep(tmp_path: Path) -> None:
    path = "d/" * 1500 + "file"
    write_directory([header(Entry(path, FILE)), bytes(2 * RECORD)], tmp_path / "out")

    assert (tmp_path / "out" / path).is_file()
    subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)  # pytest cannot


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    entries = [header(Entry("a", SYMLINK, link=str(tmp_path / "outside"))), header(Entry("a/b/c", FILE))]
    with pytest.raises(ArchiveError, match="no directory"):
        write_directory([*entries, bytes(2 * RECORD)], tmp_path / "out")

    assert list((tmp_path / "outside").iterdir()) == []
