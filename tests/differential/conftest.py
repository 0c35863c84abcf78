"""What Docker makes of a case, and our command line beside it.

Docker's answer is made in the session that runs as root, once per case, and kept beside the peers for the sessions of
the other id modes, whose users cannot run a Docker.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.differential.cases import Case
from tests.differential.tree import comparable_config, merged_tree, read_image
from tests.idmodes import own_mode
from tests.peers.chroot import cache
from tests.peers.images import busybox_archive

Truth = dict[str, Any]

# Here, and not where it is used: --hypothesis-profile is looked up before any test is imported.
settings.register_profile("long", max_examples=500, derandomize=False)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_archive(tmp_path_factory.mktemp("base") / "busybox.tar")


@pytest.fixture(scope="session")
def truth(request: pytest.FixtureRequest, base: Path) -> Callable[[Case, Path], Truth]:
    """What Docker makes of a case: built now as root, read as another user, who finds {} where root made none."""
    directory = cache() / "truth"
    root = own_mode() == "root"
    if root:
        docker = request.getfixturevalue("docker")
        docker.load(base)
        directory.mkdir(exist_ok=True)
        for file in directory.glob("generated-*"):
            file.unlink()

    def answer(case: Case, context: Path) -> Truth:
        identity = repr(asdict(case)).encode() + base.read_bytes()
        file = directory / f"{case.name}-{hashlib.sha256(identity).hexdigest()[:16]}.json"
        if not root:
            if not file.exists():
                return {}
            return dict(json.loads(file.read_text()))
        done = docker.build(context, *case.arguments, tag="case", check=False)
        value: Truth = {"fails": done.returncode != 0, "log": done.stderr[-2000:]}
        if not value["fails"]:
            saved = context.parent / "docker.tar"
            docker.save("case", saved)
            value |= contents(saved)
            saved.unlink()
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(value))
        part.chmod(0o644)
        part.replace(file)
        return value

    return answer


@pytest.fixture(scope="session")
def dockermagic(base: Path, tmp_path_factory: pytest.TempPathFactory, id_mode: str) -> Iterator[Callable[..., Any]]:
    """The command line, on a store of its own that holds the base."""
    home = tmp_path_factory.mktemp(f"home-{id_mode}")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dockermagic", *map(str, arguments)],
            env=os.environ | {"DOCKERMAGIC_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    loaded = run("load", "-i", base)
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    yield run


def contents(archive: Path) -> Truth:
    image = read_image(archive)
    return {"tree": merged_tree(image.layers), "config": comparable_config(image.config)}
