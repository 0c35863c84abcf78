"""Engine tests under every id mode: as root, as a user with a range of ids, and as a user with a single one.

A test that takes the fixture ``id_mode`` is collected once per mode. The mode of the running user runs in this process;
where that user is root, each other mode is run by one child pytest under an ordinary user made for it
(:mod:`tests.asuser`), which collects the same files, runs the same items and sends its reports back, item by item.
The items of this process come first, and a child runs beside them; then two children run side by side. An ordinary user
can run its own mode only: the others are skipped, which is a failure where ``DOCKERMAGIC_CI`` is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from dockermagic.sandbox import trees

MODES = ("root", "range", "single")
PLAIN = {"proot": "single", "single-plain": "single", "root-plain": "root"}
"""Ways without an overlay, and as whom they run. Tests marked ``core`` always run in them, too, those marked ``plain``
among the slow. Tests marked ``alike`` run in the running user's own mode, in the other modes among the slow."""
USERS = {"range": "dmrange", "single": "dmsingle", "proot": "dmsingle", "single-plain": "dmsingle"}
REPO = Path(__file__).parents[1]
PREFIX = "dockermagic-tests-"
SMALL_DISK = "DOCKERMAGIC_SMALL_DISK"

_elsewhere = pytest.StashKey[str]()


def own_mode() -> str:
    """The id mode in which the running user's processes would be built."""
    uid = os.geteuid() if hasattr(os, "geteuid") else -1
    return "root" if uid == 0 else "range" if _has_range(uid) else "single"


def _has_range(uid: int) -> bool:
    import pwd

    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
        lines = [Path(name).read_text().splitlines() for name in ("/etc/subuid", "/etc/subgid")]
    except (OSError, KeyError):
        return False
    return bool(shutil.which("newuidmap")) and all(any(line.split(":")[0] in names for line in part) for part in lines)


# --- the plugin -------------------------------------------------------------------------------------------------------


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("id modes")
    group.addoption("--id-modes", default=",".join([*MODES, *PLAIN]), help="which ways to run engine tests in")
    group.addoption("--id-mode-child", default="", help="(internal) the mode that this child pytest runs")
    group.addoption("--id-mode-items", default="", help="(internal) file with the items that this child runs")
    group.addoption("--id-mode-reports", type=int, default=-1, help="(internal) descriptor that reports are written to")


