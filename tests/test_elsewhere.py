"""What has to work on macOS and Windows: every module imports without the modules that only Unix or Linux have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]

HIDDEN = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
INSIDE = ("sandbox", "containers", "fsck")
"""Rooms that work with processes and layers: they are for Linux."""

HIDE = f"""
import importlib, os, pkgutil, shutil, subprocess, sys, tempfile
for name in sys.argv.pop(1).split():  # other people's packages have ways of their own there
    importlib.import_module(name)
for name in {HIDDEN!r}:
    sys.modules[name] = None
for name in ("geteuid", "getuid", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_TMPFILE", "pidfd_open", "fork", "mknod"):
    if hasattr(os, name):
        delattr(os, name)
sys.path.insert(0, {str(REPO)!r})
"""
IMPORT = f"""
import dockermagic
for module in pkgutil.walk_packages(dockermagic.__path__, "dockermagic."):
    if module.name.split(".")[1] not in {INSIDE!r} and not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
        count = globals().get("count", 0) + 1
print(count)
"""
CHECK = """
from dockermagic.cli import main
sys.exit(main(["check", "-f", sys.argv[1], os.path.dirname(sys.argv[1])]))
"""


def python(program: str, others: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE + program, others, *words], capture_output=True, text=True, check=False, cwd="/"
    )


def test_modules_import_where_unix_is_not() -> None:
    done = python(IMPORT, "IPython anywidget ipykernel.ipkernel nbconvert nbclient rich.live urllib3")

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_dockerfile_is_checked_where_unix_is_not(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM busybox\nMAINTAINER me\n")
    done = python(CHECK, "", file)

    assert "MaintainerDeprecated" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
