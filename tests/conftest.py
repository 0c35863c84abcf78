"""What all tests share: the id modes, the peers to compare with, and no silent skips in CI."""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

from tests import idmodes
from tests.idmodes import engine_home as engine_home
from tests.idmodes import small_disk as small_disk
from tests.peers.fixtures import buildah as buildah
from tests.peers.fixtures import docker as docker
from tests.peers.fixtures import podman as podman
from tests.peers.fixtures import registry as registry
from tests.peers.fixtures import skopeo as skopeo
from tests.peers.fixtures import umoci as umoci

CI = bool(os.environ.get("DOCKERMAGIC_CI"))

# A skip whose reason matches one of these is a skip in CI too; every other skip there is a failure.
ALLOWED_SKIPS = (r"only on (macOS|Windows)",)


def pytest_addoption(parser: pytest.Parser) -> None:
    idmodes.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(idmodes.IdModes(config), "id-modes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_skip(report)
    return report


def _fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(re.search(pattern, reason) for pattern in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"a skip is a failure in CI: {reason}"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    missing = _id_modes(session.config).modes_that_did_not_run()
    if CI and missing and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = _id_modes(config).modes_that_did_not_run()
    if missing and not config.option.collectonly:
        terminalreporter.write_line(f"no engine test ran in id mode: {', '.join(missing)}", red=True)


def _id_modes(config: pytest.Config) -> idmodes.IdModes:
    plugin = config.pluginmanager.get_plugin("id-modes")
    assert isinstance(plugin, idmodes.IdModes)
    return plugin
