"""The picture of the house, held by a test: which room may import which, and what no file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dockermagic"

# A room is a folder or a file of the package. What a room may import: rooms as a whole, or single modules of one
# ("build.request"). Every room may import itself. Data goes down this list once and never comes back.
EVERYWHERE = {"values"}
GROUND = {"errors", "events", "settings", "wholefile"}
VALUES = {
    "oci.spec",
    "oci.reference",
    "oci.platform",
    "build.request",
    "containers.container",
    "containers.request",
    "sandbox.base",
    "sandbox.running",
    "sandbox.terminal",
}
MADE_HERE = {"hostfacts", "bases", "standins"}
ENGINE = {*GROUND, *MADE_HERE, "records", "dockerfile", "oci", "sandbox", "build", "containers", "view"}
LOOKS = {"catalog", "files", "fsck", "imagediff", "prune"}
SURFACE = {*GROUND, *VALUES, *LOOKS, "view", "buildview", "tables", "dockerfile", "engine", "session", "export"}

ROOMS: dict[str, set[str]] = {
    "values": set(),
    "errors": set(),
    "events": {"errors"},
    "settings": {"errors"},
    "wholefile": set(),
    "view": {"events", "imagediff"},
    "buildview": {"events", "view"},
    "tables": {"imagediff", "view"},
    "records": GROUND,
    "hostfacts": GROUND,
    "standins": set(),
    "dockerfile": GROUND,
    "oci": {*GROUND, "records"},
    "sandbox": {*GROUND, "records", "dockerfile", "oci"},
    "bases": {*GROUND, "hostfacts", "sandbox"},
    "build": {*GROUND, "records", "dockerfile", "oci", "sandbox", *MADE_HERE},
    "containers": {*GROUND, "records", "dockerfile", "oci", "sandbox"},
    "catalog": {*GROUND, "view", "oci", "sandbox", "build"},
    "files": {*GROUND, "view", "catalog", "build.request"},
    "fsck": {*GROUND, "records", "oci", "sandbox", "build"},
    "imagediff": set(),
    "prune": {*GROUND, "view", "oci", "sandbox", "build", "containers"},
    "rooms": ENGINE,
    "exchange": {*ENGINE, "rooms"},
    "upkeep": {*ENGINE, *LOOKS, "rooms"},
    "engine": {*ENGINE, *LOOKS, "rooms", "exchange", "upkeep"},
    "session": {*GROUND, *VALUES, "records", "view", "dockerfile", "engine"},
    "export": {*GROUND, *VALUES, "conversion", "dockerfile", "engine", "session"},
    "terminal": {*GROUND, *VALUES, "tables", "view"},
    "demo": {*SURFACE, "terminal", "lessons", "notebookrun"},
    "celltext": {*GROUND, "dockerfile"},
    "conversion": {*GROUND, "celltext", "dockerfile"},
    "verification": {*SURFACE, "imagediff"},
    "handles": {*SURFACE, "imagediff"},
    "expect": {*SURFACE, "handles"},
    "notebookrun": {*GROUND, "conversion"},
    "bundles": {*GROUND, "engine", "lessons", "notebookrun"},
    "lessons": {*GROUND, "conversion", "dockerfile"},
    "verbs": {*SURFACE, "terminal", "demo", "bundles", "conversion", "expect", "lessons"},
    "cli": {*SURFACE, "terminal", "verbs"},
    "notebook": {*SURFACE, "celltext", "conversion", "verification", "expect", "handles", "terminal", "verbs"},
    "__init__": {"handles", "notebook.magics"},
    "__main__": {"cli", "sandbox.interpreters"},
}

# Who may know the outside: a top-level module of another project -> the rooms that may import it; and what a room that
# promises to touch no file, process or network does without.
OUTSIDE: dict[str, set[str]] = {
    "IPython": {"__init__", "notebook"},
    "anywidget": {"notebook"},
    "nbconvert": {"demo", "notebook"},
    "comm": {"notebook"},
    "dataclasses": {"values"},
    "ipykernel": {"notebook"},
    "ipywidgets": {"notebook"},
    "jupyter_core": {"verbs"},
    "traitlets": {"demo", "notebook"},
}
PURE = {
    "dockerfile": ("asyncio", "http", "os", "shutil", "socket", "subprocess", "tempfile", "threading", "urllib.request")
}

# These run in the sandbox's own process alone, which only Linux has. All else can be imported anywhere.
WORKER_PARTS = {
    *("callers", "calls", "channels", "chrooted", "hosted", "launch", "listener", "mounts", "network_inside"),
    *("privileges", "proot", "proot_bindings", "proot_calls", "proot_owners", "resident", "seccomp", "supervise"),
    *("surroundings", "syscalls", "tasks", "transplant", "tree_record", "tree_requests", "trial", "user_namespace"),
    "worktree",
}
WORKER = {f"sandbox.{name}" for name in WORKER_PARTS}

FORBIDDEN_NAMES = {"common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}
LONGEST = 500

# None of these exists everywhere that the package is imported.
LINUX_MODULES = ("fcntl", "resource", "pty", "termios", "tty", "pwd", "grp", "_posixshmem", "syslog")
LINUX_NAMES = {
    "os": "fork geteuid getuid getegid getgid setns unshare O_PATH O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_TMPFILE mknod "
    "memfd_create pidfd_open setresuid setresgid getxattr setxattr listxattr WNOHANG lchown chown mkfifo",
    "signal": "SIGKILL SIGHUP SIGCHLD SIGWINCH pthread_sigmask",
    "socket": "AF_UNIX SO_PEERCRED SCM_RIGHTS",
}


def modules() -> dict[str, Path]:
    """Every module by its name below the package: "errors", "oci.spec", "oci" for a folder's own."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Every absolute name that a module imports, wherever in it, with the line."""
    path = MODULES[module]
    package = ["dockermagic", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".removeprefix("dockermagic.")
                yield (f"dockermagic.{inner}" if inner in MODULES else source), node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """A room that the table does not name gets a place in it first."""
    room = room_of(module)
    assert room in ROOMS, f"give the room {room!r} a place in the table"
    allowed = ROOMS[room] | EVERYWHERE
    wrong = []
    for name, line in imports(module):
        target = name.removeprefix("dockermagic").removeprefix(".")
        if not name.startswith("dockermagic") or not target or room_of(target) == room:
            continue
        if room_of(target) not in allowed and target not in allowed:
            wrong.append(f"line {line}: {target}")

    assert not wrong, f"{module} imports what {room!r} may not know"


@pytest.mark.parametrize("module", MODULES)
def test_only_some_rooms_know_the_outside(module: str) -> None:
    room = room_of(module)
    names = {name for name, _ in imports(module)}

    assert not {name for name in names if room not in OUTSIDE.get(name.partition(".")[0], {room})}
    assert not [name for name in names for banned in PURE.get(room, ()) if f"{name}.".startswith(f"{banned}.")]


def test_the_table_has_no_circle() -> None:
    """Each room's imports, followed to their end, never come back to it."""

    def reachable(room: str, seen: frozenset[str]) -> Iterator[str]:
        for target in {room_of(name) for name in ROOMS[room]} - {room}:
            yield target
            if target not in seen:
                yield from reachable(target, seen | {target})

    assert [room for room in ROOMS if room in set(reachable(room, frozenset({room})))] == []


@pytest.mark.parametrize("module", MODULES)
def test_files_are_small_and_well_named(module: str) -> None:
    assert not FORBIDDEN_NAMES & set(module.split("."))
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


ELSEWHERE = """
import importlib, sys
import asyncio, concurrent.futures, ctypes, logging, multiprocessing, socket, subprocess, tarfile, tempfile, threading
import http.client, urllib.request, sqlite3, zipfile, signal, os, shutil, getpass
for name in {first!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
for name in {modules!r}:
    sys.modules[name] = None
for module, names in {names!r}.items():
    for name in names.split():
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
failed = []
for name in {package!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(f"{{name}}: {{type(error).__name__}}: {{error}}")
print("\\n".join(failed))
"""


def test_everything_imports_where_linux_modules_are_missing() -> None:
    """As on macOS and Windows: the modules and names that only Linux has are taken away before the first import."""
    outside = {name for module in MODULES for name, _ in imports(module) if not name.startswith("dockermagic")}
    outside -= set(LINUX_MODULES)
    package = ["dockermagic", *(f"dockermagic.{name}" for name in MODULES if name not in WORKER and name[:2] != "__")]
    script = ELSEWHERE.format(first=sorted(outside), modules=LINUX_MODULES, names=LINUX_NAMES, package=package)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_loading_the_extension_imports_no_engine() -> None:
    """``%load_ext dockermagic`` answers at once: nothing heavy comes along with the package itself."""
    script = "import sys; import dockermagic; print(*[name for name in sys.modules if name.startswith('dockermagic')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)

    assert done.stdout.split() == ["dockermagic"]
