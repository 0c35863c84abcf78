"""The steps of binder/ where mybinder.org runs them: Docker's seccomp profile, uid 1000, no new privileges."""

from __future__ import annotations

import pytest

from tests.peers import PeerUnavailable
from tests.peers.docker import Docker
from tests.peers.pod import Pod
from tests.peers.registry import Registry

LESSONS = ("01-first-image", "02-python-app", "04-web-server", "06-settings")

SCRIPT = """
set -e
mkdir -p $HOME/bin
printf '#!/bin/sh\\nexec python3 -m dockermagic "$@"\\n' > $HOME/bin/dockermagic
chmod +x $HOME/bin/dockermagic
export PATH=$HOME/bin:$PATH
bash binder/postBuild
bash binder/start python3 - "$@" <<'END'
import sys, tempfile
from pathlib import Path
from dockermagic.engine import default_home
from dockermagic.notebookrun import execute, read_notebook
for name in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as folder:
        execute(read_notebook(Path(f"notebooks/{name}.ipynb")), Path(folder), default_home())
    print("executed:", name)
END
du -sm $HOME/.dockermagic
"""


@pytest.mark.slow
def test_lessons_run_where_binder_would_run_them(docker: Docker, shelf: Registry) -> None:
    try:
        pod = Pod(docker, "--security-opt", "no-new-privileges")
    except PeerUnavailable as problem:
        pytest.skip(str(problem))

    done = pod.run(
        "bash", "-c", SCRIPT, "bash", *LESSONS, environment=[f"DOCKERMAGIC_MIRRORS=docker.io=http://{shelf.address}"]
    )

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("executed: ")] == [f"executed: {name}" for name in LESSONS]
    assert any(line.startswith("Sandbox:") and "proot" in line for line in lines), done.stdout
    megabytes = int(lines[-1].split()[0])
    assert megabytes < 1000
