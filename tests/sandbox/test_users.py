"""USER looked up in the files of an image, good and bad ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dockermagic.errors import SandboxError
from dockermagic.sandbox.users import Identity, lookup
from tests.sandbox.kit import GROUP, PASSWD


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (0, 10), "/root")),
        ("0", Identity(0, 0, (0, 10), "/root")),
        ("app", Identity(1000, 1000, (1000, 50, 44), "/home/app")),
        ("1000", Identity(1000, 1000, (1000, 50, 44), "/home/app")),
        ("twin", Identity(1000, 2000, (2000,), "/twin")),
        ("app:video", Identity(1000, 44, (44,), "/home/app")),
        ("app:77", Identity(1000, 77, (77,), "/home/app")),
        ("77:app", Identity(77, 1000, (1000,), "/")),
        ("77", Identity(77, 0, (0,), "/")),
        (":50", Identity(0, 50, (50,), "/root")),
    ],
)
def test_lookup(root: str, user: str, identity: Identity) -> None:
    assert lookup(user, root=root) == identity


def test_additional_groups(root: str) -> None:
    assert lookup("app:app", additional=("video", "99"), root=root).groups == (1000, 44, 99)
    with pytest.raises(SandboxError, match="Unable to find group nosuch"):
        lookup("app", additional=("nosuch",), root=root)


@pytest.mark.parametrize("user", ["x", "app:x", "-1", "2147483648", "0:2147483648"])
def test_refused(root: str, user: str) -> None:
    with pytest.raises(SandboxError):
        lookup(user, root=root)


def test_no_files(tmp_path: Path) -> None:
    assert lookup("", root=str(tmp_path)) == Identity(0, 0, (0,), "/")
    assert lookup("5:6", root=str(tmp_path)) == Identity(5, 6, (6,), "/")
    with pytest.raises(SandboxError, match="no matching entries in passwd file"):
        lookup("app", root=str(tmp_path))


def test_broken_lines_are_passed_over(root: str) -> None:
    Path(root, "etc/passwd").write_bytes(b"\n#x\n:::\nshort\nbad:x:one:two\n\xff\xfe:x:3:4::/h:\napp:x:5:6::/a:\n")

    assert lookup("app", root=root) == Identity(5, 6, (6, 50, 44), "/a")


def test_a_pipe_in_place_of_a_file_does_not_block(root: str) -> None:
    os.unlink(f"{root}/etc/passwd")
    os.mkfifo(f"{root}/etc/passwd")

    assert lookup("3", root=root) == Identity(3, 0, (0,), "/")
