"""Where notebooks are served: containers of a real Docker with the privileges that those services give."""

from __future__ import annotations

import pytest

from tests.peers import PeerUnavailable
from tests.peers.docker import Docker
from tests.peers.pod import Pod

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CORE = (
    *("tests/sandbox/test_run.py", "tests/sandbox/test_what_a_run_sees.py", "tests/sandbox/test_worker.py"),
    "tests/build/test_build.py",
)


@pytest.fixture(scope="module")
def binder(docker: Docker) -> Pod:
    """Docker's default seccomp profile, no capabilities, no new privileges: no user namespace is to be had."""
    return _pod(docker, "--security-opt", "no-new-privileges", "--cap-drop", "ALL")


@pytest.fixture(scope="module")
def hub(docker: Docker) -> Pod:
    """A default pod of Kubernetes: no seccomp profile, /proc masked, no new privileges."""
    return _pod(
        docker,
        *("--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
        *("--security-opt", "apparmor=unconfined"),
    )


def _pod(docker: Docker, *security: str) -> Pod:
    try:
        return Pod(docker, *security)
    except PeerUnavailable as problem:
        pytest.skip(str(problem))


def _sandbox(pod: Pod) -> str:
    """What is chosen there, by the words of ``info``."""
    done = pod.run("python3", "-m", "dockermagic", "info")
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Sandbox:"))


def _passes(pod: Pod, mode: str, *more: str) -> str:
    done = pod.run(
        *(
            "python3",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--id-modes",
            mode,
            "-m",
            "core or plain or proot",
        ),
        *CORE,
        *more,
        environment=["DOCKERMAGIC_TESTS_OUTER_PROC=1"] if mode != "proot" else [],
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_binder_has_proot(binder: Pod) -> None:
    assert _sandbox(binder) == "proot"


def test_the_demo_in_binder(binder: Pod) -> None:
    """Twice in one container: all of the second time is cached."""
    done = binder.run("sh", "-c", "cd $HOME && python3 -m dockermagic demo && python3 -m dockermagic demo")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "CACHED" in done.stdout


def test_the_engine_in_binder(binder: Pod) -> None:
    assert " passed" in _passes(binder, "proot", "tests/sandbox/test_proot.py")


def test_a_hub_has_namespaces(hub: Pod) -> None:
    """Its root is an overlay, on which no other one can be mounted: a plain directory."""
    assert _sandbox(hub) == "single-plain"


def test_the_demo_in_a_hub(hub: Pod) -> None:
    done = hub.run("sh", "-c", "cd $HOME && python3 -m dockermagic demo")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_engine_in_a_hub(hub: Pod) -> None:
    assert " passed" in _passes(hub, "single-plain")
