"""Dockerfiles that nobody wrote give the same tree and config as with Docker, in every id mode.

``pytest -m slow tests/differential/test_generated.py --hypothesis-profile=long --hypothesis-seed=N`` looks further:
five hundred examples instead of forty, others for each N. A difference that it finds becomes a case of
:mod:`tests.differential.cases`.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.differential.cases import Case
from tests.differential.conftest import Truth, contents
from tests.differential.generate import cases, older
from tests.differential.tree import differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]

LONG = settings.get_current_profile_name() == "long"


@settings(
    max_examples=500 if LONG else 40,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_same_as_docker(
    data: st.DataObject,
    id_mode: str,
    truth: Callable[[Case, Path], Truth],
    dockermagic: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    case = data.draw(cases())
    # With a single id every file is the same user's: what another USER may not do cannot be refused to it.
    assume(id_mode != "single" or not re.search(r"(?im)^user ", case.dockerfile))
    with tempfile.TemporaryDirectory(prefix="generated-") as directory:
        # A name of its own: Docker syncs into what it has of a context of that name, and may miss a change.
        context = case.write(Path(directory, Path(directory).name))
        expected = truth(case, context)
        assume(expected)  # while it shrinks an example, another user than root meets new ones
        archive = Path(directory, "out.tar")
        done = dockermagic(
            "build", "--progress=plain", "-t", "case", *case.arguments, f"--output=type=oci,dest={archive}", context
        )
        assert (done.returncode != 0) == expected["fails"], (expected["log"], done.stderr)
        if not expected["fails"]:
            assert differences(comparable(contents(archive)), comparable(expected)) == []


def comparable(image: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps({"tree": image["tree"], "config": older(image["config"])})))
