"""The same Dockerfile, built by Docker and by us, gives the same tree and the same config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.differential.cases import CASES, NEWER, Case
from tests.differential.conftest import Truth, contents
from tests.differential.tree import differences

pytestmark = [pytest.mark.slow]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_docker(
    case: Case, id_mode: str, truth: Callable[[Case, Path], Truth], dockermagic: Callable[..., Any], tmp_path: Path
) -> None:
    context = case.write(tmp_path / "context")
    expected = truth(case, context)
    assert expected, "Docker's answer is not recorded; the same test as root records it"
    assert expected["fails"] == case.fails, expected["log"]

    out = tmp_path / "out.tar"
    done = dockermagic(
        "build", "--progress=plain", "-t", "case", *case.arguments, f"--output=type=oci,dest={out}", context
    )

    assert (done.returncode != 0) == case.fails, done.stdout + done.stderr
    if not case.fails:
        actual = json.loads(json.dumps(contents(out)))
        assert differences(actual, expected) == NEWER.get(case.name, [])