class IdModes:
    """The hooks of one pytest session; conftest.py registers it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.own = own_mode()
        self.child_mode: str = config.getoption("--id-mode-child")
        self.reports: int = config.getoption("--id-mode-reports")
        self.elsewhere: dict[str, list[pytest.Item]] = {}
        self.children: dict[str, Child] = {}
        self.collected: set[str] = set()
        self.ran: set[str] = set()

    def pytest_report_header(self) -> str:
        return "id modes: " + ", ".join(f"{mode} as {USERS.get(mode, 'root')}" for mode in (*MODES, *PLAIN))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "id_mode" in metafunc.fixturenames:
            modes = [self.child_mode] if self.child_mode else self.config.getoption("--id-modes").split(",")
            chosen = [pytest.param(mode, marks=_marks(mode, metafunc.definition)) for mode in modes]
            chosen = [each for each, mode in zip(chosen, modes, strict=True) if _applies(mode, metafunc.definition)]
            ids = [mode for mode in modes if _applies(mode, metafunc.definition)]
            metafunc.parametrize("id_mode", chosen, ids=ids, scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if mode := _mode_of(item):
                item.add_marker("engine")
                if not self.child_mode and PLAIN.get(mode, mode) != self.own:
                    item.stash[_elsewhere] = mode
                    item.add_marker(pytest.mark.timeout(0))  # the child has a clock of its own
                    if self.own != "root":
                        reason = f"id mode {mode}: only root can run tests as another user"
                        item.add_marker(pytest.mark.skip(reason))
        if listed := self.config.getoption("--id-mode-items"):
            wanted = set(Path(listed).read_text().splitlines())
            items[:] = [item for item in items if item.nodeid in wanted]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = {mode for item in session.items if (mode := _mode_of(item))}
        if self.own == "root":
            for item in session.items:
                if mode := item.stash.get(_elsewhere, ""):
                    self.elsewhere.setdefault(mode, []).append(item)
            session.items.sort(key=lambda item: 2 if item.stash.get(_elsewhere, "") else not _makes_truth(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Items of another id mode are reported from their child."""
        mode = item.stash.get(_elsewhere, "")
        if mode or not _makes_truth(item):
            self._start_children(2 if mode else 1)
        if mode not in self.children:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.children[mode].reports_of(item):
            item.ihook.pytest_runtest_logreport(report=report)
            if report.when == "call" and not report.skipped:
                self.ran.add(mode)
        # What the last test of this process left set up for its neighbours ends where the neighbours end.
        item.session._setupstate.teardown_exact(nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _start_children(self, most: int) -> None:
        """Start the next children in the order of their turns, so that ``most`` of them run."""
        running = sum(not child.over for child in self.children.values())
        for mode, items in self.elsewhere.items():
            if mode not in self.children and running < most:
                self.children[mode] = Child(self.config, mode, items)
                running += 1

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and not report.skipped and _mode_of(item):
            self.ran.add(_mode_of(item))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.reports >= 0:
            data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
            message = json.dumps(data, default=str).encode() + b"\n"
            while message:
                message = message[os.write(self.reports, message) :]

    def modes_that_did_not_run(self) -> list[str]:
        """The modes in which no engine test was run, where there were engine tests to run."""
        return [mode for mode in MODES if mode not in self.ran] if self.collected and not self.child_mode else []

    def pytest_sessionfinish(self) -> None:
        for child in self.children.values():
            child.stop()


def _applies(mode: str, test: pytest.Item) -> bool:
    """Whether a test runs in this way, too: it says so itself; PRoot isolates nothing, and Docker is root's."""
    if "docker" in getattr(test, "fixturenames", ()):
        return mode == "root"
    if test.get_closest_marker("proot"):
        return mode == "proot"
    if mode in MODES:
        return True
    if mode == "proot" and test.get_closest_marker("isolated"):
        return False
    if test.get_closest_marker("overlay"):
        return False
    return bool(test.get_closest_marker("plain") or test.get_closest_marker("core"))


def _marks(mode: str, test: pytest.Item) -> tuple[pytest.MarkDecorator, ...]:
    if mode in PLAIN:
        always = test.get_closest_marker("core") or test.get_closest_marker("proot")
        return () if always else (pytest.mark.slow,)
    return (pytest.mark.slow,) if test.get_closest_marker("alike") and mode != own_mode() else ()


def _makes_truth(item: pytest.Item) -> bool:
    """Whether it leaves what Docker made of a case, for the children to read."""
    return "truth" in getattr(item, "fixturenames", ())


def _mode_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    mode = str(callspec.params.get("id_mode", "")) if callspec else ""
    return mode if mode in (*MODES, *PLAIN) else ""  # without a mode to run it in, pytest skips it


# --- a child pytest as another user -----------------------------------------------------------------------------------


class Child:
    """One child pytest under the user of ``mode``; reports are read as they come."""

    def __init__(self, config: pytest.Config, mode: str, items: list[pytest.Item]) -> None:
        import fcntl

        self.config, self.mode = config, mode
        self.limit = float(config.getini("timeout") or 300) + 60
        self.reports: dict[str, list[pytest.TestReport]] = {}
        self.over = False
        self.arrived = threading.Condition()
        _sweep()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{mode}-", dir="/var/tmp"))
        self.lock = os.open(self.directory, os.O_RDONLY)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        uid, gid = make_user(mode)
        for name in ("home", "tmp", "small"):
            (self.directory / name).mkdir()
            os.chown(self.directory / name, uid, gid)
        self.directory.chmod(0o755)
        listed = self.directory / "items"
        listed.write_text("".join(f"{item.nodeid}\n" for item in items))
        reading, writing = os.pipe()
        files = sorted({str(item.path) for item in items})
        command: list[str | Path] = [
            sys.executable,
            REPO / "tests/asuser.py",
            str(uid),
            str(gid),
            USERS[mode],
            str(REPO),
            "--",
        ]
        command += [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "", "--rootdir", REPO]
        command += ["-c", REPO / "pyproject.toml", "--tb", config.getoption("tbstyle"), "--id-mode-child", mode]
        command += ["--id-mode-items", listed, "--id-mode-reports", str(writing), *files]
        self.output = (self.directory / "output").open("w+b")
        self.process = subprocess.Popen(
            command, cwd="/", env=self._environment(), stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, pass_fds=[writing], start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        self.reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self.reader.start()

    def _environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "LC_ALL", "TERM", "PYTHONPATH", "DOCKERMAGIC_CI", "DOCKERMAGIC_PEERS", "CI")
        environment = {name: value for name, value in os.environ.items() if name in kept or name.endswith("_proxy")}
        environment["PATH"] = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return environment | {
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.directory / "tmp"),
            "USER": USERS[self.mode],
            "LOGNAME": USERS[self.mode],
            SMALL_DISK: str(self.directory / "small"),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.directory / "home/hypothesis"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def reports_of(self, item: pytest.Item) -> list[pytest.TestReport]:
        """The item's reports, its teardown's last; one failed report where the child ended or hung before."""
        with self.arrived:
            self.arrived.wait_for(lambda: self._complete(item.nodeid) or self.over, self.limit)
            if self._complete(item.nodeid):
                return self.reports.pop(item.nodeid)
            problem = "did not answer in time and was killed"
            if self.over:
                problem = f"ended with code {self.process.wait()} and did not run this test"
            self.process.kill()
            return [*self.reports.pop(item.nodeid, []), self._failed(item, problem)]

    def _read(self, pipe: int) -> None:
        """Take the reports in as they come, so that a child that runs ahead never waits."""
        with os.fdopen(pipe, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # it was killed while it wrote
                data = json.loads(line)
                if isinstance(data.get("longrepr"), list):  # a skip's place and reason: a tuple before JSON
                    data["longrepr"] = tuple(data["longrepr"])
                report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
                with self.arrived:
                    self.reports.setdefault(report.nodeid, []).append(report)
                    self.arrived.notify_all()
        with self.arrived:
            self.over = True
            self.arrived.notify_all()

    def _complete(self, nodeid: str) -> bool:
        return any(report.when == "teardown" for report in self.reports.get(nodeid, []))

    def _failed(self, item: pytest.Item, problem: str) -> pytest.TestReport:
        self.output.seek(0)
        tail = self.output.read()[-4000:].decode(errors="replace")
        text = f"The tests of id mode {self.mode} run as user {USERS[self.mode]}; their pytest {problem}.\n{tail}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")

    def stop(self) -> None:
        """End the child and remove all that its user wrote, whatever ids it has."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(10)
        self.output.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self.lock)


def _sweep() -> None:
    """Remove what sessions left which were killed: nobody holds its lock any more."""
    import fcntl

    for directory in Path("/var/tmp").glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def make_user(mode: str) -> tuple[int, int]:
    """The user of a mode, made where it is missing, with or without subordinate ids as the mode wants. Needs root."""
    import pwd

    name = USERS[mode]
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, check=False, capture_output=True)
    entry = pwd.getpwnam(name)
    for file, option in ((Path("/etc/subuid"), "--add-subuids"), (Path("/etc/subgid"), "--add-subgids")):
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        own = [line for line in lines if line.split(":")[0] in (name, str(entry.pw_uid))]
        if mode != "range" and own:
            changed = file.with_name(f"{file.name}.dockermagic")
            changed.write_text("".join(line for line in lines if line not in own))
            changed.chmod(0o644)
            changed.replace(file)
        elif mode == "range" and not own:
            first = max(
                [100_000, *(int(line.split(":")[1]) + int(line.split(":")[2]) for line in lines if ":" in line)]
            )
            subprocess.run(["usermod", option, f"{first}-{first + 65535}", name], check=True)
    return entry.pw_uid, entry.pw_gid


@pytest.fixture
def engine_home(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh directory for an engine's store, on the disk that holds the temporary files."""
    home = tmp_path / "dockermagic"
    home.mkdir()
    if (mode := _mode_of(request.node)) in PLAIN:
        monkeypatch.setenv("DOCKERMAGIC_SANDBOX", mode)
    yield home


@pytest.fixture
def small_disk(id_mode: str, tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 24 MB. Only root can make one: an ordinary user's pytest finds one that was made for it."""
    given = os.environ.get(SMALL_DISK)
    if given:
        yield Path(given)
        trees.delete([str(path) for path in Path(given).iterdir()])
        return
    if own_mode() != "root":
        pytest.skip("only root can make a small disk")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
